"""What the figures of a report mean, in sentences; where they mean little, that.

Reads   a Report without notes
Gives   notes: a few sentences

The marks .800 and .667 for alpha are Krippendorff's (Content Analysis, 4th edition, 2018, chapter 12), who says of them
that they are customary and no law. A mark counts as reached where the whole interval is above it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prefkit.agreement.measuring import Section
from prefkit.resampling import Figure

if TYPE_CHECKING:
    from prefkit.agreement.agree import Report

RELIABLE, TENTATIVE = 0.8, 0.667
FEW_PROMPTS = 30
HIGH, LOW = 0.8, 0.4
"""Nearly all answers the same, and a kappa that seems to say otherwise."""
SEVERE = 0.1
"""By which ICC(C,1) is above ICC(A,1) where raters differ in level."""


def notes(report: Report) -> list[str]:
    """The sentences of a report."""
    people = "people" if report.kind == "people" else "annotators"
    found = []
    if not report.group.ratings and not report.group.comparisons:
        several = len(report.group.annotators) > 1
        why = f"no two of these {people} judged the same" if several else "there is one annotator"
        found.append(f"How far {people} agree with each other cannot be said: {why}.")
    for kind, section in (("comparisons", report.group.comparisons), ("ratings", report.group.ratings)):
        if section:
            found += _of_section(kind, section)
    if report.group.pairs_left_out:
        there = len(report.group.pairs)
        found.append(
            f"Direction and Cohen's kappa are of the {there} pairs of {people} with most in common; "
            f"{report.group.pairs_left_out:,} other pairs are left out. All answers are in the other figures."
        )
    found += _of_judges(report)
    if report.inattentive:
        found.append(
            f"Less than {report.settings.attention:.0%} of the questions with a known answer right: "
            f"{', '.join(report.inattentive)}. Their answers are in the figures above; --annotators measures without "
            "them."
        )
    return found


def _of_section(kind: str, section: Section) -> Iterator[str]:
    alpha = section.figures.get("alpha_nominal" if kind == "comparisons" else "alpha_interval")
    prompts = alpha.prompts if alpha else 0
    if prompts < FEW_PROMPTS:
        yield (
            f"{kind.capitalize()}: only {prompts} prompt{'s' if prompts != 1 else ''} judged by two or more. Look at "
            "the intervals; the values may be luck."
        )
        return
    if alpha:
        yield f"{kind.capitalize()}: {_alpha(alpha)}"
    for name, figures in {"overall": section.figures, **section.principles}.items():
        exact, kappa, ac1 = (figures.get(one) for one in ("exact", "fleiss", "ac1"))
        if exact and kappa and ac1 and _above(exact.value, HIGH) and not _above(kappa.value, LOW):
            said = "not defined" if kappa.value is None else f"{kappa.value:.2f}"
            yield (
                f"{kind.capitalize()}, {name}: {exact.value:.0%} the same answer, and a kappa that is {said}. Nearly "
                "all answers are of one kind: chance alone would agree as often, and kappa and alpha say little. "
                f"Look at the percentage and at AC1{'' if ac1.value is None else f', {ac1.value:.2f}'}, and at whether "
                "the rare answers are agreed on."
            )
        same, differing = figures.get("icc_a"), figures.get("icc_c")
        if same and differing and _above((differing.value or 0.0) - (same.value or 0.0), SEVERE):
            yield (
                f"{kind.capitalize()}, {name}: ICC(C,1) is {differing.value:.2f} and ICC(A,1) {same.value:.2f}: the "
                "same order at different levels. See who is severe; differences of ratings are safer than their values."
            )


def _above(value: float | None, mark: float) -> bool:
    return value is not None and value >= mark


def _alpha(alpha: Figure) -> str:
    if alpha.value is None:
        return "alpha is not defined, as all answers are the same."
    if alpha.low is None or alpha.high is None:
        return f"alpha {alpha.value:.3f}; prompts do not differ, so that nothing tells how sure that is."
    where = f"alpha {alpha.value:.3f} [{alpha.low:.3f}, {alpha.high:.3f}]"
    if alpha.low >= RELIABLE:
        return f"{where} is above .800 throughout, where data are customarily called reliable."
    if alpha.low >= TENTATIVE:
        return f"{where} is above .667 throughout, which customarily allows tentative conclusions."
    if alpha.value >= TENTATIVE:
        return f"{where} reaches below .667, the customary least for tentative conclusions; more answers would tell."
    if alpha.high >= TENTATIVE:
        return f"{where}: most likely below .667, the customary least for tentative conclusions from single answers."
    return (
        f"{where} is below .667, the customary least for tentative conclusions from single answers. Several answers to "
        "each question may still add up to something; and look at where they differ."
    )


def _of_judges(report: Report) -> Iterator[str]:
    judges = report.with_judges
    if not judges:
        return
    for measured in judges.measured:
        for section, rest, name, what in (
            (measured.ratings, judges.ratings, "direction", "puts the same response higher as people do"),
            (measured.comparisons, judges.comparisons, "accuracy", "takes the side that most people take"),
        ):
            judge = section.figures.get(name) if section else None
            people = rest.figures.get(name) if rest else None
            if judge is None or judge.value is None:
                continue
            said = f"{measured.judge} {what} in {_interval(judge)}, ties aside"
            if people is None or people.value is None:
                yield f"{said}; with no second person on the same questions there is nothing to hold that against."
            elif _apart(judge, people):
                relation = "less" if judge.value < people.value else "more"
                yield f"{said}; {relation} than people with the rest of them, {_interval(people)}."
            else:
                yield f"{said}; people with the rest of them {_interval(people)}: the intervals overlap."


def _interval(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return f"{figure.value:.1%}"
    return f"{figure.value:.1%} [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"


def _apart(one: Figure, other: Figure) -> bool:
    ends = (one.low, one.high, other.low, other.high)
    if any(end is None for end in ends):
        return False
    return bool(one.high < other.low or other.high < one.low)  # type: ignore[operator]
