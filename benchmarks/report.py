"""The report of a large run: how long it takes, how large the page is.

    python -m benchmarks.report --size small|full

Full: 50,000 judgements of 2,500 prompts and 10,000 responses by four policies: four annotators rate every response on
seven principles, two models compare two responses a prompt in both orders. Small: a twentieth of that. The page itself
is opened in a browser by tests/test_report_page.py.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.commands import prefkit_measured
from benchmarks.generated_run import SEED, generate
from benchmarks.proof import Check, report
from prefkit.records import Comparison, Judgement, Prompt, Rating, Winner, judgement_id
from prefkit.run import Run

PROMPTS = {"small": 125, "full": 2500}
SECONDS, MEGABYTES = 20, 2
TOPICS = ("anxiety", "grief", "couple", "work")
RATERS = ("llm:second", "llm:third", "human:one")
WINNERS: tuple[Winner, ...] = ("a", "b", "tie")


def made(folder: Path, prompts: int) -> Run:
    """A run with 20 judgements a prompt."""
    run = generate(folder, prompts)
    rng = np.random.default_rng(SEED)
    ratings = [one for one in run.judgements() if isinstance(one, Rating)]
    topics = [msgspec.structs.replace(one, topic=TOPICS[n % len(TOPICS)]) for n, one in enumerate(run.prompts())]
    run.replace(Prompt, topics)
    run.replace(Judgement, [*ratings, *_rated(ratings, rng), *_compared(ratings, rng)])
    return run


def _rated(ratings: list[Rating], rng: np.random.Generator) -> Iterator[Rating]:
    for who in RATERS:
        for one in ratings:
            scores = dict(zip(one.scores, rng.integers(1, 6, len(one.scores)).tolist(), strict=True))
            name = judgement_id(who, ["rating", one.response_id])
            yield msgspec.structs.replace(one, id=name, annotator=who, scores=scores)


def _compared(ratings: list[Rating], rng: np.random.Generator) -> Iterator[Comparison]:
    answers: dict[str, list[str]] = {}
    for one in ratings:
        answers.setdefault(one.prompt_id, []).append(one.response_id)
    for prompt, ids in answers.items():
        first, second = (ids[place] for place in rng.choice(len(ids), 2, replace=False))
        for who in ("llm:pairs", "llm:others"):
            for a, b in ((first, second), (second, first)):
                yield Comparison(
                    id=judgement_id(who, ["comparison", a, b]),
                    annotator=who,
                    prompt_id=prompt,
                    rubric=ratings[0].rubric,
                    a=a,
                    b=b,
                    winner=WINNERS[rng.integers(3)],
                )


def checks(prompts: int) -> list[Check]:
    """Make the report once, with as many examples as a page may hold."""
    with tempfile.TemporaryDirectory() as folder:
        run = made(Path(folder) / "run", prompts)
        number = sum(1 for _ in run.judgements())
        before = _cpu()
        found = prefkit_measured("report", run.path, "--examples", 500)
        took = _cpu() - before
        size = (run.path / "report" / "index.html").stat().st_size / 1e6
    return [
        Check(f"report of {number:,} judgements, 500 examples", round(found.seconds, 1), "s", f"< {SECONDS}",
              found.seconds < SECONDS),
        Check("of them on the processor", round(took, 1), "s"),
        Check("peak memory", round(found.gigabytes, 2), "GB"),
        Check("the page", round(size, 2), "MB", f"< {MEGABYTES}", size < MEGABYTES),
    ]  # fmt: skip


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Run the proof."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=tuple(PROMPTS), default="small")
    return report("report", checks(PROMPTS[parser.parse_args().size]))


if __name__ == "__main__":
    sys.exit(main())
