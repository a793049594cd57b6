"""A vote in a chat, kept as a comparison.

Reads     the ids in prompts.jsonl and responses.jsonl
Appends   prompts.jsonl, responses.jsonl, judgements.jsonl

The prompt is the dialogue up to the user's last words, which both policies were given; the two responses are what they
said to it, in the order shown, by the run's rubric. Words of a chat are as private as any: they are
not scrubbed. Importing a prompt or asking again adds nothing twice: ids digest what was asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from prefkit.errors import RunError
from prefkit.records import (
    Comparison,
    Judgement,
    Message,
    Prompt,
    Response,
    Winner,
    judgement_id,
    prompt_id,
    response_id,
)
from prefkit.run import Run


@dataclass(frozen=True)
class Shown:
    """An answer as it was shown: of which policy, its words, why it ended."""

    policy: str
    text: str
    finish: str


class Votes:
    """The votes of one person, going into a run.

    Args:
        run: it is held only while a vote is written.
        annotator: ``human:`` and the person's pseudonym.

    Raises:
        RunError: the run's records are in Parquet.
    """

    def __init__(self, run: Run, annotator: str) -> None:
        for record in (Prompt, Response, Judgement):
            path = run.file(record)
            if path is not None and path.suffix == ".parquet":
                raise RunError(path, "Parquet, which is only read", "a JSONL file", "Write it as JSONL first.")
        self._run = run
        self._annotator = annotator
        self._prompts = {prompt.id for prompt in run.prompts()}
        self._texts = {response.id: response.text for response in run.responses()}
        self._votes = {judgement.id for judgement in run.judgements()}

    def keep(
        self,
        messages: Sequence[Message],
        a: Shown,
        b: Shown,
        winner: Winner,
        sampling: Mapping[str, Any],
        *,
        blind: bool,
        seconds: float,
    ) -> str:
        """Append a vote with what it is about; return its id.

        Args:
            messages: the dialogue that both were given.
            a, b: the answers as shown.
            winner: the vote.
            sampling: how the words were drawn.
            blind: whether the names were hidden.
            seconds: that the person took.

        Raises:
            RunError: the run is in use, or the disk is full; then nothing of the vote is kept.
        """
        prompt = Prompt(id=prompt_id(messages), messages=tuple(messages))
        first, second = (self._response(prompt.id, shown, sampling) for shown in (a, b))
        rubric = self._run.info.rubric
        question = ["chat", rubric, [first.id, first.text], [second.id, second.text], blind]
        sample = 0
        while (vote := judgement_id(self._annotator, question, sample)) in self._votes:
            sample += 1
        judgement = Comparison(
            id=vote, annotator=self._annotator, prompt_id=prompt.id, rubric=rubric, sample=sample, a=first.id,
            b=second.id, winner=winner, flags=("chat", "blind") if blind else ("chat",), seconds=round(seconds, 1),
        )  # fmt: skip
        fresh = [one for one in (first, second) if one.id not in self._texts]
        with self._run.writing("chat"), self._run.at_once():
            if prompt.id not in self._prompts:
                self._run.append(Prompt, [_line(prompt)])
            if fresh:
                self._run.append(Response, map(_line, fresh))
            self._run.append(Judgement, [_line(judgement)])
        self._prompts.add(prompt.id)
        self._texts.update((one.id, one.text) for one in fresh)
        self._votes.add(vote)
        return vote

    def _response(self, prompt: str, shown: Shown, sampling: Mapping[str, Any]) -> Response:
        """The record of an answer: the one that is there where it says the same, else the next sample."""
        sample = 0
        while True:
            id = response_id(prompt, shown.policy, sampling, sample)
            if self._texts.get(id, shown.text) == shown.text:
                return Response(
                    id=id, prompt_id=prompt, policy=shown.policy, text=shown.text, sample=sample,
                    sampling=dict(sampling), finish=shown.finish,
                )  # fmt: skip
            sample += 1


def _line(record: Any) -> bytes:
    return msgspec.json.encode(record) + b"\n"
