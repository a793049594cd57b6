"""AlpacaEval's files, read as they are.

Reads   annotations.json    one row a comparison: instruction, output_1 (the baseline), output_2, preference from 1 to 2
        model_outputs.json  one row an answer: instruction, output, generator
        leaderboard CSV     published win rates; weights CSV, of the length-controlled model; difficulties CSV
Gives   Outcomes, and the texts beside them

Each may be packed (.gz, .bz2, .xz). Rows are joined by instruction, never by their place in a file: a file with rows
shuffled or missing gives the same. A preference that is null, NaN or -1 is a call that failed, and is dropped and
counted; 0 is AlpacaEval's other way to write a tie. A length is in characters, as AlpacaEval counts them; an answer
whose text is not there has none, and its row still counts in the win rate.

Published difficulties carry a row number alone: that of AlpacaEval's evaluation set. ``alpaca_instructions.txt`` holds
the digest of each of its instructions in its order, so that they are joined by instruction all the same, to some of
them or to all, in any order.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from prefkit.errors import InputError
from prefkit.evaluation.outcomes import KINDS, UNKNOWN, Ints, Outcomes
from prefkit.rows.files import read_rows
from prefkit.rows.opening import UNPACK, check_file, one_line, open_file

INSTRUCTIONS = Path(__file__).with_name("alpaca_instructions.txt")
"""A line for each of the 805 instructions of AlpacaEval's evaluation set in its order: see ``instruction_digest``."""
NEARLY = 1e-6
"""How far a preference may be outside 1 to 2, by rounding."""

FAILED = "the call had failed (-1)"
EMPTY = "no preference"
Name = TypeVar("Name", bound=Hashable)
_TANH, _DIFFICULTY, _MODEL = "np.tanh(std_delta_len)", "instruction_difficulty", "not_gamed_baseline.astype(float)"


@dataclass(frozen=True)
class Annotated:
    """What annotation files say.

    ``outcomes`` have the model (AlpacaEval's output_2) first and the baseline second, and say in ``left_out`` which
    rows are not among them; ``texts_first`` and ``texts_second`` are the answers, row by row, None where neither the
    row nor an outputs file has it; ``rows`` were read.
    """

    outcomes: Outcomes
    texts_first: tuple[str | None, ...]
    texts_second: tuple[str | None, ...]
    rows: int


@dataclass(frozen=True)
class Published:
    """A model's line on the leaderboard, in percent where it is a rate; None where the line leaves a cell empty."""

    win_rate: float
    standard_error: float
    wins: int
    losses: int
    draws: int
    total: int
    discrete_win_rate: float
    length: float
    length_controlled: float | None
    length_controlled_error: float | None


@dataclass(frozen=True)
class Weights:
    """A model's weights in AlpacaEval's length-controlled model, in log-odds beside its baseline's, which are 0.

    ``length`` is phi, of tanh of the standardised length difference; ``difficulty`` psi; ``model`` theta.
    """

    length: float
    difficulty: float
    model: float


@dataclass(frozen=True)
class _Row:
    instruction: str
    judge: str
    policy: str
    baseline: str
    preferred: float
    texts: tuple[str | None, str | None]
    topic: str | None


def read_annotations(paths: Sequence[Path], *, policies: Sequence[str] = (), outputs: Sequence[Path] = ()) -> Annotated:
    """The comparisons of one annotation file or of several.

    Args:
        paths: annotations.json files.
        policies: the name of each file's model, in place of what its rows say (generator_2, where generator_1 is not
            that model already).
        outputs: model_outputs.json files, for the answers that rows do not carry.

    Raises:
        InputError: a file cannot be read, a row is no annotation or its preference is not from 1 to 2, or no row of
            any file holds a preference.
        ValueError: there are names, but not one for each file.
    """
    if policies and len(policies) != len(paths):
        raise ValueError(f"policies must name each of the {len(paths)} files; got {len(policies)} names")
    answers = read_outputs(outputs)
    kept: list[_Row] = []
    dropped: dict[str, int] = {}
    rows = 0
    for path, name in zip(paths, policies or [""] * len(paths), strict=True):
        for where, row in _records(path):
            rows += 1
            found = _annotation(where, row, name, answers)
            if isinstance(found, _Row):
                kept.append(found)
            else:
                dropped[found] = dropped.get(found, 0) + 1
    if not kept:
        raise InputError(
            ", ".join(map(str, paths)) or "annotations",
            f"{rows} rows, none with a preference" + "".join(f"; {count}: {why}" for why, count in dropped.items()),
            "rows with a preference from 1 to 2",
            "Let the annotator run again: a failed call is stored, and not asked again by itself.",
        )
    outcomes = _outcomes(kept, dropped, ", ".join(map(str, paths)))
    return Annotated(outcomes, tuple(row.texts[0] for row in kept), tuple(row.texts[1] for row in kept), rows)


