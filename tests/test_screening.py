import sys
from importlib.resources import files

import pytest
import yaml

from prefkit.errors import PrefkitError
from prefkit.language import detect_language
from prefkit.prompts.risk import risk_findings, risk_marks
from prefkit.prompts.screening import ScreenSettings, Verdict, screen

ANY_LENGTH = {"min_chars": None, "max_chars": None}
TIRED = (
    "Since we moved here in spring I have been tired all day, and in the evening I lie awake and think about my old "
    "job. My wife says it will pass. How long should I wait before I ask for help?"
)
GARDEN = (
    "My neighbour and I used to share the garden, but since his brother came to stay we hardly speak. I miss our "
    "talks over the fence more than I would have thought, and I do not know how to begin."
)

RULES = yaml.safe_load(files("prefkit.prompts").joinpath("risk.yaml").read_text(encoding="utf-8"))
PATTERNS = [(name, rule) for name, category in RULES["categories"].items() for rule in category["patterns"]]


def reasons(texts: list[str], **settings: object) -> list[str | None]:
    ids = [f"p{index}" for index in range(len(texts))]
    return [verdict.excluded for verdict in screen(ids, texts, ScreenSettings(**settings))]


# --- length ---


def test_the_default_window_is_100_to_1000_characters():
    texts = ["a" * 99, "b" * 100, "c" * 1000, "d" * 1001]
    assert reasons(texts) == [
        "too short: 99 characters (at least 100)",
        None,
        None,
        "too long: 1,001 characters (at most 1,000)",
    ]


def test_blanks_around_a_text_do_not_lengthen_it():
    assert reasons(["  " + "a" * 10 + "\n" * 90]) == ["too short: 10 characters (at least 100)"]


