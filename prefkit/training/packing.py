"""Several prompts with all their responses in one row of tokens, each shared beginning once, with the pairs among them.

Nothing is padded, and nothing is read twice: texts that begin alike for SHARED tokens or more share those, be it a
prompt of its responses, the system message of all prompts in the row, or the opening of two answers. A group of one
prompt is never parted, so every pair's two rewards come from one forward; a group above the budget has a row alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from prefkit.training.attention import Span, Tree
from prefkit.training.groups import TokenGroup

SHARED = 8
"""Tokens below which a shared beginning is read again by each text: a span of its own would cost more."""

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class PackedRow:
    """What a model reads in one forward: R responses, and the n pairs among them, rated by P principles.

    Args:
        input_ids, position_ids: [1, T].
        tree: which token sees which.
        ends: [R] the place of each response's last token, in the groups' order.
        texts: the places of each response's whole text, prompt and response, in order: R tensors.
        lengths: [R] tokens of each response, without its prompt.
        prompt: [R] number of each response's group in the row.
        policies: [R] that wrote the responses.
        place: [R] position of each response in its group.
        chosen, rejected: [n] indices into R.
        pair_prompt: [n] number of each pair's group in the row.
        target, weight: [n] the pair's ``preferred``, and its weight.
        gap: [n] of the ratings, NaN where there is none.
        gaps, principle_targets: [n, P] gap and target by principle, NaN where there is none.
        pair_ids: of the pairs.
        sizes: responses of each group.
        two_types: whether an encoder of text pairs reads them: a response's tokens are of its second type.
        filler: whether it only fills a gap, and nothing of it counts.
        reference: [N] log-probability of the responses' tokens by the model before it was trained, if all groups have
            it.
    """

    input_ids: Tensor
    position_ids: Tensor
    tree: Tree
    ends: Tensor
    texts: tuple[Tensor, ...]
    lengths: Tensor
    prompt: Tensor
    place: Tensor
    chosen: Tensor
    rejected: Tensor
    pair_prompt: Tensor
    target: Tensor
    weight: Tensor
    gap: Tensor
    gaps: Tensor
    principle_targets: Tensor
    pair_ids: tuple[str, ...]
    sizes: tuple[int, ...]
    policies: tuple[str, ...]
    two_types: bool = False
    filler: bool = False
    reference: Tensor | None = None

    @property
    def tokens(self) -> int:
        """Tokens that the model reads."""
        return self.input_ids.shape[1]

    @property
    def pairs(self) -> int:
        """Pairs in the row."""
        return len(self.pair_ids)

    def to(self, device: torch.device | str) -> PackedRow:
        """The same row on another device."""
        moved: dict[str, Any] = {"texts": tuple(text.to(device) for text in self.texts)}
        for one in fields(self):
            if isinstance(value := getattr(self, one.name), Tensor):
                moved[one.name] = value.to(device)
        return replace(self, **moved)

    def weight_of_responses(self) -> Tensor:
        """[R] of each response in a loss over single responses: 1, and 0 in a filler."""
        return torch.full_like(self.lengths, 0.0 if self.filler else 1.0, dtype=torch.float32)

    def without_weight(self) -> PackedRow:
        """The same row of which nothing counts: the filler of a process that has a row too few."""
        return replace(self, weight=torch.zeros_like(self.weight), filler=True)


def shortest(group: TokenGroup) -> TokenGroup:
    """A group with as few tokens as it can have: what a process reads that has a row too few."""
    ends = np.cumsum([len(one) for one in group.responses]) - 1
    reference = None if group.reference is None else group.reference[ends]
    return replace(
        group, prompt=group.prompt[-1:], responses=tuple(one[-1:] for one in group.responses), reference=reference
    )


def group_tokens(group: TokenGroup) -> int:
    """Tokens of a group's row at most: the prompt once, each response once."""
    return len(group.prompt) + sum(map(len, group.responses))


def read_tokens(group: TokenGroup) -> int:
    """Tokens of a group's row: where responses begin alike, or are the same, that is read once."""
    texts = [np.concatenate((group.prompt, response)) for response in group.responses]

    def read(members: list[int], depth: int) -> int:
        kins = _alike(texts, members, depth)
        ends = [_shared(texts, kin, depth) for kin in kins]
        below = sum(read(kin, end) for kin, end in zip(kins, ends, strict=True) if len(kin) > 1)
        return sum(ends) - depth * len(ends) + below

    return read(list(range(len(texts))), 0)


