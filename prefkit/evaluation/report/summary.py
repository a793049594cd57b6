"""The report in Markdown: what a data set's or model's card can take over.

Reads   Report
Gives   text
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from prefkit import cards
from prefkit.evaluation.report import words
from prefkit.evaluation.report.gathering import Report
from prefkit.evaluation.report.markup import visible
from prefkit.evaluation.report.rates import Absent, Board, Wins

_SPECIAL = re.compile(r"([\\`*_<>\[\]#])")


def summary(report: Report) -> str:
    """The main figures; no text of a client or a policy."""
    return "\n".join(_parts(report)) + "\n"


def plain(text: str) -> str:
    """A name or a sentence as it is read, on one line, with nothing in it that Markdown or HTML would take up."""
    return _SPECIAL.sub(r"\\\1", visible(cards.on_one_line(text))).replace("&", "&amp;")


def _parts(report: Report) -> Iterator[str]:
    wins, facts = report.wins, report.facts
    if isinstance(wins, Absent):
        yield f"## Evaluation\n\n{plain(wins.absent)}\n"
    else:
        yield from _wins(report, wins)
    if isinstance(report.board, Board):
        yield from _board(report.board)
    yield "### What was judged\n"
    judged = [*facts.judgements.items()]
    rows = [("prompts", facts.kept), ("responses", facts.responses), ("policies", len(facts.policies)), *judged]
    rows += [("people who judged", len(facts.people)), ("models that judged", len(facts.models))]
    yield cards.table(("what", "count"), rows)
    yield f"Rubric: {plain(facts.rubric)}, content hash `{facts.rubric_hash}`.\n"
    yield "### What was not measured\n"
    yield "\n".join(f"- **{plain(one.title)}.** {plain(one.words)}" for one in report.limits.not_measured) + "\n"
    yield "### What this must not be used for\n"
    yield "\n".join(f"- {plain(one)}" for one in report.limits.not_for) + "\n"


def _wins(report: Report, wins: Wins) -> Iterator[str]:
    who = wins.main[0]
    people = sum(name.startswith("human:") for name in wins.report.by_judge)
    models = len(wins.report.by_judge) - people
    judges = words.judged_by(people if who == "people" or not models else 0, models if who != "people" else 0, wins.by)
    yield f"## Evaluation: {plain(words.title(wins))}\n"
    yield " ".join(plain(part) for part in words.headline(wins, judges)) + "\n"
    rows = [("the whole", wins.report.overall)]
    rows += [(plain(part.title), wins.principles.get(part.id, {})) for part in report.facts.principles]
    cells = [
        (
            name,
            plain(kind),
            words.percent(rate.rate, rate.low, rate.high),
            words.ends(rate.low, rate.high),
            rate.prompts,
        )
        for name, rates in rows
        for kind, rate in rates.items()
    ]
    yield f"Win rate of {plain(wins.policy)} over {plain(wins.baseline)}, ties half, 95% intervals over prompts:\n"
    yield cards.table(("", "by", "rate", "95% interval", "prompts"), cells)


def _board(board: Board) -> Iterator[str]:
    yield "### Leaderboard\n"
    rows = [
        (
            plain(one["policy"]),
            one["rank"],
            f"{one['best_rank']}-{one['worst_rank']}",
            f"{one['rating']:,.0f}",
            one["comparisons"],
        )
        for one in board.policies
    ]
    yield cards.table(("policy", "rank", "may be", "rating", "comparisons"), rows)
