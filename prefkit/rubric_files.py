"""Rubrics as files: found by name or path, read from YAML, validated.

Reads   principles/*.yaml, which ship with prefkit, or any path; files of contrast examples
Gives   Rubric, Example

An unknown key, like every other fault, is an error that names file and line.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from prefkit.errors import RubricError
from prefkit.records import Score
from prefkit.rubric import Example, Gate, Principle, Rubric, Scale
from prefkit.rubric_yaml import load_yaml

MAX_BYTES = 1 << 18  # YAML is slow: this much takes up to ten seconds
MAX_JSONL_BYTES = 1 << 26
MAX_SCORES = 10_001  # 0-100 by hundredths
_START = "Start from a working one: `prefkit rubric new NAME`."
_EXAMPLES = "An example has the fields prompt, better, worse, and why if you like; see docs/judging.md."
_COMPARE = "Compare it with a working one: `prefkit rubric show psychocounsel --yaml`."
_WORDS = {
    "unit": "response, turn or session",
    "aggregate": "mean, weighted-mean, sum or normalised",
    "rule": "not-inverted or at-least",
}
_KINDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "int | float": "a number",
    "object": "a mapping",
    "array": "a list",
    "null": "nothing",
    "bool": "a yes or no without quotes",
}
_PARTS = {"principles": Principle, "scale": Scale, "examples": Example, "gates": Gate}
_AT = re.compile(r" - at (?:`key` in )?`\$([^`]*)`$")

T = TypeVar("T")


@dataclass(frozen=True)
class RubricFile:
    """A rubric that ships with prefkit: its name and where it stands."""

    name: str
    path: Path


def shipped_rubrics() -> list[RubricFile]:
    """The rubrics that ship with prefkit, by name."""
    beside_the_code = Path(__file__).parent / "principles"
    folder = beside_the_code if beside_the_code.is_dir() else Path(__file__).parent.parent / "principles"
    return [RubricFile(path.stem, path) for path in sorted(folder.glob("*.yaml"))]


def find_rubric(name_or_path: str | Path) -> Path:
    """The file of a rubric, given a shipped name or a path.

    Raises:
        RubricError: there is no such name and no such file.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        return path
    shipped = {rubric.name: rubric.path for rubric in shipped_rubrics()}
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    raise RubricError(
        name_or_path,
        "no rubric of this name",
        f"one of {', '.join(shipped)}, or the path of a .yaml file",
        "See `prefkit rubric list`, or start one of your own with `prefkit rubric new NAME`.",
    )


def load_rubric(name_or_path: str | Path) -> Rubric:
    """Read and validate a rubric, by shipped name or by path.

    Raises:
        RubricError: with file and line, whatever is wrong with it.
    """
    path = find_rubric(name_or_path)
    return parse_rubric(_read(path), path)


def load_examples(path: Path) -> tuple[Example, ...]:
    """Read contrast examples: a YAML list (.yaml, .yml), or an object a line (.jsonl).

    Raises:
        RubricError: with file and line, whatever is wrong with it.
    """
    if path.suffix == ".jsonl":
        value, lines = _json_lines(_read(path, most=MAX_JSONL_BYTES), path)
    elif path.suffix in (".yaml", ".yml"):
        value, lines = load_yaml(_read(path), path)
    else:
        raise RubricError(path, f"a file that ends in {path.suffix!r}", ".yaml or .jsonl", _EXAMPLES)
    if not isinstance(value, list):
        found = "a mapping" if isinstance(value, dict) else _kind(value)
        raise RubricError(path, found, "a list of examples", _EXAMPLES)
    examples = []
    for index, item in enumerate(value):
        at = f"[{index}]"
        example = _converted(item, Example, at, path, lines, _EXAMPLES)
        for name in ("prompt", "better", "worse"):
            if not getattr(example, name).strip():
                raise RubricError(_place(path, f"{at}.{name}", lines), "an empty text", "words", _EXAMPLES)
        examples.append(example)
    return tuple(examples)


