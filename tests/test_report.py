"""The report: figures as the commands print them, what is absent said, nothing of the data read as markup."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from making import ONE, both_orders, build, compared, make_run, rated, rubric

from prefkit.cli import cli
from prefkit.errors import PrefkitError, RecordError
from prefkit.evaluation.outcomes import run_outcomes
from prefkit.evaluation.report.gathering import Report, ReportSettings, compare, gather
from prefkit.evaluation.report.markup import el, embedded
from prefkit.evaluation.report.page import page
from prefkit.evaluation.report.rates import Absent, Wins
from prefkit.evaluation.report.summary import summary
from prefkit.evaluation.report.writing import write_report
from prefkit.evaluation.win_rates import compare_policies, win_report
from prefkit.records import Message, Prompt, Response
from prefkit.run import Run

NASTY = (
    "</script><script>window.ran = 1</script>",
    "<img src=x onerror='window.ran = 1'><!--",
    "{{x}} $title ${script} $$ &lt;b&gt; &amp;",
    "a\x00b \x1b[31m \u2028 \u2029 end",
    "مرحبا \u202e gnorw",
    "👩‍👩‍👧 é e\u0301",
)


def simple_run(folder: Path, scores: Sequence[tuple[int, int]], by: str = "llm:one", **more: Any) -> Run:
    """Policies A and B, a prompt for each two scores."""
    given = {f"p{n}/{policy}": score for n, pair in enumerate(scores) for policy, score in zip("AB", pair, strict=True)}
    return make_run(folder, rated(given, by), **more)


def report_of(run: Run, **settings: Any) -> Report:
    return gather(run, ReportSettings(rounds=100, **settings))


def html_of(run: Run, **settings: Any) -> str:
    return page(report_of(run, **settings)).decode()


class Parsed(HTMLParser):
    """Tags, attributes, and what stands in them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.inside: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ("meta", "input", "br", "link"):
            self._open.append(tag)
        if tag in ("script", "style"):
            self.inside.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, f"</{tag}> where {self._open[-1:]} is open"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        where = self._open[-1] if self._open else ""
        if where in ("script", "style"):
            self.inside[where][-1] += data
        else:
            self.inside.setdefault("text", []).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.inside.get("text", [])).split())


# ------------------------------------------------------------------------------------------------------ the figures


def test_the_rates_and_the_board_are_those_of_the_commands(tmp_path: Path):
    run = simple_run(tmp_path / "run", [(5, 2), (4, 2), (3, 3), (1, 5), (4, 1)] * 6)
    found = report_of(run, policy="A", baseline="B")
    said = win_report(run_outcomes(run), "A", "B").overall["llm:one"]
    assert isinstance(found.wins, Wins)
    assert found.wins.report.overall["llm:one"] == said
    plain = json.loads(found.as_json())
    assert plain["wins"]["report"]["overall"]["llm:one"]["rate"] == said.rate
    assert [one["policy"] for one in plain["board"]["policies"]] == ["A", "B"]
    assert plain["wins"]["principles"]["good"]["llm:one"]["prompts"] == 30


def test_the_headline_says_rate_and_interval_in_words(tmp_path: Path):
    run = simple_run(tmp_path / "run", [(5, 2), (4, 2), (1, 5)] * 20)
    text = Parsed(html_of(run, policy="A", baseline="B")).text
    rate = win_report(run_outcomes(run), "A", "B").overall["llm:one"]
    assert rate.low is not None and rate.high is not None
    assert "A is preferred to B" in text
    assert "Shown what 60 clients said and two answers to it, one model preferred the answer of A to that of B" in text
    assert "in 67 of 100 cases (a tie counts half). With other clients like these it would be between" in text
    assert f"between {100 * rate.low:.0f} and {100 * rate.high:.0f} of 100. All of that range lies on one side" in text


@pytest.mark.parametrize(
    ("scores", "title"),
    [
        ([(5, 2), (2, 5)] * 8, "A or B: these data do not tell"),
        ([(2, 5)] * 30, "B is preferred to A"),
        ([(3, 3)] * 8, "Every comparison is a tie"),
        ([(5, 2)], "One prompt says nothing about who is preferred"),
    ],
)
def test_the_title_claims_no_more_than_the_interval_bears(tmp_path: Path, scores: list[tuple[int, int]], title: str):
    assert f"<h1>{title}</h1>" in html_of(simple_run(tmp_path / "run", scores), policy="A", baseline="B")


