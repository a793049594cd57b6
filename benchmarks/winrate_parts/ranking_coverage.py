"""How often the intervals of a board hold the truth: ratings, effects of style, and false separations.

    python -m benchmarks.winrate_parts.ranking_coverage --boards 1000

Writes  benchmarks/out/ranking_coverage.json

Every board is drawn from planted strengths, two comparisons a prompt. Ratings: five policies, ties by Davidson, and two
judges of each comparison, of whom the second says what the first said in seven of ten cases; the interval that takes
each row for a prompt of its own stands beside. Style: four policies, one of them longer and fuller of lists and headers
than its strength is worth; who is preferred depends on the differences. Separations: eight equal policies.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from benchmarks.proof import Check, report
from prefkit.evaluation.board_styles import Features, relative
from prefkit.evaluation.outcomes import KINDS, UNKNOWN, Outcomes
from prefkit.evaluation.rankings import MEAN, Ranking, RankingSettings, rank
from prefkit.evaluation.separations import POINTS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
ROUNDS = 400
LOW, HIGH = 0.93, 0.97
NU = 0.6
COPIED = 0.7
FIVE = (1.0, 0.4, 0.0, -0.4, -1.0)
FOUR = (0.0, 0.3, 0.0, -0.3)
"""The first is the one with the style."""
STYLE = ("length", "headers", "lists", "bold")
EFFECTS = (0.5, 0.2, 0.0, 0.1)


def main() -> int:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", type=int, default=1000)
    boards = parser.parse_args().boards
    checks = [check for prompts in (30, 100) for check in ratings(prompts, boards)]
    checks += [check for prompts in (60, 300) for check in styles(prompts, boards)]
    return report("ranking_coverage", [*checks, separations(boards)])


def ratings(prompts: int, boards: int) -> list[Check]:
    """Ratings out of ties by Davidson and of judges who often agree."""
    settings = RankingSettings(ties="davidson", rounds=ROUNDS)
    ways = {
        "bootstrap": settings,
        "sandwich": replace(settings, intervals="sandwich"),
        "each row for itself": replace(settings, intervals="sandwich"),
    }
    held = {way: [] for way in ways}  # type: dict[str, list[bool]]
    for seed in range(boards):
        board = drawn(FIVE, prompts, np.random.default_rng((prompts, seed)))
        for way, how in ways.items():
            seen = alone(board) if way == "each row for itself" else board
            held[way] += _held(rank(seen, how), FIVE)
    name = f"ratings, {prompts} prompts"
    return [_covered(f"{name}: {way}", held[way], boards, goal=way != "each row for itself") for way in ways]


def styles(prompts: int, boards: int) -> list[Check]:
    """Ratings and effects with length and style alike, and the rating of the longest policy without."""
    alike = RankingSettings(control=("length", "style"), rounds=ROUNDS, intervals="sandwich")
    of_ratings: list[bool] = []
    of_effects: list[bool] = []
    without: list[bool] = []
    for seed in range(boards):
        board, features = styled(prompts, np.random.default_rng((prompts, seed)))
        found = rank(board, alike, features=features)
        of_ratings += _held(found, FOUR)
        of_effects += [
            _in(term.low, term.high, effect) for term, effect in zip(found.style.values(), EFFECTS, strict=True)
        ]
        plain = rank(board, RankingSettings(rounds=2, intervals="sandwich"))
        without += _held(plain, FOUR)[:1]
    name = f"style, {prompts} prompts"
    return [
        _covered(f"{name}: ratings", of_ratings, boards),
        _covered(f"{name}: effects", of_effects, boards),
        _covered(f"{name}: the longest policy's rating without the control", without, boards, goal=False),
    ]


def separations(boards: int) -> Check:
    """Boards of equals on which any two are told apart."""
    wrong = 0
    for seed in range(boards):
        board = drawn((0.0,) * 8, 60, np.random.default_rng(seed))
        wrong += any(one.separated for one in rank(board, RankingSettings(rounds=ROUNDS)).separations)
    share = 100 * wrong / boards
    most = 100 * (0.05 + 3 * math.sqrt(0.05 * 0.95 / boards))
    return Check(
        "eight equal policies: boards with a false separation",
        round(share, 1),
        "%",
        f"at most {most:.1f}",
        share <= most,
    )


def _held(found: Ranking, strengths: tuple[float, ...]) -> list[bool]:
    """Of each policy, in the order of the names, whether its interval holds the truth."""
    truth = MEAN + POINTS * (np.asarray(strengths) - np.mean(strengths))
    rated = sorted(found.policies, key=lambda one: one.policy)
    return [_in(one.low, one.high, value) for one, value in zip(rated, truth.tolist(), strict=True)]


def _in(low: float | None, high: float | None, value: float) -> bool:
    """An end that is not given holds everything."""
    return (low is None or low <= value) and (high is None or value <= high)


def _covered(name: str, held: list[bool], boards: int, *, goal: bool = True) -> Check:
    """The goal is 93-97%, with room for the chance of few boards, whose intervals go together."""
    share, room = float(np.mean(held)), max(0.0, 3 * math.sqrt(0.05 * 0.95 / boards) - 0.02)
    low, high = 100 * (LOW - room), 100 * min(1.0, HIGH + room)
    ok = not goal or low <= 100 * share <= high
    return Check(
        f"{name}: the truth is in the interval", round(100 * share, 1), "%", f"{low:.0f}-{high:.0f}" if goal else "", ok
    )


def drawn(strengths: tuple[float, ...], prompts: int, rng: np.random.Generator) -> Outcomes:
    """Two comparisons a prompt, each by two judges."""
    n = 2 * prompts
    first, second = _pairs(len(strengths), n, rng)
    d = np.asarray(strengths)[first] - np.asarray(strengths)[second]
    weights = np.stack([np.exp(d / 2), np.full(n, NU), np.exp(-d / 2)])
    steps = np.cumsum(weights / weights.sum(axis=0), axis=0)
    chances = rng.random((2, n))
    chances[1] = np.where(rng.random(n) < COPIED, chances[0], chances[1])
    shares = [np.where(chance < steps[0], 1.0, np.where(chance < steps[1], 0.5, 0.0)) for chance in chances]
    return _outcomes(np.tile(np.arange(n) // 2, 2), np.tile(first, 2), np.tile(second, 2), np.concatenate(shares))


def styled(prompts: int, rng: np.random.Generator) -> tuple[Outcomes, Features]:
    """Two comparisons a prompt, decided by strengths and by the differences in form."""
    n = 2 * prompts
    first, second = _pairs(len(FOUR), n, rng)
    features = relative(_form(first, rng), _form(second, rng), STYLE)
    d = np.asarray(FOUR)[first] - np.asarray(FOUR)[second] + features.values @ np.asarray(EFFECTS)
    won = rng.random(n) < 1 / (1 + np.exp(-d))
    return _outcomes(np.arange(n) // 2, first, second, won.astype(np.float64)), features


def _form(policy: Ints, rng: np.random.Generator) -> Floats:
    length = np.round(np.exp(rng.normal(6 + np.array([0.5, 0.2, 0.0, 0.0])[policy], 0.5)))
    often = np.array([3.0, 1.0, 1.0, 0.5])[policy, None] * np.array([1.0, 2.0, 1.5])
    return np.column_stack([length, rng.poisson(often)])


def _pairs(policies: int, n: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    first = rng.integers(0, policies, n)
    return first, (first + 1 + rng.integers(0, policies - 1, n)) % policies


def alone(board: Outcomes) -> Outcomes:
    """The same, each row a prompt of its own."""
    return replace(board, prompt=np.arange(len(board)), prompts=tuple(map(str, range(len(board)))))


def _outcomes(prompt: Ints, first: Ints, second: Ints, preferred: Floats) -> Outcomes:
    n = len(prompt)
    unknown = np.full(n, UNKNOWN)
    return Outcomes(
        prompt=prompt,
        judge=np.zeros(n, np.int64),
        first=first,
        second=second,
        preferred=preferred,
        shown_first=None,
        length_first=unknown,
        length_second=unknown,
        topic=unknown,
        pair=np.arange(n),
        kind=np.full(n, KINDS.index("comparison")),
        prompts=tuple(map(str, range(int(prompt.max()) + 1))),
        judges=("human:planted",),
        policies=tuple("abcdefgh"[: int(max(first.max(), second.max())) + 1]),
        topics=(),
    )


if __name__ == "__main__":
    sys.exit(main())
