"""The page: one HTML file with everything in it, and nothing from anywhere else.

Reads   Report; page.html, page.css, page.js beside this module
Gives   bytes

A content security policy lets the page load nothing, and run the one script and use the one style sheet whose hashes it
names. Figures are HTML, so that they are there without a script and in print; texts of examples are JSON in a script
element, and are set as text.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from html import escape
from pathlib import Path
from string import Template

from prefkit.evaluation.report.examples import MOST, Example, Examples
from prefkit.evaluation.report.gathering import Report
from prefkit.evaluation.report.markup import Html, command, el, embedded, joined, visible
from prefkit.evaluation.report.part_board import beside_section, board_section, length_section
from prefkit.evaluation.report.part_policies import policy_section
from prefkit.evaluation.report.part_rewards import reward_section
from prefkit.evaluation.report.part_trust import (
    agreement_section,
    audit_section,
    flow_section,
    limits_section,
    made_section,
)
from prefkit.evaluation.report.part_wins import absent, headline, section, wins_section
from prefkit.evaluation.report.rates import Absent, Board, Wins

HERE = Path(__file__).parent
NAMES = {
    "beside": "Beside another run",
    "win-rate": "Win rate",
    "board": "Leaderboard",
    "length": "Length",
    "data": "Data and selection",
    "agreement": "Agreement",
    "audit": "Audit of the judges",
    "reward-models": "Reward models",
    "policies": "Policies in training",
    "examples": "Examples",
    "not-measured": "What was not measured",
    "not-for": "What this must not be used for",
    "made": "How this was made",
}


def page(report: Report) -> bytes:
    """The whole page."""
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    main = joined(
        beside_section(report),
        wins_section(report),
        board_section(report),
        length_section(report),
        flow_section(report),
        agreement_section(report),
        audit_section(report),
        reward_section(report),
        policy_section(report),
        _examples_section(report),
        limits_section(report),
        made_section(report),
    )
    parts = {
        "policy": f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; "
        "form-action 'none'",
        "title": escape(visible(f"Report on {Path(report.run).resolve().name}")),
        "style": style,
        "script": script,
        "top": _top(report),
        "contents": _contents(report),
        "main": main,
        "data": _data(report),
    }
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(parts).encode()


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _top(report: Report) -> Html:
    name = el("p", "prefkit report on ", el("strong", Path(report.run).resolve().name))
    bar = el("div", name, el("button", "Dark page", type="button", id="theme", hidden=True), cls="bar")
    return joined(bar, _care(report), headline(report))


def _care(report: Report) -> Html:
    """What has to be known about the texts on the page before it is handed on."""
    shown = report.examples.shown
    if not shown:
        words = " This page holds no text of a client or a policy."
        return el("p", el("strong", "Figures only."), words, cls="care plain")
    number = f"{len(shown):,} examples" if len(shown) > 1 else "one example"
    words = f" This page holds what clients said and what was answered, in {number}. "
    if report.examples.unscrubbed:
        words += (
            "Identifying text was not replaced in all of them: anybody named in them can be recognised. Keep the page "
            "where the run is kept, and do not send it on. "
        )
    else:
        words += (
            "Names, addresses and numbers were replaced where they were found, which is a net with holes and not "
            "anonymisation. Hand it on only to people who may read client speech. "
        )
    risk = sum(any(mark.startswith("risk:") for mark in one.marks) for one in shown)
    words += f"{risk:,} of them carry a sign of risk, such as self-harm or abuse. " if risk else ""
    return el(
        "p",
        el("strong", "Client speech: handle with care."),
        words,
        "Without texts: ",
        command(f"prefkit report {report.typed} --examples 0"),
        cls="care",
    )


def _contents(report: Report) -> Html:
    there: dict[str, object] = {
        "beside": report.beside,
        "win-rate": report.wins if isinstance(report.wins, Wins) else None,
        "board": report.board if isinstance(report.board, Board) else None,
    }
    items = [
        el("li", el("a", title, href=f"#{name}"))
        for name, title in NAMES.items()
        if not (name == "beside" and there["beside"] is None)
    ]
    return el("nav", el("h2", "Contents"), el("ol", items), cls="contents", aria_label="Contents")


# ------------------------------------------------------------------------------------------------------- examples


def _examples_section(report: Report) -> Html:
    examples = report.examples
    if not examples.shown:
        return section("examples", "Examples", absent(_no_examples(report)))
    fields = [
        _field("search", "Search in all texts", el("input", type="search", id="filter-search", autocomplete="off")),
        _field("topic", "Topic", _select("topic", "every topic")),
        _field("policy", "Policy", _select("policy", "every policy")),
        _field("winner", "Preferred", _select("winner", "any", ("tie", "a tie"))),
        _field("principle", "Rated apart on", _select("principle", "anything")),
        el("label", el("input", type="checkbox", id="filter-split"), "Judges disagree", cls="check"),
    ]
    found = el(
        "div",
        el("p", id="found", role="status"),
        el("button", "Clear", type="button", id="clear"),
        cls="found",
    )
    return section(
        "examples",
        "Examples",
        el("p", _drawn(examples, report)),
        el("noscript", el("p", "The examples need this page's own script; all figures above are there without it.")),
        el("form", fields, cls="filters", id="filters", hidden=True, role="search", aria_label="Examples"),
        found,
        el("div", id="examples-list"),
        el("button", "Show more", type="button", id="more", cls="more", hidden=True),
    )


def _field(name: str, words: str, made: Html) -> Html:
    return el("label", words, made, for_=f"filter-{name}")


def _select(name: str, every: str, *more: tuple[str, str]) -> Html:
    options = [el("option", every, value=""), *(el("option", words, value=value) for value, words in more)]
    return el("select", options, id=f"filter-{name}")


def _drawn(examples: Examples, report: Report) -> str:
    first = ""
    if isinstance(report.wins, Wins):
        first = f", up to half of them of {report.wins.policy} and {report.wins.baseline}"
    words = (
        f"{len(examples.shown):,} of {examples.possible:,} cases in which two policies' answers to a prompt "
        f"were judged, drawn at random, each topic in turn{first}. They show what the "
        "figures are made of; they prove nothing."
    )
    left_out = [f"{count:,} {reason}" for reason, count in examples.left_out.items()]
    return words + (f" Passed over: {'; '.join(left_out)}." if left_out else "")


def _no_examples(report: Report) -> Absent:
    examples = report.examples
    if not examples.asked:
        return Absent(absent="None were asked for.", command=f"prefkit report {report.typed} --examples 20")
    if not examples.possible:
        return Absent(
            absent="No two answers to a prompt were judged.", command=f"prefkit judge {report.typed} --judge MODEL"
        )
    if examples.left_out.get("that were not scrubbed"):
        return Absent(
            absent="Texts were scrubbed in this run, but none of those that were judged.",
            command=f"prefkit scrub {report.typed}",
        )
    return Absent(
        absent="The texts of the answers are not known.", command=f"prefkit import responses {report.typed} FILE"
    )


def _data(report: Report) -> Html:
    """The examples as the script reads them; ``reach`` is the largest gap that a rating can have."""
    if not report.examples.shown:
        return embedded({"examples": []})
    return embedded(
        {
            "principles": [(one.id, visible(one.title)) for one in report.facts.principles],
            "reach": 2,
            "examples": [_named(one) for one in report.examples.shown[:MOST]],
        }
    )


def _named(one: Example) -> Example:
    """An example whose names can be put into a sentence; its texts stay as they are, in paragraphs of their own."""
    return replace(
        one,
        topic=None if one.topic is None else visible(one.topic),
        marks=[visible(mark) for mark in one.marks],
        policies=(visible(one.policies[0]), visible(one.policies[1])),
        verdicts=[replace(said, by=visible(said.by)) for said in one.verdicts],
    )
