"""What a reward model is trained and measured on, read and encoded.

Reads   the pairs of a run or a file, a tokenizer
Gives   token groups: to train on, to validate, held out; counts of what was left out

The texts to train on are not kept, only their tokens.
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
from prefkit.training.groups import Group, Groups, Pair, TokenGroup, subset
from prefkit.training.settings import TrainingSettings
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
        read: the same as they were read, with texts.
        validation, test: held out, with texts.
        heads: principles that get a reward of their own.
        rubric: of the run.
        counts: what was read and left out, by name.
        digest: of the training pairs in tokens.
        policies: that wrote what is trained on.
    """

    data: TrainingData
    train: Sequence[TokenGroup]
    read: Groups
    validation: Sequence[TokenGroup]
    test: Sequence[TokenGroup]
    heads: tuple[str, ...]
    rubric: Rubric | None
    counts: dict[str, int]
    digest: str
    policies: tuple[str, ...]

    def pairs(self) -> Iterator[Pair]:
        """The pairs to train on."""
        return (pair for group in self.train for pair in group.group.pairs)


def read_training_pairs(
    data: TrainingData, settings: TrainingSettings, tokenizer: Any, say: Callable[[str], None]
) -> TrainingPairs:
    """Read and encode what is trained and measured on; what is left out is said.

    Raises:
        PrefkitError: nothing to train on, or no principles for the heads asked for.
    """
    encoder = GroupTokenizer(tokenizer, max_tokens=settings.max_tokens, over_long=settings.over_long, plain=data.plain)
    groups = read_groups(data.source, data.split, plain=data.plain, soft=data.soft, weights=data.weights)
    train = [group for group in encoder.tokenized(without_policies(groups, data.without)) if group.group.pairs]
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
        [group for group in whole.tokenized(held_out_groups(data, split)) if group.group.pairs]
        for split in ("validation", "test")
    )
    held_out_tally = {f"held out: {reason}": count for reason, count in whole.tally.items()}
    for reason, count in held_out_tally.items():
        say(f"  {count:,} {reason}")
    return TrainingPairs(
        data=data,
        train=[replace(group, group=replace(group.group, messages=(), texts=())) for group in train],
        read=groups,
        validation=validation,
        test=test,
        heads=heads,
        rubric=rubric,
        counts={
            "training pairs": sum(len(group.group.pairs) for group in train),
            "training prompts": len(train),
            "training responses": sum(len(group.responses) for group in train),
            "training tokens": sum(group.tokens for group in train),
            "validation pairs": sum(len(group.group.pairs) for group in validation),
            "held-out pairs": sum(len(group.group.pairs) for group in test),
            **tally,
            **held_out_tally,
        },
        digest=digest_of(train),
        policies=tuple(sorted({policy for group in train for policy in group.group.policies})),
    )


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


def digest_of(groups: Sequence[TokenGroup]) -> str:
    """What identifies training data: its tokens, pairs, labels and weights, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for group in groups:
        for ids in (group.prompt, *group.responses):
            digest.update(len(ids).to_bytes(4, "little") + ids.tobytes())
        digest.update(msgspec.msgpack.encode([asdict(pair) for pair in group.group.pairs]))
    return digest.hexdigest()
