"""What the figures of a report mean, in sentences; where they mean little, that.

Reads   a Report without notes
Gives   notes: a few sentences
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prefkit.resampling import Figure

if TYPE_CHECKING:
    from prefkit.training.measuring.report import Measured, Report

FEW_PROMPTS = 30
LEAST_POLICIES = 4
MUCH = 0.05
"""By which an accuracy falls where it is spoken of."""
FOLLOWS = 0.3
"""A correlation of reward and length from which it is spoken of."""


def notes(report: Report) -> list[str]:
    """The sentences of a report."""
    found = list(_of_data(report))
    for one in report.scorers:
        if one.kind != "baseline":
            found += _of_scorer(report, one)
    return [*found, *_of_left_out(report)]


def _of_left_out(report: Report) -> Iterator[str]:
    without = [one.name for one in report.scorers if one.kind == "model" and "left_out" not in one.figures]
    if report.counts["policies"] < LEAST_POLICIES:
        yield (
            f"Policies left out: not measured, as fewer than {LEAST_POLICIES} policies are known. How much of the "
            "accuracy is knowing who wrote a response, nobody can tell."
        )
    elif without:
        yield (
            f"Policies left out: not measured for {', '.join(without)}. Train without two policies (prefkit train-rm "
            "--leave-policies-out A,B) and measure again: only that tells what the accuracy is worth on responses of "
            "others."
        )


def _of_data(report: Report) -> Iterator[str]:
    if report.counts["prompts"] < FEW_PROMPTS:
        yield f"Only {report.counts['prompts']} prompts: look at the intervals; the values may be luck."
    if report.counts["ties"]:
        yield (
            f"{report.counts['ties']:,} pairs are ties. They are in none of the accuracies; `ties` says how often the "
            "two sides of a tie are closer in reward than those of another pair."
        )
    if report.counts["unread"]:
        yield f"{report.counts['unread']:,} pairs hold a response that a model cannot read; they are in no figure."
    longer = report.labels.get("longer")
    if longer and longer.value is not None and abs(longer.value - 0.5) >= 0.1:
        which = "longer" if longer.value > 0.5 else "shorter"
        share = max(longer.value, 1 - longer.value)
        yield f"The {which} side is the preferred one in {share:.0%} of the pairs: length alone gets that far."


def _of_scorer(report: Report, one: Measured) -> Iterator[str]:
    accuracy = one.figures.get("accuracy")
    if accuracy is None or accuracy.value is None:
        return
    for name, ahead in one.ahead.items():
        if ahead.value is not None and (ahead.low is None or ahead.low <= 0):
            how = "below" if ahead.high is not None and ahead.high < 0 else "not clearly above"
            yield f"{one.name}: {how} {name} ({100 * ahead.value:+.1f} points{_between(ahead)})."
    matched = one.figures.get("policy_matched")
    if matched and matched.value is not None and accuracy.value - matched.value >= MUCH:
        yield (
            f"{one.name}: {accuracy.value:.1%}, and {matched.value:.1%} where each of two policies wins as often as "
            f"the other ({matched.n:,} pairs). The first can come from knowing who wrote it; the second cannot."
        )
    within = one.figures.get("length_correlation_within")
    if within and within.value is not None and abs(within.value) >= FOLLOWS:
        more = "longer" if within.value > 0 else "shorter"
        yield (
            f"{one.name}: within a prompt, reward goes with {more} responses (r = {within.value:.2f}). Look at the "
            "accuracy with length matched before a policy is trained on it."
        )
    yield from _of_calibration(one)
    found = one.figures.get("errors_found")
    if found and found.value is not None:
        yield (
            f"{one.name}: the models disagree more about a pair put wrong than about one put right in "
            f"{found.value:.0%} of couples (50% is no help)."
        )


def _of_calibration(one: Measured) -> Iterator[str]:
    before, after = one.as_it_is.get("ece"), one.figures.get("ece")
    if not one.temperature_from or not before or not after or before.value is None or after.value is None:
        return
    if before.value - after.value > 0.01:
        how = "too sure of itself" if one.temperature > 1 else "not sure enough of itself"
        yield (
            f"{one.name}: {how}; a temperature of {one.temperature:.2f} takes the calibration error from "
            f"{before.value:.3f} to {after.value:.3f}."
        )


def _between(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f", from {100 * figure.low:+.1f} to {100 * figure.high:+.1f}"
