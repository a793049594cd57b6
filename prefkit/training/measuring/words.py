"""What the figures of a report mean, in sentences; where they mean little, that.

Reads   a Report
Gives   notes: a few sentences
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prefkit.resampling import Figure

if TYPE_CHECKING:
    from prefkit.training.measuring.report import Curve, Measured, Report

FEW_PROMPTS = 30
LEAST_POLICIES = 4
LITTLE = 0.01
"""A gain in accuracy that is not worth more pairs."""
SAME = 0.005
"""Up to which two accuracies are spoken of as one."""
COIN_TOSS = math.log(2)
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
            f"Policies left out: not measured for {', '.join(without)}. prefkit eval-rm RUN fits a frozen model again "
            "without them; a trained one needs a training without two policies (prefkit train-rm --leave-policies-out "
            "A,B). Only that tells what the accuracy is worth on responses of others."
        )
    parts = []
    for one in report.scorers:
        left_out, all_pairs = one.figures.get("left_out"), one.figures.get("accuracy")
        if left_out and all_pairs and left_out.n < all_pairs.n:
            parts.append(f"{one.name} on {left_out.n:,} of {all_pairs.n:,} pairs")
    if parts:
        yield (
            f"Policies left out: {', '.join(parts)}, those of two policies that it was not trained on. The figures of "
            "that column are not all of the same pairs."
        )


def _of_data(report: Report) -> Iterator[str]:
    if report.counts["prompts"] < FEW_PROMPTS:
        yield f"Only {report.counts['prompts']} prompts: look at the intervals; the values may be luck."
    if report.counts["ties"]:
        closer = ", ".join(
            f"{ties.value:.0%} by {one.name}"
            for one in report.scorers
            if one.kind != "baseline" and (ties := one.figures.get("ties")) and ties.value is not None
        )
        more = f" The two sides of a tie are closer in reward than those of another pair in {closer} (50% is chance)."
        yield f"{report.counts['ties']:,} pairs are ties, in none of the accuracies.{more if closer else ''}"
    yield from _of_unread(report)
    longer = report.labels.get("longer")
    if longer and longer.value is not None and abs(longer.value - 0.5) >= 0.1:
        which = "longer" if longer.value > 0.5 else "shorter"
        share = max(longer.value, 1 - longer.value)
        yield f"The {which} side is the preferred one in {share:.0%} of the pairs: length alone gets that far."


def _of_unread(report: Report) -> Iterator[str]:
    unread = report.counts["unread"]
    if not unread:
        return
    whole = unread + report.counts["pairs"]
    who = ", ".join(f"{one.unread:,} by {one.name}" for one in report.scorers if one.unread)
    yield (
        f"{unread:,} of {whole:,} pairs hold a response that a model cannot read ({who}); they are in no figure of "
        "any scorer. Such pairs hold the longest responses: nothing is known of those."
    )


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


def notes_on_curves(report: Report) -> list[str]:
    """What learning curves say of more pairs, and which models have none."""
    models = {one.name: one for one in report.scorers if one.kind == "model"}
    found: list[str] = []
    for curve in [curve for curve in report.curves if curve.name in models] or report.curves:
        found += _of_curve(curve)
        if curve.name in models:
            found += _of_whole(curve, models[curve.name])
    for curve in report.curves:
        found += _of_unfitted(curve)
    without = [name for name, one in models.items() if not one.how.startswith("frozen ")]
    if without:
        found.append(
            f"{', '.join(without)}: no learning curve, as each size would be a training of its own. Train on a part of "
            "the pairs and measure that model beside this one."
        )
    return found


def _of_whole(curve: Curve, model: Measured) -> Iterator[str]:
    """Where all training pairs do not give the model that is measured."""
    anew, itself = curve.sizes[-1].figures["accuracy"].value, model.figures["accuracy"].value
    if anew is not None and itself is not None and abs(anew - itself) > SAME:
        yield (
            f"{curve.name}: fitted anew on all training pairs it has {anew:.1%}, itself {itself:.1%}. It was trained "
            "on other pairs, or with other weights of them; the curve is of those of this run."
        )


def _of_curve(curve: Curve) -> Iterator[str]:
    if len(curve.sizes) < 2:
        return
    before, last = curve.sizes[-2:]
    gain = last.gain
    if gain is None or gain.value is None:
        return
    yield (
        f"{curve.name}: from {before.pairs:,.0f} to {last.pairs:,.0f} training pairs ({before.share:.0%} to "
        f"{last.share:.0%} of the prompts) accuracy changes by {100 * gain.value:+.1f} points{_between(gain)}; single "
        f"draws by {100 * min(last.gains):+.1f} to {100 * max(last.gains):+.1f}. {_verdict(gain, last.gains)}"
    )


def _of_unfitted(curve: Curve) -> Iterator[str]:
    if curve.unfitted:
        reasons = "; ".join(f"{count} ({reason})" for reason, count in curve.unfitted.items())
        yield f"{curve.name}: draws for the learning curve that nothing could be fitted on: {reasons}."


def _verdict(gain: Figure, gains: Sequence[float]) -> str:
    """Whether more pairs would help, as far as the last step tells."""
    if gain.low is None or gain.high is None or gain.prompts < FEW_PROMPTS:
        return f"Whether more pairs would help, {gain.prompts} held-out prompts cannot tell."
    if gain.low > 0 and min(gains) > 0:
        return "More pairs of the same kind would probably still help."
    if gain.high <= LITTLE:
        return "More pairs of the same kind would bring little."
    if gain.low > 0:
        return "It grows, but not with each draw: more pairs may still help."
    return "A gain and none are both within the interval: more held-out prompts would tell."


def _of_calibration(one: Measured) -> Iterator[str]:
    loss, luck = one.figures.get("log_loss"), one.figures.get("ece_by_luck")
    before, after = one.as_it_is.get("ece"), one.figures.get("ece")
    if loss and loss.low is not None and loss.low > COIN_TOSS and after and after.value is not None and luck:
        yield (
            f"{one.name}: its probabilities do not hold here. Log-loss {loss.value:.3f} is worse than saying 50% of "
            f"each pair ({COIN_TOSS:.3f}); the calibration error is {after.value:.3f}, where luck alone makes "
            f"{luck.value:.3f}. Use the order, not the confidence."
        )
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
