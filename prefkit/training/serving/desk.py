"""What waits to be scored, read together.

Reads groups and whole texts from many requests at once; gives each its rewards and the tokens that were read.

While the model computes, requests wait; what waits is then read together, responses to one prompt as one group,
whoever sent them. A request that the model refuses fails alone; one whose client has gone is not read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from prefkit.records import Message
from prefkit.training.groups import Group, Rewards
from prefkit.training.reward_model import RewardModel

TOGETHER = 256
"""Responses that are read together at most."""
WAITING = 16_384
"""Responses that may wait; then clients are told to come back."""


class Refused(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        message: why, for the client.
    """

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(message)


@dataclass(eq=False)
class _Asked:
    """One thing to score, and who waits for it: a group, or whole texts where ``group`` is None."""

    group: Group | None
    texts: tuple[str, ...]
    answer: asyncio.Future[tuple[Rewards, int]] = field(repr=False)

    @property
    def size(self) -> int:
        return len(self.texts)


class Desk:
    """Takes what is to be scored, and has the model read together what waits.

    Args:
        model: asked by one thread at a time.
    """

    def __init__(self, model: RewardModel) -> None:
        self._model = model
        self._waiting: deque[_Asked] = deque()
        self._size = 0
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "reward-model")
        self._closing = False

    async def ask(self, group: Group) -> tuple[Rewards, int]:
        """The rewards of a group's responses, and the tokens read."""
        return await self._wait(_Asked(group, group.texts, asyncio.get_running_loop().create_future()))

    async def ask_texts(self, texts: Sequence[str]) -> tuple[Rewards, int]:
        """The rewards of whole texts, and the tokens read."""
        return await self._wait(_Asked(None, tuple(texts), asyncio.get_running_loop().create_future()))

    async def _wait(self, asked: _Asked) -> tuple[Rewards, int]:
        if self._closing:
            raise Refused(503, "The server is stopping.")
        if self._waiting and self._size + asked.size > WAITING:
            raise Refused(503, f"More than {WAITING:,} responses wait already: ask again later.")
        self._waiting.append(asked)
        self._size += asked.size
        self._arrived.set()
        return await asked.answer

    async def work(self) -> None:
        """Answer until closed and nothing waits."""
        loop = asyncio.get_running_loop()
        while self._waiting or not self._closing:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            batch = self._next()
            if not batch:
                continue
            found = await loop.run_in_executor(self._thread, self._answers, batch)
            for asked, answer in zip(batch, found, strict=True):
                if asked.answer.done():
                    continue
                if isinstance(answer, Exception):
                    asked.answer.set_exception(answer)
                else:
                    asked.answer.set_result(answer)
        self._thread.shutdown()

    def close(self) -> None:
        """Take nothing more."""
        self._closing = True
        self._arrived.set()

    def _next(self) -> list[_Asked]:
        """What is read together next; clients that are gone are forgotten."""
        batch: list[_Asked] = []
        size = 0
        while self._waiting and (not batch or size + self._waiting[0].size <= TOGETHER):
            asked = self._waiting.popleft()
            self._size -= asked.size
            if not asked.answer.done():
                batch.append(asked)
                size += asked.size
        return batch

    def _answers(self, batch: Sequence[_Asked]) -> list[tuple[Rewards, int] | Exception]:
        """For each its rewards; where the model refuses, each is asked alone to find out which it was."""
        try:
            return list(self._read(batch))
        except Exception as error:  # noqa: BLE001  a fault of one request, or of the model: neither ends the server
            if len(batch) == 1:
                return [error]
            return [answer for asked in batch for answer in self._answers([asked])]

    def _read(self, batch: Sequence[_Asked]) -> list[tuple[Rewards, int]]:
        whole = [text for asked in batch if asked.group is None for text in asked.texts]
        texts = iter(list(self._model.texts(whole)) if whole else [])
        groups = [asked.group for asked in batch if asked.group is not None]
        joined = _joined(groups)
        counted = dict(zip(joined, self._model.counted(list(joined.values())), strict=True))
        used: dict[tuple[Message, ...], int] = dict.fromkeys(joined, 0)
        found = []
        for asked in batch:
            if asked.group is None:
                rows = [next(texts) for _ in asked.texts]
                found.append((np.concatenate([row for row, _ in rows]), sum(tokens for _, tokens in rows)))
                continue
            messages = asked.group.messages
            rewards, tokens = counted[messages]
            start = used[messages]
            used[messages] += asked.size
            share = round(tokens * asked.size / len(rewards))
            found.append((rewards[start : start + asked.size], share))
        return found


def _joined(groups: Sequence[Group]) -> dict[tuple[Message, ...], Group]:
    """The groups of each prompt as one."""
    together: dict[tuple[Message, ...], list[str]] = {}
    for group in groups:
        together.setdefault(group.messages, []).extend(group.texts)
    return {
        messages: Group(
            prompt_id="the request",
            messages=messages,
            response_ids=tuple(map(str, range(len(texts)))),
            texts=tuple(texts),
            policies=("",) * len(texts),
        )
        for messages, texts in together.items()
    }
