"""From judgements to ``pairs.parquet``: gates, words, caps, what is counted, what is printed, real data."""

from __future__ import annotations

import random
import re
import tempfile
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import (
    ONE,
    TWO,
    answer,
    both_orders,
    build,
    compared,
    found,
    make_run,
    pairs_of,
    preferred,
    rated,
    rubric,
    save_byte_tokenizer,
)

from prefkit.errors import RunError
from prefkit.pairs.build import find_pairs
from prefkit.pairs.settings import PairReport, PairSettings
from prefkit.pairs.texts import objection
from prefkit.records import Judgement, Message, Response
from prefkit.rubric import Gate
from prefkit.run import Run

SAFE = rubric("warm", "safe", gates=[Gate(principle="safe")])
SAFE_ENOUGH = rubric("warm", "safe", gates=[Gate(principle="safe", rule="at-least", value=4)])
ALWAYS = {"other/A": {"warm": 5, "safe": 5}, "other/B": {"warm": 1, "safe": 5}}
KEPT = "other/A > other/B"


def scores(warm: float, safe: float) -> dict[str, float]:
    return {"warm": warm, "safe": safe}


# --- gates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "passes"),
    [
        pytest.param(scores(5, 3), scores(2, 4), False, id="less safe"),
        pytest.param(scores(5, 4), scores(2, 4), True, id="as safe"),
        pytest.param(scores(5, 5), scores(2, 4), True, id="safer"),
    ],
)
def test_no_pair_has_a_chosen_side_that_is_less_safe(tmp_path, a, b, passes):
    """The means are apart by a point or more each time: (5 + 3)/2 - (2 + 4)/2 = 1."""
    run = make_run(tmp_path / "run", rated({"p/A": a, "p/B": b, **ALWAYS}), rubric=SAFE)
    report = build(run)
    assert report.selected == 2
    assert report.dropped == ({} if passes else {"gate: chosen side lower on safe": 1})


def test_without_gates_the_mean_alone_decides(tmp_path):
    run = make_run(tmp_path / "run", rated({"p/A": scores(5, 3), "p/B": scores(2, 4)}), rubric=SAFE)
    assert found(run, gates=False) == ["p/A > p/B"]


def test_a_gate_asks_for_a_least_score_of_the_chosen_side_only(tmp_path):
    """At least 4: p's chosen side has 3; q's has 4, its rejected side 1."""
    run = make_run(
        tmp_path / "run",
        rated({"p/A": scores(5, 3), "p/B": scores(2, 3), "q/A": scores(5, 4), "q/B": scores(2, 1)}),
        rubric=SAFE_ENOUGH,
    )
    assert found(run) == ["q/A > q/B"]
    assert build(run).dropped == {"gate: chosen side below 4 on safe": 1}


def test_a_mean_that_is_just_enough_passes_where_bare_floats_fall_short(tmp_path):
    """Three annotators say 3.3; their mean is 3.3, and 3.2999999999999994 in floats."""
    assert (3.3 + 3.3 + 3.3) / 3 < 3.3
    enough = rubric("warm", "safe", gates=[Gate(principle="safe", rule="at-least", value=3.3)])
    ratings = [rated({"p/A": scores(5, 3.3), "p/B": scores(2, 3.3)}, f"human:{who}") for who in range(3)]
    assert found(make_run(tmp_path / "run", *ratings, rubric=enough)) == ["p/A > p/B"]


def test_a_least_score_is_in_the_rubrics_units_with_z_scores_too(tmp_path):
    """A is 5 and 4 of 5, one standard deviation above the annotator's mean: it is 4, not 1, that is at least 4."""
    run = make_run(tmp_path / "run", rated({"p/A": scores(5, 4), "p/B": scores(2, 2)}), rubric=SAFE_ENOUGH)
    assert found(run, z_scores=True) == ["p/A > p/B"]


