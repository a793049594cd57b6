"""MentalBench's ten systems, ranked by people and by each judge, beside the published means.

    PREFKIT_DATA=FOLDER python -m benchmarks.winrate_parts.mentalbench

Reads   FOLDER/mentalbench-align: the ratings of people, of Claude and of GPT-4o, and the published tables
Writes  benchmarks/out/mentalbench.json

Means of people's scores are compared with the published table to its two decimals, out-of-range scores kept, as the
authors kept them. The mean of qwen_3's guidance (3.07) is a misprint and checked against the data: its own average
needs their 2.76. The other means of qwen_2 and qwen_3, which have dozens of empty cells, differ by up to 0.008 from
those published; what the authors did with these cells is not said, so the goal for them is 0.01.
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
OTHERWISE = {("qwen_3", "guidance"): 2.76}
"""Published means that the data contradict, and what the data say."""
LOOSE = ("qwen_2", "qwen_3")
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
    """Per system and attribute: people's mean, ours less the published one."""
    total: dict[tuple[str, str], list[float]] = defaultdict(list)
    opened = Run(run)
    policy = {response.id: response.policy for response in opened.responses()}
    for judgement in opened.judgements():
        if isinstance(judgement, Rating) and judgement.annotator == "human:mentalbench":
            for name, score in judgement.scores.items():
                if score is not None:
                    total[policy[judgement.response_id], name].append(score)
    ours = {key: sum(scores) / len(scores) for key, scores in total.items()}
    gaps, checks = {}, []
    for system, name, value in _table(published):
        if (system, name) in OTHERWISE:
            found, goal = ours[system, name], OTHERWISE[system, name]
            ok = abs(found - goal) <= ROUNDING
            checks.append(Check(f"{system} {name} (published as {value})", round(found, 3), "", str(goal), ok))
        else:
            gap = abs(ours[system, name] - value)
            if system in LOOSE:
                checks.append(Check(f"{system} {name}: differs by", round(gap, 4), "", "at most 0.01", gap <= 0.01))
            else:
                gaps[system, name] = gap
    worst = max(gaps, key=lambda key: gaps[key])
    return [
        Check("published means compared", len(gaps), "", "49", len(gaps) == 49),
        Check(
            f"means of people: the largest difference ({' '.join(worst)})",
            round(gaps[worst], 4),
            "",
            f"at most {ROUNDING}",
            gaps[worst] <= ROUNDING,
        ),
        *checks,
    ]


def _table(path: Path) -> Iterator[tuple[str, str, float]]:
    names: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [re.sub(r"\*", "", cell).strip() for cell in line.strip().strip("|").split("|")]
        if cells[0] == "Model":
            names = [cell.casefold() for cell in cells]
        elif names and cells[0] in SYSTEMS:
            for name, cell in zip(names[2:9], cells[2:9], strict=True):
                yield SYSTEMS[cells[0]], name, float(cell)


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
