"""Audit: does it find the biases that were planted, as large as they are, and none where there is none?

    python -m benchmarks.audit --size small|full

A simulation: the judge is a few lines of arithmetic, and no model and no real text is involved. Each simulated judge
compares responses of unequal length, every pair in both orders. What it is planted with, and what the audit estimates:

    first    P(a verdict that names a winner names the response shown first), over pairs asked in both orders
    longer   P(a verdict that names a winner names the longer response)

With probability MERIT a verdict follows the merit of the pair, which has nothing to do with order and length; otherwise
it names the longer with a probability that depends on which is shown first. All three probabilities differ from prompt
to prompt (Beta distributions with the right mean), and those of the biases from pair to pair, so that verdicts about
one prompt hang together. Ties and unreadable verdicts are sprinkled over; some prompts have one pair, some five. The
same judge rates the responses, length playing no part.

Every simulated judge is written as a run folder, and what is checked is ``audit/audit.json`` as the library writes it;
one folder goes through the command line too. "small" has 100 judges a cell, "full" 1,000.

What is asked is that an interval holds the planted value in 93 of 100 judges at least. An interval that is right, and
so holds it in 95%, does that in seven of eight hundreds; so "small" asks it of both sizes together, and "full" of each
thousand.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commands import prefkit
from benchmarks.proof import Check, report
from prefkit.judging.audit.report import audit, write
from prefkit.records import Comparison, Judgement, Message, Prompt, Rating, Response, Winner
from prefkit.rubric import Principle, Rubric
from prefkit.run import Run

JUDGES = {"small": 100, "full": 1_000}
PROMPTS = (60, 300)
PLANTED = ((0.7, 0.6), (0.5, 0.5))
"""(first, longer): a judge with both biases, and one with none."""
MERIT = 0.3
BY_PROMPT, BY_PAIR = 6.0, 10.0
"""How tightly Beta distributions stand round their means: variance = mean * (1 - mean) / (this + 1)."""
TIES, UNREADABLE = 0.08, 0.03
MOST_PAIRS = 5
SEED = 20261121
QUESTION = (Message(role="user", content="?"),)
RUBRIC = Rubric(
    id="planted",
    version=1,
    title="Planted",
    unit="response",
    principles=(Principle(id="good", title="Good", statement="It is good."),),
)
COVERED = 0.93
FLAGGED = {100: 9, 1_000: 62}
"""Unbiased judges that may be flagged: what chance exceeds in 5 of 100 cases if one in twenty is."""


@dataclass(frozen=True)
class Cell:
    """Judges of one kind: what was planted, on how many prompts."""

    prompts: int
    first: float
    longer: float

    def __str__(self) -> str:
        return f"{self.prompts} prompts, first {self.first}, longer {self.longer}"


def main() -> int:
    """Run the checks of a size and say how they went."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=JUDGES, default="full")
    judges = JUDGES[parser.parse_args().size]
    checks: list[Check] = []
    with tempfile.TemporaryDirectory() as folder:
        for first, longer in PLANTED:
            checks += planted_checks(Path(folder), first, longer, judges)
        checks += speed(Path(folder))
    return report("audit", checks)


def planted_checks(folder: Path, first: float, longer: float, judges: int) -> list[Check]:
    """Whether the intervals hold what was planted, and whether what is not there is left alone."""
    checks = []
    held: dict[str, list[list[bool]]] = {"order.first": [], "length.longer": []}
    for prompts in PROMPTS:
        cell = Cell(prompts, first, longer)
        audits = [audited(folder / "run", cell, seed) for seed in range(judges)]
        for name, planted in (("order.first", first), ("length.longer", longer)):
            held[name].append([holds(found[name], planted) for found in audits])
            of_hundred = sum(held[name][-1][:100])
            checks.append(Check(f"{cell}: {name} held by the first 100", of_hundred, "of 100"))
            if judges > 100:
                checks.append(covered(f"{cell}: {name} held", held[name][-1]))
            seen = sum(found[name]["flagged"] for found in audits)
            checks.append(Check(f"{cell}: {name} flagged", seen, f"of {judges:,}"))
        if first == longer == 0.5:
            wrongly = sum(any(figure["flagged"] for figure in found.values()) for found in audits)
            most = FLAGGED[judges]
            found = Check(f"{cell}: flagged for anything", wrongly, f"of {judges:,}", f"<= {most}", wrongly <= most)
            checks.append(found)
    if judges == 100:
        for name, by_size in held.items():
            checks.append(
                covered(f"first {first}, longer {longer}: {name} held", [one for of in by_size for one in of])
            )
    return checks


def covered(name: str, held: list[bool]) -> Check:
    """The share of intervals that hold what was planted."""
    measured = float(np.mean(held))
    return Check(name, round(100 * measured, 1), f"% of {len(held):,}", f">= {COVERED:.0%}", measured >= COVERED)


