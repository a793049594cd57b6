"""``prefkit plan`` on chatpsychiatrist: what it says from a sample, and what the run then takes.

    PREFKIT_DATA=FOLDER python -m benchmarks.scale_parts.plan --size small|full

Reads   FOLDER/chatpsychiatrist: 229 questions, the answers of five models
Writes  benchmarks/out/scale-plan.json

The models are played by ``speaking_server``: answers are those of the data, judges' reasons the openings of such,
tokens those of SmolLM2's tokenizer and chat template. A sample of ``--prompts`` prompts is asked, ``prefkit plan RUN
--save`` plans the rest from what that took, then the same commands ask all, and ``prefkit plan RUN --compare`` says how
far off the plan was.

**judged**      the 1,145 answers, imported: rated with reasons, rated by principle, compared in both orders
**whole**       from the questions alone: five policies answer, a judge rates what they said
**repairs**     the same judge, of whose first replies 3% cannot be read
**unmeasured**  no sample: what the ranges are worth then
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.commands import prefkit
from benchmarks.proof import Check, report
from benchmarks.scale_parts.speaking_server import speaking
from prefkit.run import Run

SAMPLE = {"small": 10, "full": 20}
WITHIN = 0.1
POLICIES = ("alpaca-7b", "llama-7b", "psych8k_7b_5ep", "vicuna-7b-v1.3", "vicuna-7b-v1.3-unlimited")
ROUNDS = {
    "rated, with reasons": ("--reason",),
    "rated by principle": ("--per-principle",),
    "compared in both orders": ("--mode", "compare", "--reason"),
}


@dataclass(frozen=True)
class Data:
    """The questions and answers, as a folder that holds what the server says."""

    folder: Path
    words: Path
    source: Path

    def run(self, name: str, url: str, *, answers: bool) -> Path:
        """A run with the questions, and the answers if wanted; its models are served at ``url``."""
        run = self.folder / name
        prefkit("new", run, "--rubric", "psychocounsel")
        prefkit("import", "prompts", run, self.source / "question.jsonl")
        if answers:
            for policy in POLICIES:
                prefkit("import", "responses", run, self.source / "model_answer" / f"{policy}.jsonl")
        price = {"prompt": 1.0, "completion": 4.0}
        models = {name: {"model": name, "urls": [url], "price": price} for name in ("judge", *POLICIES)}
        (run / "models.yaml").write_text(json.dumps({"models": models}), encoding="utf-8")
        return run


def data(folder: Path, source: Path) -> Data:
    """Read the data through prefkit's own import, and write down what the server is to say."""
    made = Data(folder, folder / "words.json", source)
    run = Run(made.run("import", "http://127.0.0.1:9", answers=True))
    prompts = {prompt.id: prompt.messages[-1].content for prompt in run.prompts()}
    answers: dict[str, dict[str, str]] = {policy: {} for policy in POLICIES}
    for response in run.responses():
        answers[response.policy][prompts[response.prompt_id]] = response.text or "-"
    reasons = [opening for some in answers.values() for text in some.values() if (opening := _opening(text))]
    made.words.write_text(json.dumps({"answers": answers, "reasons": reasons}), encoding="utf-8")
    return made


def _opening(text: str) -> str:
    """The first two sentences."""
    return " ".join(re.split(r"(?<=[.!?])\s+", text.strip())[:2])


def planned(run: Path, *options: object) -> dict[str, Any]:
    """Plan, and keep it."""
    found: dict[str, Any] = json.loads(prefkit("plan", run, *options, "--save", "--json"))
    return found


def compared(run: Path, name: str) -> Iterator[Check]:
    """The plan that was kept beside what was used: calls of each model, and tokens of all."""
    rows = json.loads(prefkit("plan", run, "--compare", "--json"))
    for row in rows:
        what, figure, used = f"{name}: {row['what']}", row["figure"], row["used"]
        value, ends = row["planned"]["value"], f"{row['planned']['low']:,.0f} to {row['planned']['high']:,.0f}"
        if figure == "calls":
            yield Check(f"{what}: calls, planned", round(value), f"of {used:,.0f} made", "=", round(value) == used)
        elif "tokens" in figure:
            where = "in" if row["within"] else "NOT in"
            yield Check(f"{what}: {figure}, planned {ends}", f"{row['off']:+.1%}, used {used:,.0f} {where} it")
        elif row["off"] is not None:
            yield Check(f"{what}: {figure}, planned over used", f"{row['off']:+.1%}")
    for figure in ("prompt tokens", "reply tokens"):
        yield all_of(rows, name, figure)