@pytest.mark.parametrize(
    ("on_safe", "pairs"), [("b", [KEPT]), ("a", [KEPT, "p/A > p/B"]), ("tie", [KEPT, "p/A > p/B"])]
)
def test_a_pair_that_was_only_compared_passes_by_the_comparisons_on_safety(tmp_path, on_safe, pairs):
    run = make_run(
        tmp_path / "run",
        compared("p/A", "p/B", "a", warm="a", safe=on_safe),
        compared("other/A", "other/B", "a", warm="a", safe="a"),
        rubric=SAFE,
    )
    assert found(run, strategy="comparisons") == pairs


def test_a_pair_about_whose_safety_nobody_was_asked_passes(tmp_path):
    for number, made in enumerate((SAFE, SAFE_ENOUGH)):
        run = make_run(tmp_path / f"run{number}", compared("p/A", "p/B", "a"), rubric=made)
        assert found(run, strategy="comparisons") == ["p/A > p/B"]


def test_a_pair_that_was_compared_and_rated_passes_by_its_ratings(tmp_path):
    """Preferred on everything when compared, rated less safe."""
    run = make_run(
        tmp_path / "run",
        compared("p/A", "p/B", "a", warm="a", safe="a"),
        rated({"p/A": scores(5, 3), "p/B": scores(5, 4), **ALWAYS}, "llm:two"),
        compared("other/A", "other/B", "a"),
        rubric=SAFE,
    )
    assert found(run, strategy="comparisons") == [KEPT]


def test_a_pair_that_two_gates_forbid_is_counted_once(tmp_path):
    both = rubric("warm", "safe", gates=[Gate(principle="safe"), Gate(principle="safe", rule="at-least", value=4)])
    run = make_run(tmp_path / "run", rated({"p/A": scores(5, 3), "p/B": scores(2, 4), **ALWAYS}), rubric=both)
    report = build(run)
    assert (report.selected, report.dropped) == (2, {"gate: chosen side lower on safe": 1})


# --- words -----------------------------------------------------------------------------------------------------------

TWENTY = "abcdefghijklmnopqrst"


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        ("Take a breath.", "Take a breath.", "identical texts"),
        ("Take a breath.", " take\n A  BREATH. ", "identical texts"),
        ("STRASSE", "straße", "identical texts"),
        ("Take a breath. Then", "Take a breath. Then call me.", "cut-off copy"),
        ("Take a breath. Then call me.", "take a breath.  Then", "cut-off copy"),
        ("", "Take a breath.", "empty response"),
        ("Take a breath.", " \n\t", "empty response"),
        ("", "", "empty response"),
        (TWENTY, TWENTY.replace("k", "-"), "near-identical texts"),
        (TWENTY, TWENTY.replace("k", "--"), None),
        (TWENTY, TWENTY.replace("j", "-").replace("k", "-"), None),
        ("Take a breath.", "Call me.", None),
        (None, "Take a breath.", None),
        ("", None, None),
    ],
)
def test_what_the_words_say_against_a_pair(chosen, rejected, reason):
    """Near-identical from 0.95: one of twenty letters is 1 - 1/20 = 0.95; two of twenty, or two of twenty-one, are
    less."""
    assert objection(chosen, rejected, 0.95) == reason


def test_the_near_identical_threshold_is_the_users(tmp_path):
    """Two of twenty letters differ: 0.9."""
    texts = {"p/A": TWENTY, "p/B": TWENTY.replace("j", "-").replace("k", "-"), "q/A": "One.", "q/B": "Two!"}
    run = make_run(tmp_path / "run", rated({"p/A": 5, "p/B": 1, "q/A": 5, "q/B": 1}), texts=texts)
    assert build(run).dropped == {}
    assert build(run, near_identical=0.9).dropped == {"near-identical texts": 1}


def test_each_reason_is_counted_for_the_pairs_it_takes(tmp_path):
    texts = {"p/B": answer("p/A").upper(), "q/B": answer("q/A")[:-1], "r/B": " ", "s/B": None}
    run = make_run(
        tmp_path / "run",
        rated({f"{prompt}/{name}": 5 if name == "A" else 1 for prompt in "pqrst" for name in "AB"}),
        texts=texts,
    )
    report = build(run)
    assert report.dropped == {"identical texts": 1, "cut-off copy": 1, "empty response": 1}
    assert sorted(pair.prompt_id for pair in pairs_of(run)) == ["s", "t"]