def read_outputs(paths: Sequence[Path]) -> dict[tuple[str, str], str]:
    """Answers by generator and instruction, of model_outputs.json files.

    Raises:
        InputError: a file cannot be read, a row is no answer, or one generator has two answers to an instruction.
    """
    answers: dict[tuple[str, str], str] = {}
    for path in paths:
        for where, row in _records(path):
            key = (_text(where, row, "generator"), _text(where, row, "instruction"))
            answer = _text(where, row, "output")
            if answers.setdefault(key, answer) != answer:
                raise InputError(
                    f"{where}: output",
                    f"a second answer of {key[0]} to one instruction",
                    "one answer to each instruction",
                    "Remove one of them, or give the two generators different names.",
                )
    return answers


def read_leaderboard(path: Path) -> dict[str, Published]:
    """The published figures by model.

    Raises:
        InputError: the file is no leaderboard.
    """
    found = {}
    for where, row in _table(path):
        number = {name: _number(where, row, name) for name in ("win_rate", "standard_error", "discrete_win_rate")}
        counts = [int(_number(where, row, name)) for name in ("n_wins", "n_wins_base", "n_draws", "n_total")]
        found[_name(row)] = Published(
            number["win_rate"],
            number["standard_error"],
            counts[0],
            counts[1],
            counts[2],
            counts[3],
            number["discrete_win_rate"],
            _number(where, row, "avg_length"),
            _number_or_none(where, row, "length_controlled_winrate"),
            _number_or_none(where, row, "lc_standard_error"),
        )
    return found


def read_weights(path: Path) -> dict[str, Weights]:
    """The published weights of the length-controlled model, by model.

    Raises:
        InputError: the file holds no such weights.
    """
    return {
        _name(row): Weights(*(_number(where, row, column) for column in (_TANH, _DIFFICULTY, _MODEL)))
        for where, row in _table(path)
    }


def read_difficulties(path: Path, instructions: Sequence[str] = (), *, column: str | None = None) -> dict[str, float]:
    """The difficulty of instructions, by instruction, in log-odds.

    Args:
        path: a CSV file with an instruction's text, or its row in AlpacaEval's evaluation set, in each row.
        instructions: those wanted, for a file of row numbers; of any others no difficulty is known.
        column: the column of difficulties; the last one where it is not given.

    Raises:
        InputError: the file holds no difficulties, or row numbers and none of these instructions is of the set.
    """
    rows = list(_table(path))
    by_text = "instruction" in rows[0][1]
    order = INSTRUCTIONS.read_text(encoding="ascii").split()
    names = {instruction_digest(instruction): instruction for instruction in instructions}
    if not by_text and not names.keys() & set(order):
        raise InputError(
            path,
            f"row numbers of AlpacaEval's evaluation set, beside {len(instructions)} instructions that are not of it",
            "some of its 805 instructions, or a column of instructions in this file",
            "Add a column `instruction`: rows are never joined by place.",
        )
    found: dict[str, float] = {}
    for where, row in rows:
        cell = row["instruction"] if by_text else names.get(order[_place(where, row, len(order))])
        value = _number(where, row, column or list(row)[-1])
        if cell is not None and found.setdefault(cell, value) != value:
            raise InputError(
                where, "a second difficulty of one instruction", "one for each", "Remove one of the two rows."
            )
    return found


