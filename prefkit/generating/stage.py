"""Policies answer a run's prompts.

Reads   prompts, and the ids of the responses that are there
Writes  responses.jsonl, a Response as each answer comes

A response's id digests prompt, policy, number of the sample, and how it was asked: sampling settings, system prompt,
length. It is known before the policy is asked; asking again with the same settings asks what is missing, more samples
ask only the new ones, other settings ask everything anew. Excluded prompts are passed over. A policy's thinking is
taken off its answer, and what makes an answer unfit is marked; nothing is thrown away.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from prefkit.errors import RunError
from prefkit.generating.assigning import hands
from prefkit.generating.settings import GenerateSettings, has_own_setting
from prefkit.marking import marks_of, spoken
from prefkit.models.chat import Model, Reply, Request, Sampling, Task
from prefkit.models.held import Held
from prefkit.records import Message, Prompt, Response, Usage, digest, response_id
from prefkit.run import Run


class GenerateQuestions:
    """All that is asked of the policies of a run.

    Args:
        run: the run.
        policies: the names of all of them; with ``assign`` they are what is drawn from.
        settings: how they are asked.
        dealt: which of the policies answer each prompt; for a run that is a part of a larger one, as ``assign`` deals
            them out over all.

    Raises:
        RunError: there is no prompt to answer.
        ValueError: more policies are to be drawn than there are.
    """

    stage = "generate"
    file = "responses.jsonl"
    noun = "responses"
    title = "generate"

    def __init__(
        self,
        run: Run,
        policies: Sequence[str],
        settings: GenerateSettings,
        dealt: Sequence[Sequence[str]] | None = None,
    ) -> None:
        self._run = run
        self._policies = tuple(policies)
        self._settings = settings
        self._hands = dealt
        self.excluded = 0
        """Prompts that are passed over."""
        self.unscrubbed = 0
        self.marked: Counter[str] = Counter()
        """Marks of the answers that came in this round."""
        self._prompts_of: Counter[str] = Counter()
        self._count()

    def _count(self) -> None:
        for prompt, hand in self._dealt():
            if prompt.excluded is not None:
                self.excluded += 1
            else:
                self.unscrubbed += not prompt.scrubbed
                self._prompts_of.update(hand)
        if not self._prompts_of:
            found = f"{self.excluded:,} prompts, all excluded" if self.excluded else "no prompts"
            remedy = f"prefkit import prompts {self._run.path} FILE"
            if self.excluded:
                remedy = f"Screen them with other settings: prefkit screen {self._run.path} --help"
            raise RunError(self._run.path, found, "prompts to answer", remedy)

    def _dealt(self) -> Iterator[tuple[Prompt, Sequence[str]]]:
        """The prompts with the policies that answer them, excluded ones too, up to the last that is asked."""
        settings = self._settings
        if self._hands is not None:
            dealt: Iterator[Sequence[str]] = iter(self._hands)
        elif settings.assign is None:
            dealt = itertools.repeat(self._policies)
        else:
            dealt = hands(self._policies, settings.assign, settings.seed or 0)
        asked = 0
        for prompt, hand in zip(self._run.prompts(), dealt, strict=False):
            if asked == settings.prompts:
                return
            asked += prompt.excluded is None
            yield prompt, hand

    def total(self, model: Model) -> int:
        """How many answers are wanted of a policy."""
        return self._prompts_of[model.name] * self._settings.samples

    def tasks(self, model: Model, held: Held) -> Iterator[Task | None]:
        """What a policy is asked, prompt by prompt; None for what the run holds an answer to."""
        settings = self._settings
        samplings = [settings.sampling(model.sampling, sample) for sample in range(settings.samples)]
        drawn = [msgspec.to_builtins(sampling) for sampling in samplings]
        for prompt, hand in self._dealt():
            if prompt.excluded is not None or model.name not in hand:
                continue
            said = self._said(prompt)
            for sample, sampling in enumerate(samplings):
                asked = {**drawn[sample], **said}
                name = response_id(prompt.id, model.name, asked, sample)
                if name in held:
                    yield None
                else:
                    empty = Response(
                        id=name, prompt_id=prompt.id, policy=model.name, text=None, sample=sample, sampling=asked
                    )
                    yield GenerateTask(empty, settings.messages(prompt), sampling, self.marked)

    def _said(self, prompt: Prompt) -> dict[str, Any]:
        """What the settings add to the words of a prompt, for the id."""
        said: dict[str, Any] = {}
        if self._settings.system is not None and not has_own_setting(prompt):
            said["system"] = digest(self._settings.system)
        if self._settings.words is not None:
            said["words"] = self._settings.words
        return said

    def facts(self) -> dict[str, Any]:
        """The settings, for ``run.json``; ``systems`` are the system prompts of this and earlier rounds by digest."""
        rounds = [facts for name, facts in self._run.info.stages.items() if name.startswith(self.title)]
        systems = {name: text for facts in rounds for name, text in facts.get("systems", {}).items()}
        if self._settings.system is not None:
            systems[digest(self._settings.system)] = self._settings.system
        drawn_from = sorted(self._policies) if self._settings.assign else []
        return {"settings": asdict(self._settings), "systems": systems, "drawn_from": drawn_from}


class GenerateTask:
    """One answer that is wanted: the response without its text, until it comes."""

    __slots__ = ("_marked", "_messages", "_response", "_sampling", "id")

    def __init__(
        self, response: Response, messages: tuple[Message, ...], sampling: Sampling, marked: Counter[str]
    ) -> None:
        self.id = response.id
        self._response = response
        self._messages = messages
        self._sampling = sampling
        self._marked = marked

    @property
    def topic(self) -> str:
        """What it is about, by ids."""
        return f"response to {self._response.prompt_id} by {self._response.policy}"

    def request(self) -> Request:
        """The prompt, as the policy is shown it."""
        return Request(self._messages, self._sampling)

    def receive(self, reply: Reply, usage: Usage | None) -> bytes:
        """The response with its marks."""
        text, thought_to_the_end = spoken(reply.text)
        marks = marks_of(text, reply.finish if thought_to_the_end else "length")
        self._marked.update(marks)
        response = msgspec.structs.replace(self._response, text=text, finish=reply.finish, marks=marks, usage=usage)
        return msgspec.json.encode(response) + b"\n"
