"""Rubrics as files: found by name or path, read from YAML, validated.

Reads   principles/*.yaml, which ship with prefkit, or any path
Gives   Rubric

YAML is read with a safe loader; an unknown key is an error that names file and line. Anchors and aliases of YAML (``&x``,
``*x``) are refused: a rubric has no use for them, and they can be cyclic or explode.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from prefkit.errors import RubricError
from prefkit.rubric import Rubric, Scale

MAX_BYTES = 1 << 20
_START = "Start from a working one: `prefkit rubric new NAME`."
_QUOTES = "A text with a colon, a # or quotes needs quotes around it, or `>` and an indented block."
_WORDS = {
    "unit": "response, turn or session",
    "aggregate": "mean, weighted-mean, sum or normalised",
    "rule": "not-inverted or at-least",
}


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


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
        if len(raw) > MAX_BYTES:
            raise RubricError(
                path, f"{len(raw):,} bytes", f"a rubric of at most {MAX_BYTES:,}", "Is this the file you meant?"
            )
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise RubricError(
            path, (error.strerror or str(error)).lower(), "a readable YAML file", "Check the path."
        ) from None
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise RubricError(
            f"{path}:{line}",
            f"the byte 0x{raw[error.start]:02x}, which is not UTF-8",
            "UTF-8 text",
            f"Convert it: iconv -f LATIN1 -t UTF-8 {path.name} > new.yaml",
        ) from None


def parse_rubric(text: str, where: str | Path = "rubric") -> Rubric:
    """Validate the YAML text of a rubric; ``where`` is named in errors.

    Raises:
        RubricError: with ``where`` and the line.
    """
    value, lines = _load_yaml(text, where)
    if not isinstance(value, dict):
        raise RubricError(where, _kind(value), "a mapping with id, title, principles", _START)
    shared = value.pop("scale", {})
    for index, principle in enumerate(
        value.get("principles") or [] if isinstance(value.get("principles"), list) else []
    ):
        if isinstance(principle, dict):
            own = principle.get("scale", shared)
            principle["scale"] = {"min": 0, "max": 1, "levels": ["no", "yes"]} if own == "yes-no" else _numbered(own)
            lines.setdefault(f"principles[{index}].scale", lines.get("scale", lines[f"principles[{index}]"]))
    try:
        rubric = msgspec.convert(value, Rubric)
    except msgspec.ValidationError as error:
        field, found, expected = _explained(str(error))
        raise RubricError(_place(where, field, lines), found, expected, _START) from None
    for field, found, expected in _faults(rubric):
        raise RubricError(_place(where, field, lines), found, expected, "See `prefkit rubric show psychocounsel`.")
    return rubric


def _numbered(scale: Any) -> Any:
    """Give a scale that only names its levels the numbers from 0."""
    if isinstance(scale, dict) and isinstance(scale.get("levels"), list) and not {"min", "max"} & scale.keys():
        return {"min": 0, "max": len(scale["levels"]) - 1, **scale}
    return scale


def _explained(message: str) -> tuple[str, str, str]:
    """msgspec's words as (field, found, expected)."""
    message, _, at = message.partition(" - at ")
    field = at.strip("`").removeprefix("key` in `").removeprefix("$").lstrip(".").replace("[...]", "")
    if message.startswith("Object contains unknown field"):
        key = message.split("`")[1]
        return (
            f"{field}.{key}".lstrip("."),
            "a key that a rubric does not know",
            "one that it knows: is this one misspelt?",
        )
    if message.startswith("Object missing required field"):
        return field, f"no {message.split('`')[1]!r}", "this key"
    if message.startswith("Invalid enum value"):
        return field, message.removeprefix("Invalid enum value "), _WORDS[field.rpartition(".")[2]]
    expected, _, found = message.removeprefix("Expected ").replace("`", "").partition(", got ")
    plain = {
        "str": "a text",
        "int": "a whole number",
        "float": "a number",
        "int | float": "a number",
        "object": "a mapping",
        "array": "a list",
    }
    return field, plain.get(found, found) or message, plain.get(expected, expected) if found else "another value"


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
    for name, text in (("id", rubric.id), ("title", rubric.title)):
        if not text.strip():
            yield name, "an empty text", "a name"
    if rubric.version < 1:
        yield "version", str(rubric.version), "a whole number from 1"
    seen: set[str] = set()
    for index, principle in enumerate(rubric.principles):
        at = f"principles[{index}]"
        if not principle.id.replace("_", "").replace("-", "").isalnum():
            yield f"{at}.id", repr(principle.id), "letters, digits, _ and -"
        if principle.id in seen:
            yield f"{at}.id", f"{principle.id!r} a second time", "an id of its own for each principle"
        seen.add(principle.id)
        if not principle.statement.strip():
            yield f"{at}.statement", "an empty text", "what is good, in a sentence"
        if not (math.isfinite(principle.weight) and principle.weight > 0):
            yield f"{at}.weight", f"{principle.weight:g}", "a number above 0"
        yield from _scale_faults(f"{at}.scale", principle.scale)
        for value in principle.anchors:
            if not principle.scale.holds(value):
                yield f"{at}.anchors", f"an anchor for {value:g}", f"anchors for scores from {principle.scale}"
    for index, gate in enumerate(rubric.gates):
        at = f"gates[{index}]"
        if gate.principle not in seen:
            yield f"{at}.principle", repr(gate.principle), f"one of {', '.join(sorted(seen))}"
        if (gate.value is None) == (gate.rule == "at-least"):
            yield (
                f"{at}.value",
                "none" if gate.value is None else f"{gate.value:g}",
                "a value with the rule at-least, and only there",
            )
    if rubric.aggregate in ("mean", "sum") and any(principle.weight != 1 for principle in rubric.principles):
        yield "aggregate", f"{rubric.aggregate!r} beside weights", "weighted-mean or normalised, which use them"
    if (
        rubric.aggregate in ("mean", "weighted-mean")
        and len({(p.scale.min, p.scale.max) for p in rubric.principles}) > 1
    ):
        yield "aggregate", f"{rubric.aggregate!r} over scales of different ranges", "normalised or sum"


