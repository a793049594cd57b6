"""A plan beside what the run has used since it was made.

Reads   plan.json; responses and judgements, for what they say that they took; the sizes of the run's files
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from prefkit.planning.lines import GENERATE, SCORE, TRAIN
from prefkit.planning.plan import Plan
from prefkit.planning.ranges import Range
from prefkit.run import Run
from prefkit.spending import Spent, spending

ASKED = {"judge rate": "ratings", "judge compare": "comparisons", "judge choose": "choices"}
"""What a round's records are called in `spending`."""


@dataclass(frozen=True)
class Beside:
    """A figure of the plan and what it came to."""

    what: str
    figure: str
    planned: Range
    used: float

    @property
    def off(self) -> float | None:
        """By which share the plan was too low (below 0) or too high; None where it named no value or nothing was
        used."""
        return None if self.planned.value is None or not self.used else self.planned.value / self.used - 1

    @property
    def within(self) -> bool:
        """Whether it lies in the plan's range; halves of a unit are rounding."""
        return self.planned.low - 0.5 <= self.used <= self.planned.high + 0.5


def beside(run: Run, found: Plan) -> list[Beside]:
    """Calls, tokens and cost of each model, and bytes of each file. Rounds of one model whose records are alike, such
    as by principle and all at once, are added up."""
    now = {f"{who}: {what}": spent for (who, what), spent in spending(run).items()}
    planned: dict[tuple[str, str, str], dict[str, Range | None]] = {}
    for line in found.lines:
        if line.stage in (SCORE, TRAIN):
            continue
        stage = line.stage.removesuffix(" by principle")
        who, what = (line.model, "responses") if stage == GENERATE else (f"llm:{line.model}", ASKED[stage])
        figures = {"calls": line.calls, "prompt tokens": line.prompt, "reply tokens": line.reply, "cost": line.cost}
        before = planned.get((stage, who, what))
        planned[stage, who, what] = figures if before is None else _added(before, figures)
    rows: list[Beside] = []
    for (stage, who, what), figures in planned.items():
        used = _since(_all_of(now, who, what), _all_of(found.used, who, what))
        taken = {
            "calls": used.calls,
            "prompt tokens": used.prompt_tokens,
            "reply tokens": used.reply_tokens,
            "cost": used.cost,
        }
        name = f"{stage}: {who.removeprefix('llm:')}"
        rows += [
            Beside(name, of, one, taken[of] or 0.0) for of, one in figures.items() if one and taken[of] is not None
        ]
    return [*rows, *_files(run, found)]


def _added(one: Mapping[str, Range | None], other: Mapping[str, Range | None]) -> dict[str, Range | None]:
    both = {name: (one[name], other[name]) for name in one}
    return {name: first + second if first and second else None for name, (first, second) in both.items()}


def _all_of(spent: Mapping[str, Spent], who: str, what: str) -> Spent:
    """What somebody took for records of a kind, whichever principles they are about."""
    total = Spent()
    for name, one in spent.items():
        if name == f"{who}: {what}" or name.startswith(f"{who}: {what} on "):
            for item in fields(Spent):
                before, more = getattr(total, item.name), getattr(one, item.name)
                setattr(total, item.name, None if before is None or more is None else before + more)
    return total


def _since(now: Spent, then: Spent) -> Spent:
    cost = None if now.cost is None or then.cost is None else now.cost - then.cost
    numbers = {
        item.name: getattr(now, item.name) - getattr(then, item.name) for item in fields(Spent) if item.name != "cost"
    }
    return Spent(**numbers, cost=cost)


def _files(run: Run, found: Plan) -> Iterator[Beside]:
    """The files that are kept as lines, where the plan is for the prompts that the run has."""
    if found.prompts != found.there:
        return
    for one in found.disk:
        path = run.path / f"{one.name}.jsonl"
        if one.jsonl is not None and path.exists():
            yield Beside(f"{one.name}.jsonl", "bytes", one.jsonl, path.stat().st_size)