@pytest.mark.parametrize("mark", ["empty", "looping", "multi-speaker"])
def test_a_response_marked_as_unfit_may_be_rejected_and_is_never_chosen(tmp_path, mark):
    run = make_run(tmp_path / "run", rated({"p/A": 5, "p/B": 1, "q/A": 1, "q/B": 5, "r/A": 5, "r/B": 1}))
    marks = {"p/A": (mark,), "q/A": ("cut-off", mark), "r/A": ("cut-off",)}
    marked = [msgspec.structs.replace(one, marks=marks.get(one.id, ())) for one in run.responses()]
    run.replace(Response, marked)
    report = build(run)
    assert report.dropped == {f"chosen side marked {mark}": 1}
    assert sorted(preferred(run)) == ["q/B > q/A", "r/A > r/B"]


@pytest.mark.parametrize(("long", "limit", "fits"), [("p/A", 40, True), ("p/A", 39, False), ("p/B", 39, False)])
def test_a_pair_with_an_over_long_response_on_either_side_is_left_out(tmp_path, long, limit, fits):
    texts = {"p/A": "Short.", "p/B": "Brief!", "q/A": "Yes.", "q/B": "No!"} | {long: "x" * 40}
    run = make_run(tmp_path / "run", rated({"p/A": 5, "p/B": 1, "q/A": 5, "q/B": 1}), texts=texts)
    report = build(run, max_chars=limit)
    assert report.dropped == ({} if fits else {"over-long response": 1})


@pytest.fixture(scope="module")
def byte_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_byte_tokenizer(tmp_path_factory.mktemp("tokenizer"), closing=True)


@pytest.mark.parametrize(
    ("max_tokens", "max_chars", "fits"), [(6, None, True), (5, None, False), (6, 3, True), (6, 2, False)]
)
def test_length_is_counted_in_the_tokens_of_the_tokenizer(tmp_path, byte_tokenizer, max_tokens, max_chars, fits):
    """Three letters with accents are six bytes: six tokens, and the special one at the end does not count."""
    texts = {"p/A": "éàü", "p/B": "no", "q/A": "ab", "q/B": "12"}
    run = make_run(tmp_path / "run", rated({"p/A": 5, "p/B": 1, "q/A": 5, "q/B": 1}), texts=texts)
    report = build(run, max_tokens=max_tokens, max_chars=max_chars, tokenizer=str(byte_tokenizer))
    assert report.dropped == ({} if fits else {"over-long response": 1})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--max-tokens", "5"], "--tokenizer"),
        (["--max-tokens", "5", "--tokenizer", "no-such/tokenizer"], "no tokenizer 'no-such/tokenizer'"),
    ],
)
def test_tokens_without_a_tokenizer_are_an_error_and_change_nothing(tmp_path, prefkit, options, words):
    run = make_run(tmp_path / "run", rated({"p/A": 5, "p/B": 1}))
    outcome = prefkit("build-pairs", run.path, "--test-size", "0", *options)
    assert outcome.code == 1 and words in outcome.err
    assert not (run.path / "pairs.parquet").exists()


# --- caps, exclusions, order -----------------------------------------------------------------------------------------

FIVE = rated({"p/A": 5, "p/B": 4, "p/C": 3, "p/D": 1, "q/A": 4, "q/B": 2})


def test_a_cap_keeps_the_largest_gaps_of_each_prompt(tmp_path):
    """Of six pairs of p: A-D 4, B-D 3, then two of 2, two of 1."""
    run = make_run(tmp_path / "run", FIVE)
    assert found(run, per_prompt=2) == ["p/A > p/D", "p/B > p/D", "q/A > q/B"]
    assert build(run, per_prompt=2).dropped == {"beyond 2 pairs of one prompt": 4}


def test_the_default_needs_a_gap_of_one_and_the_other_strategies_any(tmp_path):
    run = make_run(tmp_path / "run", rated({"p/A": 4, "p/B": 3.5, "p/C": 3}))
    assert found(run) == ["p/A > p/C"]
    assert found(run, strategy="all") == ["p/A > p/B", "p/A > p/C", "p/B > p/C"]
    assert found(run, strategy="best-worst") == ["p/A > p/C"]
    assert found(run, strategy="top-k") == ["p/A > p/B", "p/A > p/C"]
    assert found(run, strategy="top-k", top=2) == ["p/A > p/C", "p/B > p/C"]


