"""Two policies' outcomes as rows of a regression: what of the two answers differs, and what it would be if nothing did.

Reads   Outcomes, style counts of texts
Gives   Rows, turned so that the policy is first; a Design, with the features as seen and with the answers alike

Features are scaled and never centred: where one is 0 the two answers are alike in it, whatever they mostly are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from prefkit.errors import PrefkitError
from prefkit.evaluation.outcomes import UNKNOWN, Outcomes, known

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
STYLE = ("length", "headers", "lists", "bold")
_CODE = re.compile(r"^```.*?(?:^```|\Z)", re.MULTILINE | re.DOTALL)
_HEADER = re.compile(r"^ {0,3}#{1,6}\s", re.MULTILINE)
_ITEM = re.compile(r"^\s*(?:[-*+]|\d{1,3}[.)])\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")


@dataclass(frozen=True)
class Rows:
    """The rows to fit, turned so that the policy is first: ``place`` in the outcomes, ``counts`` 1 for rows of the
    policy and 0 for rows of gamed baselines, ``model`` which of these policies, ``turned`` whether sides were changed.
    """

    place: Ints
    prompt: Ints
    preferred: Floats
    lengths: Floats
    weight: Floats
    counts: Floats
    model: Ints
    turned: Bools
    left_out: dict[str, int]

    def where(self, keep: Bools, reason: str) -> Rows:
        """The rows to keep [n], the policy's others counted."""
        lost = int(self.counts[~keep].sum())
        arrays = {one.name: getattr(self, one.name)[keep] for one in fields(self) if one.name != "left_out"}
        return Rows(**arrays, left_out=self.left_out | ({reason: lost} if lost else {}))

    def prompts(self) -> int:
        """How many prompts the policy's rows are on."""
        return len(np.unique(self.prompt[self.counts > 0]))

    def similar(self) -> Bools:
        """The policy's rows whose answers are of similar length. [n]"""
        near: Bools = self.lengths.max(axis=1) <= (1 + SIMILAR) * self.lengths.min(axis=1)
        return near & (self.counts > 0)

    def raw(self) -> float:
        """The rate as judged."""
        return float(self.preferred @ self.counts / self.counts.sum())


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
        weight=np.where(model == 0, 1.0, GAMED_WEIGHT / max(1, len(gamed))),
        counts=(model == 0).astype(np.float64),
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
    if not rows.counts.any():
        dropped = "; ".join(f"{count} left out: {why}" for why, count in rows.left_out.items())
        raise PrefkitError(
            where,
            f"no comparison of {policy} with {baseline} that could be used" + (f" ({dropped})" if dropped else ""),
            "comparisons of the two, with the texts of both answers",
            "Judge the two on the same prompts first; difficulties are looked up by the prompt's name.",
        )
    longer = rows.lengths[rows.counts > 0] @ np.array([1.0, -1.0])
    if rows.prompts() >= MIN_PROMPTS and np.ptp(longer) == 0 and longer[0] != 0:
        raise PrefkitError(
            where,
            f"answers of {policy} that are all longer than those of {baseline} by {longer[0]:.0f} characters",
            "differences of length that vary",
            "Nothing tells what equal length would change: give the raw win rate.",
        )


def alpaca_design(rows: Rows, gamma: Floats | None) -> Design:
    """Columns theta, phi and, with difficulties, psi; theta is 0 for a gamed baseline."""
    shorter = rows.lengths[:, 1] - rows.lengths[:, 0]
    length = np.zeros(len(shorter))
    for model in np.unique(rows.model):
        mine = rows.model == model
        length[mine] = np.tanh(shorter[mine] / (spread_of(shorter[mine]) or 1.0))
    columns, alike = [rows.counts, length], [rows.counts, np.zeros(len(length))]
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
    scale = np.sqrt((relative**2).mean(axis=0))
    relative /= np.where(scale > 0, scale, 1.0)
    seen = np.column_stack([rows.counts, relative])
    alike = np.column_stack([rows.counts, np.zeros_like(relative)])
    prior = np.array([0.0] + [PRIOR_SD**-2] * relative.shape[1])
    names = ("length",) if styles is None else STYLE
    return Design(seen, alike, prior, ("level", *(f"more {name}" for name in names)))


def styles_of_rows(styles: tuple[Floats, Floats], rows: Rows) -> tuple[Floats, Floats]:
    """The style counts of the policy's answers and the baseline's, for each row."""
    first, second = styles[0][rows.place], styles[1][rows.place]
    turned = rows.turned[:, None]
    return np.where(turned, second, first), np.where(turned, first, second)


def style_counts(texts: Sequence[str]) -> Floats:
    """Characters, headers, list items and bold passages of texts in Markdown, outside code blocks. [texts, 4]

    The characters are those of the whole text.

    Source: the arena's style control, whose elements these are (lmsys.org/blog/2024-08-28-style-control).
    """
    found = np.zeros((len(texts), len(STYLE)))
    for row, text in enumerate(texts):
        prose = _CODE.sub("", text)
        found[row] = (len(text), *(len(pattern.findall(prose)) for pattern in (_HEADER, _ITEM, _BOLD)))
    return found


def spread_of(values: Floats) -> float:
    """The standard deviation over n - 1; 0 for less than two values."""
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