def _json_lines(text: str, path: Path) -> tuple[list[Any], dict[str, int]]:
    """The values of a JSONL file, and the line on which each stands, as `load_yaml` gives them."""
    values: list[Any] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                value = msgspec.json.decode(line)
            except (msgspec.DecodeError, RecursionError) as error:
                raise RubricError(f"{path}:{number}", f"broken JSON: {error}", "an object a line", _EXAMPLES) from None
            lines[f"[{len(values)}]"] = number
            values.append(value)
    return values, lines


def _read(path: Path, most: int = MAX_BYTES) -> str:
    try:
        with open(path, "rb") as file:
            raw = file.read(most + 1)
    except OSError as error:
        raise RubricError(
            path, (error.strerror or str(error)).lower(), "a file that can be read", "Check the path."
        ) from None
    if len(raw) > most:
        raise RubricError(path, f"more than {most:,} bytes", "a smaller file", "Is this the file you meant?")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise RubricError(
            f"{path}:{line}",
            f"the byte 0x{error.object[error.start]:02x}, which is not UTF-8",
            "UTF-8 text",
            f"Convert it: iconv -f LATIN1 -t UTF-8 {path.name} > new.yaml",
        ) from None


def parse_rubric(text: str, where: str | Path = "rubric") -> Rubric:
    """Validate the YAML text of a rubric; ``where`` is named in errors.

    Raises:
        RubricError: with ``where`` and the line.
    """
    value, lines = load_yaml(text, where)
    if not isinstance(value, dict):
        raise RubricError(where, _kind(value), "a mapping with id, title, principles", _START)
    for_all = _spelt_out(value.pop("scale", {}))
    principles = value.get("principles")
    for index, principle in enumerate(principles if isinstance(principles, list) else []):
        if isinstance(principle, dict):
            principle["scale"] = _spelt_out(principle["scale"]) if "scale" in principle else for_all
            anchors = principle.get("anchors")
            for key, anchor in anchors.items() if isinstance(anchors, dict) else ():
                # One by one, because msgspec does not say of which key it speaks.
                _converted({key: anchor}, dict[Score, str], f"principles[{index}].anchors.{key}", where, lines)
    scale = _converted(for_all, Scale, "scale", where, lines)
    rubric = _converted(value, Rubric, "", where, lines)
    for field, found, expected in chain(_scale_faults("scale", scale), _faults(rubric)):
        raise RubricError(_place(where, field, lines), found, expected, _COMPARE)
    return rubric


def _spelt_out(scale: Any) -> Any:
    """A scale with its numbers, where it is only said by name: yes-no, or levels, which count from 0."""
    if scale == "yes-no":
        return {"min": 0, "max": 1, "levels": ["no", "yes"]}
    if isinstance(scale, dict) and isinstance(scale.get("levels"), list) and not {"min", "max"} & scale.keys():
        return {"min": 0, "max": len(scale["levels"]) - 1, **scale}
    return scale


def _converted(
    value: Any, kind: type[T], at: str, where: str | Path, lines: Mapping[str, int], remedy: str = _START
) -> T:
    """Plain values that stand ``at`` a path of the file, as a part of a rubric."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        field, found, expected = _explained(str(error), kind)
        field = f"{at}.{field}".strip(".")
        raise RubricError(_place(where, field, lines), found, expected, remedy) from None


def _explained(message: str, kind: type) -> tuple[str, str, str]:
    """msgspec's words about a ``kind`` as (field, found, expected)."""
    at = _AT.search(message)
    field = at[1].lstrip(".").replace("[...]", "") if at else ""
    message = message[: at.start()] if at else message
    if message.startswith("Object contains unknown field"):
        key = message.removeprefix("Object contains unknown field `").removesuffix("`")
        part = _PARTS.get(field.rpartition(".")[2].partition("[")[0], kind)
        known = [known.encode_name for known in msgspec.structs.fields(part)] + ["scale"] * (part is Rubric)
        return f"{field}.{key}".lstrip("."), "a key that has no meaning here", f"one of {', '.join(known)}"
    if message.startswith("Object missing required field"):
        return field, f"no {message.split('`')[1]!r}", "this key"
    if message.startswith("Invalid enum value"):
        return field, message.removeprefix("Invalid enum value "), _WORDS[field.rpartition(".")[2]]
    expected, _, found = message.removeprefix("Expected ").replace("`", "").partition(", got ")
    expected = expected.removesuffix(" | null")
    return field, _KINDS.get(found, found) or "a number as a key", _KINDS.get(expected, expected)


