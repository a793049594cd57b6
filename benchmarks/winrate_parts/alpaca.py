"""AlpacaEval's published figures, computed again from its files.

    PREFKIT_DATA=FOLDER python -m benchmarks.winrate_parts.alpaca

Reads   FOLDER/alpaca-eval: MODEL/annotations.json (or .json.gz) of any models, leaderboard.csv,
        length_controlled_weights.csv, instruction_difficulty_est.csv
Writes  benchmarks/out/alpaca.json

Every model with annotations: win rate and standard error to 1e-6, and the counts. Every model of the leaderboard with
published weights: the length-controlled rate from them within 0.25 points. From fits of our own on the models at hand
the difference is stated, and fails nothing: AlpacaEval's fit has rows of gamed baselines which its repository does not
hold.
"""

from __future__ import annotations

import os
import sys
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

BASELINE = "gpt4_1106_preview"
EXACT = 1e-6
NEAR = 0.25


def as_published(annotated: Annotated, published: dict[str, Published], models: list[str]) -> list[Check]:
    """Win rate, standard error and counts of the models at hand beside the leaderboard's."""
    checks = []
    for model in models:
        won, line = annotated.outcomes.between(model, BASELINE).preferred, published[model]
        rate, error = 100 * float(won.mean()), 100 * float(won.std(ddof=1)) / len(won) ** 0.5
        apart = max(abs(rate - line.win_rate), abs(error - line.standard_error))
        counts = (int((won > 0.5).sum()), int((won < 0.5).sum()), int((won == 0.5).sum()), len(won))
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
        Check(f"furthest from the leaderboard: {worst}", round(apart[worst], 3), "points", f"{NEAR}", within > 0),
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


def evaluation_set(annotated: Annotated, folder: Path, files: list[Path]) -> tuple[str, ...]:
    """The instructions in the order of AlpacaEval's evaluation set, from the file that holds them so."""
    from prefkit.evaluation.alpaca_files import EVALUATION_SET, evaluation_set_digest

    for some in (annotated.outcomes.prompts, *(read_annotations([file]).outcomes.prompts for file in files)):
        if evaluation_set_digest(some) == EVALUATION_SET:
            return some
    sys.exit(f"no file in {folder} has the evaluation set's instructions in their order")


def main() -> int:
    """Run all of it."""
    folder = Path(os.environ.get("PREFKIT_DATA") or "-") / "alpaca-eval"
    if not folder.is_dir():
        sys.exit("PREFKIT_DATA names no folder with alpaca-eval")
    published = read_leaderboard(folder / "leaderboard.csv")
    files = sorted(path for path in folder.glob("*/annotations.json*") if path.parent.name in published)
    models = [path.parent.name for path in files]
    annotated = read_annotations(files, policies=models)
    instructions = evaluation_set(annotated, folder, files)
    difficulties = read_difficulties(folder / "instruction_difficulty_est.csv", instructions)
    checks = as_published(annotated, published, models)
    checks += from_weights(folder, published, difficulties)
    checks += own_fits(annotated, published, models, difficulties)
    return report("alpaca", checks)


if __name__ == "__main__":
    sys.exit(main())
