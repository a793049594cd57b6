"""What a run's answers took, by who gave them and what was asked.

Reads   responses, judgements
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from prefkit.records import Comparison, Judgement, Rating, Usage
from prefkit.run import Run


@dataclass
class Spent:
    """Sums over answers; ``cost`` is None where one of them had no price, ``untold`` counts those without any usage."""

    answers: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    reply_tokens: int = 0
    cost: float | None = 0.0
    untold: int = 0

    def add(self, usage: Usage | None) -> None:
        """Count an answer."""
        self.answers += 1
        if usage is None:
            self.untold += 1
            return
        self.calls += usage.calls
        self.prompt_tokens += usage.prompt
        self.cached_tokens += usage.cached
        self.reply_tokens += usage.completion
        self.cost = None if self.cost is None or usage.cost is None else self.cost + usage.cost


def spending(run: Run) -> dict[tuple[str, str], Spent]:
    """(who, what) -> what it took, by name and in the rubric's order; what people answered and what was imported is
    left out."""
    found: dict[tuple[str, str], Spent] = defaultdict(Spent)
    for who, what, usage in _answers(run):
        found[who, what].add(usage)
    order = ["responses", "ratings", *(f"ratings on {name}" for name in run.rubric.principle_ids)]
    place = {what: number for number, what in enumerate(order)}
    keys = sorted(found, key=lambda key: (key[0], place.get(key[1], len(order)), key[1]))
    return {key: found[key] for key in keys if found[key].answers > found[key].untold}


def _answers(run: Run) -> Iterator[tuple[str, str, Usage | None]]:
    for response in run.responses():
        yield response.policy, "responses", response.usage
    for judgement in run.judgements():
        yield judgement.annotator, _asked(run, judgement), judgement.usage


def _asked(run: Run, judgement: Judgement) -> str:
    if isinstance(judgement, Rating):
        rubric = run.info.rubrics.get(judgement.rubric or "", run.rubric)
        alone = len(judgement.scores) == 1 < len(rubric.principles)
        return f"ratings on {next(iter(judgement.scores))}" if alone else "ratings"
    return "comparisons" if isinstance(judgement, Comparison) else "choices"
