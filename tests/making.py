"""Runs made of a few literal records, and what came of them, with ids that can be read.

``p1`` is a prompt, ``p1/A`` the answer of the policy ``A`` to it. A score alone is one for the principle ``good``, on
which ``ONE`` is a rubric; a mapping gives several. Judgements are made under the rubric that the run will have, unless
they name another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from pyarrow import parquet

from prefkit.pairs.build import build_pairs
from prefkit.pairs.settings import PairReport, PairSettings
from prefkit.records import (
    Choice,
    Comparison,
    Judgement,
    Message,
    PreferencePair,
    Prompt,
    Rating,
    Response,
    Score,
    Winner,
    judgement_id,
)
from prefkit.rubric import Aggregate, Gate, Principle, Rubric
from prefkit.run import Run, read_parquet_records

IN_USE = "the rubric in use"
Scores = Score | None | Mapping[str, Score | None]


def rubric(
    *names: str, aggregate: Aggregate = "mean", weights: Sequence[float] = (), gates: Iterable[Gate] = ()
) -> Rubric:
    """A rubric of these principles on the scale 1-5."""
    principles = tuple(
        Principle(id=name, title=name.title(), statement=f"The response is {name}.", weight=weight)
        for name, weight in zip(names, weights or [1.0] * len(names), strict=True)
    )
    return Rubric(
        id="made",
        version=1,
        title="Made for a test",
        unit="response",
        principles=principles,
        aggregate=aggregate,
        gates=tuple(gates),
    )


ONE = rubric("good")
TWO = rubric("warm", "safe")


def rated(
    scores: Mapping[str, Scores],
    by: str = "llm:one",
    *,
    sample: int = 0,
    under: str | None = IN_USE,
    failure: str | None = None,
) -> list[Rating]:
    """One annotator's ratings, a record for each response."""
    return [
        Rating(
            id=judgement_id(by, ["rating", response, sorted(_by_principle(given)), under], sample),
            annotator=by,
            prompt_id=_prompt_of(response),
            rubric=under,
            sample=sample,
            failure=failure,
            response_id=response,
            scores=_by_principle(given),
        )
        for response, given in scores.items()
    ]


def compared(
    a: str,
    b: str,
    winner: Winner | None,
    by: str = "human:one",
    *,
    sample: int = 0,
    under: str | None = IN_USE,
    **principles: Winner | None,
) -> list[Comparison]:
    """One comparison, in the order shown."""
    return [
        Comparison(
            id=judgement_id(by, ["comparison", a, b, under], sample),
            annotator=by,
            prompt_id=_prompt_of(a),
            rubric=under,
            sample=sample,
            a=a,
            b=b,
            winner=winner,
            principles=principles,
        )
    ]


def both_orders(
    better: str, worse: str, by: str = "llm:one", *, sample: int = 0, under: str | None = IN_USE
) -> list[Comparison]:
    """A model that was asked twice and means what it says."""
    there = compared(better, worse, "a", by, sample=sample, under=under)
    return there + compared(worse, better, "b", by, sample=sample, under=under)


def best_of(responses: Sequence[str], best: int | None, by: str = "human:one") -> list[Choice]:
    """The best of several, by its position."""
    return [
        Choice(
            id=judgement_id(by, ["choice", list(responses)]),
            annotator=by,
            prompt_id=_prompt_of(responses[0]),
            rubric=IN_USE,
            responses=tuple(responses),
            best=best,
        )
    ]


def make_run(
    folder: Path,
    *judgements: Iterable[Judgement],
    rubric: Rubric = ONE,
    texts: Mapping[str, str | None] | None = None,
    prompts: Mapping[str, str | Sequence[Message]] | None = None,
    **facts: Mapping[str, Any],
) -> Run:
    """A run of these judgements, and of every prompt and response that they or ``texts`` name.

    ``texts`` and ``prompts`` replace words that are otherwise made up, each unlike the others; ``facts`` are fields of
    prompts by prompt (``excluded={"p1": "too short"}``).
    """
    run = Run.create(folder, rubric)
    records = [
        msgspec.structs.replace(one, rubric=rubric.hash) if one.rubric == IN_USE else one
        for group in judgements
        for one in group
    ]
    known = dict.fromkeys([*(name for one in records for name in _responses_of(one)), *(texts or {})])
    words = {**{_prompt_of(name): f"{_prompt_of(name)}, what am I to do?" for name in known}, **(prompts or {})}
    run.replace(
        Prompt,
        (
            Prompt(
                id=name,
                messages=(Message(role="user", content=said),) if isinstance(said, str) else tuple(said),
                **{field: values[name] for field, values in facts.items() if name in values},
            )
            for name, said in words.items()
        ),
    )
    run.replace(
        Response,
        (
            Response(
                id=name, prompt_id=_prompt_of(name), policy=policy_of(name), text=(texts or {}).get(name, answer(name))
            )
            for name in known
        ),
    )
    run.replace(Judgement, records)
    return run


def answer(response: str) -> str:
    """The made-up words of a response, unlike those of other policies."""
    return f"{policy_of(response) * 12} to {_prompt_of(response)}"


def build(run: Run, **settings: Any) -> PairReport:
    """Build pairs without a test split, unless the settings ask for one."""
    return build_pairs(run, PairSettings(**{"test_size": 0.0, **settings}))


def pairs_of(run: Run) -> list[PreferencePair]:
    """The rows of ``pairs.parquet``."""
    return list(read_parquet_records(run.path / "pairs.parquet", PreferencePair))


def preferred(run: Run) -> list[str]:
    """The pairs in words: ``p1/A > p1/B``."""
    return [f"{pair.chosen_id} > {pair.rejected_id}" for pair in pairs_of(run)]


def found(run: Run, **settings: Any) -> list[str]:
    """Build, and give the pairs in words, sorted."""
    build(run, **settings)
    return sorted(preferred(run))


def rows_of(run: Run, split: str = "train") -> list[dict[str, Any]]:
    """The rows of a split of the dataset."""
    rows: list[dict[str, Any]] = parquet.read_table(run.path / "dataset" / f"{split}.parquet").to_pylist()
    return rows


def policy_of(response: str) -> str:
    """``A`` of ``p1/A``."""
    return response.partition("/")[2]


def _prompt_of(response: str) -> str:
    return response.partition("/")[0]


def _by_principle(scores: Scores) -> dict[str, Score | None]:
    return dict(scores) if isinstance(scores, Mapping) else {"good": scores}


def _responses_of(judgement: Judgement) -> tuple[str, ...]:
    if isinstance(judgement, Rating):
        return (judgement.response_id,)
    return judgement.responses if isinstance(judgement, Choice) else (judgement.a, judgement.b)


def save_byte_tokenizer(folder: Path, *, closing: bool = False) -> Path:
    """A tokenizer with a token a byte and a chat template, saved where transformers finds it; ``closing`` makes it add
    a special token to whatever it reads, as those of many models do."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<pad>": 0, "<eos>": 1, **{letter: 2 + place for place, letter in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if closing:
        tokenizer.post_processor = processors.TemplateProcessing("$A <eos>", special_tokens=[("<eos>", 1)])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
    wrapped.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<eos>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    wrapped.save_pretrained(folder)
    return folder