@pytest.mark.parametrize(("won", "told"), [(27, False), (30, True)])
def test_two_that_the_data_chose_are_called_apart_only_where_the_whole_board_tells_them_apart(
    tmp_path: Path, won: int, told: bool
):
    """A beats B in 27 or 30 of 40, each beyond chance by itself; there are four more policies on the board."""
    given: dict[str, int] = {}
    for n in range(40):
        given |= {f"p{n}/A": 4 if n < won else 2, f"p{n}/B": 3}
        given |= {f"p{n}/{name}": 1 + 4 * ((n * step) % 7 < 3) for name, step in zip("CDEF", (1, 2, 3, 5), strict=True)}
    run = make_run(tmp_path / "run", rated(given))
    chosen, named = report_of(run), report_of(run, policy="A", baseline="B")
    assert isinstance(chosen.wins, Wins) and isinstance(named.wins, Wins)
    assert (chosen.wins.policy, chosen.wins.baseline) == ("A", "B")
    assert chosen.wins.main[1].decided and named.wins.decided
    assert chosen.wins.decided is told
    title = "A is preferred to B" if told else "A or B: these data do not tell"
    assert f"<h1>{title}</h1>" in page(chosen).decode()
    assert "chosen by these data" in Parsed(page(chosen).decode()).text
    assert "chosen by these data" not in Parsed(page(named).decode()).text


def test_where_people_and_models_judged_the_headline_is_the_peoples(tmp_path: Path):
    given = {f"p{n}/{policy}": score for n in range(30) for policy, score in (("A", 5), ("B", 2))}
    other = {name: 7 - score for name, score in given.items() if name.endswith(("A", "B"))}
    run = make_run(tmp_path / "run", rated(given, "human:anna"), rated(other, "llm:one"))
    found = report_of(run, policy="A", baseline="B")
    assert isinstance(found.wins, Wins)
    assert found.wins.main[0] == "people" and found.wins.main[1].rate == 1.0
    assert "one person preferred" in Parsed(page(found).decode()).text


def test_the_rewards_of_a_model_say_who_is_preferred_where_they_are_asked_for(tmp_path: Path):
    run = simple_run(tmp_path / "run", [(5, 2)] * 12)
    lines = [
        {
            "model": model,
            "prompt_id": f"p{n}",
            "response_id": f"p{n}/{policy}",
            "policy": policy,
            "reward": float((policy == "B") == (model == "rm")),
        }
        for model in ("rm", "other")
        for n in range(12)
        for policy in "AB"
    ]
    (run.path / "rewards.jsonl").write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    found = report_of(run, policy="A", baseline="B", reward_model="rm")
    assert isinstance(found.wins, Wins)
    assert (found.wins.by, found.wins.main[1].rate) == ("rewards of rm", 0.0)
    assert "the reward model preferred the answer of A" in Parsed(page(found).decode()).text
    assert any("anybody but the reward model" in one.title for one in found.limits.not_measured)


def test_the_flow_counts_what_each_stage_left_out(tmp_path: Path):
    run = simple_run(tmp_path / "run", [(5, 1), (4, 1), (3, 3)] * 6, excluded={"p1": "too short"})
    build(run, test_size=0.2)
    steps = {step.name: step for step in report_of(Run(run.path)).flow.steps}
    assert steps["Prompts"].left_out == {"too short": 1}
    pairs = steps["Pairs"]
    assert pairs.total == pairs.went_on + sum(pairs.left_out.values()) and pairs.went_on == sum(pairs.kept.values())
    text = Parsed(page(report_of(Run(run.path))).decode()).text
    assert "too short" in text and "train" in text


# ------------------------------------------------------------------------------------------------ what is not there


def test_an_empty_run_has_a_page_that_says_what_comes_first(prefkit: Any, tmp_path: Path):
    Run.create(tmp_path / "run", ONE)
    outcome = prefkit("report", tmp_path / "run")
    assert (outcome.code, outcome.err) == (0, "")
    text = Parsed((tmp_path / "run" / "report" / "index.html").read_text()).text
    assert "Nobody was preferred yet" in text
    for command in ("import prompts", "judge", "train-rm", "train-policy"):
        assert f"prefkit {command} {tmp_path / 'run'}" in text


