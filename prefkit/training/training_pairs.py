"""What a reward model is trained and measured on, read and encoded.

Reads   the pairs of a run or a file, a tokenizer
Gives   token groups: to train on, to validate, held out; counts of what was left out

What is read goes to the disk as tokens (``token_store``), by the first process of each machine; the texts to train on
are not kept.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from prefkit.errors import PrefkitError
from prefkit.training.examples import read_groups
from prefkit.training.groups import Group, Groups, TokenGroup, subset
from prefkit.training.machine import ALONE, Machine
from prefkit.training.settings import TrainingSettings
from prefkit.training.token_store import StoredGroups, sizes, stored
from prefkit.training.tokens import GroupTokenizer

if TYPE_CHECKING:
    from prefkit.rubric import Rubric


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What is trained and measured on.

    Args:
        source: a run, or a file or folder of pairs.
        split: of the source to train on; None: all of it, and nothing of it is held out.
        held_out: another source to measure on; None: the splits ``validation`` and ``test`` of the first.
        without: policies whose responses are not trained on; the test pairs keep them.
        plain: texts as they stand, without the chat template.
        weights: of annotators by name; None: all count alike.
        soft: labels are shares of annotators; without it the majority's.
    """

    source: Path
    split: str | None = "train"
    held_out: Path | None = None
    without: tuple[str, ...] = ()
    plain: bool = False
    weights: Mapping[str, float] | None = None
    soft: bool = True


@dataclass(frozen=True)
class TrainingPairs:
    """The pairs in tokens.

    Args:
        data: where they come from.
        train: to train on; without texts.
        read: the same as they were read, with texts; None where another process read them.
        validation, test: held out, with texts.
        heads: principles that get a reward of their own.
        rubric: of the run.
        counts: what was read and left out, by name.
        digest: of the training pairs in tokens.
        policies: that wrote what is trained on.
        tied: pairs to train on of which neither side is preferred.
    """

    data: TrainingData
    train: Sequence[TokenGroup]
    read: Groups | None
    validation: Sequence[TokenGroup]
    test: Sequence[TokenGroup]
    heads: tuple[str, ...]
    rubric: Rubric | None
    counts: dict[str, int]
    digest: str
    policies: tuple[str, ...]
    tied: int = 0


class Counted:
    """What is known of groups once they have gone by.

    Args:
        keep: what of a group goes on.
    """

    def __init__(self, keep: Callable[[Group], Group]) -> None:
        self._digest, self._keep = Digest(), keep
        self.policies = set[str]()
        self.tied = self.responses = 0

    def __call__(self, groups: Iterable[TokenGroup]) -> Iterator[TokenGroup]:
        """The groups as they go by."""
        for one in groups:
            self._digest.add(one)
            self.policies.update(one.group.policies)
            self.tied += sum(pair.tied for pair in one.group.pairs)
            self.responses += len(one.responses)
            yield replace(one, group=self._keep(one.group))

    @property
    def digest(self) -> str:
        """What identifies them."""
        return self._digest.hex()


def read_training_pairs(
    data: TrainingData,
    settings: TrainingSettings,
    tokenizer: Any,
    say: Callable[[str], None],
    folder: Path,
    machine: Machine = ALONE,
) -> TrainingPairs:
    """Read and encode what is trained and measured on; what is left out is said.

    Args:
        data, settings: what and how.
        tokenizer: of the base.
        say: told lines worth reading.
        folder: of the training; the tokens go into a folder in it.
        machine: of which the first process reads.

    Raises:
        PrefkitError: nothing to train on, no principles for the heads asked for, or another machine reads other pairs.
    """
    own: list[TrainingPairs] = []

    def made() -> TrainingPairs:
        own.append(_read(data, settings, tokenizer, say, machine.scratch(folder)))
        return replace(own[0], read=None) if machine.several else own[0]

    pairs = machine.once(made)
    machine.need_the_same(pairs.digest)
    return own[0] if own else pairs


