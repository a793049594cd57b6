"""What of two answers differs in form, for a board with length and style alike: the arena's style control.

Reads   the form of responses (``prefkit.evaluation.styles``); Outcomes
Gives   Features: in each row how much longer, fuller of headers, lists and bold the first answer is

A feature is the arena's relative difference, (a - b) / (a + b), in units of its root mean square: 1 is a usual
difference. It is scaled and never centred, so that who is named first changes nothing, and ratings are those of answers
that are alike in it. Length is in characters.

Source: lmsys.org/blog/2024-08-28-style-control.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from prefkit.evaluation.outcomes import Outcomes
from prefkit.evaluation.strengths import Floats
from prefkit.evaluation.styles import STYLE, Texts

Control = Literal["length", "style"]
CONTROLS: dict[Control, tuple[str, ...]] = {"length": STYLE[:1], "style": STYLE[1:]}
NO_TEXT = "without the texts of both answers"


@dataclass(frozen=True)
class Features:
    """``values`` [n, features]: how much more of each the first answer has; ``left_out`` names those that never
    differ."""

    names: tuple[str, ...]
    values: Floats
    left_out: tuple[str, ...] = ()


def alike(outcomes: Outcomes, texts: Texts, controls: Sequence[Control]) -> tuple[Outcomes, Features]:
    """The rows whose answers' texts are known, and what differs in them; the others are counted."""
    one, other = texts.of(outcomes)
    known = np.asarray(np.isfinite(np.hstack([one, other])).all(axis=1), dtype=bool)
    lost = int((~known).sum())
    names = [name for control in CONTROLS if control in controls for name in CONTROLS[control]]
    some = replace(outcomes[known], left_out=outcomes.left_out | ({NO_TEXT: lost} if lost else {}))
    return some, relative(one[known], other[known], names)


def relative(one: Floats, other: Floats, names: Sequence[str]) -> Features:
    """Features out of counts [n, 4], as `style_counts` gives them."""
    columns = [STYLE.index(name) for name in names]
    one, other = one[:, columns], other[:, columns]
    both = one + other
    values = np.divide(one - other, both, out=np.zeros_like(both), where=both > 0)
    scale = np.sqrt((values**2).mean(axis=0)) if len(values) else np.zeros(len(names))
    differs = scale > 0
    kept = tuple(name for name, keep in zip(names, differs, strict=True) if keep)
    same = tuple(name for name, keep in zip(names, differs, strict=True) if not keep)
    return Features(kept, values[:, differs] / scale[differs], same)