def test_a_run_without_judgements_says_so_in_each_section_with_the_command(tmp_path: Path):
    run = make_run(tmp_path / "run", texts={"p1/A": "Hello.", "p1/B": "Hm."})
    found = report_of(run)
    assert isinstance(found.wins, Absent) and isinstance(found.board, Absent) and isinstance(found.agreement, Absent)
    assert f"prefkit judge {run.path}" in found.wins.command
    assert "no judgements" in Parsed(page(found).decode()).text


def test_every_command_that_the_page_names_can_be_typed_as_it_stands(tmp_path: Path):
    """In a folder with a blank in its name; click finds no option missing and none that it does not know."""
    empty, rated_ = Run.create(tmp_path / "an empty run", ONE), simple_run(tmp_path / "a run", [(5, 2), (2, 5)])
    put(rated_.path / "reward-models" / "a model" / "training.json", {})
    bare = make_run(tmp_path / "a bare run", rated({"p1/A": 5, "p1/B": 4}), texts={"p1/A": None, "p1/B": None})
    named = set()
    for run in (empty, rated_, bare):
        for words in re.findall(r'<code class="command">(.*?)</code>', html_of(run)):
            program, name, *arguments = shlex.split(unescape(words))
            command = cli.get_command(click.Context(cli), name)
            assert program == "prefkit" and command is not None
            if isinstance(command, click.Group):
                command = command.get_command(click.Context(command), arguments.pop(0))
            assert command is not None
            assert str(run.path) in arguments
            command.make_context(name, arguments)
            named.add(name)
    assert {"audit", "train-rm", "train-policy", "build-pairs", "judge", "annotate", "import", "eval-rm"} <= named


@pytest.mark.parametrize(
    ("judgements", "expected", "unexpected"),
    [
        (lambda: rated({"p1/A": 5, "p1/B": 2}), {"Human judgement", "A second opinion"}, {"Both orders", "Agreement"}),
        (lambda: rated({"p1/A": 5, "p1/B": 2}, "human:anna"), {"A second opinion"}, {"Human judgement"}),
        (
            lambda: [*compared("p1/A", "p1/B", "a", "llm:one"), *both_orders("p2/A", "p2/B")],
            {"Both orders", "Human judgement"},
            {"Answers seen side by side"},
        ),
        (lambda: rated({"p1/A": 5, "p1/B": 2}), {"Answers seen side by side", "Enough prompts"}, set()),
    ],
)
def test_what_was_not_measured_follows_from_what_is_absent(
    tmp_path: Path, judgements: Any, expected: set[str], unexpected: set[str]
):
    found = {one.title for one in report_of(make_run(tmp_path / "run", judgements())).limits.not_measured}
    assert expected <= found
    assert not unexpected & found


def test_a_run_judged_by_people_may_be_said_to_be(tmp_path: Path):
    by_models = report_of(simple_run(tmp_path / "models", [(5, 2)] * 3)).limits.not_for
    by_people = report_of(simple_run(tmp_path / "people", [(5, 2)] * 3, "human:anna")).limits.not_for
    assert any("no person was asked" in one for one in by_models)
    assert not any("no person was asked" in one for one in by_people)


def test_training_that_was_flagged_and_rounds_that_were_stopped_are_on_the_page(tmp_path: Path):
    run = simple_run(tmp_path / "run", [(5, 2)] * 3)
    rate = {"value": 0.4, "low": 0.2, "high": 0.6, "n": 32}
    looks = [
        {"step": step, "held_out": {"loss": 0.6, "accuracy": 0.5}, "health": {"flagged": False}, "win_rate": rate}
        for step in (0, 4)
    ]
    looks[1]["health"] = {"flagged": True, "why": ["35% of the answers loop"]}
    put(
        run.path / "policies" / "dpo" / "training.json",
        {
            "settings": {"method": "dpo", "base": "/home/somebody/base"},
            "steps": 4,
            "kept_step": 0,
            "history": [{"step": 1, "loss": 0.69, "accuracy": 0.5}, {"step": 2, "loss": 0.5, "accuracy": 0.7}],
            "looks": looks,
            "notes": ["The text is degenerate."],
        },
    )
    standing = {"reward": 0.1, "start": rate}
    put(
        run.path / "iterations" / "first" / "round-1" / "evaluation.json",
        {
            "round": 1,
            "prompts": 32,
            "by_reward_model": standing,
            "health": {"flagged": False},
            "words": 80,
            "stop": ["the reward model prefers the start"],
        },
    )
    text = Parsed(html_of(run)).text
    for said in ("Flagged at step 4:", "35% of the answers loop", "The text is degenerate.", "Stopped after round 1:"):
        assert said in text
    assert "DPO from base" in text and "/home" not in text