def speed(folder: Path) -> list[Check]:
    """Time of the library on about 2,000 comparisons, and the command line on the same folder."""
    run = planted_run(folder / "timed", Cell(335, 0.5, 0.5), 0)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        found = audit(run)
        seconds.append(time.perf_counter() - start)
    write(run, found)
    as_library = (run.path / "audit" / "audit.json").read_bytes()
    prefkit("audit", run.path)
    same = as_library == (run.path / "audit" / "audit.json").read_bytes()
    comparisons = sum(isinstance(judgement, Comparison) for judgement in run.judgements())
    best = min(seconds)
    return [
        Check(f"{comparisons:,} comparisons and 670 ratings: the library", round(best, 3), "s", "< 0.3", best < 0.3),
        Check("the command line writes the same audit.json", "yes" if same else "no", "", "yes", same),
    ]


def audited(folder: Path, cell: Cell, seed: int) -> dict[str, Any]:
    """The figures, by name, in the ``audit.json`` of a simulated run, which is removed again."""
    run = planted_run(folder, cell, seed)
    write(run, audit(run))
    (judge,) = json.loads((run.path / "audit" / "audit.json").read_bytes())["judges"]
    shutil.rmtree(run.path)
    return {figure["name"]: figure for figure in judge["figures"]}


def holds(figure: dict[str, Any], planted: float) -> bool:
    """Whether a figure's interval contains a value."""
    return bool(figure["low"] <= planted <= figure["high"])


def planted_run(folder: Path, cell: Cell, seed: int) -> Run:
    """A run folder with one simulated judge."""
    rng = np.random.default_rng([SEED, cell.prompts, round(1000 * cell.first), round(1000 * cell.longer), seed])
    first = 0.5 + (cell.first - 0.5) / (1 - MERIT)
    longer = 0.5 + (cell.longer - 0.5) / (1 - MERIT)
    if_first, if_second = longer + first - 0.5, longer - first + 0.5
    names = [[f"p{prompt}/{letter}" for letter in "abcdef"[: 1 + MOST_PAIRS]] for prompt in range(cell.prompts)]
    lengths = rng.permuted(np.tile(np.arange(20, 260, 8), (cell.prompts, 1)), axis=1)[:, : 1 + MOST_PAIRS]
    pairs = [
        (prompt, other)
        for prompt, most in enumerate(rng.integers(1, MOST_PAIRS + 1, cell.prompts).tolist())
        for other in range(1, 1 + most)
    ]
    prompt, other = np.asarray(pairs).T
    longer_is_better = rng.random(len(pairs)) < rng.beta(3, 3, cell.prompts)[prompt]
    judgements: list[Judgement] = []
    for longer_first, mean in ((True, if_first), (False, if_second)):
        chance = _beta(rng, _beta(rng, np.full(cell.prompts, mean), BY_PROMPT)[prompt], BY_PAIR)
        by_merit = rng.random(len(pairs)) < MERIT
        longer_wins = np.where(by_merit, longer_is_better, rng.random(len(pairs)) < chance)
        zero_first = (lengths[prompt, 0] > lengths[prompt, other]) == longer_first
        first_wins = longer_wins == longer_first
        for (about, one), zero, wins, luck in zip(
            pairs, zero_first.tolist(), first_wins.tolist(), rng.random(len(pairs)).tolist(), strict=True
        ):
            shown = (names[about][0], names[about][one]) if zero else (names[about][one], names[about][0])
            judgements.append(_comparison(f"p{about}", *shown, "a" if wins else "b", luck))
    scores = rng.normal(3, 0.7, (cell.prompts, 1)) + rng.normal(0, 0.8, (cell.prompts, 2))
    for of_prompt, given in zip(names, np.clip(np.rint(scores), 1, 5).astype(int).tolist(), strict=True):
        judgements += map(_rating, of_prompt[:2], given)
    run = Run.create(folder, RUBRIC)
    run.replace(Prompt, (Prompt(id=f"p{at}", messages=QUESTION) for at in range(cell.prompts)))
    run.replace(
        Response,
        (
            _response(*one)
            for of_prompt in zip(names, lengths.tolist(), strict=True)
            for one in zip(*of_prompt, strict=True)
        ),
    )
    run.replace(Judgement, judgements)
    return run


def _beta(rng: np.random.Generator, mean: Any, tightness: float) -> Any:
    mean = np.clip(mean, 1e-9, 1 - 1e-9)
    return rng.beta(mean * tightness, (1 - mean) * tightness)


def _response(name: str, length: int) -> Response:
    return Response(id=name, prompt_id=name.partition("/")[0], policy=name[-1], text="x" * length)


def _comparison(prompt: str, a: str, b: str, winner: Winner, luck: float) -> Comparison:
    unreadable = luck < UNREADABLE
    return Comparison(
        id=f"{a}-{b}",
        annotator="llm:planted",
        prompt_id=prompt,
        rubric=RUBRIC.hash,
        a=a,
        b=b,
        winner=None if unreadable else "tie" if luck > 1 - TIES else winner,
        failure="no verdict in the reply" if unreadable else None,
    )


def _rating(response: str, score: int) -> Rating:
    return Rating(
        id=response,
        annotator="llm:planted",
        prompt_id=response.partition("/")[0],
        rubric=RUBRIC.hash,
        response_id=response,
        scores={"good": score},
    )


if __name__ == "__main__":
    sys.exit(main())
