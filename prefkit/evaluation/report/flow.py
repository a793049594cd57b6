"""What was kept at each stage, and why the rest was not: from the counts that stages left in run.json.

Reads   run.json, Facts
Gives   Flow: a list of steps, each from a total down to what is left
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prefkit.evaluation.report.facts import Facts
from prefkit.run import Run


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stage: of ``total`` things (``unit``) some were left out, by reason, and ``kept`` went on, by kind.

    ``noted`` is said of those that went on, and takes nothing away.
    """

    name: str
    unit: str
    total: int
    left_out: dict[str, int]
    kept: dict[str, int]
    noted: dict[str, int] = field(default_factory=dict)

    @property
    def went_on(self) -> int:
        """What is left."""
        return self.total - sum(self.left_out.values())


@dataclass(frozen=True, kw_only=True)
class Flow:
    """The steps, in the order of the data; ``strategy`` says how pairs were chosen, None before there are any."""

    steps: list[Step]
    strategy: str | None
    settings: dict[str, Any]
    placeholders: dict[str, int]


def flow_of(run: Run, facts: Facts) -> Flow:
    """The way from rows to pairs."""
    built = run.info.stages.get("build-pairs") or {}
    settings = dict(built.get("settings") or {})
    scrubbed = run.info.stages.get("scrub") or {}
    steps = [*_imported(run), *_held(facts), *_built(built)]
    return Flow(
        steps=steps,
        strategy=str(settings["strategy"]) if settings.get("strategy") else None,
        settings={name: value for name, value in settings.items() if value is not None},
        placeholders=_counts(scrubbed.get("placeholders")),
    )


def _imported(run: Run) -> list[Step]:
    """Imports of which rows were rejected, those of one kind added up; the others are in what follows."""
    rows: Counter[str] = Counter()
    rejected: dict[str, Counter[str]] = {}
    imported: dict[str, Counter[str]] = {}
    for one in run.info.imports:
        rows[one.kind] += one.rows
        rejected.setdefault(one.kind, Counter()).update(one.rejected)
        imported.setdefault(one.kind, Counter()).update(one.imported)
    return [
        Step(
            name=f"Imported rows of {kind}",
            unit="rows",
            total=rows[kind],
            left_out=dict(rejected[kind].most_common()),
            kept={},
            noted=dict(imported[kind].most_common()),
        )
        for kind in rows
        if rejected[kind]
    ]


def _held(facts: Facts) -> list[Step]:
    steps = []
    if facts.prompts:
        noted = {"with identifying text replaced": facts.scrubbed} if facts.scrubbed else {}
        noted |= {
            f"marked {mark}": count for mark, count in facts.marks.items() if mark.partition(":")[0] != "language"
        }
        steps.append(
            Step(name="Prompts", unit="prompts", total=facts.prompts, left_out=facts.excluded, kept={}, noted=noted)
        )
    if facts.responses:
        noted = {"policies": len(facts.policies)}
        noted |= {"whose text is not known": facts.without_text} if facts.without_text else {}
        steps.append(Step(name="Responses", unit="responses", total=facts.responses, left_out={}, kept={}, noted=noted))
    total = sum(facts.judgements.values())
    if total:
        left_out = {
            "drafts and discarded": facts.unanswered,
            "replies that could not be read": facts.unreadable,
        }
        noted = {"under another rubric": facts.other_rubric, "that test attention": facts.attention}
        steps.append(
            Step(
                name="Judgements",
                unit="judgements",
                total=total,
                left_out={name: count for name, count in left_out.items() if count},
                kept=facts.judgements if len(facts.judgements) > 1 else {},
                noted={name: count for name, count in noted.items() if count},
            )
        )
    return steps


def _built(built: Mapping[str, Any]) -> list[Step]:
    if not built:
        return []
    dropped, kept = _counts(built.get("dropped")), _counts(built.get("kept"))
    ties = sum(_counts(built.get("tied")).values())
    return [
        Step(
            name="Pairs",
            unit="pairs",
            total=int(built.get("selected") or sum(dropped.values()) + sum(kept.values())),
            left_out=dict(sorted(dropped.items(), key=lambda one: -one[1])),
            kept=kept,
            noted={"ties, which the dataset leaves out": ties} if ties else {},
        )
    ]


def _counts(found: object) -> dict[str, int]:
    return {str(name): int(count) for name, count in found.items()} if isinstance(found, Mapping) else {}