def test_an_audit_from_before_the_last_judgements_is_called_old(tmp_path: Path):
    run = simple_run(tmp_path / "run", [(5, 2)] * 3)
    put(run.path / "audit" / "audit.json", {"rubric": run.rubric.hash, "judges": [], "tested": 7, "flagged": 0})
    assert "Judgements were added since." not in html_of(run)
    os.utime(run.path / "audit" / "audit.json", (0, 0))
    assert "Judgements were added since." in html_of(run)


def test_a_reward_model_that_was_not_evaluated_shows_what_its_training_measured(tmp_path: Path):
    run = simple_run(tmp_path / "run", [(5, 2)] * 3)
    held_out = [{"": "small", "accuracy": "71.4 [45.4, 88.3]"}, {"": "length only", "accuracy": "50.0"}]
    put(run.path / "reward-models" / "small" / "training.json", {"held_out": held_out, "notes": ["Only 14 prompts."]})
    put(run.path / "reward-models" / "new" / "training.json", {})
    text = Parsed(html_of(run)).text
    assert "71.4 [45.4, 88.3]" in text and "Only 14 prompts." in text
    assert "It was not measured." in text and f"prefkit eval-rm {run.path} --rm new" in text


def test_a_file_that_prefkit_did_not_write_is_named(prefkit: Any, tmp_path: Path):
    run = simple_run(tmp_path / "run", [(5, 2)] * 3)
    put(run.path / "audit" / "audit.json", {"judges": "nobody"})
    outcome = prefkit("report", run.path)
    assert outcome.code == 1
    assert "audit/audit.json" in outcome.err and "Traceback" not in outcome.err
    with pytest.raises(RecordError, match="what prefkit writes there"):
        report_of(run)


def put(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(value))


# -------------------------------------------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--policy", "Z"), "no policy 'Z'"),
        (("--policy", "A", "--baseline", "A"), "'A' twice"),
        (("--rm", "none"), "rewards.jsonl"),
        (("--compare", "nowhere"), "no run.json"),
    ],
)
def test_a_wrong_name_is_one_message_and_writes_nothing(
    prefkit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
):
    monkeypatch.chdir(tmp_path)
    run = simple_run(tmp_path / "run", [(5, 2)] * 3)
    outcome = prefkit("report", run.path, *arguments)
    assert outcome.code == 1
    assert said in outcome.err and "Traceback" not in outcome.err
    assert not (run.path / "report").exists()


def test_comparisons_in_one_order_alone_are_said_to_be_the_reason(tmp_path: Path):
    run = make_run(tmp_path / "run", *(compared(f"p{n}/A", f"p{n}/B", "a", "llm:one") for n in range(3)))
    text = Parsed(html_of(run)).text
    assert "none counts: 3 asked of a model in one order only" in text
    assert "--mode compare" in text


def test_two_that_hardly_met_are_not_put_into_the_headline(tmp_path: Path):
    """A leads and met B once; with C it met thirty times."""
    given = {f"p{n}/{policy}": score for n in range(30) for policy, score in (("A", 5), ("C", 3), ("D", 2))}
    run = make_run(tmp_path / "run", rated(given), rated({"q/A": 5, "q/B": 4}, "llm:two"))
    found = report_of(run).wins
    assert isinstance(found, Wins)
    assert (found.policy, found.baseline) == ("A", "C")


def test_an_unknown_policy_of_a_run_without_judgements_is_named_too(tmp_path: Path):
    run = make_run(tmp_path / "run", texts={"p1/A": "Hello.", "p1/B": "Hm."})
    with pytest.raises(PrefkitError, match="no policy 'Z'"):
        report_of(run, policy="Z")