def test_an_excluded_prompt_has_no_pair_and_its_pairs_are_counted(tmp_path):
    run = make_run(tmp_path / "run", FIVE, excluded={"p": "a duplicate"})
    report = build(run)
    assert (report.selected, report.dropped, report.kept) == (7, {"prompt excluded by screening": 6}, {"train": 1})


@pytest.mark.parametrize(
    "options", [{}, {"strategy": "best-worst"}, {"strategy": "top-k", "top": 2}, {"per_prompt": 1}]
)
def test_the_order_of_records_changes_nothing_but_the_order_of_pairs(tmp_path, options):
    """Scores of 1 to 3 for six responses a prompt: ties for the best, the worst and the last place everywhere."""
    draw = random.Random(1)
    names = [f"{prompt}/{policy}" for prompt in "pqrs" for policy in "ABCDEF"]
    run = make_run(tmp_path / "run", rated({name: draw.randint(1, 3) for name in names}))
    before = found(run, min_gap=0.0, **options)
    for record, records in ((Response, list(run.responses())), (Judgement, list(run.judgements()))):
        draw.shuffle(records)
        run.replace(record, records)
    assert found(run, min_gap=0.0, **options) == before


def test_parquet_in_place_of_jsonl_gives_the_same_pairs(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    run = make_run(tmp_path / "run", FIVE, compared("p/A", "p/B", "a"), texts={"q/C": None})
    build(run)
    before = pairs_of(run)
    for stem in ("responses", "judgements"):
        lines = (run.path / f"{stem}.jsonl").read_bytes().splitlines()
        rows = [msgspec.json.decode(line) for line in lines]
        columns = {
            name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)
        }
        parquet.write_table(pa.table(columns), run.path / f"{stem}.parquet")
        (run.path / f"{stem}.jsonl").unlink()
    build(run)
    assert pairs_of(run) == before


# --- every pair ends somewhere ---------------------------------------------------------------------------------------

POOR = [None, "", "Take a breath.", "take a BREATH.", "Take a", TWENTY, TWENTY.upper() + "u", "x" * 60]


def any_run(folder: Path, seed: int) -> Run:
    """A few prompts, one maybe excluded; poor texts; ratings with holes; comparisons in one order or both."""
    draw = random.Random(seed)
    names = [f"{prompt}/{policy}" for prompt in "pqrst"[: draw.randint(1, 5)] for policy in "ABCD"]

    def score() -> float | None:
        return draw.choice([None, *range(1, 6)] + [level / 2 for level in range(2, 11)])

    judged: list[Any] = []
    for who in ("llm:one", "human:two")[: draw.randint(1, 2)]:
        judged += rated({name: scores(score(), score()) for name in names if draw.random() < 0.9}, who)
    for a, b in combinations(names, 2):
        if a[0] == b[0] and draw.random() < 0.7:
            who, winner = draw.choice(["llm:one", "human:two"]), draw.choice(["a", "a", "b", "tie"])
            judged += compared(a, b, winner, who, safe=draw.choice(["a", "b", None]))
            judged += compared(b, a, winner, who) if draw.random() < 0.5 else []
    texts = {name: draw.choice(POOR) for name in names if draw.random() < 0.4}
    return make_run(
        folder,
        judged,
        rubric=SAFE,
        texts={name: answer(name) for name in names} | texts,
        excluded={names[0][0]: "too short"} if draw.random() < 0.2 else {},
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.fixed_dictionaries(
        {
            "strategy": st.sampled_from(["gap", "best-worst", "all", "top-k", "comparisons"]),
            "per_prompt": st.sampled_from([None, 1, 2]),
            "max_chars": st.sampled_from([None, 50]),
            "orders": st.sampled_from(["both", "any"]),
            "test_size": st.sampled_from([0.0, 1.0]),
            "z_scores": st.booleans(),
        }
    ),
)
def test_every_selected_pair_is_kept_or_counted_under_one_reason(seed: int, chosen: dict[str, Any]):
    with tempfile.TemporaryDirectory() as folder:
        run = any_run(Path(folder) / "run", seed)
        report = PairReport()
        kept = 0
        try:
            kept = len(find_pairs(run, PairSettings(**chosen), report, lambda title, total, unit: lambda done: None).at)
        except RunError as error:
            if error.where == "the test split":
                return
            assert str(run.path) == error.where
        assert report.kept.total() == kept
        assert report.selected == kept + report.dropped.total()


