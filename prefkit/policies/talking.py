"""A policy that answers turn by turn, token by token, and can be stopped.

Reads   a policy or any model's folder, a folder with a LoRA adapter, a hub id, ``smollm2``

Transformers writes the answer in a thread; what it has written comes out as it comes. Nothing leaves this machine.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from prefkit.errors import PrefkitError
from prefkit.models.chat import without_system
from prefkit.policies.merging import find_source, open_source
from prefkit.policies.templates import stop_tokens
from prefkit.records import Message

_WAIT = 0.1
"""Seconds after which a wait for the next words looks up, so that Ctrl-C is heard."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How words are drawn.

    Args:
        temperature: 0 takes the likeliest word each time.
        top_p: only the likeliest words that together have this share are drawn.
        max_tokens: of an answer.
        seed: the same seed gives the same answers; None for chance.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 512
    seed: int | None = None

    def on_record(self) -> dict[str, Any]:
        """What a response's record keeps."""
        kept = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}
        return kept if self.seed is None else {**kept, "seed": self.seed}


@dataclass(frozen=True)
class Said:
    """An answer, and why it ended; ``stopped`` where the reader had enough."""

    text: str
    finish: Literal["stop", "length", "stopped"]


class Talker:
    """A policy to talk to.

    Args:
        name: what it is called.
        model, tokenizer: of transformers; the tokenizer with a chat template.
    """

    def __init__(self, name: str, model: Any, tokenizer: Any) -> None:
        self.name = name
        self.said: Said | None = None
        """The last answer, once it has ended."""
        self._model = model
        self._tokenizer = tokenizer
        self._ends = stop_tokens(model, tokenizer)

    @classmethod
    def load(cls, name: str) -> Talker:
        """Open what ``prefkit export`` takes; of a run, ``RUN:POLICY`` names the policy.

        Raises:
            PrefkitError: there is no such policy, or it has no chat template.
        """
        source = find_source(*_parted(name))
        return cls(source.name, *open_source(source))

    def answer(self, messages: Sequence[Message], drawing: Drawing, turn: int = 0) -> Iterator[str]:
        """The words as they come. Closing the iterator, or Ctrl-C in it, stops the model; ``said`` has the answer.

        Args:
            messages: the dialogue so far, the user's words last.
            drawing: how words are drawn.
            turn: added to the seed.

        Raises:
            PrefkitError: the dialogue is longer than the model's context, or the template refuses it.
        """
        import torch
        from transformers import GenerationConfig, TextIteratorStreamer

        config: Any = GenerationConfig

        ids = self._ids(messages)
        room = self._context() - len(ids)
        if room < 1:
            remedy = "Begin a new one: /new."
            raise PrefkitError(self.name, f"a dialogue of {len(ids):,} tokens", "room for an answer", remedy)
        if drawing.seed is not None:
            torch.manual_seed(drawing.seed + turn)
        most = min(drawing.max_tokens, room)
        hot = drawing.temperature > 0
        settings = config(
            do_sample=hot, max_new_tokens=most, eos_token_id=sorted(self._ends) or None,
            pad_token_id=min(self._ends, default=0), top_k=0 if hot else None,
            temperature=drawing.temperature if hot else None, top_p=drawing.top_p if hot else None,
        )  # fmt: skip
        streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True, timeout=_WAIT, skip_special_tokens=True)
        rows = torch.tensor([ids], device=self._model.device)
        writing = _Writing(self._model, rows, settings, streamer)
        yield from self._words(writing, streamer, len(ids), most)

    def _words(self, writing: _Writing, streamer: Any, read: int, most: int) -> Iterator[str]:
        from queue import Empty

        self.said = None
        text, ended = "", False
        writing.start()
        try:
            while not ended:
                try:
                    piece = next(streamer)
                except StopIteration:
                    ended = True
                except Empty:
                    ended = not writing.is_alive() and streamer.text_queue.empty()
                else:
                    text += piece
                    if piece:
                        yield piece
        finally:
            self.said = Said(text, "stopped")
            writing.stop()
            if ended:
                cut = writing.drew(read) >= most and not writing.closed(self._ends)
                self.said = Said(text, "length" if cut else "stop")
        if writing.error is not None:
            raise writing.error

    def _ids(self, messages: Sequence[Message]) -> list[int]:
        from jinja2 import TemplateError

        said = ""
        for turns in (messages, without_system(messages)):
            plain = [{"role": turn.role, "content": turn.content} for turn in turns]
            try:
                text = self._tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
            except TemplateError as error:
                said = " ".join(str(error).split())[:200]
            else:
                return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        found = f"a dialogue that the chat template refuses ({said})"
        raise PrefkitError(self.name, found, "one that it allows", "Begin a new one: /new.")

    def _context(self) -> int:
        return int(getattr(self._model.config.get_text_config(), "max_position_embeddings", None) or 1 << 17)


def _parted(name: str) -> tuple[str, str | None]:
    """A run and its policy, or a name and None."""
    from pathlib import Path

    run, colon, policy = name.rpartition(":")
    return (run, policy) if colon and (Path(run) / "run.json").exists() else (name, None)


class _Writing(threading.Thread):
    """The thread in which the model writes."""

    def __init__(self, model: Any, rows: Any, settings: Any, streamer: Any) -> None:
        super().__init__(name="prefkit-talking", daemon=True)
        self.error: Exception | None = None
        self._enough = threading.Event()
        self._out: list[int] = []
        self._model, self._rows, self._settings, self._streamer = model, rows, settings, streamer

    def run(self) -> None:
        import torch

        try:
            with torch.inference_mode():
                out = self._model.generate(
                    self._rows,
                    attention_mask=torch.ones_like(self._rows),
                    generation_config=self._settings,
                    streamer=self._streamer,
                    stopping_criteria=[self._asked_to_stop],
                )
            self._out = out[0].tolist()
        except Exception as error:  # noqa: BLE001  it is raised where the words are read
            self.error = error
            self._streamer.end()

    def _asked_to_stop(self, seen: Any, scores: Any, **_: Any) -> Any:
        import torch

        return torch.full((seen.shape[0],), self._enough.is_set(), device=seen.device)

    def stop(self) -> None:
        """Stop at the next word, and wait for that."""
        self._enough.set()
        self.join()

    def drew(self, read: int) -> int:
        """How many tokens were drawn behind the ``read`` ones of the prompt."""
        return len(self._out) - read

    def closed(self, ends: frozenset[int]) -> bool:
        """Whether the last token ends an answer."""
        return bool(self._out) and self._out[-1] in ends