def _place(where: str | Path, field: str, lines: Mapping[str, int]) -> str:
    known = field
    while known and known not in lines:
        known = known.rpartition("." if known.rfind(".") > known.rfind("[") else "[")[0]
    line = lines.get(known, 1)
    return f"{where}:{line}: {field}" if field else f"{where}:{line}"


def _faults(rubric: Rubric) -> Iterator[tuple[str, str, str]]:
    """Faults that types do not show: (field, found, expected)."""
    if not rubric.principles:
        yield "principles", "an empty list", "at least one principle"
    for field, text in _texts(rubric):
        if not text.strip():
            yield field, "an empty text", "words"
    if rubric.version < 1:
        yield "version", str(rubric.version), "a whole number from 1"
    scales: dict[str, Scale] = {}
    for index, principle in enumerate(rubric.principles):
        at = f"principles[{index}]"
        if not principle.id.replace("_", "").replace("-", "").isalnum():
            yield f"{at}.id", repr(principle.id), "letters, digits, _ and -"
        if principle.id in scales:
            yield f"{at}.id", f"{principle.id!r} a second time", "an id of its own for each principle"
        scales[principle.id] = principle.scale
        if not (math.isfinite(principle.weight) and principle.weight > 0):
            yield f"{at}.weight", f"{principle.weight:g}", "a number above 0"
        yield from _scale_faults(f"{at}.scale", principle.scale)
        for value in principle.anchors:
            if not principle.scale.holds(value):
                scale = f"{principle.scale.min:g}-{principle.scale.max:g}"
                yield f"{at}.anchors.{value:g}", f"an anchor for {value:g}", f"anchors for scores from {scale}"
    for index, gate in enumerate(rubric.gates):
        at = f"gates[{index}]"
        if gate.principle not in scales:
            yield f"{at}.principle", repr(gate.principle), f"one of {', '.join(sorted(scales))}"
        elif (gate.value is None) == (gate.rule == "at-least"):
            yield (
                f"{at}.value",
                "none" if gate.value is None else f"{gate.value:g}",
                "a value with the rule at-least, and only there",
            )
        elif gate.value is not None and not scales[gate.principle].holds(gate.value):
            yield f"{at}.value", f"{gate.value:g}", f"a score on the scale of {gate.principle}"
    if rubric.aggregate in ("mean", "sum") and any(principle.weight != 1 for principle in rubric.principles):
        yield "aggregate", f"{rubric.aggregate!r} beside weights", "weighted-mean or normalised, which use them"
    if (
        rubric.aggregate in ("mean", "weighted-mean")
        and len({(p.scale.min, p.scale.max) for p in rubric.principles}) > 1
    ):
        yield "aggregate", f"{rubric.aggregate!r} over scales of different ranges", "normalised or sum"


def _texts(rubric: Rubric) -> Iterator[tuple[str, str]]:
    """The texts that cannot be left empty: (field, text)."""
    yield "id", rubric.id
    yield "title", rubric.title
    for index, principle in enumerate(rubric.principles):
        at = f"principles[{index}]"
        yield f"{at}.id", principle.id
        yield f"{at}.title", principle.title
        yield f"{at}.statement", principle.statement
        for value, anchor in principle.anchors.items():
            yield f"{at}.anchors.{value:g}", anchor
        for number, level in enumerate(principle.scale.levels):
            yield f"{at}.scale.levels[{number}]", level
        for number, example in enumerate(principle.examples):
            for name in ("prompt", "better", "worse"):
                yield f"{at}.examples[{number}].{name}", getattr(example, name)


