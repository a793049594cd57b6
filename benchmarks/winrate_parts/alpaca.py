"""AlpacaEval's published figures, computed again from its files.

    PREFKIT_DATA=FOLDER python -m benchmarks.winrate_parts.alpaca

Reads   FOLDER/alpaca-eval: annotations.json (or .json.gz) of any models, somewhere in a folder named MODEL, also with
        rows missing, repeated or in another order; leaderboard.csv, length_controlled_weights.csv,
        instruction_difficulty_est.csv
Writes  benchmarks/out/alpaca.json

Every model with annotations: win rate and standard error to 1e-6, and the counts. Every model of the leaderboard with
published weights: the length-controlled rate from them within 0.25 points. From fits of our own on the models at hand
the difference is stated, and fails nothing: AlpacaEval's fit has rows of gamed baselines which its repository does not
hold.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Container
from pathlib import Path

import numpy as np

from benchmarks.proof import Check, report
from prefkit.evaluation.alpaca_files import (
    Annotated,
    Published,
    read_annotations,
    read_difficulties,
    read_leaderboard,
    read_weights,
)
from prefkit.evaluation.length_control import length_controlled, predicted
from prefkit.evaluation.win_rates import win_report

BASELINE = "gpt4_1106_preview"
EXACT = 1e-6
NEAR = 0.25


def as_published(annotated: Annotated, published: dict[str, Published], models: list[str]) -> list[Check]:
    """Win rate, standard error and counts of the models at hand beside the leaderboard's."""
    checks = []
    for model in models:
        (found,), line = win_report(annotated.outcomes, model, BASELINE).overall.values(), published[model]
        rate, error = (math.nan if one is None else 100 * one for one in (found.rate, found.standard_error))
        apart = max(abs(rate - line.win_rate), abs(error - line.standard_error))
        counts = (found.wins, found.losses, found.ties, found.prompts)
        theirs = (line.wins, line.losses, line.draws, line.total)
        said = f"{rate:.6f} +- {error:.6f}"
        checks.append(Check(f"{model}: win rate, its standard error", said, "%", f"{EXACT} apart", apart <= EXACT))
        said = "{} / {} / {} of {}".format(*counts)
        checks.append(Check(f"{model}: won / lost / tied", said, "", "as published", counts == theirs))
    return checks


def from_weights(folder: Path, published: dict[str, Published], difficulties: dict[str, float]) -> list[Check]:
    """The length-controlled rate of every model that has weights, beside the leaderboard's."""
    weights = read_weights(folder / "length_controlled_weights.csv")
    apart = {
        model: 100 * predicted(weights[model], difficulties) - line.length_controlled
        for model, line in published.items()
        if model in weights and line.length_controlled is not None
    }
    worst = max(apart, key=lambda model: abs(apart[model]))
    within = sum(abs(one) <= NEAR for one in apart.values())
    without = len(published) - len(apart)
    mean = round(float(np.mean(np.abs(list(apart.values())))), 4)
    return [
        Check(
            f"length-controlled from weights, within {NEAR}",
            within,
            "models",
            f"all {len(apart)}",
            within == len(apart) > 0,
        ),
        Check(
            f"furthest from the leaderboard: {worst}",
            round(apart[worst], 3),
            "points",
            f"{NEAR}",
            abs(apart[worst]) <= NEAR,
        ),
        Check("mean distance from the leaderboard", mean, "points"),
        Check("on the leaderboard without published weights", without, "models"),
    ]


def own_fits(
    annotated: Annotated, published: dict[str, Published], models: list[str], difficulties: dict[str, float]
) -> list[Check]:
    """The length-controlled rate as fitted here, with its interval, less the leaderboard's."""
    checks = []
    for model in models:
        theirs = published[model].length_controlled
        for name, found in (
            (
                "alpaca",
                length_controlled(annotated.outcomes, model, BASELINE, method="alpaca", difficulty=difficulties),
            ),
            ("glm", length_controlled(annotated.outcomes, model, BASELINE, method="glm", difficulty=difficulties)),
            ("simple", length_controlled(annotated.outcomes, model, BASELINE)),
        ):
            if theirs is None or found.value is None or found.low is None or found.high is None:
                checks.append(Check(f"{model}: own fit, {name}", "none", "", "a figure", False))
                continue
            said = f"{100 * found.value:.2f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"
            checks.append(Check(f"{model}: own fit, {name}; published {theirs:.2f}", said, "%"))
            checks.append(
                Check(f"{model}: own fit, {name}, less published", round(100 * found.value - theirs, 2), "points")
            )
    return checks


def files_by_model(folder: Path, models: Container[str]) -> dict[str, Path]:
    """The files of annotations by model: that of the leaderboard in whose folder a file lies, however deep."""
    found = {}
    for path in sorted(folder.rglob("annotations.json*")):
        names = [name for name in path.relative_to(folder).parts[:-1] if name in models]
        if names:
            found[names[0]] = path
    return found


def main() -> int:
    """Run all of it."""
    folder = Path(os.environ.get("PREFKIT_DATA") or "-") / "alpaca-eval"
    if not folder.is_dir():
        sys.exit("PREFKIT_DATA names no folder with alpaca-eval")
    published = read_leaderboard(folder / "leaderboard.csv")
    files = files_by_model(folder, published)
    models = list(files)
    annotated = read_annotations(list(files.values()), policies=models)
    difficulties = read_difficulties(folder / "instruction_difficulty_est.csv", annotated.outcomes.prompts)
    checks = as_published(annotated, published, models)
    checks += from_weights(folder, published, difficulties)
    checks += own_fits(annotated, published, models, difficulties)
    return report("alpaca", checks)


if __name__ == "__main__":
    sys.exit(main())
