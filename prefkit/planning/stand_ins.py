"""Answers that are not there yet, so that the questions about them can be counted.

Reads   prompts and responses of a run
Writes  a run of its own in a temporary folder, which is gone afterwards

A stand-in has the id that the answer will have, and the words of an answer that the run holds: by the same policy where
it has any, else by any policy. Which one is decided by the id.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import msgspec

from prefkit.generating.stage import GenerateQuestions
from prefkit.models.chat import Model, Reply
from prefkit.models.held import Held
from prefkit.records import Prompt, Response, Usage
from prefkit.run import Run

_decode = msgspec.json.Decoder(Response).decode


class StandIns:
    """The answers to come; ``count``, and the bytes of their texts and lines, are known when they were gone through.

    Args:
        questions: what is asked of policies, each with the models that it is asked of.
        held: the ids of the answers that are there.
        texts: by policy; at least one is there.
    """

    def __init__(
        self,
        questions: Sequence[tuple[GenerateQuestions, Sequence[Model]]],
        held: Held,
        texts: Mapping[str, Sequence[str]],
    ) -> None:
        self._questions = questions
        self._held = held
        self._texts = texts
        self._all = [text for some in texts.values() for text in some]
        self.count = 0
        self.line_bytes = 0
        self.text_bytes = 0

    def __iter__(self) -> Iterator[Response]:
        self.count = self.line_bytes = self.text_bytes = 0
        for questions, models in self._questions:
            for model in models:
                for task in questions.tasks(model, self._held):
                    if task is not None:
                        yield self._made(task.receive(Reply("x", "stop"), None), model)

    def _made(self, line: object, model: Model) -> Response:
        assert isinstance(line, bytes), "an answer is never asked for twice"
        response = _decode(line)
        texts = self._texts.get(model.name) or self._all
        text = texts[int(response.id[:8], 16) % len(texts)]
        size = len(text.encode())
        usage = Usage(prompt=size, completion=size, cost=0.000123 if model.price else None)
        made = msgspec.structs.replace(response, text=text, marks=(), usage=usage)
        self.count += 1
        self.line_bytes += len(msgspec.json.encode(made)) + 1
        self.text_bytes += size
        return made


@contextmanager
def with_stand_ins(run: Run, stand_ins: StandIns) -> Iterator[Run]:
    """The run as it will be when all its policies have answered."""
    with tempfile.TemporaryDirectory(prefix="prefkit-plan-") as folder:
        copy = Run.create(Path(folder) / "run", run.rubric)
        copy.replace(Prompt, run.prompts())
        copy.replace(Response, chain(run.responses(), stand_ins))
        yield copy