def _read(
    data: TrainingData, settings: TrainingSettings, tokenizer: Any, say: Callable[[str], None], scratch: Path
) -> TrainingPairs:
    encoder = GroupTokenizer(tokenizer, max_tokens=settings.max_tokens, over_long=settings.over_long, plain=data.plain)
    groups = read_groups(data.source, data.split, plain=data.plain, soft=data.soft, weights=data.weights)
    seen = Counted(lambda group: replace(group, messages=(), texts=()))
    train = stored(seen(in_pairs(encoder.tokenized(without_policies(groups, data.without)))), scratch / "train")
    tally = Counter(groups.tally) + Counter(encoder.tally)
    for reason, count in tally.items():
        say(f"  {count:,} {reason}")
    if not train:
        found = "; ".join(f"{count:,} {reason}" for reason, count in tally.items()) or "no pairs"
        raise PrefkitError(data.source, found, "pairs to train on", "Give more pairs, or a larger --max-tokens.")
    rubric = rubric_of(data.source)
    heads = groups.principles if settings.heads == "principles" else ()
    if settings.heads == "principles" and not heads:
        remedy = "Leave --heads out, or build pairs from ratings by principle."
        raise PrefkitError(data.source, "pairs without principles", "what each pair says of each", remedy)
    whole = GroupTokenizer(tokenizer, max_tokens=settings.max_tokens, over_long="cut", plain=data.plain)
    validation, test = (
        stored(in_pairs(whole.tokenized(held_out_groups(data, split))), scratch / split)
        for split in ("validation", "test")
    )
    held_out_tally = {f"held out: {reason}": count for reason, count in whole.tally.items()}
    for reason, count in held_out_tally.items():
        say(f"  {count:,} {reason}")
    return TrainingPairs(
        data=data,
        train=train,
        read=groups,
        validation=validation,
        test=test,
        heads=heads,
        rubric=rubric,
        counts={
            **counts_of(train, seen),
            "validation pairs": int(sizes(validation).pairs.sum()),
            "held-out pairs": int(sizes(test).pairs.sum()),
            **tally,
            **held_out_tally,
        },
        digest=seen.digest,
        policies=tuple(sorted(seen.policies)),
        tied=seen.tied,
    )


def in_pairs(groups: Iterable[TokenGroup]) -> Iterator[TokenGroup]:
    """The groups that have pairs."""
    return (group for group in groups if group.group.pairs)


def counts_of(train: StoredGroups, seen: Counted) -> dict[str, int]:
    """How much there is to train on."""
    known = train.sizes()
    return {
        "training pairs": int(known.pairs.sum()),
        "training prompts": len(train),
        "training responses": seen.responses,
        "training tokens": int(known.tokens.sum()),
    }


def without_policies(groups: Groups, without: tuple[str, ...]) -> Iterable[Group]:
    """The groups without the responses of some policies.

    Raises:
        PrefkitError: one of them wrote nothing.
    """
    if not without:
        return groups
    wrote = {policy for group in groups for policy in group.policies}
    for name in without:
        if name not in wrote:
            expected = f"one of: {', '.join(sorted(wrote))}"
            raise PrefkitError(groups.source, f"no pair of the policy {name!r}", expected, "Look at the spelling.")
    return (
        subset(group, [place for place, policy in enumerate(group.policies) if policy not in without])
        for group in groups
    )


def held_out_groups(data: TrainingData, split: str) -> Iterable[Group]:
    """The groups with pairs of ``validation`` or ``test``; none where there is no such split."""
    if data.held_out is not None:
        if split == "validation":
            return ()
        groups = read_groups(data.held_out, plain=data.plain, soft=data.soft)
    elif data.split is None:
        return ()
    else:
        try:
            groups = read_groups(data.source, split, plain=data.plain, soft=data.soft)
        except PrefkitError:
            return ()
    return (group for group in groups if group.pairs)


def rubric_of(source: Path) -> Rubric | None:
    """The rubric of a run; None for a file."""
    from prefkit.run import Run

    return Run(source).rubric if (source / "run.json").exists() else None


class Digest:
    """What identifies training data: its tokens, pairs, labels, weights and who wrote them, in order."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=16)

    def add(self, group: TokenGroup) -> None:
        """Take the next group."""
        for ids in (group.prompt, *group.responses):
            self._digest.update(len(ids).to_bytes(4, "little") + ids.tobytes())
        self._digest.update(msgspec.msgpack.encode([asdict(pair) for pair in group.group.pairs]))
        self._digest.update(msgspec.msgpack.encode(group.group.policies))

    def hex(self) -> str:
        """Of what was taken so far."""
        return self._digest.hexdigest()
