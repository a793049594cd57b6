"""Which prompts of a run the rounds ask, and which they are measured on.

Reads   prompts.jsonl, pairs.parquet of a run; the tokenizer of the policy
Gives   a ``Pool``: prompts to ask, in the order in which the rounds take them, and prompts that are held out

Held out are prompts of the pairs in ``validation`` and ``test``, which no reward model of this run was trained on;
where there are none, prompts that stand in no pair. All others are asked: those of ``train``, and those that stand in
no pair. A prompt that is nearly the same as one that is held out is not asked; nor is one for which there is no room.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prefkit.errors import RunError
from prefkit.near_duplicates import near_duplicate_groups
from prefkit.policies.templates import prompt_ids
from prefkit.records import Prompt, digest, prompt_text
from prefkit.run import Run, read_pairs

PAIRS = "pairs.parquet"
AT_ONCE = 256
"""Prompts that are encoded together."""

NEARLY_HELD_OUT = "prompts left out: nearly the same as one that is held out"
NO_ROOM = "prompts left out: too long to answer"


@dataclass(frozen=True)
class Pool:
    """Prompts for the rounds.

    Args:
        to_ask: in the order in which they are taken.
        held_out: the same ones in all rounds.
        identity: of all prompts that these were drawn from.
        counts: what was left out, by reason.
    """

    to_ask: tuple[Prompt, ...]
    held_out: tuple[Prompt, ...]
    identity: str
    counts: Mapping[str, int] = field(default_factory=dict)

    def of_round(self, number: int, count: int) -> tuple[Prompt, ...]:
        """The prompts of a round, the first being 1: others than before as long as there are any, none twice."""
        size = len(self.to_ask)
        first = (number - 1) * min(count, size)
        return tuple(self.to_ask[place % size] for place in range(first, first + min(count, size)))


def draw_pool(run: Run, tokenizer: Any, *, to_ask: int, held_out: int, most_tokens: int, seed: int) -> Pool:
    """Draw prompts of a run.

    Args:
        run: the run.
        tokenizer: of the policy, with its chat template.
        to_ask, held_out: at most so many of them.
        most_tokens: of a prompt, so that an answer has room behind it.
        seed: of the order.

    Raises:
        RunError: there is no prompt to ask, or none that can be held out.
        PrefkitError: the chat template refuses a prompt.
    """
    prompts = _prompts(run)
    asked, kept_apart = _parted(prompts, _splits(run.path / PAIRS), run.path, held_out, seed)
    left_out: Counter[str] = Counter()

    def drawn(some: Sequence[Prompt], count: int, salt: int) -> tuple[Prompt, ...]:
        order = np.random.default_rng([seed, salt]).permutation(len(some))
        in_order = [some[place] for place in order]
        return tuple(_with_room(in_order, count, tokenizer, most_tokens, run.path, left_out))

    measured_on = drawn(kept_apart, held_out, 1)
    asked = _unlike(asked, measured_on, left_out)
    pool = Pool(
        to_ask=drawn(asked, to_ask, 2),
        held_out=measured_on,
        identity=digest([(one.id, [(turn.role, turn.content) for turn in one.messages]) for one in prompts],
                        [one.id for one in kept_apart]),
        counts=dict(left_out),
    )  # fmt: skip
    for found, what in ((pool.to_ask, "to ask"), (pool.held_out, "to hold out")):
        if not found:
            reasons = "; ".join(f"{number:,} {reason}" for reason, number in left_out.items()) or "none is left"
            remedy = "Import more prompts, or leave more room for them: --max-tokens, --answer-tokens."
            raise RunError(run.path, f"no prompt {what} ({reasons})", "prompts to ask and prompts to hold out", remedy)
    return pool


def _prompts(run: Run) -> list[Prompt]:
    """The prompts that are not excluded, those of the same words once."""
    found: dict[str, Prompt] = {}
    excluded = 0
    for prompt in run.prompts():
        excluded += prompt.excluded is not None
        if prompt.excluded is None:
            found.setdefault(digest([(turn.role, turn.content) for turn in prompt.messages]), prompt)
    if not found:
        remedy = f"Import some: prefkit import prompts {run.path} FILE"
        if excluded:
            remedy = f"Screen them with other settings: prefkit screen {run.path} --help"
        said = f"{excluded:,} prompts, all excluded" if excluded else "no prompts"
        raise RunError(run.path, said, "prompts to answer", remedy)
    return list(found.values())


def _splits(path: Path) -> dict[str, set[str]]:
    """The splits in which a prompt has pairs, by its id."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    if path.exists():
        for pair in read_pairs(path):
            found[pair.prompt_id].add(pair.split)
    return found


def _parted(
    prompts: Sequence[Prompt], splits: Mapping[str, set[str]], run: Path, held_out: int, seed: int
) -> tuple[list[Prompt], list[Prompt]]:
    """The prompts to ask and those to hold out.

    Raises:
        RunError: all prompts stand in pairs that are trained on.
    """
    kept_apart = [one for one in prompts if splits.get(one.id, set()) & {"validation", "test"}]
    if not kept_apart:
        unpaired = [one for one in prompts if one.id not in splits]
        if len(unpaired) < 2 and len(unpaired) < len(prompts):
            remedy = f"Build pairs with such splits: prefkit build-pairs {run} --test-size 0.1"
            raise RunError(run, "no prompt that is held out", "pairs in the split test or validation", remedy)
        order = np.random.default_rng([seed, 0]).permutation(len(unpaired))
        some = min(held_out, len(unpaired) // 2 if len(unpaired) == len(prompts) else len(unpaired))
        kept_apart = [unpaired[place] for place in sorted(order[:some])]
    apart = {one.id for one in kept_apart}
    return [one for one in prompts if one.id not in apart], kept_apart


def _unlike(asked: Sequence[Prompt], held_out: Sequence[Prompt], left_out: Counter[str]) -> list[Prompt]:
    """The prompts that are not nearly the same as one that is held out."""
    texts = [prompt_text(one.messages) for one in (*held_out, *asked)]
    groups = near_duplicate_groups(texts)
    taken = set(groups[: len(held_out)].tolist())
    found = [one for one, group in zip(asked, groups[len(held_out) :].tolist(), strict=True) if group not in taken]
    if len(found) < len(asked):
        left_out[NEARLY_HELD_OUT] = len(asked) - len(found)
    return found


def _with_room(
    prompts: Sequence[Prompt], count: int, tokenizer: Any, most: int, where: object, left_out: Counter[str]
) -> Iterator[Prompt]:
    """The first ``count`` prompts of at most so many tokens."""
    found = 0
    for first in range(0, len(prompts), AT_ONCE):
        some = prompts[first : first + AT_ONCE]
        for prompt, ids in zip(some, prompt_ids(tokenizer, [one.messages for one in some], {}, where), strict=True):
            if found == count:
                return
            if len(ids) > most:
                left_out[NO_ROOM] += 1
                continue
            found += 1
            yield prompt