@pytest.fixture
def tokenizer(tmp_path) -> str:
    """A folder with a tokenizer that counts words."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(tmp_path)
    return str(tmp_path)


def test_tokens_are_counted_by_the_tokenizer_that_was_named(tokenizer):
    texts = ["one two", "one two three", "one two three four five"]
    assert reasons(texts, **ANY_LENGTH, min_tokens=3, max_tokens=4, tokenizer=tokenizer, near_duplicates=None) == [
        "too short: 2 tokens (at least 3)",
        None,
        "too long: 5 tokens (at most 4)",
    ]


def test_a_tokenizer_that_is_not_there_is_named(tmp_path):
    pytest.importorskip("transformers")
    folder = str(tmp_path / "no-tokenizer")
    with pytest.raises(PrefkitError, match="no-tokenizer"):
        reasons(["one two"], max_tokens=4, tokenizer=folder)


def test_without_transformers_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(PrefkitError, match=r"pip install \"prefkit\[train\]\""):
        reasons(["one two"], max_tokens=4, tokenizer="anything")


# --- language ---


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en", "I keep arguing with my sister about our parents."),
        ("es", "Discuto todo el tiempo con mi hermana por nuestros padres."),
        ("de", "Ich streite mich ständig mit meiner Schwester über unsere Eltern."),
        ("fr", "Je me dispute sans cesse avec ma sœur au sujet de nos parents."),
        ("pt", "Discuto constantemente com a minha irmã por causa dos nossos pais."),
        ("it", "Litigo sempre con mia sorella a causa dei nostri genitori."),
        ("ru", "Я постоянно ссорюсь с сестрой из-за наших родителей."),
        ("zh", "我总是和妹妹因为父母的事情吵架。"),
        ("zh", "我成日同細妹因為父母嘅事嗌交，唔知點算好。"),
        ("ja", "両親のことで妹とけんかばかりしています。"),
        ("ko", "부모님 문제로 여동생과 계속 싸워요."),
        ("ar", "أتشاجر دائما مع أختي بسبب والدينا."),
    ],
)
def test_a_sentence_is_enough_to_tell_its_language(code, text):
    assert detect_language(text) == code


@pytest.mark.parametrize("text", ["", "12 34", "😀😀", "Hi there", "ok"])
def test_a_language_that_cannot_be_told_is_a_mark_and_no_exclusion(text):
    (verdict,) = screen(["p"], [text], ScreenSettings(**ANY_LENGTH, languages=("zh",)))
    assert verdict == Verdict(excluded=None, marks=("language:unknown",))


def test_a_language_that_was_not_asked_for_is_the_reason():
    spanish = "No sé cómo hablar con mi padre desde que se fue de casa, y ya ha pasado un año entero."
    settings = ScreenSettings(**ANY_LENGTH, languages=("en", "zh"))
    assert screen(["a", "b"], [spanish, TIRED], settings) == [
        Verdict("language es", ("language:es",)),
        Verdict(None, ("language:en",)),
    ]


# --- duplicates ---


def test_the_first_of_a_group_stays_and_the_others_name_it():
    near = TIRED.replace("in spring", "in March")
    texts = [TIRED, GARDEN, TIRED.upper() + "!!", near]
    assert reasons(texts) == [None, None, "duplicate of p0", "near-duplicate of p0"]
    assert reasons(texts, near_duplicates=None) == [None] * 4
    assert reasons(texts, near_duplicates=1.0) == [None, None, "duplicate of p0", None]


def test_a_prompt_does_not_fall_to_a_twin_that_is_excluded_itself():
    """The first is too long by its punctuation alone; in their words both are equal."""
    assert reasons([TIRED + "!" * 900, TIRED, TIRED]) == [
        f"too long: {len(TIRED) + 900:,} characters (at most 1,000)",
        None,
        "duplicate of p1",
    ]


# --- marks ---


def test_an_excluded_prompt_keeps_its_marks():
    (verdict,) = screen(["p"], ["I keep thinking about suicide."], ScreenSettings())
    assert verdict.excluded == "too short: 30 characters (at least 100)"
    assert verdict.marks[-1] == "risk:self-harm"


def test_risk_marks_nobody_out():
    text = "My boyfriend hit me again and I want to die. " + GARDEN
    (verdict,) = screen(["p"], [text], ScreenSettings())
    assert verdict == Verdict(None, ("language:en", "risk:self-harm", "risk:abuse"))
    (unmarked,) = screen(["p"], [text], ScreenSettings(risk=False))
    assert unmarked.marks == ("language:en",)


@pytest.mark.parametrize(
    "settings",
    [
        {"min_chars": 10, "max_chars": 9},
        {"min_tokens": 3, "max_tokens": 2, "tokenizer": "t"},
        {"max_tokens": 5},
        {"languages": ("english",)},
        {"near_duplicates": 0.0},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings):
    with pytest.raises(PrefkitError):
        ScreenSettings(**settings)


def test_ids_and_texts_must_be_as_many():
    with pytest.raises(ValueError, match="2 and 1"):
        screen(["a", "b"], ["one"], ScreenSettings())


def test_no_prompts_give_no_verdicts():
    assert screen([], [], ScreenSettings()) == []


# --- risk ---


@pytest.mark.parametrize(("category", "rule"), PATTERNS, ids=[rule["says"] for _, rule in PATTERNS])
def test_each_pattern_finds_what_it_says_and_passes_what_it_should(category, rule):
    assert rule["says"] in {found.pattern for found in risk_findings(rule["says"]) if found.category == category}
    assert rule["says"] not in {found.pattern for found in risk_findings(rule.get("passes", ""))}


def test_a_finding_says_where_it_stands():
    text = "İ was fine. Then he forced himself on me, twice."
    (finding,) = risk_findings(text)
    assert (finding.category, text[finding.start : finding.end]) == ("abuse", "forced himself on")
    assert len(risk_findings(text * 3)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "I DON’T WANT TO LIVE ANYMORE",
        "i dont want to live anymore",
        "I want to kill\n\nmyself",
        "Sometimes I think everyone would be better off without me.",
        "She keeps cutting her wrists.",
        "I'm not suicidal, but I wish I could go to sleep and never wake up.",
        "我不想活了",
        "她有自殺的念頭",
    ],
)
def test_self_harm_is_marked_however_it_is_written(text):
    assert "risk:self-harm" in risk_marks(text)


@pytest.mark.parametrize(
    "text",
    [
        TIRED,
        GARDEN,
        "I have never been suicidal and I don't want to die.",
        "My husband has never hit me and there is no violence at home.",
        "I don't want to hurt them, I only want to be heard.",
        "We hit a rough patch, and it kills the mood.",
        "My deadline is killing me, and my boss cut our hours.",
        "He struggles with alcohol abuse.",
        "我没有想过自杀。",
        "我想死你了，快回来吧。",
        "",
    ],
)
def test_everyday_words_and_plain_denials_are_not_marked(text):
    assert risk_marks(text) == ()


def test_marks_come_once_each_in_the_order_of_the_list():
    text = "My father beat me and calls me worthless. I want to stab my father. I cut myself and think of suicide."
    assert risk_marks(text) == ("risk:self-harm", "risk:harm-to-others", "risk:abuse")
