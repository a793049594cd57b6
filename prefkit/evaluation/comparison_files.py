"""Files of comparisons between many policies, read as they are.

Reads   a CSV, JSON Lines, JSON, Parquet or Excel file, one comparison a row: two policies and who won
Gives   Outcomes, and the texts of the answers where the file holds them

Columns, in any case: ``model_a`` and ``model_b`` (or ``policy_a``/``policy_b``, ``first``/``second``, ``a``/``b``);
``winner`` (``model_a``, ``a``, a policy's own name, ``tie``, ``tie (bothbad)`` ...) or ``preferred``, the probability
of the first from 0 to 1; ``prompt_id``, ``question_id``, ``prompt``, ``question`` or ``instruction``; ``judge`` or
``annotator``; ``response_a`` and ``response_b`` (or ``answer_``, ``output_``, ``text_``) for a control of length and
style. Without a prompt each row is one of its own; without a judge each row counts by itself. The first of the two
stood in slot A. A row that says no winner is counted, never dropped in silence.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prefkit.errors import InputError
from prefkit.evaluation.outcomes import KINDS, UNKNOWN, Outcomes
from prefkit.rows.files import read_rows

SIDES = (("model_a", "model_b"), ("policy_a", "policy_b"), ("first", "second"), ("a", "b"))
PROMPTS = ("prompt_id", "question_id", "prompt", "question", "instruction")
JUDGES = ("judge", "annotator")
TEXTS = ("response", "answer", "output", "text")
TIES = ("tie", "tie (bothbad)", "both_bad", "bothbad", "draw", "both")
NO_WINNER = "rows that name no winner"
ITSELF = "rows of a policy with itself"
NO_POLICY = "rows that name no policy"
NO_JUDGE = "the file"
_COLUMNS = "columns such as model_a, model_b, winner"


@dataclass(frozen=True)
class Comparisons:
    """``responses`` are prompt, policy and text of the answers, one of each."""

    outcomes: Outcomes
    responses: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class _Row:
    """A comparison; ``judge`` is None where the file names none."""

    prompt: str
    judge: str | None
    one: str
    other: str
    share: float
    text: str | None
    other_text: str | None


def read_comparisons(path: Path) -> Comparisons:
    """The comparisons of a file.

    Raises:
        InputError: there is no such file, it is broken, lacks the columns, or holds no comparison with a winner.
    """
    rows: list[_Row] = []
    left_out: Counter[str] = Counter()
    for number, row in enumerate(read_rows(path), 1):
        if row.broken:
            left_out["broken rows"] += 1
            continue
        taken = _taken({str(name).strip().casefold(): value for name, value in row.values.items()}, path, number)
        if isinstance(taken, str):
            left_out[taken] += 1
        else:
            rows.append(taken)
    if not rows:
        found = ", ".join(["0 comparisons with a winner", *(f"{count:,} {why}" for why, count in left_out.items())])
        raise InputError(path, found, "rows with two policies and a winner", f"Check its {_COLUMNS}.")
    answers = [(row.prompt, row.one, row.text) for row in rows]
    answers += [(row.prompt, row.other, row.other_text) for row in rows]
    texts = dict.fromkeys((prompt, policy, text) for prompt, policy, text in answers if text is not None)
    return Comparisons(_outcomes(path, rows, dict(left_out)), tuple(texts))


def comparison_outcomes(path: Path) -> Outcomes:
    """The comparisons of a file, without texts.

    Raises:
        InputError: as `read_comparisons`.
    """
    return read_comparisons(path).outcomes


def _taken(values: Mapping[str, Any], path: Path, number: int) -> _Row | str:
    """A row, or why it is none."""
    sides = next((sides for sides in SIDES if sides[0] in values and sides[1] in values), None)
    if sides is None:
        there = ", ".join(values) or "nothing"
        where = f"row {number} with {there}"
        raise InputError(path, where, _COLUMNS, "Rename the columns, or import it into a run.")
    one, other = (_named(values, (side,)) for side in sides)
    if one is None or other is None:
        return NO_POLICY
    if one == other:
        return ITSELF
    share = _preferred(values, one, other)
    if math.isnan(share):
        return NO_WINNER
    text, other_text = (_text(values, side) for side in ("a", "b"))
    prompt = _named(values, PROMPTS) or f"row {number}"
    return _Row(prompt, _named(values, JUDGES), one, other, share, text, other_text)


def _text(values: Mapping[str, Any], side: str) -> str | None:
    found = (values[f"{name}_{side}"] for name in TEXTS if isinstance(values.get(f"{name}_{side}"), str))
    return next(found, None)


def _named(values: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    given = (str(values[name]).strip() for name in names if values.get(name) not in (None, ""))
    return next(given, None)


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


def _outcomes(path: Path, rows: list[_Row], left_out: dict[str, int]) -> Outcomes:
    policies = {name: code for code, name in enumerate(sorted({row.one for row in rows} | {row.other for row in rows}))}
    prompts = {name: code for code, name in enumerate(dict.fromkeys(row.prompt for row in rows))}
    judges = {name: code for code, name in enumerate(dict.fromkeys(row.judge or NO_JUDGE for row in rows))}
    prompt = np.asarray([prompts[row.prompt] for row in rows], np.int64)
    one = np.asarray([policies[row.one] for row in rows], np.int64)
    other = np.asarray([policies[row.other] for row in rows], np.int64)
    share = np.asarray([row.share for row in rows])
    length = np.asarray([UNKNOWN if row.text is None else len(row.text) for row in rows], np.int64)
    other_length = np.asarray([UNKNOWN if row.other_text is None else len(row.other_text) for row in rows], np.int64)
    forward = one < other
    first, second = np.minimum(one, other), np.maximum(one, other)
    # Answers of one length are taken for the same ones; a row without a judge is nobody's second answer to another.
    alone = np.asarray([number if row.judge is None else -1 for number, row in enumerate(rows)], np.int64)
    lengths = np.where(forward, length, other_length), np.where(forward, other_length, length)
    keys = np.stack([prompt, first, second, *lengths, alone], axis=1)
    _, pair = np.unique(keys, axis=0, return_inverse=True)
    return Outcomes(
        prompt=prompt,
        judge=np.asarray([judges[row.judge or NO_JUDGE] for row in rows], np.int64),
        first=first,
        second=second,
        preferred=np.where(forward, share, 1 - share),
        shown_first=forward,
        length_first=lengths[0],
        length_second=lengths[1],
        topic=np.full(len(rows), UNKNOWN),
        pair=pair.reshape(-1).astype(np.int64),
        kind=np.full(len(rows), KINDS.index("comparison")),
        prompts=tuple(prompts),
        judges=tuple(judges),
        policies=tuple(policies),
        topics=(),
        left_out=left_out,
        source=str(path),
    )