def instruction_digest(instruction: str) -> str:
    """The digest by which an instruction of AlpacaEval's evaluation set is known: 16 digits of SHA-256."""
    return hashlib.sha256(instruction.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _annotation(where: str, row: dict[str, Any], name: str, answers: Mapping[tuple[str, str], str]) -> _Row | str:
    """What a row says, or why it says nothing."""
    preferred = _preference(where, row)
    if isinstance(preferred, str):
        return preferred
    instruction = _text(where, row, "instruction")
    generators = (_text(where, row, "generator_2"), _text(where, row, "generator_1"))
    texts: list[str | None] = []
    for column, generator in zip(("output_2", "output_1"), generators, strict=True):
        text = row.get(column)
        texts.append(text if isinstance(text, str) else answers.get((generator, instruction)))
    judge, topic = row.get("annotator"), row.get("dataset")
    return _Row(
        instruction,
        judge if isinstance(judge, str) else "annotator",
        name if name and generators[1] != name else generators[0],
        generators[1],
        preferred,
        (texts[0], texts[1]),
        topic if isinstance(topic, str) else None,
    )


def _preference(where: str, row: dict[str, Any]) -> float | str:
    """How far output_2 is preferred, from 0 to 1; a reason where the row does not say."""
    if "preference" not in row:
        raise InputError(where, "no column `preference`", "a row of AlpacaEval's annotations.json", "Look at the file.")
    cell = row["preference"]
    if cell is None or cell == "":
        return EMPTY
    try:
        value = float(cell)
    except (TypeError, ValueError):
        value = math.inf
    if math.isnan(value):
        return EMPTY
    if value == -1:
        return FAILED
    if value == 0:
        return 0.5
    if not 1 - NEARLY <= value <= 2 + NEARLY:
        raise InputError(
            f"{where}: preference",
            repr(cell)[:80],
            "a number from 1 (output_1 is better) to 2 (output_2 is), 1.5 or 0 for a tie, -1 or null for none",
            "Write it on AlpacaEval's scale.",
        )
    return min(max(value - 1, 0.0), 1.0)


def _outcomes(rows: Sequence[_Row], left_out: dict[str, int], source: str) -> Outcomes:
    prompts, judges = _codes(row.instruction for row in rows), _codes(row.judge for row in rows)
    policies = _codes([*(row.policy for row in rows), *(row.baseline for row in rows)])
    topics = _codes(row.topic for row in rows if row.topic)
    pairs = _codes((row.instruction, row.policy, row.baseline, row.texts) for row in rows)
    pair = [pairs[row.instruction, row.policy, row.baseline, row.texts] for row in rows]
    return Outcomes(
        prompt=np.array([prompts[row.instruction] for row in rows], dtype=np.int64),
        judge=np.array([judges[row.judge] for row in rows], dtype=np.int64),
        first=np.array([policies[row.policy] for row in rows], dtype=np.int64),
        second=np.array([policies[row.baseline] for row in rows], dtype=np.int64),
        preferred=np.array([row.preferred for row in rows], dtype=np.float64),
        shown_first=None,
        length_first=_lengths(row.texts[0] for row in rows),
        length_second=_lengths(row.texts[1] for row in rows),
        topic=np.array([topics[row.topic] if row.topic else UNKNOWN for row in rows], dtype=np.int64),
        pair=np.array(pair, dtype=np.int64),
        kind=np.full(len(rows), KINDS.index("comparison"), dtype=np.int64),
        prompts=tuple(prompts),
        judges=tuple(judges),
        policies=tuple(policies),
        topics=tuple(topics),
        left_out=left_out,
        source=source,
    )


def _lengths(texts: Iterable[str | None]) -> Ints:
    return np.array([UNKNOWN if text is None else len(text) for text in texts], dtype=np.int64)


def _codes(names: Iterable[Name]) -> dict[Name, int]:
    return {name: code for code, name in enumerate(dict.fromkeys(names))}


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a JSON array, with the NaN that Python and pandas write; of any other table otherwise."""
    check_file(path)
    if ".json" not in [ending.lower() for ending in path.suffixes]:
        yield from ((f"{path}:{row.number}", row.values) for row in read_rows(path))
        return
    try:
        with UNPACK.get(path.suffix.lower(), open_file)(path) as file:
            rows = json.loads(file.read())
    except (OSError, EOFError, ValueError, RecursionError) as fault:
        raise InputError(
            path, f"text that is not JSON ({one_line(fault)})", "a JSON array of objects", "Fetch the file again."
        ) from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(path, "JSON of another shape", "a JSON array of objects", "Is it annotations.json?")
    yield from ((f"{path}: row {number}", row) for number, row in enumerate(rows, 1))


def _table(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    empty = True
    for row in read_rows(path):
        if row.broken:
            raise InputError(f"{path}:{row.number}", row.broken, "a whole row", "Fetch the file again.")
        empty = False
        yield f"{path}:{row.number}", row.values
    if empty:
        raise InputError(path, "a header and no rows", "rows", "Fetch the file again.")


def _name(row: dict[str, Any]) -> str:
    return str(next(iter(row.values())))


def _text(where: str, row: dict[str, Any], column: str) -> str:
    cell = row.get(column)
    if isinstance(cell, str):
        return cell
    raise InputError(
        f"{where}: {column}",
        "nothing" if cell is None else f"{type(cell).__name__} {str(cell)[:40]!r}",
        "text",
        "Is it a file of AlpacaEval's?",
    )


def _number(where: str, row: dict[str, Any], column: str) -> float:
    found = _number_or_none(where, row, column)
    if found is None:
        raise InputError(f"{where}: {column}", "nothing", "a number", "Is it a file of AlpacaEval's?")
    return found


def _number_or_none(where: str, row: dict[str, Any], column: str) -> float | None:
    cell = row.get(column)
    if cell is None or cell == "":
        return None
    try:
        value = float(cell)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: {column}", repr(cell)[:80], "a number", "Is it a file of AlpacaEval's?")
    return value


def _place(where: str, row: dict[str, Any], size: int) -> int:
    value = _number(where, row, "index" if "index" in row else next(iter(row)))
    if value != int(value) or not 0 <= value < size:
        raise InputError(where, f"row number {value:g}", f"a whole number from 0 to {size - 1}", "Look at the file.")
    return int(value)
