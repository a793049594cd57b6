"""The words of items, looked up by id, from the run or from what was made beside it.

Reads   prompts.jsonl, responses.jsonl (or .parquet), annotation/attention.jsonl

Texts stay on disk until they are asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from prefkit.annotation.items import FOLDER
from prefkit.by_prompt import ByPrompt
from prefkit.durable import read_lines
from prefkit.errors import RecordError, RunError
from prefkit.records import Message, Prompt, Record, digest, prompt_id
from prefkit.run import Run

MADE = f"{FOLDER}/attention.jsonl"


class Made(Record, frozen=True, kw_only=True):
    """An attention item that somebody wrote: it is in no other file of the run."""

    messages: tuple[Message, ...]
    good: str
    bad: str

    @property
    def prompt(self) -> Prompt:
        """What the client says in it."""
        return Prompt(id=prompt_id(self.messages, "attention"), messages=self.messages, scrubbed=True)

    @property
    def responses(self) -> tuple[str, str]:
        """The ids of the good answer and of the bad one."""
        return digest("attention", self.prompt.id, self.good), digest("attention", self.prompt.id, self.bad)


def made_texts(run: Run) -> dict[str, Made]:
    """The attention items of a run that somebody wrote, by prompt id.

    Raises:
        RecordError: a line is not one.
    """
    path = run.path / MADE
    found = {}
    for number, line in read_lines(path) if path.exists() else ():
        try:
            made = msgspec.json.decode(line, type=Made)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            remedy = "prefkit wrote this file; take it from a backup."
            raise RecordError(f"{MADE}:{number}", str(error), "an attention item", remedy) from None
        found[made.prompt.id] = made
    return found


class Texts:
    """Prompts and responses by id.

    Args:
        run: the run.
        responses: the ids of those that are wanted; their prompts come with them.
        made: attention items that are not in the run.

    Raises:
        RunError: a response is not there any more, or has no text.
    """

    def __init__(self, run: Run, responses: Collection[str], made: Collection[Made] = ()) -> None:
        self._run = run
        wanted = set(responses)
        self._of_run = ByPrompt(run, lambda response: response.id in wanted)
        self._number: dict[str, int] = {}
        self._place: dict[str, int] = {}
        self._prompts: dict[str, Prompt] = {}
        self._texts: dict[str, str] = {}
        self.unscrubbed = 0
        """Texts that were not scrubbed."""
        self._look()
        for one in made:
            self._prompts[one.prompt.id] = one.prompt
            self._texts.update(zip(one.responses, (one.good, one.bad), strict=True))

    def _look(self) -> None:
        for number in self._of_run.counts.nonzero()[0].tolist():
            prompt = self._of_run.prompt(number)
            self._number[prompt.id] = number
            self.unscrubbed += not prompt.scrubbed
            for place in self._of_run.places(number):
                response = self._of_run.response(place)
                self._place[response.id] = place
                self.unscrubbed += not response.scrubbed

    @property
    def policies(self) -> list[str]:
        """Whose responses they are."""
        return self._of_run.policies

    def prompt(self, name: str) -> Prompt:
        """A prompt."""
        if name in self._prompts:
            return self._prompts[name]
        if name not in self._number:
            raise self._gone("prompt", name)
        return self._of_run.prompt(self._number[name])

    def text(self, name: str) -> str:
        """The text of a response."""
        if name in self._texts:
            return self._texts[name]
        text = self._of_run.response(self._place[name]).text if name in self._place else None
        if text is None:
            raise self._gone("response", name)
        return text

    def policy(self, name: str) -> str:
        """Whose a response is."""
        if name not in self._place:
            raise self._gone("response", name)
        return self._of_run.policy(self._place[name])

    def _gone(self, what: str, name: str) -> RunError:
        remedy = "People were asked about it: take its file from a backup, or import it again."
        return RunError(self._run.path, f"no text of the {what} {name}", "the one that is asked about", remedy)


def messages_of(text: str) -> tuple[Message, ...]:
    """A client's words as a prompt."""
    return (Message(role="user", content=text),)


def as_lines(made: Collection[Made]) -> Iterator[bytes]:
    """Attention items as lines of their file."""
    for one in made:
        yield msgspec.json.encode(one) + b"\n"