# ------------------------------------------------------------------------------------------- nothing is read as markup


def nasty_run(folder: Path) -> Run:
    policies = ("<b>A</b></script>", '\u202eB & "C"', "p | `c`")
    principles = rubric("warm", "<em>bold</em>")
    texts = {
        f"p{n}/{policy}": f"{NASTY[(n + place) % len(NASTY)]} {n}"
        for n in range(12)
        for place, policy in enumerate(policies)
    }
    scores = {
        name: {"warm": 1 + (n * 7 + len(name)) % 5, "<em>bold</em>": 1 + (n * 3) % 5} for n, name in enumerate(texts)
    }
    run = make_run(
        folder,
        rated(scores, "llm:<i>j</i>"),
        rated(dict(list(scores.items())[:18]), "human:<script>x</script>"),
        rubric=principles,
        texts=texts,
        prompts={
            f"p{n}": NASTY[n % len(NASTY)]
            if n % 2
            else [Message(role="user", content=NASTY[n % len(NASTY)]), Message(role="user", content="more")]
            for n in range(12)
        },
        topic={f"p{n}": "<b>grief</b>" for n in range(12)},
        marks={"p0": ("risk:<x>",)},
    )
    put(
        run.path / "policies" / "<b>n</b>" / "looks.jsonl",
        {"step": 0, "health": {"flagged": True, "why": ["<script>why</script>"]}, "held_out": {"loss": 1.0}},
    )
    return run


def test_no_name_or_text_ends_a_tag_or_begins_one(tmp_path: Path):
    run = nasty_run(tmp_path / "<run>")
    text = html_of(run, examples=500)
    parsed = Parsed(text)
    assert parsed.tags["script"] == 2 and parsed.tags["style"] == 1
    assert not {"b", "i", "em", "img", "x"} & set(parsed.tags)
    assert not [name for _, name, _ in parsed.attributes if name.startswith("on") or name == "style"]
    assert "\u202e" not in parsed.text
    shown = json.loads(parsed.inside["script"][0])["examples"]
    assert {said for one in shown for said in one["texts"]} <= {
        response.text for response in run.responses() if response.text
    }
    assert any(NASTY[0] in said for one in shown for said in one["texts"])