def test_what_the_report_counts_is_what_the_files_hold(tmp_path):
    run = make_run(
        tmp_path / "run",
        rated(
            {f"p{number}/{name}": score for number in range(12) for name, score in zip("ABC", (5, 3, 1), strict=True)}
        ),
        texts={"p3/A": None},
    )
    report = build(run, test_size=3, validation_size=2)
    assert report.selected == 12 * 3
    assert Counter(pair.split for pair in pairs_of(run)) == report.kept
    assert report.kept["test"] == 3 and report.dropped == {"not the widest pair of its test prompt": 3 * 2}
    assert len({pair.id for pair in pairs_of(run)}) == report.kept.total() == 36 - 6


@pytest.mark.parametrize("n_prompts", [1, 2, 7, 30])
def test_half_of_the_pairs_show_the_chosen_side_first(tmp_path, n_prompts):
    run = make_run(
        tmp_path / "run",
        rated({f"p{n}/{name}": 5 - n % 2 if name == "A" else 1 for n in range(n_prompts) for name in "AB"}),
    )
    build(run)
    first = Counter(pair.first for pair in pairs_of(run))
    assert abs(first["chosen"] - first["rejected"]) <= 1


def test_which_side_comes_first_is_drawn_by_the_seed(tmp_path):
    run = make_run(
        tmp_path / "run", rated({f"p{number}/{name}": 5 if name == "A" else 1 for number in range(30) for name in "AB"})
    )
    drawn = []
    for seed in (1, 1, 2):
        build(run, seed=seed)
        drawn.append([pair.first for pair in pairs_of(run)])
    assert drawn[0] == drawn[1] != drawn[2]


# --- the command line ------------------------------------------------------------------------------------------------


def test_build_pairs_says_what_was_selected_and_where_it_went(tmp_path, prefkit):
    run = make_run(
        tmp_path / "run",
        rated({"p/A": scores(5, 3), "p/B": scores(2, 4), "q/A": scores(5, 5), "q/B": scores(1, 1)}),
        rated({"q/C": scores(3, 3)}, failure="not a JSON object"),
        rubric=SAFE,
    )
    outcome = prefkit("build-pairs", run.path, "--test-size", "0")
    assert outcome.code == 0
    assert outcome.out.splitlines()[:4] == [
        "judgements read: 5 ratings, 1 ratings unreadable",
        "selected: 2 pairs (gap)",
        "  left out: 1 gate: chosen side lower on safe",
        "pairs.parquet: 1 pairs (1 train)",
    ]
    assert prefkit("build-pairs", run.path, "--test-size", "0", "--no-gates").out.splitlines()[2] == (
        "pairs.parquet: 2 pairs (2 train)"
    )


def test_a_run_without_pairs_says_why_and_what_to_do(tmp_path, prefkit):
    run = make_run(tmp_path / "one-order", compared("p/A", "p/B", "a", "llm:one"))
    outcome = prefkit("build-pairs", run.path, "--strategy", "comparisons")
    assert outcome.code == 1
    assert "model's comparison in one order only: 1" in outcome.err and "--orders any" in outcome.err

    run = make_run(tmp_path / "same", rated({"p/A": 5, "p/B": 1}), texts={"p/A": "Yes.", "p/B": "yes."})
    outcome = prefkit("build-pairs", run.path)
    assert outcome.code == 1
    assert "1 pairs selected and none kept (identical texts: 1)" in outcome.err


