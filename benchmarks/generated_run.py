"""A generated run of any size: prompts of about 90 words, four responses each, one rating on seven principles a
response.

    python benchmarks/generated_run.py FOLDER PROMPTS

Scores are drawn uniformly from 1 to 5 with a fixed seed, texts from a list of common words; nothing of it is real.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from prefkit.records import Judgement, Message, Prompt, Rating, Response, judgement_id, prompt_id, response_id
from prefkit.rubric_files import load_rubric
from prefkit.run import Run

WORDS = np.asarray(
    """
    a about after again all always am and angry anyone as asked at away back be because been before better
    brother but call came can cannot care child come could day did do doctor does done down each even ever every
    everyone family father feel felt find first for friend from get give go good had happy hard has have he
    heard help her here him his home hope house how husband if in into is it just keep kind knew know last late
    left let like little live long look love made make man many maybe me mean might mind money more morning
    mother much must my need never new next night no not nothing now of old on once one only or other our out
    over own part people place right room sad said same say see she should sister sit sleep so some someone
    something soon sorry start still stop take talk tell than that the their them then there they thing think
    this time tired to today told too try two under until up us very wait walk want was way we week well went
    were what when where which while who why wife will wish with woman work worry would year yes yet you young
    your
    """.split()
)
POLICIES = ("one", "two", "three", "four")
SEED = 20261121


def generate(folder: Path, n_prompts: int) -> Run:
    """Make a run with ``n_prompts`` prompts in a new folder."""
    rubric = load_rubric("psychocounsel")
    run = Run.create(folder, rubric)
    rng = np.random.default_rng(SEED)
    names: list[str] = []

    def prompts():
        for _ in range(n_prompts):
            message = (Message(role="user", content=_text(rng, 90)),)
            names.append(prompt_id(message))
            yield Prompt(id=names[-1], messages=message)

    run.replace(Prompt, prompts())
    run.replace(Response, (_response(name, policy, rng) for name in names for policy in POLICIES))
    scores = rng.integers(1, 6, (n_prompts * len(POLICIES), len(rubric.principles)))
    shown = rubric.hash
    ratings = (
        _rating(
            shown, rubric.principle_ids, name, response_id(name, policy), scores[row * len(POLICIES) + column].tolist()
        )
        for row, name in enumerate(names)
        for column, policy in enumerate(POLICIES)
    )
    run.replace(Judgement, ratings)
    return run


def _text(rng: np.random.Generator, mean_words: int) -> str:
    return " ".join(WORDS[rng.integers(0, len(WORDS), rng.integers(mean_words // 2, mean_words * 3 // 2))])


def _response(prompt: str, policy: str, rng: np.random.Generator) -> Response:
    return Response(id=response_id(prompt, policy), prompt_id=prompt, policy=policy, text=_text(rng, 70))


def _rating(rubric: str, principles: tuple[str, ...], prompt: str, response: str, scores: list[int]) -> Rating:
    return Rating(
        id=judgement_id("llm:generated", ["rating", rubric, response]),
        annotator="llm:generated",
        prompt_id=prompt,
        rubric=rubric,
        response_id=response,
        scores=dict(zip(principles, scores, strict=True)),
    )


if __name__ == "__main__":
    generate(Path(sys.argv[1]), int(sys.argv[2]))
