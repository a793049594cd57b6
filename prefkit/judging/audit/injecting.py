"""Asking a judge about responses with injected instructions.

Reads   prompts, responses, judgements; audit/injections.jsonl, for what is answered already
Writes  audit/injections.jsonl, a line as each answer comes; nothing else of the run

The questions are those of ``prefkit judge`` with its usual settings, the texts apart, and they go through the same
engine. Asked again, it asks what the file does not hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from prefkit.judging.audit.injections import (
    FILE,
    Case,
    Injected,
    Mode,
    Question,
    choose_cases,
    question_id,
    questions_about,
    top_score,
)
from prefkit.judging.parsing import read_comparison, read_rating
from prefkit.judging.questions import Form
from prefkit.judging.settings import JudgeSettings
from prefkit.models.chat import Model, Reply, Request, Sampling, Task
from prefkit.models.held import Held
from prefkit.records import Message, Usage, digest
from prefkit.rubric import Rubric
from prefkit.run import Run


@dataclass(frozen=True, kw_only=True)
class InjectSettings:
    """How many cases, drawn with which seed; ``rate`` asks for scores, ``compare`` which of two is better."""

    mode: Mode = "rate"
    cases: int = 20
    seed: int = 0


class InjectQuestions:
    """All questions to the judges; the cases are drawn for each."""

    stage = "audit"
    file = FILE
    noun = "answers"

    def __init__(self, run: Run, settings: InjectSettings, models: Sequence[str]) -> None:
        self._run = run
        self._settings = settings
        self.cases: dict[str, list[Case]] = {
            model: choose_cases(run, f"llm:{model}", settings.mode, settings.cases, settings.seed) for model in models
        }
        self.form = Form(rubric=run.rubric, mode=settings.mode, asked=run.rubric.principle_ids)
        self.unscrubbed = sum(case.unscrubbed for cases in self.cases.values() for case in cases)

    def total(self, model: Model) -> int:
        """How many questions there are for a judge."""
        return sum(1 for _ in self._questions(model.name))

    def tasks(self, model: Model, held: Held) -> Iterator[Task | None]:
        """The questions to a judge; None for one that has its answer."""
        sampling = JudgeSettings().sampling(model.sampling, 0)
        form = digest(self.form.digest, msgspec.to_builtins(sampling))
        asking = _Asking(f"llm:{model.name}", self._run.rubric, self.form, sampling, form)
        for question in self._questions(model.name):
            name = question_id(asking.annotator, form, question)
            yield None if name in held else InjectTask(name, question, asking)

    @property
    def title(self) -> str:
        """The name of this round in ``run.json``, to which the model's is added."""
        return f"audit, injections, {self._settings.mode}"

    def facts(self) -> dict[str, Any]:
        """The settings, for ``run.json``."""
        return {"settings": asdict(self._settings), "form": self.form.digest}

    def _questions(self, model: str) -> Iterator[Question]:
        for case in self.cases[model]:
            yield from questions_about(case, self._run.rubric, self._settings.mode)


@dataclass(frozen=True)
class _Asking:
    """What all questions to a judge share; ``digest`` is that of the form and the sampling."""

    annotator: str
    rubric: Rubric
    form: Form
    sampling: Sampling
    digest: str

    @property
    def mode(self) -> Mode:
        return "rate" if self.form.mode == "rate" else "compare"


class InjectTask:
    """One question: asked, repaired once if need be, read."""

    def __init__(self, name: str, question: Question, asking: _Asking) -> None:
        self.id = name
        self._question = question
        self._asking = asking
        self._messages: tuple[Message, ...] = ()
        self._repaired = False

    @property
    def topic(self) -> str:
        """What it is about, without anybody's words."""
        question = self._question
        return f"{question.variant} {question.attack or ''} in {question.case.prompt} by {self._asking.annotator}"

    def request(self) -> Request:
        """The question."""
        self._messages = self._asking.form.messages(self._question.case.messages, self._question.texts)
        return Request(self._messages, self._asking.sampling, self._asking.form.schema)

    def receive(self, reply: Reply, usage: Usage | None) -> bytes | Request:
        """The record, or a question to repair a reply that cannot be read."""
        score, failure = self._read(reply.text)
        if failure is not None and not self._repaired:
            self._repaired = True
            self._messages = (*self._messages, *self._asking.form.repair(reply.text, failure))
            return Request(self._messages, self._asking.sampling, self._asking.form.schema)
        case = self._question.case
        record = Injected(
            id=self.id,
            annotator=self._asking.annotator,
            rubric=self._asking.rubric.hash,
            form=self._asking.digest,
            mode=self._asking.mode,
            variant=self._question.variant,
            attack=self._question.attack,
            prompt_id=case.prompt,
            responses=tuple(response.id for response in case.responses),
            target=case.target,
            score=score,
            top=top_score(self._asking.rubric, self._asking.mode),
            failure=failure,
            reply=reply.text,
            usage=usage,
        )
        return msgspec.json.encode(record) + b"\n"

    def _read(self, reply: str) -> tuple[float | None, str | None]:
        if self._asking.mode == "rate":
            answer = read_rating(reply, self._asking.form.principles)
            scores = {name: score for name, score in answer.scores.items() if score is not None}
            whole = answer.failure is None and len(scores) == len(self._asking.form.principles)
            return (
                (self._asking.rubric.overall(scores), None) if whole else (None, answer.failure or "a score is missing")
            )
        verdict = read_comparison(reply, self._asking.form.principles)
        if verdict.winner is None:
            return None, verdict.failure or "no verdict"
        if verdict.winner == "tie":
            return 0.5, None
        return float(("a", "b").index(verdict.winner) == self._question.case.target), None