def plan_rows(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Which groups share a row: first-fit decreasing, the same for the same sizes.

    Args:
        sizes: tokens of each group, as ``group_tokens`` counts them.
        budget: tokens of a row. A larger group has a row alone, above the budget.

    Returns:
        For each row the numbers of its groups, ascending.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for number in sorted(range(len(sizes)), key=lambda number: (-sizes[number], number)):
        fitting = next((row for row, left in enumerate(room) if left >= sizes[number]), None)
        if fitting is None:
            rows.append([number])
            room.append(budget - sizes[number])
        else:
            rows[fitting].append(number)
            room[fitting] -= sizes[number]
    return [sorted(row) for row in rows]


def pack(groups: Sequence[TokenGroup], *, principles: Sequence[str] = ()) -> PackedRow:
    """One row of whole groups.

    Args:
        groups: with at least one response each, of at least one token each.
        principles: those whose gaps and preferences the row carries, in order.

    Raises:
        ValueError: a group without responses, or a response without tokens.
    """
    if not groups or any(not group.responses or not all(map(len, group.responses)) for group in groups):
        raise ValueError("a row needs groups, a group responses, and a response tokens")
    texts = [np.concatenate((group.prompt, response)) for group in groups for response in group.responses]
    tree, ids, paths = _grown(texts)
    sizes = [len(group.responses) for group in groups]
    first = np.concatenate(([0], np.cumsum(sizes)))
    pairs = [(number, pair) for number, group in enumerate(groups) for pair in group.group.pairs]
    by_principle = (len(pairs), len(principles))
    return PackedRow(
        input_ids=torch.from_numpy(ids.astype(np.int64))[None],
        position_ids=tree.positions()[None],
        tree=tree,
        ends=torch.tensor([int(path[-1]) for path in paths]),
        texts=tuple(torch.from_numpy(path) for path in paths),
        lengths=torch.tensor([len(response) for group in groups for response in group.responses]),
        prompt=torch.from_numpy(np.repeat(np.arange(len(groups)), sizes)),
        place=torch.from_numpy(np.concatenate([np.arange(size) for size in sizes])),
        chosen=torch.tensor([int(first[number]) + pair.chosen for number, pair in pairs], dtype=torch.int64),
        rejected=torch.tensor([int(first[number]) + pair.rejected for number, pair in pairs], dtype=torch.int64),
        pair_prompt=torch.tensor([number for number, _ in pairs], dtype=torch.int64),
        target=_floats(pair.preferred for _, pair in pairs),
        weight=_floats(pair.weight for _, pair in pairs),
        gap=_floats(pair.gap for _, pair in pairs),
        gaps=_floats(pair.gaps.get(name) for _, pair in pairs for name in principles).reshape(by_principle),
        principle_targets=_floats(
            pair.principle_preferred.get(name) for _, pair in pairs for name in principles
        ).reshape(by_principle),
        pair_ids=tuple(pair.id for _, pair in pairs),
        sizes=tuple(sizes),
        policies=tuple(policy for group in groups for policy in group.group.policies),
        two_types=any(group.two_types for group in groups),
        reference=_references(groups),
    )


def _references(groups: Sequence[TokenGroup]) -> Tensor | None:
    known = [group.reference for group in groups if group.reference is not None]
    return torch.from_numpy(np.concatenate(known)) if len(known) == len(groups) else None


def _floats(values: Iterable[float | None]) -> Tensor:
    return torch.tensor([float("nan") if value is None else value for value in values], dtype=torch.float32)


def _grown(texts: Sequence[Ids]) -> tuple[Tree, Ids, list[npt.NDArray[np.int64]]]:
    """The tree of texts, its tokens, and where in them each text lies."""
    spans: list[Span] = []
    tokens: list[Ids] = []
    paths: list[list[npt.NDArray[np.int64]]] = [[] for _ in texts]
    read = 0

    def grow(members: list[int], depth: int, before: tuple[int, ...]) -> None:
        nonlocal read
        for kin in _alike(texts, members, depth):
            end = _shared(texts, kin, depth)
            number, start = len(spans), read
            read += end - depth
            spans.append(Span(start, read, read, depth, before))
            tokens.append(texts[kin[0]][depth:end])
            for member in kin:
                paths[member].append(np.arange(start, read))
            grow(kin if len(kin) > 1 else [], end, (*before, number))
            spans[number] = spans[number]._replace(stop=read)

    grow(list(range(len(texts))), 0, ())
    return Tree(tuple(spans)), np.concatenate(tokens), [np.concatenate(path) for path in paths]


def _alike(texts: Sequence[Ids], members: Sequence[int], depth: int) -> list[list[int]]:
    """Texts that go on after ``depth``, those together that go on alike."""
    alike: dict[bytes, list[int]] = {}
    for member in members:
        if len(rest := texts[member][depth : depth + SHARED]):
            alike.setdefault(rest.tobytes(), []).append(member)
    return list(alike.values())


def _shared(texts: Sequence[Ids], kin: Sequence[int], depth: int) -> int:
    """Where the texts, alike up to ``depth``, cease to be alike."""
    first = texts[kin[0]]
    end = min(len(texts[member]) for member in kin)
    for member in kin[1:]:
        differing = np.flatnonzero(texts[member][depth:end] != first[depth:end])
        if len(differing):
            end = depth + int(differing[0])
    return end
