"""Answers of a policy at prompts and what a reward model gives them, in files that a kill leaves whole.

Reads    prompts, a policy, a reward model
Writes   answers.jsonl   a line a prompt: its answers
         rewards.jsonl   a line a prompt: the reward of each answer, in log-odds

The shape of a batch decides how its numbers are rounded, and rounding may decide a word. So prompts are worked off in
blocks of a fixed size: a block is appended when all of it is there, and one that a kill cut short is made anew from its
first prompt. What was killed and started again then holds the same bytes as what was left alone, on the same machine.
A model is opened only where something is missing.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from prefkit.durable import append_lines, cut_back, explained_disk_errors, mend_last_line, read_lines
from prefkit.errors import RecordError
from prefkit.marking import spoken
from prefkit.policies.sampling import Answer, sample
from prefkit.records import Prompt, Record
from prefkit.training.groups import Group
from prefkit.training.reward_model import RewardModel

ANSWERS, ANSWERS_ON_GPU = 512, 4096
"""In a block."""

Progress = Callable[[int], None]
Rewards = npt.NDArray[np.float64]
"""[prompts, answers], in log-odds; NaN where the reward model cannot read an answer."""


class Spoken(Record, frozen=True, kw_only=True):
    """An answer without the thinking before it; ``finish`` is ``length`` where it was cut off, ``logprob`` the mean of
    its tokens."""

    text: str
    finish: str
    tokens: int
    logprob: float


class Said(Record, frozen=True, kw_only=True):
    """The answers to a prompt."""

    prompt_id: str
    answers: tuple[Spoken, ...]


class Given(Record, frozen=True, kw_only=True):
    """The rewards of the answers to a prompt; None where the reward model cannot read one."""

    prompt_id: str
    rewards: tuple[float | None, ...]


Line = TypeVar("Line", Said, Given)


class Drawing(Record, frozen=True, kw_only=True):
    """How answers are drawn; see ``sampling.sample``."""

    samples: int
    max_tokens: int
    temperature: float
    top_p: float
    seed: int


def answers(
    path: Path,
    prompts: Sequence[Prompt],
    opened: Callable[[], tuple[Any, Any]],
    drawing: Drawing,
    progress: Progress,
) -> list[Said]:
    """The answers to prompts, made as far as the file does not hold them.

    Args:
        path: of the answers.
        prompts: in the order of the file.
        opened: opens the policy and its tokenizer.
        drawing: how they are drawn.
        progress: told how many answers more are there.

    Raises:
        RecordError: the file holds something else.
        PrefkitError: the policy cannot be opened or asked; the disk is full.
    """
    policy: list[Any] = []

    def make(block: Sequence[Prompt]) -> list[Said]:
        if not policy:
            policy.extend(opened())
        model, tokenizer = policy
        said = sample(
            model, tokenizer, [one.messages for one in block],
            **msgspec.to_builtins(drawing), received=lambda place, answer: progress(1),
        )  # fmt: skip
        return [
            Said(prompt_id=prompt.id, answers=tuple(map(_spoken, some)))
            for prompt, some in zip(block, said, strict=True)
        ]

    found = _completed(path, Said, prompts, drawing.samples, make, lambda count: progress(count * drawing.samples))
    if policy:
        policy.clear()
        free_memory()
    return found


def _spoken(answer: Answer) -> Spoken:
    text, thought_to_the_end = spoken(answer.text)
    finish = answer.finish if thought_to_the_end else "length"
    return Spoken(text=text, finish=finish, tokens=answer.tokens, logprob=answer.logprob)


def rewards(
    path: Path,
    prompts: Sequence[Prompt],
    said: Sequence[Said],
    opened: Callable[[], RewardModel],
    progress: Progress,
) -> Rewards:
    """The rewards of answers, given as far as the file does not hold them.

    Raises:
        RecordError: the file holds something else.
        PrefkitError: the reward model cannot be opened; the disk is full.
    """
    model: list[RewardModel] = []
    of_prompt = {one.prompt_id: one for one in said}
    samples = len(said[0].answers)

    def make(block: Sequence[Prompt]) -> list[Given]:
        if not model:
            model.append(opened())
        groups = [_group(prompt, of_prompt[prompt.id]) for prompt in block]
        found = []
        for prompt, of in zip(block, model[0].rewards(groups), strict=True):
            found.append(Given(prompt_id=prompt.id, rewards=tuple(map(_short, of[:, 0]))))
            progress(samples)
        return found

    lines = _completed(path, Given, prompts, samples, make, lambda count: progress(count * samples))
    if model:
        model.clear()
        free_memory()
    return np.array([one.rewards for one in lines], dtype=np.float64)


def _short(value: Any) -> float | None:
    """A 32-bit number in as few digits as tell it apart from others."""
    return float(str(np.float32(value))) if np.isfinite(value) else None


def _group(prompt: Prompt, said: Said) -> Group:
    places = tuple(map(str, range(len(said.answers))))
    return Group(
        prompt_id=prompt.id,
        messages=prompt.messages,
        response_ids=places,
        texts=tuple(one.text for one in said.answers),
        policies=places,
    )


def _completed(
    path: Path,
    record: type[Line],
    prompts: Sequence[Prompt],
    samples: int,
    make: Callable[[Sequence[Prompt]], list[Line]],
    from_before: Progress,
) -> list[Line]:
    """The lines of a file, those that are missing appended block by block."""
    import torch

    size = max(1, (ANSWERS_ON_GPU if torch.cuda.is_available() else ANSWERS) // samples)
    lines = _held(path, record, prompts, size)
    from_before(len(lines))
    for first in range(len(lines), len(prompts), size):
        more = make(prompts[first : first + size])
        append_lines(path, [msgspec.json.encode(one) + b"\n" for one in more])
        lines += more
    return lines


def _held(path: Path, record: type[Line], prompts: Sequence[Prompt], size: int) -> list[Line]:
    """The lines of the whole blocks that a file holds; the file is cut back to them."""
    if not path.exists():
        return []
    mend_last_line(path)
    decode = msgspec.json.Decoder(record).decode
    lines: list[Line] = []
    ends = [0]
    for number, line in read_lines(path):
        try:
            one = decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _strange(path, number, str(error)) from None
        if number > len(prompts) or one.prompt_id != prompts[number - 1].id:
            raise _strange(path, number, f"the prompt {one.prompt_id}, which is not asked here")
        lines.append(one)
        ends.append(ends[-1] + len(line))
    whole = len(lines) if len(lines) == len(prompts) else len(lines) - len(lines) % size
    if whole < len(lines):
        with explained_disk_errors(path):
            cut_back(path, ends[whole])
    return lines[:whole]


def _strange(path: Path, number: int, found: str) -> RecordError:
    remedy = "prefkit wrote this file; if you edited it, remove it, and the same command makes it anew."
    return RecordError(f"{path}:{number}", found, "a line as prefkit wrote it", remedy)


def free_memory() -> None:
    """Give back what a model that is gone held on a GPU."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
