"""LLMBar and PandaLM: both-order accuracy and kappas as published.

    PREFKIT_DATA=FOLDER python -m benchmarks.winrate_parts.judges

Reads   FOLDER/llmbar: for each set and judge result.json and statistics.json; FOLDER/pandalm: the test set
Writes  benchmarks/out/judges.json

LLMBar's figures are computed from its verdicts in both orders, as statistics.json has them: accuracy in each order and
in both, how often the orders agree, and the kappa between them (``kappa_agreement``). What its other kappas are between
is not said beside the files, and they are left out. PandaLM's are Cohen's kappa of each
two of its three annotators, and the majority of the three; a tie of three ways has none.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.proof import Check, report
from prefkit.agreement.coefficients import cohen_kappa, identity_weights

Ints = npt.NDArray[np.int64]
KAPPAS = {(1, 2): 0.852, (1, 3): 0.879, (2, 3): 0.862}
MAJORITY = {0: 105, 1: 422, 2: 472}
EXACT = 1e-9


def main() -> int:
    """Run the checks and say how they went."""
    data = Path(os.environ.get("PREFKIT_DATA") or "-")
    if not (data / "llmbar").is_dir():
        print("PREFKIT_DATA names no folder with llmbar")
        return 1
    checks = [check for file in sorted((data / "llmbar").rglob("result.json")) for check in llmbar(file)]
    return report("judges", [*checks, *pandalm(data / "pandalm" / "testset-v1.json")])


def llmbar(result: Path) -> list[Check]:
    """A judge on one of LLMBar's sets."""
    rows = json.loads(result.read_bytes())
    published = json.loads((result.parent / "statistics.json").read_bytes())
    gold = np.asarray([row["label"] for row in rows])
    said = {order: _winners(rows, order) for order in ("False", "True")}
    right = {order: winners == gold for order, winners in said.items()}
    name = " ".join(result.parts[-4:-1]).removeprefix("llmbar ")
    kappa = _kappa(said["False"], said["True"], (1, 2))
    counts = {
        "correct_False": right["False"],
        "correct_True": right["True"],
        "correct_both": right["False"] & right["True"],
        "equal": said["False"] == said["True"],
    }
    checks = []
    for key, hits in counts.items():
        expected = int(str(published[key]).split("/")[0])
        found = int(hits.sum())
        checks.append(Check(f"{name}: {key}", found, f"of {len(rows)}", str(expected), found == expected))
    expected_kappa = float(published["kappa_agreement"])
    same = abs(kappa - expected_kappa) <= EXACT
    return [*checks, Check(f"{name}: kappa between orders", round(kappa, 6), "", f"{expected_kappa:.6f}", same)]


def _winners(rows: list[dict[str, Any]], order: str) -> Ints:
    """Which output [rows] won, 1 or 2 as the file names them; 0 where the reply names none."""
    winners = [_verdict(row["results"], f"swap = {order}") for row in rows]
    return np.asarray([int(one["winner"]) if str(one.get("winner")) in ("1", "2") else 0 for one in winners])


def _verdict(results: Any, name: str) -> dict[str, Any]:
    """What the last step of the judge said in an order."""
    last = results[-1] if isinstance(results, list) else results
    return dict(last[name])


def pandalm(path: Path) -> list[Check]:
    """Its annotators with each other, and their majority."""
    rows = json.loads(path.read_bytes())
    said = {number: np.asarray([int(row[f"annotator{number}"]) for row in rows]) for number in (1, 2, 3)}
    checks = []
    for (one, other), published in KAPPAS.items():
        kappa = round(_kappa(said[one], said[other], (0, 1, 2)), 3)
        same = kappa == published
        checks.append(Check(f"PandaLM: kappa of annotators {one} and {other}", kappa, "", str(published), same))
    votes = np.stack([sum(said[number] == label for number in said) for label in MAJORITY])
    winner = votes.argmax(axis=0)
    split = int((votes.max(axis=0) < 2).sum())
    checks.append(Check("PandaLM: rows without a majority", split))
    for label, published in MAJORITY.items():
        found = int(((winner == label) & (votes.max(axis=0) >= 2)).sum())
        checks.append(Check(f"PandaLM: majority says {label}", found, "", str(published), found == published))
    return checks


def _kappa(one: Ints, other: Ints, labels: tuple[int, ...]) -> float:
    table = np.asarray([[float(((one == a) & (other == b)).sum()) for b in labels] for a in labels])
    return float(cohen_kappa(table, identity_weights(len(labels))))


if __name__ == "__main__":
    sys.exit(main())
