"""The part of the page about reward models: how good they are, and at what.

Reads   Report
Gives   Html
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from prefkit.evaluation.report import words
from prefkit.evaluation.report.drawing import SHARES, Point, Strip, figure, forest
from prefkit.evaluation.report.files import Evaluation, RewardModel, Scorer
from prefkit.evaluation.report.gathering import Report
from prefkit.evaluation.report.markup import NOTHING, Html, behind, el, joined, quoted, table
from prefkit.evaluation.report.panels import Panel, Series, panel, panels
from prefkit.evaluation.report.part_wins import absent, section
from prefkit.evaluation.report.rates import Absent
from prefkit.evaluation.report.training_log import history_table, log_panels
from prefkit.resampling import Figure

ACCURACIES = {
    "accuracy": "held-out pairs",
    "policy_matched": "policies matched",
    "left_out": "policies left out of training",
}
OTHERS = {
    "length_matched": "length matched",
    "auc": "AUC",
    "log_loss": "log-loss",
    "brier": "Brier",
    "ece": "calibration error",
    "length_correlation": "r(reward, length)",
}
PERCENT = ("accuracy", "policy_matched", "left_out", "length_matched")


def reward_section(report: Report) -> Html:
    """Reward models: how good they are, and at what."""
    if not report.reward_models:
        nothing = Absent(absent="No reward model was trained.", command=f"prefkit train-rm {report.typed}")
        return section("reward-models", "Reward models", absent(nothing))
    return section("reward-models", "Reward models", [_reward_model(one, report.typed) for one in report.reward_models])


def _reward_model(one: RewardModel, run: str) -> Html:
    how = f"{'A linear head on the frozen states of' if one.frozen else 'Trained from'} {one.base}." if one.base else ""
    counts = ", ".join(f"{value:,} {name}" for name, value in one.data.items())
    parts: list[Html] = [el("h3", one.name)]
    if how or counts:
        parts.append(el("p", f"{how} {counts}".strip(), cls="note"))
    if one.evaluation is None:
        parts += _at_the_end(one, run)
    else:
        parts += _evaluation(one.evaluation, run, one.name)
    curves = log_panels(one.history, {"loss": "Loss", "accuracy": "Accuracy in training"})
    if curves:
        parts.append(figure(curves, "The course of its training, by step.", history_table(one.history)))
    return el("div", parts, cls="model")


def _measure(run: str, name: str) -> str:
    """The command that measures a model, or several whose figures lie in one folder."""
    return f"prefkit eval-rm {run} {' '.join(f'--rm {shlex.quote(one)}' for one in name.split('+'))} --learning-curve"


def _at_the_end(one: RewardModel, run: str) -> Iterator[Html]:
    """What was measured at the end of the training, where nothing was since."""
    measure = _measure(run, one.name)
    if not one.held_out:
        yield absent(Absent(absent="It was not measured.", command=measure))
        return
    heads = list(one.held_out[0])
    rows = [[row.get(head, "") for head in heads] for row in one.held_out]
    yield table(heads, rows, "Held-out pairs, at the end of training; shares in %")
    if one.notes:
        yield el("ul", [el("li", quoted(note)) for note in one.notes], cls="notes")
    yield absent(Absent(absent="By rating gap, reliability and learning curve were not measured.", command=measure))


def _evaluation(found: Evaluation, run: str, name: str) -> Iterator[Html]:
    pairs, prompts = found.counts.get("pairs", 0), found.counts.get("prompts", 0)
    shown = [one for one in found.scorers if "accuracy" in one.figures]
    if shown:
        strips = [_accuracies(one, place) for place, one in enumerate(shown)]
        heads = ["", *ACCURACIES.values(), *OTHERS.values()]
        rows = [(one.name, *(_cell(one.figures.get(key), key) for key in (*ACCURACIES, *OTHERS))) for one in shown]
        there = [key for key in ACCURACIES if any(key in one.figures for one in shown)]
        caption = (
            f"How often the preferred answer of {words.count(pairs, 'held-out pair')} on "
            f"{words.count(prompts, 'prompt')} gets the higher reward, beside baselines that know only length, words "
            "or policies. A model that is as good with policies left out has not just learned to tell who wrote it."
        )
        yield figure(
            forest(strips, SHARES, ("wrong", "right")),
            caption,
            behind(table(heads, rows, "Scorers on held-out pairs")),
            [(list(ACCURACIES).index(key), ACCURACIES[key]) for key in there],
        )
    models = [one for one in found.scorers if one.kind != "baseline"]
    made = [_reliability(models), _by_gap(models), _learning(found)]
    if any(made):
        yield figure(panels(*made), _means(made), _panels_table(models, found))
    if not found.curves:
        yield absent(
            Absent(
                absent="Whether more pairs would help was not measured.",
                command=_measure(run, name),
            )
        )
    if found.notes:
        yield el("ul", [el("li", quoted(note)) for note in found.notes], cls="notes")


def _means(made: Sequence[Html]) -> str:
    said = (
        "On the dashed line of the first picture a confidence of 80% is right in 80 of 100.",
        "The larger the gap of the ratings, the easier the pair.",
        "A curve that still rises at its end says that more pairs would help.",
    )
    return " ".join(one for one, drawn in zip(said, made, strict=True) if drawn)


def _accuracies(one: Scorer, place: int) -> Strip:
    points = [
        Point(value=one.figures[key].value, low=one.figures[key].low, high=one.figures[key].high, series=series)
        for series, key in enumerate(ACCURACIES)
        if key in one.figures
    ]
    said = words.figure(one.figures["accuracy"], share=True)
    return Strip(label=one.name, points=points, said=said, strong=one.kind != "baseline", rule=place == 0)


def _cell(one: Figure | None, name: str) -> str:
    return "" if one is None else words.figure(one, share=name.startswith(PERCENT))


def _reliability(models: Sequence[Scorer]) -> Html:
    series = [
        Series(
            name=one.name,
            series=place,
            points=[(point.confidence, point.right) for point in one.reliability],
            marked=True,
            intervals=[(point.confidence, point.low, point.high) for point in one.reliability],
        )
        for place, one in enumerate(models[:5])
        if one.reliability
    ]
    return panel(
        Panel(
            title="Is it as sure as it is right?",
            across="confidence of the side put first",
            series=series,
            share=True,
            diagonal=True,
            said="Share right by confidence; points on the diagonal are well calibrated.",
        )
    )


def _by_gap(models: Sequence[Scorer]) -> Html:
    """Accuracy by rating gap, as a strip for each gap."""
    names = list(dict.fromkeys(row.name for one in models for row in one.by.get("gap", [])))
    if not names:
        return NOTHING
    strips = []
    for name in names:
        rows = [
            (place, row) for place, one in enumerate(models[:5]) for row in one.by.get("gap", []) if row.name == name
        ]
        points = [
            Point(value=row.accuracy.value, low=row.accuracy.low, high=row.accuracy.high, series=place)
            for place, row in rows
        ]
        strips.append(Strip(label=f"gap {name}", points=points, said=f"n = {rows[0][1].accuracy.n:,}"))
    return el("div", el("h4", "Accuracy by rating gap"), forest(strips, SHARES), cls="panelbox narrow")


def _learning(found: Evaluation) -> Html:
    series = []
    for place, curve in enumerate(found.curves[:5]):
        sizes = [one for one in curve.sizes if "accuracy" in one.figures and one.figures["accuracy"].value is not None]
        figures = [(one.pairs, one.figures["accuracy"]) for one in sizes]
        series.append(
            Series(
                name=curve.name,
                series=place,
                points=[(pairs, one.value) for pairs, one in figures if one.value is not None],
                marked=True,
                intervals=[
                    (pairs, one.low, one.high) for pairs, one in figures if one.low is not None and one.high is not None
                ],
            )
        )
    return panel(
        Panel(
            title="Would more pairs help?",
            across="training pairs (logarithmic)",
            series=series,
            share=True,
            level=0.5,
            logarithmic=True,
            said="Held-out accuracy by the number of training pairs.",
        )
    )


def _panels_table(models: Sequence[Scorer], found: Evaluation) -> Html:
    parts: list[Html] = []
    for one in models:
        rows = [
            (
                f"{100 * point.confidence:.0f}%",
                f"{100 * point.right:.0f}%",
                words.ends(point.low, point.high),
                f"{point.n:,}",
            )
            for point in one.reliability
        ]
        if rows:
            parts.append(table(("confidence", "right", "95% interval", "pairs"), rows, f"Reliability of {one.name}"))
        rows = [
            (row.name, words.figure(row.accuracy, share=True), f"{row.accuracy.n:,}", "")
            for row in one.by.get("gap", [])
        ]
        if rows:
            heads = ("gap", "accuracy", "pairs")
            parts.append(table(heads, [row[:3] for row in rows], f"Accuracy of {one.name} by rating gap"))
    for curve in found.curves:
        sizes = [
            (f"{size.pairs:,.0f}", f"{size.prompts:,}", words.figure(size.figures["accuracy"], share=True))
            for size in curve.sizes
            if "accuracy" in size.figures
        ]
        parts.append(table(("pairs", "prompts", "accuracy"), sizes, f"Learning curve of {curve.name}"))
    return behind(joined(parts))
