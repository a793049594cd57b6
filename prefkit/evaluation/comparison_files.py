"""Files of comparisons between many policies, read as they are.

Reads   a CSV, JSON Lines, JSON, Parquet or Excel file, one comparison a row: two policies and who won
Gives   Outcomes

Columns, in any case: ``model_a`` and ``model_b`` (or ``policy_a``/``policy_b``, ``first``/``second``, ``a``/``b``);
``winner`` (``model_a``, ``a``, a policy's own name, ``tie``, ``tie (bothbad)`` ...) or ``preferred``, the probability
of the first from 0 to 1; ``prompt_id``, ``question_id``, ``prompt``, ``question`` or ``instruction``; ``judge`` or
``annotator``. Without a prompt each row is one of its own. The first of the two stood in slot A. A row that says no
winner is counted, never dropped in silence.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from prefkit.errors import InputError
from prefkit.evaluation.outcomes import KINDS, UNKNOWN, Outcomes
from prefkit.rows.files import read_rows

SIDES = (("model_a", "model_b"), ("policy_a", "policy_b"), ("first", "second"), ("a", "b"))
PROMPTS = ("prompt_id", "question_id", "prompt", "question", "instruction")
JUDGES = ("judge", "annotator")
TIES = ("tie", "tie (bothbad)", "both_bad", "bothbad", "draw", "both")
NO_WINNER = "rows that name no winner"
ITSELF = "rows of a policy with itself"
_COLUMNS = "columns such as model_a, model_b, winner"


def comparison_outcomes(path: Path) -> Outcomes:
    """The comparisons of a file.

    Raises:
        InputError: there is no such file, it is broken, lacks the columns, or holds no comparison with a winner.
    """
    codes: dict[str, dict[str, int]] = {"prompt": {}, "judge": {}, "policy": {}}
    rows: list[tuple[int, int, int, int, float]] = []
    left_out: Counter[str] = Counter()
    for number, row in enumerate(read_rows(path), 1):
        if row.broken:
            left_out["broken rows"] += 1
            continue
        values = {str(name).strip().casefold(): value for name, value in row.values.items()}
        one, other = _sides(path, values)
        share = _preferred(values, one, other)
        if one == other:
            left_out[ITSELF] += 1
        elif math.isnan(share):
            left_out[NO_WINNER] += 1
        else:
            prompt = _named(values, PROMPTS, f"row {number}")
            judge = _named(values, JUDGES, "the file")
            names = (("prompt", prompt), ("judge", judge), ("policy", one), ("policy", other))
            place = [codes[what].setdefault(name, len(codes[what])) for what, name in names]
            rows.append((place[0], place[1], place[2], place[3], share))
    if not rows:
        found = "no comparison" + "".join(f", {count:,} {reason}" for reason, count in left_out.items())
        raise InputError(path, found, "rows with two policies and a winner", f"Check its {_COLUMNS}.")
    return _outcomes(path, codes, rows, dict(left_out))


def _sides(path: Path, values: Mapping[str, Any]) -> tuple[str, str]:
    for one, other in SIDES:
        if values.get(one) not in (None, "") and values.get(other) not in (None, ""):
            return str(values[one]).strip(), str(values[other]).strip()
    there = ", ".join(map(str, values)) or "nothing"
    raise InputError(path, f"a row with {there}", _COLUMNS, "Rename the columns, or import it into a run.")


def _named(values: Mapping[str, Any], names: tuple[str, ...], otherwise: str) -> str:
    given = (str(values[name]) for name in names if values.get(name) not in (None, ""))
    return next(given, otherwise)


def _preferred(values: Mapping[str, Any], one: str, other: str) -> float:
    """The probability that the first is preferred; NaN where nothing says so."""
    if values.get("preferred") not in (None, ""):
        try:
            share = float(values["preferred"])
        except (TypeError, ValueError):
            return math.nan
        return share if 0 <= share <= 1 else math.nan
    winner = str(values.get("winner", "")).strip()
    if winner in (one, other):
        return float(winner == one)
    plain = winner.casefold()
    if plain in TIES:
        return 0.5
    firsts, seconds = zip(*SIDES, strict=True)
    return 1.0 if plain in firsts else 0.0 if plain in seconds else math.nan


def _outcomes(
    path: Path,
    codes: Mapping[str, Mapping[str, int]],
    rows: list[tuple[int, int, int, int, float]],
    left_out: dict[str, int],
) -> Outcomes:
    policies = sorted(codes["policy"])
    place = np.empty(len(policies), np.int64)
    place[[codes["policy"][name] for name in policies]] = np.arange(len(policies))
    prompt, judge, one, other = np.asarray([row[:4] for row in rows], dtype=np.int64).T
    share = np.asarray([row[4] for row in rows])
    one, other = place[one], place[other]
    forward = one < other
    first, second = np.minimum(one, other), np.maximum(one, other)
    _, pair = np.unique((prompt * len(policies) + first) * len(policies) + second, return_inverse=True)
    unknown = np.full(len(rows), UNKNOWN)
    return Outcomes(
        prompt=prompt,
        judge=judge,
        first=first,
        second=second,
        preferred=np.where(forward, share, 1 - share),
        shown_first=forward,
        length_first=unknown,
        length_second=unknown,
        topic=unknown,
        pair=pair.astype(np.int64),
        kind=np.full(len(rows), KINDS.index("comparison")),
        prompts=tuple(codes["prompt"]),
        judges=tuple(codes["judge"]),
        policies=tuple(policies),
        topics=(),
        left_out=left_out,
        source=str(path),
    )
