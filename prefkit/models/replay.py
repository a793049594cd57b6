"""Answers kept in a file, and given again: for reports, for tests, and for reading twice what was paid once.

Reads and writes   a JSONL file, a line for each reply: what was asked (a digest, no words), the seed, the reply

The same question may stand there several times, as samples do: its replies are given in turn, first those that were
asked for with the same seed. What was not recorded fails, and so does a question that is asked more often than it was
recorded: a reply given twice would pass for two.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import msgspec

from prefkit.durable import Appender, mend_last_line, read_lines
from prefkit.errors import InputError
from prefkit.models.chat import CallFailed, Endpoint, Reply, Request
from prefkit.records import Message, digest


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A line of the file."""

    asked: str
    reply: Reply
    seed: int | None = None


def asked(messages: Sequence[Message]) -> str:
    """The digest of a question."""
    return digest("asked", [(message.role, message.content) for message in messages])


class Recorder:
    """An endpoint that keeps what another one replies, a line as each reply comes.

    ``with recorder:`` opens the file. Only replies are kept, no failures and no words of the question.
    """

    def __init__(self, endpoint: Endpoint, path: Path) -> None:
        self.most = endpoint.most
        self.notes = endpoint.notes
        self._endpoint = endpoint
        self._path = path
        self._file = Appender(path)

    def __enter__(self) -> Self:
        mend_last_line(self._path)
        self._file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

    async def ask(self, request: Request) -> Reply:
        """Ask the other endpoint, and keep its reply."""
        reply = await self._endpoint.ask(request)
        line = Answer(asked(request.messages), reply, request.sampling.seed)
        self._file.append(msgspec.json.encode(line) + b"\n")
        return reply


class ReplayEndpoint:
    """An endpoint that answers from a file; memory grows with the file.

    Raises:
        InputError: the file is missing, or a line of it is no answer.
    """

    def __init__(self, path: Path) -> None:
        self.most: int | None = None
        self.notes: dict[str, str] = {}
        self._left: dict[str, list[Answer]] = {}
        if not path.is_file():
            remedy = "Record some: an entry of models.yaml with `record: FILE` keeps its replies there."
            raise InputError(path, "no such file", "answers recorded earlier", remedy)
        decoder = msgspec.json.Decoder(Answer)
        for number, line in read_lines(path):
            try:
                answer = decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                found = str(error).partition(" - at")[0].lower()
                expected = "a line that `record:` wrote, with asked and reply"
                raise InputError(f"{path}:{number}", found, expected, "Remove the line, or record anew.") from None
            self._left.setdefault(answer.asked, []).append(answer)

    async def ask(self, request: Request) -> Reply:
        """Give the next reply to a question.

        Raises:
            CallFailed: there is none (any more).
        """
        left = self._left.get(asked(request.messages))
        if not left:
            raise CallFailed("not recorded")
        same = (place for place, answer in enumerate(left) if answer.seed == request.sampling.seed)
        return left.pop(next(same, 0)).reply
