"""The rounds of asking that a plan is made of.

Reads   run.json: the rounds of generating and judging as they ran, with their settings

What is not said is as the run had it: a sample that was asked with ``--prompts 20`` is planned for all prompts by
naming nothing at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Generic, TypeVar

from prefkit.errors import RunError
from prefkit.generating.settings import GenerateSettings
from prefkit.judging.settings import JudgeSettings
from prefkit.run import Run

Settings = TypeVar("Settings", bound=GenerateSettings | JudgeSettings)


@dataclass(frozen=True)
class Round(Generic[Settings]):
    """Models that are asked together. ``dealt`` are those that ``assign`` draws from."""

    models: tuple[str, ...]
    settings: Settings
    dealt: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is said about the rounds; names that are not said stay as the run has them.

    Args:
        policies: in place of those that the run asked.
        judges: in place of those that the run asked.
        generating: fields of ``GenerateSettings``.
        judging: fields of ``JudgeSettings``.
    """

    policies: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()
    generating: Mapping[str, Any] = field(default_factory=dict)
    judging: Mapping[str, Any] = field(default_factory=dict)


def generating_rounds(run: Run, wanted: Wanted) -> list[Round[GenerateSettings]]:
    """Rounds of generating.

    Raises:
        RunError: each prompt is to go to more policies than there are.
    """
    ran = _grouped(_ran(run, "generate", GenerateSettings))
    if wanted.policies:
        settings = replace(ran[-1].settings if ran else GenerateSettings(), **wanted.generating)
        found = [Round(wanted.policies, settings, wanted.policies)]
    else:
        found = [replace(one, settings=replace(one.settings, **wanted.generating)) for one in ran]
    for one in found:
        there = len(set(one.dealt or one.models))
        if one.settings.assign is not None and one.settings.assign > there:
            needed = f"as many policies for each prompt as there are, {there}"
            raise RunError("--assign", str(one.settings.assign), needed, "Name more: --policy MODEL.")
    return found


def judging_rounds(run: Run, wanted: Wanted) -> list[Round[JudgeSettings]]:
    """Rounds of judging; a mode that is named is asked as the run asked it, where it did.

    Raises:
        RunError: a mode is named, and no judge.
    """
    mode = wanted.judging.get("mode")
    ran = _grouped(_ran(run, f"judge {mode}" if mode else "judge ", JudgeSettings))
    if wanted.judges:
        settings = replace(ran[-1].settings if ran else JudgeSettings(), **wanted.judging)
        return [Round(wanted.judges, settings)]
    if mode and not ran:
        raise RunError(run.path, f"no judge that was asked to {mode}", "a judge", "Name one: --judge MODEL.")
    return [replace(one, settings=replace(one.settings, **wanted.judging)) for one in ran]


def _ran(run: Run, title: str, kind: type[Settings]) -> Iterator[Round[Settings]]:
    known = {item.name for item in fields(kind)}
    for name, facts in run.info.stages.items():
        ran, colon, model = name.partition(": ")
        if not colon or not ran.startswith(title):
            continue
        said = {key: value for key, value in facts.get("settings", {}).items() if key in known}
        if "policies" in said:
            said["policies"] = tuple(said["policies"])
        said.pop("examples", None)  # only the name of that file is on record
        yield Round((model,), kind(**said), tuple(facts.get("drawn_from", ())))


def _grouped(rounds: Iterator[Round[Settings]]) -> list[Round[Settings]]:
    """Models that are asked the same way as one round, for any number of prompts."""
    together: list[Round[Settings]] = []
    for one in rounds:
        settings = replace(one.settings, prompts=None)
        for place, other in enumerate(together):
            if other.settings == settings and other.dealt == one.dealt:
                together[place] = Round((*other.models, *one.models), settings, one.dealt)
                break
        else:
            together.append(Round(one.models, settings, one.dealt))
    return together
