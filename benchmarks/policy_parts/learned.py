"""What SmolLM2 learns of real pairs: DPO, SFT with ORPO behind it, then two rounds on its own answers. Hours on a CPU.

    PREFKIT_DATA=FOLDER python -m benchmarks.policy_parts.learned OUT [--only dpo|orpo|rounds] [--prompts N]

chatpsychiatrist: the widest pair of each prompt, a fifth of the prompts held out. The reward model is a linear head on
SmolLM2's hidden states, each policy given an effect of its own while it is fitted; a second judge, on MiniLM's sentence
embeddings, takes no part in the choice of pairs. Both are fitted on the training prompts. Each step is a command of
prefkit on the run OUT/run, and goes on where it was cut. The rounds start from what ORPO left: four in five answers of
SmolLM2 itself are cut off at 256 tokens, and stand in no pair.

What is asked for is that the policy got better, not by how much: intervals are of 32 to 45 prompts and one seed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.proof import Check, report
from benchmarks.reward import prefkit

JUDGE, SECOND = "judge", "second"
WAYS = ("dpo", "orpo", "rounds")
LOOKS = "--check-steps 11 --check-prompts 32 --check-tokens 200 --batch 8 --learning-rate 2e-5"
TRAININGS = {"dpo": "--method dpo", "orpo": "--method orpo --sft-first 1"}
ROUNDS = "--rounds 2 --samples 4 --held-out 32 --answer-tokens 200 --batch 8 --learning-rate 2e-5"


def prepare(run: Path, data: Path) -> None:
    """The run with its pairs and both judges."""
    if not (run / "pairs.parquet").exists():
        prefkit(["new", str(run), "--rubric", "psychocounsel"])
        prefkit(["import", "prompts", str(run), str(data / "question.jsonl")])
        for file in sorted((data / "model_answer").iterdir()):
            prefkit(["import", "responses", str(run), str(file)])
        prefkit(["import", "judgements", str(run), str(data / "ratings.csv")])
        prefkit(["build-pairs", str(run), "--strategy", "best-worst", "--test-size", "0.2"])
    for name, base in ((JUDGE, ["--base", "smollm2", "--control-policies"]), (SECOND, ["--base", "minilm"])):
        if not (run / "reward-models" / name / "training.json").exists():
            prefkit(["train-rm", str(run), "--frozen", "--name", name, *base])


def trained(run: Path, way: str) -> list[Check]:
    """A policy trained on the pairs."""
    folder = run / "policies" / way
    if not (folder / "training.json").exists():
        command = f"train-policy {run} --base smollm2 --rm {JUDGE} --name {way} {TRAININGS[way]} {LOOKS}"
        prefkit(command.split())
    done = json.loads((folder / "training.json").read_text())
    first, last = (_look(done, step) for step in (0, done["kept_step"]))
    rate = last["win_rate"]
    shares = {name: last["health"]["shares"][name]["share"] for name in ("unfit", "cut-off")}
    return [
        Check(f"{way}: step that was kept", done["kept_step"], f"of {done['steps']}"),
        Check(f"{way}: held-out pairs put right", *_percent(last["held_out"]["accuracy"]), "> 50", _more(last)),
        Check(f"{way}: preferred to the start", _interval(rate), "%", "interval above 50", rate["low"] > 0.5),
        Check(f"{way}: unfit answers", *_percent(shares["unfit"]), "not flagged", not last["health"]["flagged"]),
        Check(f"{way}: answers cut off", *_percent(shares["cut-off"])),
        Check(f"{way}: words an answer", _words(last["health"]), f"from {_words(first['health'])}"),
        Check(f"{way}: KL(start || policy)", round(last["divergence"], 1), "nats an answer"),
    ]


def rounds(run: Path, prompts: int) -> list[Check]:
    """Two rounds on the policy's own answers."""
    command = f"iterate {run} --base orpo --rm {JUDGE} --second-rm {SECOND} --name rounds --prompts {prompts} {ROUNDS}"
    prefkit(command.split())
    folder, checks = run / "iterations" / "rounds", []
    start = json.loads((folder / "start" / "evaluation.json").read_text())
    for path in sorted(folder.glob("round-*/evaluation.json")):
        found = json.loads(path.read_text())
        name, unfit = f"rounds: {path.parent.name}", found["health"]["shares"]["unfit"]["share"]
        checks += [
            Check(f"{name}, pairs", found["counts"]["pairs"], f"of {found['counts']['answers']} answers"),
            Check(f"{name}, preferred to the start", _interval(found["by_reward_model"]["start"]), "%"),
            Check(f"{name}, by the second judge", _interval(found["by_second"]["start"]), "%"),
            Check(f"{name}, to its best of {start['n']}", _interval(found["by_reward_model"]["best_of"]), "%"),
            Check(f"{name}, words an answer", round(found["words"]), f"from {start['words']:.0f}"),
            Check(f"{name}, unfit answers", *_percent(unfit), "not flagged", not found["health"]["flagged"]),
            Check(f"{name}, why it is the last", "; ".join(found["stop"]) or "-"),
        ]
    best = start["best"]["start"]
    return [*checks, Check(f"rounds: the start's best of {start['n']}, to one answer", _interval(best), "%")]


def _look(done: dict[str, Any], step: int) -> dict[str, Any]:
    found: dict[str, Any] = next(look for look in done["looks"] if look["step"] == step)
    return found


def _more(look: dict[str, Any]) -> bool:
    return bool(look["held_out"]["accuracy"] > 0.5)


def _words(health: dict[str, Any]) -> int:
    return round(health["drifts"]["words"]["value"])


def _percent(share: float) -> tuple[float, str]:
    return round(100 * share, 1), "%"


def _interval(rate: dict[str, float]) -> str:
    return f"{100 * rate['value']:.0f} [{100 * rate['low']:.0f}, {100 * rate['high']:.0f}] of {rate['n']}"


def main() -> int:
    """Do what is not done yet, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=WAYS)
    parser.add_argument("--prompts", type=int, default=64, help="asked in a round")
    asked = parser.parse_args()
    run = asked.out / "run"
    asked.out.mkdir(parents=True, exist_ok=True)
    prepare(run, Path(os.environ["PREFKIT_DATA"]) / "chatpsychiatrist")
    checks = []
    if asked.only == "rounds":
        trained(run, "orpo")
    for way in [asked.only] if asked.only else WAYS:
        checks += rounds(run, asked.prompts) if way == "rounds" else trained(run, way)
    return report("policy-learned", checks)


if __name__ == "__main__":
    sys.exit(main())