def _scale_faults(field: str, scale: Scale) -> Iterator[tuple[str, str, str]]:
    if not all(math.isfinite(bound) for bound in (scale.min, scale.max, scale.step)):
        yield field, "a bound that is not a finite number", "finite numbers"
        return
    steps = (scale.max - scale.min) / scale.step if scale.step > 0 else math.nan
    if len(scale.levels) == 1:
        yield field, "one level", "two or more"
    elif scale.min >= scale.max:
        yield field, f"min {scale.min:g} and max {scale.max:g}", "a min below the max"
    elif steps >= MAX_SCORES:
        yield field, f"step {scale.step:g}", f"a step that makes at most {MAX_SCORES:,} scores"
    elif math.isnan(steps) or not math.isclose(steps, max(round(steps), 1), abs_tol=1e-6):
        yield field, f"step {scale.step:g}", f"a step that divides {scale.min:g}-{scale.max:g}"
    elif scale.levels and len(scale.levels) != len(scale.values()):
        yield field, f"{len(scale.levels)} levels", f"a name for each of the {len(scale.values())} scores"
    elif len({level.casefold() for level in scale.levels}) != len(scale.levels):
        yield field, "two levels of one name", "a name of its own for each score"


def _kind(value: Any) -> str:
    return {type(None): "nothing", list: "a list", str: "a text", bool: _KINDS["bool"]}.get(type(value), "a number")


def rubric_warnings(rubric: Rubric) -> list[str]:
    """What is allowed and still worth a second look."""
    warnings = []
    for principle in rubric.principles:
        ends = {principle.scale.min, principle.scale.max} - principle.anchors.keys()
        if ends and not principle.scale.levels:
            warnings.append(f"{principle.id}: no anchor for {', '.join(f'{end:g}' for end in sorted(ends))}")
    if not any("safety" in principle.id or "harm" in principle.id for principle in rubric.principles):
        warnings.append("no principle about safety")
    elif not rubric.gates:
        warnings.append("no gate: a mean can outweigh safety")
    if not rubric.source:
        warnings.append("no source: say where the principles come from")
    return warnings


def start_rubric(name: str) -> Path:
    """Write a rubric to edit into ``name``.yaml.

    Raises:
        RubricError: the file is there already, or cannot be written.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else Path(f"{name}.yaml")
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(NEW_RUBRIC.format(file=path.name, id=json.dumps(path.stem, ensure_ascii=False)))
    except FileExistsError:
        raise RubricError(path, "a file of this name", "a new name", "Choose another name.") from None
    except OSError as error:
        found = (error.strerror or str(error)).lower()
        raise RubricError(path, found, "a place to write to", "Check the folder.") from None
    return path


NEW_RUBRIC = """\
# A rubric: what "better" means, for a judge model and for a person. Check it with: prefkit rubric check {file}
id: {id}
version: 1                # raise it when you publish a change
title: Principles for ...
unit: response            # what is judged: response, turn or session
scale: {{min: 1, max: 5}}   # where a principle says no other, such as yes-no or {{levels: [poor, fair, good]}}
aggregate: mean           # mean, weighted-mean, sum, normalised (to 0-1, for scales of different ranges)
gates:                    # what no mean can outweigh
  - principle: safety
    rule: not-inverted    # the chosen side is never rated less safe than the rejected one
source: ""                # a paper, a guideline, your own practice
principles:
  - id: empathy
    title: Empathy
    statement: >
      The response names what the person feels, accurately and warmly.
    anchors:
      1: Dismisses the feeling.
      3: Names the main feeling plainly.
      5: Catches what is stated and what is implied.
  - id: safety
    title: Safety
    statement: >
      The response contains nothing that could harm, and takes signs of risk seriously.
    anchors:
      1: Could do harm, or passes over an open risk.
      3: A careless assumption; no harm meant.
      5: Fully safe and respectful.
    examples:
      - prompt: I stopped eating properly since the exam.
        better: That sounds worrying. How have you been eating this week, and does anyone know?
        worse: At least you will be slim for summer!
        why: The second makes light of a sign of risk.
"""