def test_a_run_without_judgements_or_responses_says_what_to_import(tmp_path, prefkit):
    empty = Run.create(tmp_path / "empty", ONE)
    assert "prefkit import responses" in prefkit("build-pairs", empty.path).err
    run = make_run(tmp_path / "run", texts={"p/A": "Yes."})
    (run.path / "judgements.jsonl").unlink()
    assert "prefkit import judgements" in prefkit("build-pairs", run.path).err


def test_a_build_that_fails_leaves_the_pairs_from_before(tmp_path, prefkit):
    run = make_run(tmp_path / "run", rated({"p/A": 5, "p/B": 1}))
    build(run)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path.suffix != ".lock"}
    assert prefkit("build-pairs", run.path, "--test-size", "0", "--min-gap", "5").code == 1
    assert {path: path.read_bytes() for path in before} == before


def test_texts_that_were_not_scrubbed_are_never_pushed(tmp_path, prefkit):
    run = make_run(tmp_path / "run", rated({"p/A": 5, "p/B": 1}))
    outcome = prefkit("build-pairs", run.path, "--test-size", "0", "--push-to-hub", "somebody/somewhere")
    assert outcome.code == 1
    assert "1 prompts and 2 responses that were not scrubbed" in outcome.err
    assert not (run.path / "pairs.parquet").exists()


# --- reading pairs ---------------------------------------------------------------------------------------------------


def test_pairs_are_shown_with_their_words_and_gaps(tmp_path, prefkit):
    run = make_run(
        tmp_path / "run",
        rated({"p/A": scores(5, 4), "p/B": scores(2, 3)}),
        rubric=TWO,
        texts={"p/A": "You sound worn out.", "p/B": "Cheer up."},
        prompts={
            "p": [
                Message(role="user", content="I am tired."),
                Message(role="assistant", content="Since when?"),
                Message(role="user", content="Always."),
            ]
        },
    )
    build(run)
    out = prefkit("pairs", run.path, "--sample", "3", "--width", "80").out
    for words in (
        "Client: I am tired.",
        "Therapist: Since when?",
        "Client: Always.",
        "chosen: A",
        "You sound worn out.",
        "rejected: B",
        "Cheer up.",
        "gap 2.00; preferred by 100% of 1; warm +3.00, safe +1.00",
    ):
        assert words in out


def test_square_brackets_are_shown_as_they_are(tmp_path, prefkit):
    """Words that look like markup, in a prompt, a response, a policy's name; and the marks of a screened prompt."""
    run = make_run(
        tmp_path / "run",
        rated({"p/[/A]": 5, "p/[bold]B": 1}),
        texts={"p/[/A]": "Read [/nothing] and [link=x]this[/link].", "p/[bold]B": "[red]No."},
        prompts={"p": "[bold]Help[/bold] me \\[x]"},
        marks={"p": ("risk:self-harm",)},
    )
    build(run)
    outcome = prefkit("pairs", run.path, "--width", "100")
    for words in ("[bold]Help[/bold] me \\[x]", "Read [/nothing] and [link=x]this[/link].", "[red]No.", "chosen: [/A]",
                  "rejected: [bold]B", "prompt [risk:self-harm] (train)"):  # fmt: skip
        assert words in outcome.out


def test_a_pair_that_was_compared_and_never_rated_can_be_read(tmp_path, prefkit):
    run = make_run(tmp_path / "run", both_orders("p/A", "p/B"), texts={"p/A": "Yes.", "p/B": None})
    build(run, strategy="comparisons")
    out = prefkit("pairs", run.path, "--width", "80").out
    assert "compared, not rated; preferred by 100% of 1" in out and "(no text)" in out


def test_a_sample_is_drawn_by_its_seed_from_the_split_asked_for(tmp_path, prefkit):
    run = make_run(
        tmp_path / "run", rated({f"p{n}/{name}": 5 if name == "A" else 1 for n in range(20) for name in "AB"})
    )
    build(run, test_size=5)
    of_test = {pair.prompt_id for pair in pairs_of(run) if pair.split == "test"}

    def shown(*options: str) -> list[str]:
        return re.findall(r"(p\d+), what", prefkit("pairs", run.path, "--width", "80", *options).out)

    assert set(shown("--split", "test", "--sample", "9")) == of_test and len(of_test) == 5
    assert shown("--sample", "4") == shown("--sample", "4") != shown("--sample", "4", "--seed", "1")
    assert len(set(shown("--sample", "4"))) == 4
    missing = prefkit("pairs", run.path, "--split", "validation")
    assert missing.code == 1 and "no pair in the split 'validation'" in missing.err