def _scale_faults(field: str, scale: Scale) -> Iterator[tuple[str, str, str]]:
    if not all(math.isfinite(bound) for bound in (scale.min, scale.max, scale.step)):
        yield field, "a bound that is not a finite number", "finite numbers"
        return
    if scale.min >= scale.max:
        yield field, f"min {scale.min:g} and max {scale.max:g}", "a min below the max"
    elif scale.step <= 0 or not math.isclose((scale.max - scale.min) / scale.step % 1.0, 0.0, abs_tol=1e-9):
        yield field, f"step {scale.step:g}", f"a step that divides {scale.min:g}-{scale.max:g}"
    elif scale.levels and len(scale.levels) != len(scale.values()):
        yield field, f"{len(scale.levels)} levels", f"a name for each of the {len(scale.values())} scores"
    elif len({level.casefold() for level in scale.levels}) != len(scale.levels):
        yield field, "two levels of one name", "a name of its own for each score"


def _kind(value: Any) -> str:
    return {type(None): "nothing", list: "a list", dict: "a mapping", str: "a text"}.get(type(value), repr(value))


def _load_yaml(text: str, where: str | Path) -> tuple[Any, dict[str, int]]:
    """A YAML document as plain values, and the line on which each path (``principles[0].id``) stands."""
    lines: dict[str, int] = {}
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                mark = event.start_mark
                raise RubricError(
                    f"{where}:{mark.line + 1}",
                    "a YAML anchor or alias (& or *)",
                    "plain values",
                    "Write the value out, or quote the text.",
                )
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None, lines
        _walk(node, "", where, lines)
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise RubricError(f"{where}:{line}", f"broken YAML: {error.problem or error}", "valid YAML", _QUOTES) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise RubricError(
            f"{where}:{line}", f"the character U+{ord(text[error.position]):04X}", "printable text", "Remove it."
        ) from None
    except (RecursionError, ValueError) as error:
        raise RubricError(where, f"YAML that cannot be read ({error})", "plain values", _QUOTES) from None


def _walk(node: yaml.Node, path: str, where: str | Path, lines: dict[str, int]) -> None:
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _walk(child, f"{path}[{index}]", where, lines)
    elif isinstance(node, yaml.MappingNode):
        seen = set()
        for key, child in node.value:
            if key.value.__hash__ is None or not isinstance(key, yaml.ScalarNode):
                raise RubricError(f"{where}:{key.start_mark.line + 1}", "a key that is not a word", "a word", _START)
            if key.value in seen:
                raise RubricError(
                    f"{where}:{key.start_mark.line + 1}: {key.value}",
                    "this key a second time",
                    "each key once",
                    "Remove one of the two.",
                )
            seen.add(key.value)
            _walk(child, f"{path}.{key.value}" if path else key.value, where, lines)


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
    path = Path(name).with_suffix(".yaml")
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(NEW_RUBRIC.format(name=path.stem))
    except FileExistsError:
        raise RubricError(path, "a file of this name", "a new name", "Choose another name.") from None
    except OSError as error:
        found = (error.strerror or str(error)).lower()
        raise RubricError(path, found, "a place to write to", "Check the folder.") from None
    return path


NEW_RUBRIC = """\
# A rubric: what "better" means, for a judge model and for a person. Check it with: prefkit rubric check {name}.yaml
id: {name}
version: 1                # raise it when you publish a change
title: Principles for ...
unit: response            # what is judged: response, turn or session
scale: {{min: 1, max: 5}}   # for every principle that has no scale of its own (0-2, yes-no, levels: [poor, fair, good])
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