def all_of(rows: list[dict[str, Any]], name: str, figure: str) -> Check:
    """Tokens of all models together."""
    some = [row for row in rows if row["figure"] == figure]
    off = sum(row["planned"]["value"] for row in some) / sum(row["used"] for row in some) - 1
    return Check(f"{name}: {figure} in all, planned over used", round(100 * off, 2), "%", f"within {WITHIN:.0%}",
                 abs(off) <= WITHIN)  # fmt: skip


def judged(source: Data, url: str, sample: int) -> Iterator[Check]:
    """Judge imported answers, in three ways."""
    for name, options in ROUNDS.items():
        run = source.run(name.replace(" ", "-"), url, answers=True)
        judge = ("judge", run, "--judge", "judge", *options)
        prefkit(*judge, "--prompts", sample)
        planned(run)
        prefkit(*judge)
        yield from compared(run, name)


def whole(source: Data, url: str, sample: int) -> Iterator[Check]:
    """Generate and judge."""
    run = source.run("whole", url, answers=False)
    policies = [word for policy in POLICIES for word in ("--policy", policy)]
    generate = ("generate", run, *policies, "--reply-tokens", 2048)
    judge = ("judge", run, "--judge", "judge", "--reason")
    for more in (("--prompts", sample), ()):
        if not more:
            planned(run)
        prefkit(*generate, *more)
        prefkit(*judge, *more)
    yield from compared(run, "whole")


def repairs(source: Data, sample: int) -> Iterator[Check]:
    """A judge whose replies cannot always be read: calls have a range then."""
    with speaking(source.words, unreadable=0.03) as server:
        run = source.run("repairs", server.url, answers=True)
        judge = ("judge", run, "--judge", "judge", "--reason")
        prefkit(*judge, "--prompts", sample)
        planned(run)
        prefkit(*judge)
        rows = json.loads(prefkit("plan", run, "--compare", "--json"))
        calls = next(row for row in rows if row["figure"] == "calls")
        ends = f"{calls['planned']['low']:,.0f} to {calls['planned']['high']:,.0f}"
        yield Check("repairs: calls", calls["used"], "", f"in {ends}", calls["within"])
        yield from (all_of(rows, "repairs", figure) for figure in ("prompt tokens", "reply tokens"))


def unmeasured(source: Data, url: str) -> Iterator[Check]:
    """Nothing asked before: bytes, and then a tokenizer."""
    for name, options in (("3 to 4 bytes a token", ()), ("a tokenizer", ("--tokenizer", "smollm2"))):
        run = source.run(f"unmeasured-{len(options)}", url, answers=True)
        planned(run, "--judge", "judge", "--reason", *options)
        prefkit("judge", run, "--judge", "judge", "--reason")
        for row in json.loads(prefkit("plan", run, "--compare", "--json")):
            if row["figure"] in ("calls", "prompt tokens", "reply tokens"):
                ends = f"{row['planned']['low']:,.0f} to {row['planned']['high']:,.0f}"
                found = f"{row['used']:,.0f} in {ends}"
                goal = "in its range" if name == "a tokenizer" or row["figure"] != "prompt tokens" else ""
                yield Check(f"unmeasured, {name}: {row['figure']}", found, "", goal, row["within"] or not goal)


def checks(source: Path, size: str) -> list[Check]:
    """All parts."""
    with tempfile.TemporaryDirectory() as folder:
        made = data(Path(folder), source)
        sample = SAMPLE[size]
        with speaking(made.words) as server:
            found = [*whole(made, server.url, sample), *unmeasured(made, server.url)]
            if size == "full":
                found += judged(made, server.url, sample)
        return [*found, *repairs(made, sample)] if size == "full" else found


def main() -> int:
    """Run the checks and say how they went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=tuple(SAMPLE), default="full")
    source = Path(os.environ.get("PREFKIT_DATA") or "-") / "chatpsychiatrist"
    if not source.is_dir():
        print("PREFKIT_DATA names no folder with chatpsychiatrist")
        return 1
    return report("scale-plan", checks(source, parser.parse_args().size))


if __name__ == "__main__":
    sys.exit(main())