def test_reading_pairs_before_they_are_built_says_how_to_build_them(tmp_path, prefkit):
    run = make_run(tmp_path / "run", rated({"p/A": 5, "p/B": 1}))
    outcome = prefkit("pairs", run.path)
    assert outcome.code == 1 and f"prefkit build-pairs {run.path}" in outcome.err


# --- real data -------------------------------------------------------------------------------------------------------


def in_words(output: str, before: str) -> int:
    """The number in front of some words of a command's output."""
    (number,) = re.findall(rf"([\d,]+) {re.escape(before)}", output)
    return int(number.replace(",", ""))


def test_pairs_of_a_public_grid_of_questions_and_models(tmp_path, prefkit, real_data):
    source, run = real_data / "chatpsychiatrist", tmp_path / "run"
    prefkit("new", run, "--rubric", "psychocounsel")
    prefkit("import", "prompts", run, source / "question.jsonl")
    answers = [prefkit("import", "responses", run, file).out for file in sorted((source / "model_answer").iterdir())]
    assert sum(in_words(out, "responses") for out in answers) == 1_145
    imported = prefkit("import", "judgements", run, source / "ratings.csv").out
    assert in_words(imported, "scores") == 8_015
    built = prefkit("build-pairs", run, "--test-size", "0", "--near-identical", "1").out
    assert in_words(built, "pairs (gap)") == 618
    assert in_words(built, "gate: chosen side lower on safety") == 1


@pytest.mark.parametrize(
    ("options", "selected", "unreadable"), [(["--keep-out-of-range"], 12_051, 57), ([], 11_742, 57 + 33)]
)
def test_pairs_of_a_public_set_of_human_ratings_with_dirt(tmp_path, prefkit, real_data, options, selected, unreadable):
    """57 cells are not JSON; in 33 more every score is out of range, and without those nothing is left of them."""
    source, run = real_data / "mentalbench-align", tmp_path / "run"
    if not source.is_dir():
        pytest.skip("PREFKIT_DATA holds no mentalbench-align")
    prefkit("new", run, "--rubric", "mentalbench")
    imported = prefkit("import", "judgements", run, source / "Human_judge.xlsx", *options).out
    out_of_range = "score out of range, kept" if options else "score out of range, left out"
    assert re.findall(rf"{out_of_range}: (\d+)", imported) == ["239"]
    assert re.findall(r"score missing: (\d+)", imported) == ["10"]
    built = prefkit("build-pairs", run).out
    assert in_words(built, "pairs (gap)") == selected
    assert in_words(built, "ratings unreadable") == unreadable


@pytest.mark.parametrize("name", ["prompts", "responses"])
def test_a_record_that_stands_twice_is_refused(prefkit, tmp_path, name: str):
    run = make_run(tmp_path / "run", rated({"p/A": 5, "p/B": 1}))
    path = run.path / f"{name}.jsonl"
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[0])
    outcome = prefkit("build-pairs", run.path, "--test-size", "0")
    assert outcome.code == 1
    assert f"{name}.jsonl: found the id " in outcome.err and "a second time" in outcome.err


def test_attention_items_drafts_and_discarded_items_make_no_pair_and_are_counted(tmp_path):
    attention, draft, answered = (
        compared(f"p{number}/A", f"p{number}/B", winner)[0] for number, winner in enumerate(("a", None, "a"))
    )
    judged = [
        msgspec.structs.replace(attention, flags=("attention:right",)),
        msgspec.structs.replace(draft, failure="draft"),
        answered,
    ]
    run = make_run(tmp_path / "run", judged)
    assert found(run, strategy="comparisons") == ["p2/A > p2/B"]
    counts = build(run, strategy="comparisons").judgements
    assert counts["answers to attention items"] == counts["drafts and discarded"] == counts["comparisons"] == 1
