"""Two policies' outcomes as rows of a regression: what of the two answers differs, and what it would be if nothing did.

Reads   Outcomes, style counts of texts
Gives   Rows, turned so that the policy is first; a Design, with the features as seen and with the answers alike

Features are scaled and never centred: where one is 0 the two answers are alike in it, whatever they mostly are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from prefkit.errors import PrefkitError
from prefkit.evaluation.outcomes import UNKNOWN, Outcomes, known
from prefkit.evaluation.styles import STYLE

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MIN_PROMPTS = 20
PRIOR_SD = 3.0
"""Of a slope before anything is seen, in log-odds for tanh or one standard deviation; the published are within 3."""
GAMED_WEIGHT = 0.2
"""The weight of the rows of all gamed versions of the baseline together, beside a row's 1 (AlpacaEval's lambda)."""
SIMILAR = 0.2
"""Answers are of similar length where the longer is at most this much longer."""


@dataclass(frozen=True)
class Rows:
    """The rows to fit, turned so that the policy is first.

    ``place`` is theirs in the outcomes, ``mine`` marks the policy's and not those of gamed baselines, ``model`` says
    which of these policies, ``turned`` whether sides were changed. ``weight`` is that in the fit: each of the policy's
    prompts has the same in all, and on a prompt each judge.
    """

    place: Ints
    prompt: Ints
    preferred: Floats
    lengths: Floats
    weight: Floats
    mine: Bools
    model: Ints
    turned: Bools
    left_out: dict[str, int]

    def where(self, keep: Bools, reason: str) -> Rows:
        """The rows to keep [n], the policy's others counted."""
        lost = int(self.mine[~keep].sum())
        arrays = {one.name: getattr(self, one.name)[keep] for one in fields(self) if one.name != "left_out"}
        return Rows(**arrays, left_out=self.left_out | ({reason: lost} if lost else {}))

    def weighed(self, judges: Ints) -> Rows:
        """The same with weights by prompt and judge [all rows of the outcomes].

        In the mean each judge has 1 on each of the policy's prompts; gamed baselines together have ``GAMED_WEIGHT``.
        """
        weight = np.zeros(len(self.prompt))
        for model in np.unique(self.model):
            some = self.model == model
            panel_size = int(judges.max()) + 1
            cells, place, rows = np.unique(
                self.prompt[some] * panel_size + judges[self.place[some]], return_inverse=True, return_counts=True
            )
            _, of_prompt, panel = np.unique(cells // panel_size, return_inverse=True, return_counts=True)
            share = 1 / (panel[of_prompt] * rows)[place]
            weight[some] = share * len(cells) / share.sum()
        gamed = len(np.unique(self.model[~self.mine]))
        return replace(self, weight=np.where(self.mine, weight, weight * GAMED_WEIGHT / max(1, gamed)))

    def shares(self) -> Floats:
        """The weights of the policy's rows, 0 for others. [n]"""
        return np.where(self.mine, self.weight, 0.0)

    def prompts(self) -> int:
        """How many prompts the policy's rows are on."""
        return len(np.unique(self.prompt[self.mine]))

    def similar(self) -> Bools:
        """The policy's rows whose answers are of similar length. [n]"""
        near: Bools = self.lengths.max(axis=1) <= (1 + SIMILAR) * self.lengths.min(axis=1)
        return near & self.mine

    def prompt_means(self) -> Floats:
        """The rate as judged on each of the policy's prompts. [prompts]"""
        _, place = np.unique(self.prompt[self.mine], return_inverse=True)
        share = self.weight[self.mine]
        return np.asarray(np.bincount(place, self.preferred[self.mine] * share) / np.bincount(place, share))

    def raw(self, some: Bools | None = None) -> float:
        """The rate as judged: of all the policy's rows, or of some of them [n]."""
        shares = self.shares() * (True if some is None else some)
        return float(self.preferred @ shares / shares.sum())


@dataclass(frozen=True)
class Design:
    """Features [n, k] as seen and ``alike`` [n, k] with the answers alike; ``prior`` [k] precisions; their names."""

    seen: Floats
    alike: Floats
    prior: Floats
    names: tuple[str, ...]


def rows_of(outcomes: Outcomes, policy: str, baseline: str, gamed: Sequence[str]) -> Rows:
    """The rows of the policy, and of gamed versions of the baseline, with the baseline; those with known lengths."""
    base = known(baseline, outcomes.policies, "policy", outcomes.source)
    parts = []
    for number, name in enumerate((policy, *gamed)):
        code = known(name, outcomes.policies, "policy", outcomes.source)
        turned = (outcomes.first == base) & (outcomes.second == code)
        place = np.flatnonzero(turned | ((outcomes.first == code) & (outcomes.second == base)))
        parts.append((place, turned[place], np.full(len(place), number)))
    place, turned, model = (np.concatenate(part) for part in zip(*parts, strict=True))
    preferred = outcomes.preferred[place]
    lengths = np.column_stack([outcomes.length_first, outcomes.length_second])[place].astype(np.float64)
    rows = Rows(
        place=place,
        prompt=outcomes.prompt[place],
        preferred=np.where(turned, 1 - preferred, preferred),
        lengths=np.where(turned[:, None], lengths[:, ::-1], lengths),
        weight=np.ones(len(place)),
        mine=model == 0,
        model=model,
        turned=turned,
        left_out={},
    )
    return rows.where((rows.lengths != UNKNOWN).all(axis=1), "no text of an answer")


def check_rows(rows: Rows, outcomes: Outcomes, policy: str, baseline: str) -> None:
    """See that there are rows, and lengths that differ by more here and less there.

    Raises:
        PrefkitError: there are none, or they do not.
    """
    where = outcomes.source or "outcomes"
    if not rows.mine.any():
        dropped = "; ".join(f"{count} left out: {why}" for why, count in rows.left_out.items())
        raise PrefkitError(
            where,
            f"no comparison of {policy} with {baseline} that could be used" + (f" ({dropped})" if dropped else ""),
            "comparisons of the two, with the texts of both answers",
            "Judge the two on the same prompts first; difficulties are looked up by the prompt's name.",
        )
    longer = rows.lengths[rows.mine] @ np.array([1.0, -1.0])
    if rows.prompts() >= MIN_PROMPTS and np.ptp(longer) == 0 and longer[0] != 0:
        raise PrefkitError(
            where,
            f"answers of {policy} that are all longer than those of {baseline} by {longer[0]:.0f} characters",
            "differences of length that vary",
            "Nothing tells what equal length would change: give the raw win rate.",
        )


def check_design(rows: Rows, design: Design, outcomes: Outcomes, policy: str, baseline: str) -> None:
    """See that what is set alike differs by more here and less there, or is alike already.

    A feature that is nearly the same everywhere could tell less of its slope than the prior does: the rate with the
    answers alike would be the prior's.

    Raises:
        PrefkitError: it does not.
    """
    mine = rows.mine
    if rows.prompts() < MIN_PROMPTS:
        return
    for place in range(1, design.seen.shape[1]):
        moved = design.seen[mine, place] - design.alike[mine, place]
        if len(moved) * float(moved.var()) / 4 < design.prior[place] < len(moved) * float((moved**2).mean()) / 4:
            raise PrefkitError(
                outcomes.source or "outcomes",
                f"answers of {policy} and {baseline} that differ in length or style by nearly the same everywhere"
                f" ({design.names[place]})",
                "differences that vary",
                "Nothing tells what answers that are alike would change: give the rate as judged.",
            )


def alpaca_design(rows: Rows, gamma: Floats | None) -> Design:
    """Columns theta, phi and, with difficulties, psi; theta is 0 for a gamed baseline."""
    shorter = rows.lengths[:, 1] - rows.lengths[:, 0]
    length = np.zeros(len(shorter))
    for model in np.unique(rows.model):
        mine = rows.model == model
        length[mine] = np.tanh(shorter[mine] / (spread_of(shorter[mine]) or 1.0))
    level = rows.mine.astype(np.float64)
    columns, alike = [level, length], [level, np.zeros(len(length))]
    prior, names = [0.0, PRIOR_SD**-2], ["level", "tanh of how much shorter"]
    if gamma is not None:
        columns.append(gamma)
        alike.append(gamma)
        prior.append(float(np.var(gamma)) / PRIOR_SD**2 or PRIOR_SD**-2)
        names.append("difficulty")
    return Design(np.column_stack(columns), np.column_stack(alike), np.array(prior), tuple(names))


def arena_design(rows: Rows, styles: tuple[Floats, Floats] | None) -> Design:
    """A level, and a column for each feature's relative difference in units of its spread about 0.

    It is scaled and not centred: where it is 0 the answers are alike, whatever they mostly are.
    """
    one, other = (rows.lengths[:, :1], rows.lengths[:, 1:]) if styles is None else styles
    both = one + other
    relative = np.divide(one - other, both, out=np.zeros_like(both), where=both > 0)
    scale = np.sqrt(np.average(relative**2, axis=0, weights=rows.weight))
    relative /= np.where(scale > 0, scale, 1.0)
    level = rows.mine.astype(np.float64)
    seen, alike = np.column_stack([level, relative]), np.column_stack([level, np.zeros_like(relative)])
    prior = np.array([0.0] + [PRIOR_SD**-2] * relative.shape[1])
    names = ("length",) if styles is None else STYLE
    return Design(seen, alike, prior, ("level", *(f"more {name}" for name in names)))


def styles_of_rows(styles: tuple[Floats, Floats], rows: Rows) -> tuple[Floats, Floats]:
    """The style counts of the policy's answers and the baseline's, for each row."""
    first, second = styles[0][rows.place], styles[1][rows.place]
    turned = rows.turned[:, None]
    return np.where(turned, second, first), np.where(turned, first, second)


def spread_of(values: Floats) -> float:
    """The standard deviation over n - 1; 0 for less than two values."""
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
