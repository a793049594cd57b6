"""Who was preferred to whom, as arrays: a row for each two responses by different policies, judge and order shown.

``balanced`` makes one row of the two orders in which a judge was asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from prefkit.errors import PrefkitError
from prefkit.records import is_model

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Kind = Literal["comparison", "choice", "rating", "reward"]
KINDS: tuple[Kind, ...] = ("comparison", "choice", "rating", "reward")
"""What a row comes from, by its code; the first two were shown in an order."""
ONE_ORDER = "asked of a model in one order only"
UNKNOWN = -1
"""The length of a response whose text is not known, and the topic of a prompt that has none."""


@dataclass(frozen=True)
class Outcomes:
    """Who was preferred in n comparisons of two policies.

    Args:
        prompt: [n] codes of prompts, which are the clusters.
        judge: [n] codes of annotators or reward models.
        first, second: [n] codes of policies; of a run ``first`` < ``second``, in the order asked for.
        preferred: [n] the probability that ``first`` is preferred: 1, 0, 0.5 for a tie, or between them.
        shown_first: [n] whether ``first`` stood in slot A; False where nothing was shown in an order (``ordered``);
            None where nothing at all was.
        length_first, length_second: [n] characters, ``UNKNOWN`` where there is no text.
        topic: [n] codes of topics, ``UNKNOWN`` where the prompt has none.
        pair: [n] codes of the two responses, as a policy may have several to a prompt.
        kind: [n] codes of ``KINDS``.
        prompts, judges, policies, topics: the names behind the codes.
        left_out: judgements that are no row, by reason.
        source: the run or file.
    """

    prompt: Ints
    judge: Ints
    first: Ints
    second: Ints
    preferred: Floats
    shown_first: Bools | None
    length_first: Ints
    length_second: Ints
    topic: Ints
    pair: Ints
    kind: Ints
    prompts: tuple[str, ...]
    judges: tuple[str, ...]
    policies: tuple[str, ...]
    topics: tuple[str, ...]
    left_out: dict[str, int] = field(default_factory=dict)
    source: str = ""

    def __len__(self) -> int:
        return len(self.prompt)

    def __getitem__(self, rows: Ints | Bools) -> Outcomes:
        """Some of the rows, with the same names."""
        arrays = {one.name: getattr(self, one.name) for one in fields(self)}
        some: dict[str, Any] = {name: one[rows] for name, one in arrays.items() if isinstance(one, np.ndarray)}
        return replace(self, **some)

    @property
    def ordered(self) -> Bools:
        """Which rows [n] were shown in an order."""
        ordered: Bools = (self.kind < KINDS.index("rating")) & (self.shown_first is not None)
        return ordered

    def between(self, policy: str, baseline: str) -> Outcomes:
        """The rows of two policies, turned so that ``first`` is the policy (code 0) and ``second`` the baseline.

        Raises:
            PrefkitError: there is no such policy.
        """
        codes = [known(name, self.policies, "policy", self.source) for name in (policy, baseline)]
        as_is = (self.first == codes[0]) & (self.second == codes[1])
        turned = (self.first == codes[1]) & (self.second == codes[0])
        rows = np.flatnonzero(as_is | turned)
        some, back = self[rows], turned[rows]
        shown = some.shown_first
        return Outcomes(
            prompt=some.prompt,
            judge=some.judge,
            first=np.zeros(len(rows), np.int64),
            second=np.ones(len(rows), np.int64),
            preferred=np.where(back, 1 - some.preferred, some.preferred),
            shown_first=None if shown is None else shown ^ (back & some.ordered),
            length_first=np.where(back, some.length_second, some.length_first),
            length_second=np.where(back, some.length_first, some.length_second),
            topic=some.topic,
            pair=some.pair,
            kind=some.kind,
            prompts=self.prompts,
            judges=self.judges,
            policies=(policy, baseline),
            topics=self.topics,
            left_out=self.left_out,
            source=self.source,
        )


def known(name: str, names: Sequence[str], what: str, where: object) -> int:
    """The place of a name.

    Raises:
        PrefkitError: it is not among the names; the message gives them.
    """
    if name in names:
        return list(names).index(name)
    there = ", ".join(sorted(names)[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    raise PrefkitError(where, f"no {what} {name!r}", f"one of {there or 'none'}", "Copy a name from the list.")


def rounded(outcomes: Outcomes) -> Outcomes:
    """The same with who won in place of a probability: 1, 0, or 0.5 for exactly one half."""
    return replace(outcomes, preferred=(np.sign(outcomes.preferred - 0.5) + 1) / 2)


def balanced(outcomes: Outcomes, *, both_orders: bool = True) -> Outcomes:
    """One row for each judge and two responses: each order counts the same, however often it was asked.

    A judge that picks by position ends at one half. ``kind`` is that of the first row; ``shown_first`` is None.

    Args:
        outcomes: n rows as they were shown.
        both_orders: leave out, and count, what a model was asked about in one order only.
    """
    order = np.lexsort((outcomes.judge, outcomes.pair))
    rows = outcomes[order]
    starts = np.flatnonzero((np.diff(rows.judge, prepend=-1) != 0) | (np.diff(rows.pair, prepend=-1) != 0))
    if not len(starts):
        return rows
    there = rows.shown_first if rows.shown_first is not None else np.zeros(len(rows), bool)
    means = []
    for side in (there, ~there):
        count = np.add.reduceat(side.astype(np.float64), starts)
        total = np.add.reduceat(np.where(side, rows.preferred, 0.0), starts)
        means.append(np.divide(total, count, out=np.full(len(starts), np.nan), where=count > 0))
    one_order = np.isnan(means[0]) | np.isnan(means[1])
    merged = np.where(np.isnan(means[0]), means[1], np.where(np.isnan(means[1]), means[0], (means[0] + means[1]) / 2))
    models = np.asarray([is_model(name) for name in outcomes.judges], dtype=bool)
    dropped = one_order & models[rows.judge[starts]] & rows.ordered[starts]
    keep = ~dropped if both_orders else np.ones(len(starts), bool)
    counted = {ONE_ORDER: int(dropped.sum())} if both_orders and dropped.any() else {}
    some = rows[starts[keep]]
    by_prompt = np.argsort(some.prompt, kind="stable")
    kept = replace(some, preferred=merged[keep], shown_first=None, left_out=outcomes.left_out | counted)
    return kept[by_prompt]
