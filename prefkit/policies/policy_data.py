"""What a policy is trained and looked at on, read and encoded.

Reads   the pairs of a run or a file, a tokenizer
Gives   token groups, on the disk: to train on, and held out; the prompts that are answered at each look; counts

For supervised training a prompt keeps only the responses that are to be imitated, and no pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.policies.settings import Imitated, PolicySettings
from prefkit.records import Message
from prefkit.training.examples import read_groups
from prefkit.training.groups import Group, TokenGroup, subset
from prefkit.training.machine import ALONE, Machine
from prefkit.training.token_store import StoredGroups, sizes, stored
from prefkit.training.tokens import GroupTokenizer
from prefkit.training.training_pairs import (
    Counted,
    TrainingData,
    counts_of,
    held_out_groups,
    in_pairs,
    rubric_of,
    without_policies,
)

if TYPE_CHECKING:
    from prefkit.rubric import Rubric

NOTHING_TO_IMITATE = "prompts with no preferred response, not imitated"


@dataclass(frozen=True)
class PolicyData:
    """What is trained and looked at on, in tokens.

    Args:
        train: to train on; without texts.
        held_out: validation pairs, else test pairs; empty where there are neither.
        prompts: that the policy answers at each look.
        held_out_prompts: whether those are not trained on.
        rubric: of the run.
        counts: what was read and left out, by name.
        digest: of what is trained on.
    """

    train: Sequence[TokenGroup]
    held_out: Sequence[TokenGroup]
    prompts: Sequence[tuple[Message, ...]]
    held_out_prompts: bool
    rubric: Rubric | None
    counts: dict[str, int]
    digest: str


def read_policy_data(
    data: TrainingData,
    settings: PolicySettings,
    tokenizer: Any,
    say: Callable[[str], None],
    folder: Path,
    machine: Machine = ALONE,
) -> PolicyData:
    """Read and encode what is trained and looked at on; what is left out is said.

    Args:
        data, settings: what and how.
        tokenizer: of the base.
        say: told lines worth reading.
        folder: of the training; the tokens go into a folder in it.
        machine: of which the first process reads.

    Raises:
        PrefkitError: nothing to train on, or another machine reads other pairs.
    """
    read = machine.once(lambda: _read(data, settings, tokenizer, say, machine.scratch(folder)))
    machine.need_the_same(read.digest)
    return read


def _read(
    data: TrainingData, settings: PolicySettings, tokenizer: Any, say: Callable[[str], None], scratch: Path
) -> PolicyData:
    sft, imitate = settings.method == "sft", settings.imitate
    groups = read_groups(
        data.source, data.split, all_responses=sft and imitate == "all", plain=data.plain, soft=data.soft,
        weights=data.weights,
    )  # fmt: skip
    some: Iterable[Group] = without_policies(groups, data.without)
    encoder = GroupTokenizer(tokenizer, max_tokens=settings.max_tokens, over_long=settings.over_long, plain=data.plain)
    nothing = Counter[str]()
    seen = Counted(lambda group: replace(group, texts=()))
    encoded = encoder.tokenized(imitated(some, imitate, nothing)) if sft else in_pairs(encoder.tokenized(some))
    train = stored(seen(encoded), scratch / "train")
    tally = Counter(groups.tally) + Counter(encoder.tally) + nothing
    for reason, count in tally.items():
        say(f"  {count:,} {reason}")
    if not train:
        found = "; ".join(f"{count:,} {reason}" for reason, count in tally.items()) or "no pairs"
        raise PrefkitError(data.source, found, "pairs to train on", "Give more pairs, or a larger --max-tokens.")
    held_out = _held_out(data, settings, tokenizer, say, scratch)
    asked = held_out or train
    drawn = np.random.default_rng(settings.seed).permutation(len(asked))[: settings.check_prompts]
    return PolicyData(
        train=train,
        held_out=held_out,
        prompts=[asked[place].group.messages for place in sorted(drawn.tolist())],
        held_out_prompts=bool(held_out),
        rubric=rubric_of(data.source),
        counts={
            **counts_of(train, seen),
            "held-out prompts": len(held_out),
            "held-out pairs": int(sizes(held_out).pairs.sum()),
            **tally,
        },
        digest=seen.digest,
    )


def _held_out(
    data: TrainingData, settings: PolicySettings, tokenizer: Any, say: Callable[[str], None], scratch: Path
) -> StoredGroups:
    whole = GroupTokenizer(tokenizer, max_tokens=settings.max_tokens, over_long="cut", plain=data.plain)
    nothing = Counter[str]()
    for split in ("validation", "test"):
        groups = held_out_groups(data, split)
        if settings.method == "sft":
            groups = imitated(groups, "chosen" if settings.imitate == "all" else settings.imitate, nothing)
        if found := stored(whole.tokenized(groups), scratch / "held-out"):
            break
    for reason, count in (Counter(whole.tally) + nothing).items():
        say(f"  {count:,} held out: {reason}")
    return found


def imitated(groups: Iterable[Group], imitate: Imitated, tally: Counter[str]) -> Iterator[Group]:
    """The groups with what is to be imitated only, and without pairs.

    Args:
        groups: with pairs, unless all is imitated.
        imitate: ``best``: the response that leads most pairs of its prompt, the first of several; ``chosen``: each that
            leads one; ``all``.
        tally: counts the prompts without such a response.
    """
    for group in groups:
        places = _places(group, imitate)
        if places:
            yield replace(subset(group, places), pairs=())
        else:
            tally[NOTHING_TO_IMITATE] += 1


def _places(group: Group, imitate: Imitated) -> list[int]:
    if imitate == "all":
        return [place for place, text in enumerate(group.texts) if text.strip()]
    led = Counter[int]()
    for pair in group.pairs:
        if not pair.tied:
            led[pair.chosen if pair.preferred > 0.5 else pair.rejected] += 1
            led[pair.rejected if pair.preferred > 0.5 else pair.chosen] += 0 if imitate == "chosen" else -1
    if imitate == "chosen":
        return sorted(place for place, lead in led.items() if lead > 0)
    return sorted(led, key=lambda place: (-led[place], place))[:1]


class Astray(Sequence[TokenGroup]):
    """Each group's prompt with one response to the next group's, the last one's with the first's: for kto.

    Raises:
        PrefkitError: there is one prompt only.
    """

    def __init__(self, groups: Sequence[TokenGroup]) -> None:
        if len(groups) < 2:
            remedy = "Give more pairs, or take --method dpo."
            raise PrefkitError("kto", "one prompt", "several, as it compares with responses to other prompts", remedy)
        self._groups = groups

    def __len__(self) -> int:
        return len(self._groups)

    @overload
    def __getitem__(self, place: int) -> TokenGroup: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[TokenGroup]: ...

    def __getitem__(self, place: int | slice) -> TokenGroup | Sequence[TokenGroup]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        group, other = self._groups[place], self._groups[(place + 1) % len(self)]
        response = other.responses[place % len(other.responses)]
        alone = replace(group.group, response_ids=("",), texts=("",), policies=("",), pairs=())
        return replace(group, group=alone, responses=(response,), reference=None)