def test_the_page_loads_nothing_and_runs_only_what_it_names(tmp_path: Path):
    parsed = Parsed(html_of(nasty_run(tmp_path / "run")))
    (policy,) = [value for _, name, value in parsed.attributes if name == "content" and "default-src" in value]
    assert "default-src 'none'" in policy
    for kind, place in (("script", -1), ("style", 0)):
        digest = base64.b64encode(hashlib.sha256(parsed.inside[kind][place].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    outside = [value for _, name, value in parsed.attributes if name in ("src", "href") and not value.startswith("#")]
    assert outside == []
    assert "url(" not in parsed.inside["style"][0] and "@import" not in parsed.inside["style"][0]


def test_json_in_a_script_element_holds_nothing_that_could_end_it():
    words = embedded(list(NASTY))
    assert not re.search("[<>&\u2028\u2029]", words)
    assert json.loads(words) == list(NASTY)


def test_a_text_inside_an_element_is_escaped_and_markup_is_not():
    assert el("p", "a < b", el("b", "&"), title='"x"') == '<p title="&quot;x&quot;">a &lt; b<b>&amp;</b></p>'


def test_behind_every_plot_there_is_a_table(tmp_path: Path):
    text = html_of(nasty_run(tmp_path / "run"))
    plots = re.findall(r"<figure>.*?</figure>", text, re.DOTALL)
    assert len(plots) > 5
    assert all("<details" in one and "<table>" in one for one in plots)


def test_the_summary_holds_no_text_and_no_markup_of_the_data(tmp_path: Path):
    run = nasty_run(tmp_path / "run")
    said = summary(report_of(run))
    assert not any(words in said for words in NASTY)
    assert "<b>" not in said and "<script>" not in said and "\u202e" not in said
    assert "| **" not in said and "### What this must not be used for" in said


# ------------------------------------------------------------------------------------------------------ the examples


def test_a_page_of_figures_only_holds_no_text(tmp_path: Path):
    run = simple_run(tmp_path / "run", [(5, 2)] * 5, prompts={"p0": "The heron was there."})
    assert "The heron was there." in html_of(run)
    text = html_of(run, examples=0)
    assert "heron" not in text and "what am I to do" not in text
    assert "Figures only." in Parsed(text).text and "--examples 20" in text


def test_in_a_run_that_was_scrubbed_a_text_that_was_not_is_left_out_and_counted(tmp_path: Path):
    run = simple_run(tmp_path / "run", [(5, 2)] * 4)
    run.replace(Prompt, [msgspec.structs.replace(one, scrubbed=one.id != "p1") for one in list(run.prompts())])
    run.replace(Response, [msgspec.structs.replace(one, scrubbed=True) for one in list(run.responses())])
    found = report_of(run)
    assert len(found.examples.shown) == 3 and found.examples.left_out == {"that were not scrubbed": 1}
    assert "p1, what" not in page(found).decode()
    assert "a net with holes" in Parsed(page(found).decode()).text
    everything = report_of(run, allow_unscrubbed=True)
    assert len(everything.examples.shown) == 4
    assert "Identifying text was not replaced" in Parsed(page(everything).decode()).text


def test_an_example_says_who_said_what_and_by_how_much(tmp_path: Path):
    scores = {"p1/A": {"warm": 5, "safe": 2}, "p1/B": {"warm": 2, "safe": 4}}
    other = {"p1/A": {"warm": 1, "safe": 1}, "p1/B": {"warm": 2, "safe": 4}}
    run = make_run(
        tmp_path / "run",
        rated(scores, "llm:one"),
        rated(other, "llm:two"),
        both_orders("p1/A", "p1/B", "llm:three"),
        rubric=rubric("warm", "safe"),
    )
    (one,) = report_of(run, policy="B", baseline="A").examples.shown
    assert one.policies == ("B", "A")
    said = sorted((verdict.by, verdict.how, verdict.said, verdict.shown or "") for verdict in one.verdicts)
    assert said == [
        ("llm:one", "rated", "second", ""),
        ("llm:three", "compared", "second", "first"),
        ("llm:three", "compared", "second", "second"),
        ("llm:two", "rated", "first", ""),
    ]
    assert (one.won, one.split) == ("second", True)
    assert one.gaps == {"warm": pytest.approx((-3 + 1) / 2), "safe": pytest.approx((2 + 3) / 2)}


def test_five_hundred_examples_stay_below_two_megabytes_and_what_is_left_out_is_counted(tmp_path: Path):
    texts = {f"p{n}/{policy}": f"{n} " + "<word> " * 900 for n in range(500) for policy in "AB"}
    run = simple_run(tmp_path / "run", [(5, 2), (3, 4)] * 250, texts=texts)
    found = report_of(run, examples=500)
    assert len(page(found)) < 2_000_000
    left_out = found.examples.left_out["as the page would become too large"]
    assert len(found.examples.shown) + left_out == 500
    assert f"{left_out:,} as the page would become too large" in Parsed(page(found).decode()).text


def test_each_topic_has_its_turn_and_the_two_of_the_headline_half_of_the_examples(tmp_path: Path):
    given = {f"p{n}/{policy}": score for n in range(40) for policy, score in (("A", 5), ("B", 2), ("C", 1))}
    topics = {f"p{n}": "rare" if n == 7 else "common" for n in range(40)}
    run = make_run(tmp_path / "run", rated(given), topic=topics)
    shown = report_of(run, policy="A", baseline="B", examples=8).examples.shown
    assert sum(set(one.policies) == {"A", "B"} for one in shown) == 4
    assert {one.topic for one in shown} == {"rare", "common"}


# -------------------------------------------------------------------------------------------------------- two runs


def test_the_difference_between_two_runs_is_paired_by_prompt(tmp_path: Path):
    """The same prompts in another order; the second run's policy A is what C is in a run that holds all three."""
    before = [(5, 2), (2, 4), (3, 3)] * 8
    after = [(score, baseline) for score, (_, baseline) in zip((5, 5, 2, 1) * 6, before, strict=True)]
    one = simple_run(tmp_path / "one", before)
    given = {f"p{n}/{policy}": score for n, pair in enumerate(after) for policy, score in zip("AB", pair, strict=True)}
    other = make_run(tmp_path / "other", rated(dict(reversed(given.items()))))
    together = {}
    for n, ((a, b), (c, _)) in enumerate(zip(before, after, strict=True)):
        together |= {f"p{n}/A": a, f"p{n}/B": b, f"p{n}/C": c}
    expected = compare_policies(run_outcomes(make_run(tmp_path / "both", rated(together))), "C", "A", "B")
    settings = {"policy": "A", "baseline": "B"}
    found = compare(report_of(one, **settings), report_of(other, **settings)).beside
    assert found is not None
    line = next(line for line in found.lines if line.section == "Win rate")
    assert (line.difference, line.low, line.high) == (expected.difference, expected.low, expected.high)
    assert line.shared == 24
    assert (
        "Beside another run"
        in Parsed(page(compare(report_of(one, **settings), report_of(other, **settings))).decode()).text
    )


def test_runs_of_other_prompts_have_a_difference_and_no_interval(tmp_path: Path):
    one = simple_run(tmp_path / "one", [(5, 2), (2, 4)] * 4)
    given = {f"q{n}/{policy}": score for n in range(8) for policy, score in (("A", 5), ("B", 2))}
    other = make_run(tmp_path / "other", rated(given))
    found = compare(report_of(one), report_of(other)).beside
    assert found is not None
    line = next(line for line in found.lines if line.section == "Win rate")
    assert line.low is None and line.difference is not None
    assert any("share no judged prompt" in note for note in found.notes)


# --------------------------------------------------------------------------------------------------------- the files


def test_the_same_run_gives_the_same_bytes(tmp_path: Path):
    run = nasty_run(tmp_path / "run")
    one, other = (write_report(report_of(run), tmp_path / name) for name in ("one", "other"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = simple_run(tmp_path / "run", [(5, 2)] * 3)
    paths = write_report(report_of(run), tmp_path / "out")
    before = [path.read_bytes() for path in paths]
    monkeypatch.setattr("prefkit.durable.Together.finish", _full)
    with pytest.raises(PrefkitError, match="no space left"):
        write_report(report_of(run, examples=0), tmp_path / "out")
    assert [path.read_bytes() for path in paths] == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["index.html", "report.json", "summary.md"]


def _full(self: object) -> None:
    raise OSError(28, "No space left on device")


def test_the_command_prints_the_headline_and_what_it_wrote(prefkit: Any, tmp_path: Path):
    run = simple_run(tmp_path / "run", [(5, 2), (4, 2), (1, 5)] * 20)
    outcome = prefkit("report", run.path, "--policy", "A", "--baseline", "B")
    assert outcome.code == 0
    assert "A is preferred to B" in outcome.out and "not measured: Human judgement" in outcome.out
    for name in ("index.html", "report.json", "summary.md"):
        assert f"{run.path / 'report' / name}: " in outcome.out
        assert (run.path / "report" / name).stat().st_size > 500


def test_agreement_is_measured_with_the_report(prefkit: Any, tmp_path: Path):
    scores = {f"p{n}/{policy}": 1 + (n * 3 + ord(policy)) % 5 for n in range(20) for policy in "AB"}
    run = make_run(tmp_path / "run", rated(scores, "human:anna"), rated(scores, "llm:one"))
    assert prefkit("report", run.path).code == 0
    agreed = json.loads((run.path / "report" / "report.json").read_bytes())["agreement"]
    (judge,) = agreed["with_judges"]["measured"]
    assert judge["ratings"]["figures"]["direction"]["value"] == 1.0
    assert "Judges with people: ratings" in (run.path / "report" / "index.html").read_text()


def test_models_alone_are_held_against_each_other(prefkit: Any, tmp_path: Path):
    scores = {f"p{n}/{policy}": 1 + (n * 3 + ord(policy)) % 5 for n in range(20) for policy in "AB"}
    run = make_run(tmp_path / "run", rated(scores, "llm:two"), rated(scores, "llm:one"))
    assert prefkit("report", run.path).code == 0
    assert "Judges with each other: ratings" in (run.path / "report" / "index.html").read_text()
