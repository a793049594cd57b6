"""The choices of ``prefkit generate``, and the words that they add to what a policy is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from prefkit.errors import RunError
from prefkit.models.chat import Sampling
from prefkit.records import Message, Prompt

REPLY_TOKENS = 512
LONGEST_NAME = 256  # characters of a file's name


@dataclass(frozen=True, kw_only=True)
class GenerateSettings:
    """What is asked of the policies; None leaves a choice to the model's entry in models.yaml, and then to the model.

    ``assign`` gives each prompt to so many of the policies, drawn with ``seed`` (0 without one). ``samples`` are asked
    with the seeds ``seed``, ``seed + 1``, ... where there is one. ``system`` opens each dialogue that has no setting of
    its own; ``words`` adds a sentence to it, or to the dialogue's own.
    """

    samples: int = 1
    assign: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    reply_tokens: int | None = None
    seed: int | None = None
    system: str | None = None
    words: int | None = None
    prompts: int | None = None

    def sampling(self, model: Sampling, sample: int) -> Sampling:
        """How a policy draws its ``sample``-th answer; what is chosen here goes before what its entry says."""
        chosen = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.reply_tokens or model.max_tokens or REPLY_TOKENS,
            "seed": model.seed if self.seed is None else self.seed,
        }
        if chosen["seed"] is not None:
            chosen["seed"] += sample
        return msgspec.structs.replace(model, **{name: value for name, value in chosen.items() if value is not None})

    def messages(self, prompt: Prompt) -> tuple[Message, ...]:
        """What a policy is shown of a prompt."""
        setting, turns = self.system, prompt.messages
        if has_own_setting(prompt):
            setting, turns = prompt.messages[0].content, prompt.messages[1:]
        sentences = [setting] if setting else []
        if self.words is not None:
            sentences.append(f"Answer in no more than {self.words} words.")
        return (Message(role="system", content=" ".join(sentences)), *turns) if sentences else turns


def has_own_setting(prompt: Prompt) -> bool:
    """Whether a prompt opens with a system message of its own, which is kept."""
    return prompt.messages[0].role == "system"


def system_text(text_or_file: str) -> str:
    """A system prompt, or what the file of that name holds.

    Raises:
        RunError: it looks like a file's name, and there is no such text file; or there is nothing in it.
    """
    words = text_or_file.strip()
    expected = "a text, or the name of a file that holds one"
    if len(words) < LONGEST_NAME and Path(words).is_file():
        try:
            words = Path(words).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(
                "--system", f"{words}, which cannot be read ({error})", expected, "Save it as UTF-8."
            ) from None
    elif len(words.split()) == 1 and ("." in words[:-1] or "/" in words):
        remedy = "Check the name; a system prompt in words has blanks in it."
        raise RunError("--system", f"no file {words}", expected, remedy)
    if not words:
        raise RunError("--system", "nothing", expected, "Leave --system out.")
    return words
