"""The questions about a block of prompts, made as the local engine makes those of a run; how many there are.

Reads   parts of prompts, and responses in the order of their prompts
Gives   the stages' own questions, and what must be known of all blocks before anything is asked
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from prefkit.cluster.blocks import PromptBlock, read_prompts, read_responses, small_run
from prefkit.errors import RunError
from prefkit.generating.assigning import hands
from prefkit.generating.settings import GenerateSettings
from prefkit.generating.stage import GenerateQuestions
from prefkit.judging.settings import JudgeSettings
from prefkit.judging.stage import JudgeQuestions, check_judged
from prefkit.models.chat import Model
from prefkit.parts import Parts
from prefkit.run import Run


@dataclass(frozen=True)
class Found:
    """The questions about a block; ``asked`` are the places of the prompts that are asked about."""

    questions: GenerateQuestions | JudgeQuestions | None
    asked: list[int]


class AskedAbout(Protocol):
    """How the questions about a block are made; can be pickled."""

    stage: str
    kind: str
    noun: str
    settings: Any

    def opened(self, block: PromptBlock) -> contextlib.AbstractContextManager[Found]:
        """The questions about a block, which last as long as what is opened."""
        ...

    def check(self, run: Run, surveys: Sequence[Survey]) -> None:
        """Find fault with a run in which there is nothing to ask.

        Raises:
            RunError: there is nothing.
        """
        ...


@dataclass
class Generating:
    """What policies are asked about the prompts of a block.

    Args:
        info: what ``run.json`` holds.
        prompts: all of the run's.
        policies, settings: of the stage.
    """

    info: bytes
    prompts: Parts
    policies: tuple[str, ...]
    settings: GenerateSettings
    stage = "generate"
    kind = noun = "responses"
    _dealer: tuple[int, Iterator[tuple[str, ...]]] | None = None

    @contextlib.contextmanager
    def opened(self, block: PromptBlock) -> Iterator[Found]:
        """See ``AskedAbout``."""
        prompts = read_prompts(self.prompts, block)
        dealt = self._dealt(block.first, len(prompts))
        asked = [place for place, prompt in enumerate(prompts) if prompt.excluded is None]
        settings = dataclasses.replace(self.settings, prompts=None)
        with small_run(self.info, prompts, ()) as run:
            yield Found(GenerateQuestions(run, self.policies, settings, dealt) if asked else None, asked)

    def _dealt(self, first: int, count: int) -> list[Sequence[str]]:
        """Who answers some prompts. They are dealt out one after the other, so a worker goes on from its last block."""
        if self.settings.assign is None:
            return [self.policies] * count
        if self._dealer is None or self._dealer[0] > first:
            self._dealer = 0, hands(self.policies, self.settings.assign, self.settings.seed or 0)
        at, dealer = self._dealer
        for _ in range(first - at):
            next(dealer)
        self._dealer = first + count, dealer
        return [next(dealer) for _ in range(count)]

    def check(self, run: Run, surveys: Sequence[Survey]) -> None:
        """See ``AskedAbout``."""
        if any(one.asked.any() for one in surveys):
            return
        excluded = sum(one.excluded for one in surveys)
        found = f"{excluded:,} prompts, all excluded" if excluded else "no prompts"
        remedy = f"prefkit import prompts {run.path} FILE"
        if excluded:
            remedy = f"Screen them with other settings: prefkit screen {run.path} --help"
        raise RunError(run.path, found, "prompts to answer", remedy)


@dataclass
class Judging:
    """What judges are asked about the responses of a block.

    Args:
        info: what ``run.json`` holds.
        prompts: all of the run's.
        responses: in the order of their prompts.
        settings: of the stage.
    """

    info: bytes
    prompts: Parts
    responses: Parts
    settings: JudgeSettings
    stage = "judge"
    kind = noun = "judgements"

    @contextlib.contextmanager
    def opened(self, block: PromptBlock) -> Iterator[Found]:
        """See ``AskedAbout``."""
        prompts = read_prompts(self.prompts, block)
        responses = read_responses(self.responses, block)
        if not responses:
            yield Found(None, [])
            return
        counted = [place for place, prompt in enumerate(prompts) if prompt.excluded is None]
        settings = dataclasses.replace(self.settings, prompts=None)
        with small_run(self.info, prompts, responses) as run:
            questions = JudgeQuestions(run, settings, part=True)
            yield Found(questions, [counted[number] for number in questions.asked_about])

    def check(self, run: Run, surveys: Sequence[Survey]) -> None:
        """See ``AskedAbout``."""
        policies = {name for one in surveys for name in one.policies}
        check_judged(run, self.settings, policies, sum(int(one.asked.sum()) for one in surveys))


@dataclass(frozen=True)
class Survey:
    """What there is to ask about a block.

    Args:
        number: of the block.
        asked: which of its prompts are asked about, [prompts].
        totals: how many questions to each model.
        unscrubbed, excluded, without_text: see the stages.
        policies: whose responses there are.
    """

    number: int
    asked: np.ndarray[tuple[int], np.dtype[np.bool_]]
    totals: dict[str, int]
    unscrubbed: int = 0
    excluded: int = 0
    without_text: int = 0
    policies: frozenset[str] = frozenset()


def survey(asked: AskedAbout, models: Sequence[Model], block: PromptBlock) -> Survey:
    """What there is to ask some models about a block."""
    marks = np.zeros(block.prompts.count, bool)
    with asked.opened(block) as found:
        marks[found.asked] = True
        questions = found.questions
        if questions is None:
            excluded = block.prompts.count if isinstance(asked, Generating) else 0
            return Survey(block.number, marks, {}, excluded=excluded)
        return Survey(
            block.number,
            marks,
            {model.name: questions.total(model) for model in models},
            questions.unscrubbed,
            getattr(questions, "excluded", 0),
            getattr(questions, "without_text", 0),
            frozenset(getattr(questions, "policies", ())),
        )
