"""The tables of docs/scale.md: ten million prompts, four responses each, seven principles.

    PREFKIT_DATA=FOLDER python -m benchmarks.scale_parts.paper

Reads   FOLDER/chatpsychiatrist, FOLDER/counsel-chat; the table of throughputs in docs/scale.md
Writes  benchmarks/out/scale-paper.json

A run with the 229 questions and four of the models asks all of them and three kinds of judge, played by
``speaking_server``; pairs are built of the ratings of the data. Then ``prefkit plan RUN --prompts 10000000`` says what
ten million take. Each line that it prints has to stand in docs/scale.md.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.commands import prefkit
from benchmarks.proof import Check, report
from benchmarks.scale_parts.plan import data
from benchmarks.scale_parts.speaking_server import Speaking, speaking
from prefkit.run import Run

DOC = Path(__file__).parent.parent.parent / "docs" / "scale.md"
POLICIES = ("alpaca-7b", "llama-7b", "psych8k_7b_5ep", "vicuna-7b-v1.3-unlimited")
PROMPTS = 10_000_000
ROUNDS = {
    "rate": ((), 229),
    "by-principle": (("--per-principle",), 40),
    "compare": (("--mode", "compare"), 40),
}
"""How a judge is asked, and about how many prompts."""
JUDGED = ("runs/", "judge ", "judgements ", "  judge ")
"""How the lines begin that are not the same for all rounds."""


def main() -> int:
    """Make the tables and hold them against the page."""
    source = Path(os.environ.get("PREFKIT_DATA") or "-")
    if not (source / "counsel-chat").is_dir():
        print("PREFKIT_DATA names no folder with the data sets")
        return 1
    page = " ".join(DOC.read_text(encoding="utf-8").split())
    with tempfile.TemporaryDirectory() as folder:
        found = [line for line in (*lengths(Path(folder), source), *tables(Path(folder), source)) if line.strip()]
    print("\n".join(found))
    missing = [line for line in found if " ".join(line.split()) not in page]
    return report("scale-paper", [Check("lines of docs/scale.md", len(found) - len(missing), "as they are now",
                                        f"= {len(found)}", not missing)])  # fmt: skip


def tables(folder: Path, source: Path) -> Iterator[str]:
    """What ``prefkit plan`` prints for each kind of judge."""
    made = data(folder, source / "chatpsychiatrist")
    throughput = folder / "throughput.yaml"
    table = re.search(r"```yaml\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    assert table is not None, "docs/scale.md has a table of throughputs"
    throughput.write_text(table[1], encoding="utf-8")
    with speaking(made.words) as server:
        run = made.run("paper", server.url, answers=False)
        models = (
            (run / "models.yaml")
            .read_text(encoding="utf-8")
            .replace('"price": {"prompt": 1.0, "completion": 4.0}', '"price": null')
        )
        (run / "models.yaml").write_text(models.replace(', "price": null', ""), encoding="utf-8")
        prefkit(
            "generate", run, *(word for policy in POLICIES for word in ("--policy", policy)), "--reply-tokens", 2048
        )
        prefkit("import", "judgements", run, source / "chatpsychiatrist" / "ratings.csv")
        prefkit("build-pairs", run)
        for name, (options, prompts) in ROUNDS.items():
            copy = folder / name
            shutil.copytree(run, copy)
            prefkit("judge", copy, "--judge", "judge", *options, "--prompts", prompts)
            printed = prefkit("plan", copy, "--prompts", PROMPTS, "--throughput", throughput)
            lines = printed.replace(str(copy), f"runs/{name}").splitlines()
            yield from lines if name == "rate" else [line for line in lines if line.startswith(JUDGED)]


def lengths(folder: Path, source: Path) -> Iterator[str]:
    """Bytes and tokens of texts, a row of the page's table for each set."""
    made = data(folder / "lengths", source / "chatpsychiatrist")
    tokens = Speaking({"answers": {}, "reasons": []}, 0.0).tokens
    run = Run(made.folder / "import")
    prompts = [prompt.messages[-1].content for prompt in run.prompts()]
    answers = [one.text or "" for one in run.responses() if one.policy in POLICIES]
    yield _row("chatpsychiatrist: 229 questions, answers of four models", prompts, answers, tokens)
    with open(source / "counsel-chat" / "20200325_counsel_chat.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    asked = list(dict.fromkeys(row["questionText"] for row in rows if row["questionText"]))
    said = [re.sub(r"<[^>]+>", " ", row["answerText"]) for row in rows if row["answerText"]]
    yield _row("counsel-chat: questions and answers of therapists", asked, said, tokens)


def _row(name: str, prompts: list[str], answers: list[str], tokens: object) -> str:
    assert callable(tokens)
    cells = []
    for texts in (prompts, answers):
        sizes, counts = [np.array([of(text) for text in texts]) for of in (lambda text: len(text.encode()), tokens)]
        cells.append(f"{sizes.mean():,.0f} | {counts.mean():,.0f} | {np.quantile(counts, 0.95):,.0f}")
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
