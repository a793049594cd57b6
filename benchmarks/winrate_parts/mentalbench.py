"""MentalBench's ten systems, ranked by people and by each judge, beside the published means.

    PREFKIT_DATA=FOLDER python -m benchmarks.winrate_parts.mentalbench

Reads   FOLDER/mentalbench-align: the ratings of people, of Claude and of GPT-4o, and the published tables
Writes  benchmarks/out/mentalbench.json

People's means are compared with the published table to its two decimals. They are of complete ratings: the authors
left out a rating that lacks one of its seven scores (1 of qwen_2, 3 of qwen_3), and kept scores out of range, zeros
among them. One published mean cannot be reached: qwen_3's guidance is a misprint, as the published average of its seven
shows; it is stated as it is.
The rankings are those of `prefkit leaderboard RUN --by judge`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.commands import prefkit
from benchmarks.proof import Check, report
from prefkit.records import Rating
from prefkit.run import Run

FILES = {
    "human:mentalbench": "Human_judge.xlsx",
    "llm:claude": "claude_llm_judge.xlsx",
    "llm:gpt-4o": "gpt-4o_llm_judge.xlsx",
}
SYSTEMS = {
    "GPT-4o": "gpt4o",
    "Gemini-2.0-Flash": "gemini",
    "GPT-4o-Mini": "gpt4omini",
    "LLaMA-3.1-8B": "llama_3",
    "DeepSeek-LLaMA-8B": "ds_llama",
    "Qwen-2.5-7B": "qwen_2",
    "Claude-3.5-Haiku": "claude",
    "DeepSeek-Qwen-7B": "ds_qwen",
    "Qwen-3-4B": "qwen_3",
}
MISPRINT = ("qwen_3", "guidance")
AVERAGE = "avg"
ATTRIBUTES = 7
ROUNDING = 0.0051
"""Half a unit of the second decimal, and a little for how halves were rounded."""


def main() -> int:
    """Run the checks and say how they went."""
    data = Path(os.environ.get("PREFKIT_DATA") or "-") / "mentalbench-align"
    if not data.is_dir():
        print("PREFKIT_DATA names no folder with mentalbench-align")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        return report("mentalbench", mentalbench(data, Path(folder)))


def mentalbench(data: Path, folder: Path) -> list[Check]:
    """Means and rankings."""
    run = folder / "run"
    prefkit("new", run, "--rubric", "mentalbench")
    for annotator, file in FILES.items():
        who = [] if annotator.startswith("human") else ["--set", f"annotator={annotator}"]
        prefkit("import", "judgements", run, data / file, "--keep-out-of-range", *who)
    written = folder / "leaderboard.json"
    print(prefkit("leaderboard", run, "--by", "judge", "--out", written))
    return [*means(run, data / "published" / "Human Response Evaluation.md"), *ranks(json.loads(written.read_bytes()))]


def means(run: Path, published: Path) -> list[Check]:
    """Per system and attribute, and of a system's seven: people's mean, ours less the published one."""
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    opened = Run(run)
    policy = {response.id: response.policy for response in opened.responses()}
    for judgement in opened.judgements():
        if isinstance(judgement, Rating) and judgement.annotator == "human:mentalbench":
            given = {name: score for name, score in judgement.scores.items() if score is not None}
            if len(given) == ATTRIBUTES:
                for name, score in given.items():
                    scores[policy[judgement.response_id], name].append(score)
    ours = {key: sum(given) / len(given) for key, given in scores.items()}
    for system in SYSTEMS.values():
        ours[system, AVERAGE] = sum(ours[key] for key in list(ours) if key[0] == system) / ATTRIBUTES
    table = dict(_table(published))
    gaps = {key: abs(ours[key] - value) for key, value in table.items() if key != MISPRINT}
    worst = max(gaps, key=lambda key: gaps[key])
    system, name = MISPRINT
    needed = ATTRIBUTES * table[system, AVERAGE] - sum(
        value for key, value in table.items() if key[0] == system and key[1] not in (name, AVERAGE)
    )
    why = f"not reached: measured {ours[MISPRINT]:.3f}, published {table[MISPRINT]}"
    return [
        Check("published means compared", len(gaps), "", "71 of 72", len(gaps) == 71),
        Check(
            f"means of people: the largest difference ({' '.join(worst)})",
            round(gaps[worst], 4),
            "",
            f"at most {ROUNDING}",
            gaps[worst] <= ROUNDING,
        ),
        Check(f"{system} {name}", f"{why}; the published average, {table[system, AVERAGE]}, needs {needed:.2f}"),
    ]


def _table(path: Path) -> Iterator[tuple[tuple[str, str], float]]:
    names: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [re.sub(r"\*", "", cell).strip() for cell in line.strip().strip("|").split("|")]
        if cells[0] == "Model":
            names = [cell.casefold() for cell in cells]
        elif names and cells[0] in SYSTEMS:
            for name, cell in zip(names[2:], cells[2:], strict=True):
                yield (SYSTEMS[cells[0]], name), float(cell)


def ranks(found: dict[str, Any]) -> list[Check]:
    """The rankings and their differences, to be read; that there is one for each judge is checked."""
    checks = [Check("boards", len(found["by"]), "", str(len(FILES)), set(found["by"]) == set(FILES))]
    for judge, board in found["by"].items():
        order = ", ".join(f"{one['policy']} {one['best_rank']}-{one['worst_rank']}" for one in board["policies"])
        checks.append(Check(f"{judge}: best first, with the ranks each may have", order))
        whole = len(board["policies"]) == 10
        checks.append(Check(f"{judge}: systems", len(board["policies"]), "", "10", whole))
    for judge, compared in found["compared"].items():
        own = [one for one in compared["shifts"] if (one["low"] or 0) > 0 or (one["high"] or 0) < 0]
        shifts = ", ".join(f"{one['policy']} {one['difference']:+.0f}" for one in own)
        checks.append(Check(f"{judge} beside people: Kendall's tau", round(compared["tau"], 3)))
        checks.append(Check(f"{judge} beside people: points, where the interval leaves out 0", shifts))
    return checks


if __name__ == "__main__":
    sys.exit(main())
