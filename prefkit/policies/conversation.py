"""A conversation in the terminal with one policy, or with two side by side and a vote after each turn.

Reads   lines: what the user says, ``/new``, ``/system TEXT``, ``/quit``; after two answers ``a``, ``b``, ``tie`` or
        nothing
Writes  the answers as they come; votes, where a run takes them

Both policies are always given the same dialogue, so that a vote compares two answers to one prompt. It goes on with the
answer that was voted for; after a tie or no vote, with the first one shown. Blind, the order is drawn anew each turn,
and who was who is said at the end, in counts alone. Ctrl-C stops the answer that is being written, not the program.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prefkit.errors import PrefkitError
from prefkit.policies.talking import Drawing, Said, Talker
from prefkit.policies.voting import Shown, Votes
from prefkit.records import Message, Winner

Ask = Callable[[str], str | None]
"""Shows a prompt and gives the line that was typed; None at the end of the input."""
Write = Callable[[str], None]

HELP = "/new begins again, /system TEXT sets the setting and begins again, /quit leaves; Ctrl-C stops an answer"
_HARMLESS = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""Control characters, by which a text could command the terminal."""
VOTES: dict[str, Winner | None] = {"a": "a", "b": "b", "tie": "tie", "t": "tie", "skip": None, "s": None, "": None}


@dataclass
class Conversation:
    """What is said.

    Args:
        talkers: one or two.
        drawing: how words are drawn.
        ask: for a line.
        write: takes pieces of text.
        blind: whether names are hidden.
        votes: takes the votes; None where they are only counted.
        setting: the system prompt.
        shuffle: draws the order, blind.
    """

    talkers: Sequence[Talker]
    drawing: Drawing
    ask: Ask
    write: Write
    blind: bool = False
    votes: Votes | None = None
    setting: str | None = None
    shuffle: random.Random = field(default_factory=random.Random)
    _dialogue: list[Message] = field(default_factory=list)
    _turn: int = 0
    _tally: Counter[str] = field(default_factory=Counter)
    _left: bool = False

    def hold(self) -> None:
        """Talk until ``/quit`` or the end of the input."""
        self._begin()
        while not self._left:
            line = self._line("you> ")
            if line is None:
                break
            if line.startswith("/"):
                self._command(line)
            elif line.strip():
                self._answered(line.strip())
        self._say_tally()

    def _line(self, prompt: str) -> str | None:
        """A line; Ctrl-C at the prompt says how to leave."""
        while True:
            try:
                return self.ask(prompt)
            except KeyboardInterrupt:
                self.write("\n(/quit leaves)\n")

    def _begin(self) -> None:
        self._dialogue = [Message(role="system", content=self.setting)] if self.setting else []

    def _command(self, line: str) -> None:
        name, _, rest = line.strip().partition(" ")
        if name == "/quit":
            self._left = True
        elif name == "/new":
            self._begin()
            self.write("(a new conversation)\n")
        elif name == "/system":
            self.setting = rest.strip() or None
            self._begin()
            self.write(f"(a new conversation, {'with this' if self.setting else 'without a'} setting)\n")
        else:
            self.write(f"({HELP})\n")

    def _answered(self, words: str) -> None:
        """One turn: what each says to it, the vote, and how it goes on."""
        asked = [*self._dialogue, Message(role="user", content=words)]
        order = list(self.talkers)
        if self.blind:
            self.shuffle.shuffle(order)
        try:
            said = [self._written(talker, letter, asked) for letter, talker in zip("AB", order, strict=False)]
        except PrefkitError as error:
            self.write(f"({error})\n")
            return
        self._turn += 1
        kept: int | None = 0
        if len(order) == 2 and all(one.finish != "stopped" for one in said):
            shown = [Shown(talker.name, one.text, one.finish) for talker, one in zip(order, said, strict=True)]
            kept = self._voted(asked, shown)
        if kept is not None and said[kept].text.strip():
            self._dialogue = [*asked, Message(role="assistant", content=said[kept].text)]

    def _written(self, talker: Talker, letter: str, asked: Sequence[Message]) -> Said:
        """Let one answer, and show it as it comes."""
        if len(self.talkers) == 1:
            self.write(f"{talker.name}> ")
        else:
            self.write(f"{letter}> " if self.blind else f"{letter} ({talker.name})> ")
        words = talker.answer(asked, self.drawing, self._turn)
        try:
            for piece in words:
                self.write(piece.translate(_HARMLESS))
        except KeyboardInterrupt:
            words.close()  # type: ignore[attr-defined]
            self.write(" (stopped)")
        assert talker.said is not None
        self.write(" (cut off at --max-tokens)\n" if talker.said.finish == "length" else "\n")
        return talker.said

    def _voted(self, asked: Sequence[Message], shown: list[Shown]) -> int | None:
        """Ask which is better; the place of the answer to go on with, None where a command ended this dialogue."""
        since = time.monotonic()
        while True:
            line = (self._line("better? a, b, tie, or nothing> ") or "").strip()
            if line.lower() in VOTES:
                break
            if line.startswith("/"):
                self._command(line)
                return None
            self.write("(a, b, tie, or nothing to skip)\n")
        winner = VOTES[line.lower()]
        if winner is not None:
            self._count(asked, shown, winner, time.monotonic() - since)
        return 1 if winner == "b" else 0

    def _count(self, asked: Sequence[Message], shown: list[Shown], winner: Winner, seconds: float) -> None:
        """Count a vote, and keep it where a run takes it; one that cannot be kept is said, and not counted."""
        if self.votes is not None:
            try:
                a, b = shown
                kept = self.votes.keep(asked, a, b, winner, self.drawing.on_record(), blind=self.blind, seconds=seconds)
            except PrefkitError as error:
                self.write(f"(not kept: {error})\n")
                return
            self.write(f"(kept as {kept})\n")
        self._tally["tie" if winner == "tie" else shown["ab".index(winner)].policy] += 1

    def _say_tally(self) -> None:
        if self._tally:
            names = [talker.name for talker in self.talkers]
            counts = ", ".join(f"{name} {self._tally[name]}" for name in (*names, "tie"))
            self.write(f"votes: {counts}{'' if self.votes else '; kept nowhere: --run RUN keeps them'}\n")
