"""Contrast examples that fit the case: those whose prompts are nearest to its prompt.

Reads   the rubric's examples, a file of others, prompts
Gives   for each prompt the K examples that its questions show, the nearest first

Near is the cosine between embeddings of the prompts, by a model behind ``/embeddings``. Only prompts with a question
that has no answer yet are embedded, before the first question is asked. What is kept of it is K numbers a prompt (for
each principle, where each is asked about by itself); vectors are not.

Which examples a question shows follows from the prompt, K, the embedder and the pool that is chosen from, so a
judgement's id digests these, and is known before anything is embedded. The order of a pool means nothing.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from prefkit.errors import RunError
from prefkit.models.asking import AskSettings, known_models, loop_factory, refuse_unscrubbed
from prefkit.models.batches import refuse_under_way
from prefkit.models.embeddings import Embedder, opened_embedder
from prefkit.models.held import Held
from prefkit.models.opening import key_of
from prefkit.records import Prompt, digest, prompt_text
from prefkit.rubric import Example, Rubric
from prefkit.rubric_files import load_examples
from prefkit.run import Run

if TYPE_CHECKING:
    from prefkit.judging.stage import JudgeQuestions

DECIMALS = 6
"""Cosines are compared to this many; among equals the order of the texts decides."""

Keys = NDArray[np.int64]
"""Hashes of prompts' ids, sorted."""


class NearestExamples:
    """Which examples are shown with which prompt.

    Args:
        rubric: whose examples are chosen from.
        asked: for each question about a case the principles that it asks about, all where it is empty.
        count: how many examples a question shows.
        embedder: the name of the model that gives embeddings.
        file: further examples, for every question.

    Raises:
        RubricError: the file is broken.
        RunError: there are too few examples to choose from.
    """

    def __init__(
        self, rubric: Rubric, asked: Sequence[tuple[str, ...]], count: int, embedder: str, file: Path | None = None
    ) -> None:
        self.embedder = embedder
        self.count = count
        more = load_examples(file) if file else ()
        pools = [_pool(rubric, names, more) for names in asked]
        for names, pool in zip(asked, pools, strict=True):
            if len(pool) < count:
                raise _too_few(rubric, names, len(pool), count, file)
        self.examples = sorted(set().union(*pools), key=msgspec.structs.astuple)
        """All that can be chosen, each once."""
        place = {example: number for number, example in enumerate(self.examples)}
        self._pools = [np.array(sorted(place[example] for example in pool)) for pool in pools]
        self.digests = tuple(
            digest("nearest examples", count, embedder, [msgspec.structs.astuple(self.examples[one]) for one in pool])
            for pool in self._pools
        )
        """For each question about a case what its judgement's id says of its examples."""
        self._keys: Keys = np.empty(0, np.int64)
        self._chosen = np.empty((0, len(pools), count), np.uint32)
        self._alike: list[NDArray[np.intp]] | None = None

    def of(self, prompt: Prompt, question: int) -> tuple[Example, ...]:
        """The examples that a question about a prompt shows, by the number of the question.

        Raises:
            RunError: none were chosen for this prompt.
        """
        if self._alike is not None:
            return tuple(self.examples[one] for one in self._alike[question])
        at = self._place(prompt)
        if at is None:
            remedy = "Run the same command again."
            raise RunError(prompt.id, "no examples chosen", "a run that nothing else changes meanwhile", remedy)
        return tuple(self.examples[one] for one in self._chosen[at, question])

    def take_longest(self) -> None:
        """Show the longest examples with every prompt, to know the most that questions take."""
        sizes = np.array([sum(len(text.encode()) for text in msgspec.structs.astuple(one)) for one in self.examples])
        self._alike = [pool[np.argsort(-sizes[pool], kind="stable")[: self.count]] for pool in self._pools]

    async def choose(
        self, prompts: Iterable[Prompt], keys: Keys, embedder: Embedder, progress: Callable[[int], None]
    ) -> None:
        """Embed the prompts that ``keys`` name, and keep the places of the nearest examples of each."""
        self._keys = keys
        self._chosen = np.zeros((len(keys), len(self._pools), self.count), np.uint32)
        pool = (await _embedded([example.prompt for example in self.examples], embedder)).T
        wanted = ((at, prompt) for prompt in prompts if (at := self._place(prompt)) is not None)
        while some := list(itertools.islice(wanted, embedder.block)):
            vectors = await embedder.embed([prompt_text(prompt.messages) for _, prompt in some])
            nearness = np.round(vectors @ pool, DECIMALS)
            places = [at for at, _ in some]
            for question, part in enumerate(self._pools):
                order = np.argsort(-nearness[:, part], axis=1, kind="stable")
                self._chosen[places, question] = part[order[:, : self.count]]
            progress(len(some))

    def _place(self, prompt: Prompt) -> int | None:
        key = hash(prompt.id)
        at = int(np.searchsorted(self._keys, key))
        return at if at < len(self._keys) and self._keys[at] == key else None


async def _embedded(texts: Sequence[str], embedder: Embedder) -> NDArray[np.float32]:
    blocks = [texts[start : start + embedder.block] for start in range(0, len(texts), embedder.block)]
    return np.concatenate([await embedder.embed(block) for block in blocks])


def _pool(rubric: Rubric, asked: tuple[str, ...], more: Iterable[Example]) -> set[Example]:
    own = (one for principle in rubric.principles if not asked or principle.id in asked for one in principle.examples)
    return {
        Example(**{name: text.strip() for name, text in msgspec.structs.asdict(one).items()})
        for one in itertools.chain(own, more)
    }


def _too_few(rubric: Rubric, asked: tuple[str, ...], there: int, count: int, file: Path | None) -> RunError:
    about = f" for {', '.join(asked)}" if asked else ""
    found = f"{there or 'no'} contrast example{'s' * (there != 1)}{about} in the rubric {rubric.id}"
    found += f" and {file.name}" if file else ""
    remedy = f"{'Add some to' if file else 'Give more with'} --examples {file or 'FILE'}"
    remedy += f", or ask for {there} at most." if there else ", or leave --nearest-examples out."
    return RunError("--nearest-examples", found, f"{count} or more to choose from", remedy)


def choose_examples(
    run: Run, questions: JudgeQuestions, settings: AskSettings, opened_bar: Callable[[int], Callable[[int], None]]
) -> tuple[int, int]:
    """Choose the examples for all questions that the run holds no answer to.

    Args:
        run: the run.
        questions: made with ``nearest_examples``.
        settings: who is asked, and how.
        opened_bar: called with the number of prompts to embed, gives what is called with each further number done.

    Returns:
        How many prompts and how many examples were embedded, none where everything is answered.

    Raises:
        PrefkitError: a model is not known, a key is missing, texts are not scrubbed, or the embedder does not answer.
    """
    nearest = questions.nearest
    assert nearest is not None
    judges = known_models(run, settings.models)
    (embedder,) = known_models(run, [nearest.embedder])
    refuse_unscrubbed(run, questions, [*judges, embedder], settings)
    if settings.batch is None:
        refuse_under_way(run, questions, settings)
    for judge in judges:
        key_of(judge)
    keys = questions.unanswered([judge.as_model() for judge in judges], Held.of(run.path / questions.file))
    if not len(keys):
        return 0, 0

    async def choose() -> None:
        async with opened_embedder(embedder, settings.limits) as opened:
            await nearest.choose(run.prompts(), keys, opened, opened_bar(len(keys)))

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(choose())
    return len(keys), len(nearest.examples)
