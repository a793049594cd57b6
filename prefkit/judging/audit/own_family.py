"""Whether a judge's own family wins more often with it than with others: family.*."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from prefkit.judging.audit.families import Families
from prefkit.judging.audit.figure import Figure, figure, unmeasured
from prefkit.judging.audit.intervals import difference
from prefkit.judging.audit.views import Pairs, View, compared_pairs, rated_pairs, summed, won


def family_figures(seen: View, others: Mapping[int, View], families: Families) -> Iterator[Figure]:
    """The judge held against annotators of other families, where both judged an own and another response."""
    names, policies = seen.read.annotators, seen.read.policies
    judge = names[seen.judge]
    own = np.asarray([families.is_own(judge, policy) for policy in policies] + [False])
    apart = [other for who, other in others.items() if not families.are_kin(judge, names[who])]
    if len(seen.a):
        theirs = summed([compared_pairs(one) for one in apart if len(one.a)])
        yield _family_figure(seen, "family.compared", own, compared_pairs(seen), theirs)
    else:
        yield unmeasured(seen.principle, "family.compared", "points of a share", "no comparisons")
    if len(seen.rated):
        theirs = summed([rated_pairs(one) for one in apart if len(one.rated)])
        yield _family_figure(seen, "family.rated", own, rated_pairs(seen), theirs)
    else:
        yield unmeasured(seen.principle, "family.rated", "points of a share", "no ratings")


def _family_figure(seen: View, name: str, own: Any, mine: Pairs, theirs: Pairs) -> Figure:
    if not own.any():
        judge = seen.read.annotators[seen.judge]
        why = f"no policy is of its own family by name; `--family {judge}=POLICY` says which is"
        return unmeasured(seen.principle, name, "points of a share", why)
    responses = len(seen.read.policy)
    shared, here, there = np.intersect1d(mine.key, theirs.key, return_indices=True)
    low_own, high_own = (own[seen.read.policy[side]] for side in (shared // responses, shared % responses))
    one_own = low_own != high_own
    if not one_own.any():
        why = (
            "nobody else judged the same pairs of an own and another response; "
            "bring people's or another family's verdicts, with `prefkit import judgements` or `prefkit judge`"
        )
        return unmeasured(seen.principle, name, "points of a share", why)
    ours, others = won(mine, here)[one_own], won(theirs, there)[one_own]
    sign = np.where(low_own[one_own], 1.0, -1.0)
    words = (
        "Its own family's response wins {value} more often with it than with the other annotators "
        "({judge:.0%} against {others:.0%}, {n} pairs)."
    )
    return figure(
        seen.principle,
        name,
        "points of a share",
        difference((ours - others) * sign, mine.prompt[here][one_own]),
        words,
        judge=float(np.mean(np.where(sign > 0, ours, 1 - ours))),
        others=float(np.mean(np.where(sign > 0, others, 1 - others))),
        ties=float(np.mean(ours == 0.5)),
        policies=[policy for policy, is_own in zip(seen.read.policies, own[:-1].tolist(), strict=True) if is_own],
    )
