"""The part of the page about policies in training, and rounds of it.

Reads   Report
Gives   Html
"""

from __future__ import annotations

from collections.abc import Iterator

from prefkit.evaluation.report import words
from prefkit.evaluation.report.drawing import figure
from prefkit.evaluation.report.files import Iteration, Policy
from prefkit.evaluation.report.gathering import Report
from prefkit.evaluation.report.markup import Html, behind, el, quoted, table
from prefkit.evaluation.report.panels import Panel, Series, panel, panels
from prefkit.evaluation.report.part_wins import absent, section
from prefkit.evaluation.report.rates import Absent
from prefkit.evaluation.report.training_log import logged


def policy_section(report: Report) -> Html:
    """Policies in training, and rounds of it."""
    if not report.policies and not report.iterations:
        nothing = Absent(absent="No policy was trained in this run.", command=f"prefkit train-policy {report.typed}")
        return section("policies", "Policies in training", absent(nothing))
    parts = [_policy(one) for one in report.policies] + [_rounds(one) for one in report.iterations]
    return section("policies", "Policies in training", parts)


def _policy(one: Policy) -> Html:
    state = f"{words.count(one.steps, 'step')}" + ("" if one.finished else ", cut: the same command goes on")
    kept = f"; the weights of step {one.kept_step:,} were kept" if one.kept_step is not None else ""
    how = f"{one.method.upper()} from {one.base}, " if one.base else ""
    flagged = [look for look in one.looks if look.health.flagged]
    parts: list[Html] = [el("h3", one.name), el("p", f"{how}{state}{kept}.", cls="note")]
    drawn = panels(*_policy_panels(one))
    if drawn:
        caption = (
            "Lines are the training pairs as the log has them; marks are looks at the same held-out pairs and prompts. "
            "A solid upright line is the step that was kept, a dashed one a look whose answers are flagged."
        )
        parts.append(figure(drawn, caption, behind(_looks_table(one))))
    if flagged:
        parts.append(
            el(
                "ul",
                [
                    el(
                        "li",
                        el("strong", f"Flagged at step {look.step:,}: "),
                        "; ".join(look.health.why) or "degenerate",
                    )
                    for look in flagged
                ],
                cls="flags",
            )
        )
    elif len(one.looks) > 1:
        parts.append(el("p", f"No look of {len(one.looks)} found degenerate answers.", cls="note"))
    if one.notes:
        parts.append(el("ul", [el("li", quoted(note)) for note in one.notes], cls="notes"))
    return el("div", parts, cls="model")


def _policy_panels(one: Policy) -> Iterator[Html]:
    upright = [(float(look.step), "flag") for look in one.looks if look.health.flagged]
    if one.kept_step is not None:
        upright.append((float(one.kept_step), "kept"))
    for key, title, share, level in (
        ("loss", "Loss", False, None),
        ("accuracy", "Pairs put right", True, 0.5),
    ):
        line = logged(one.history, key)
        looked = [(float(look.step), look.held_out[key]) for look in one.looks if key in look.held_out]
        series = [Series(name="training pairs", series=0, points=line)] if line else []
        series += [Series(name="held-out pairs", series=1, points=looked, marked=True)] if looked else []
        yield panel(Panel(title=title, across="step", series=series, share=share, level=level, upright=upright))
    rates = [(look.step, look.win_rate) for look in one.looks if look.win_rate]
    series = [
        Series(
            name="by the reward model",
            series=2,
            points=[(float(step), rate.value) for step, rate in rates],
            marked=True,
            intervals=[(float(step), rate.low, rate.high) for step, rate in rates],
        )
    ]
    yield panel(
        Panel(title="Win rate over the start", across="step", series=series, share=True, level=0.5, upright=upright)
    )
    far = [(float(look.step), look.divergence) for look in one.looks if look.step]
    yield panel(
        Panel(
            title="How far it went: nats an answer",
            across="step",
            series=[Series(name="divergence from the start", series=3, points=far, marked=True)] if far else [],
            upright=upright,
        )
    )


def _looks_table(one: Policy) -> Html:
    rows = [
        (
            f"{look.step:,}",
            f"{look.held_out['loss']:.3f}" if "loss" in look.held_out else "",
            words.percent(look.held_out["accuracy"]) if "accuracy" in look.held_out else "",
            words.both(look.win_rate.value, look.win_rate.low, look.win_rate.high) if look.win_rate else "",
            f"{look.divergence:.2f}",
            "; ".join(look.health.why) if look.health.flagged else "sound",
        )
        for look in one.looks
    ]
    heads = ("step", "held-out loss", "put right", "win rate over the start", "divergence", "answers")
    return table(heads, rows, f"Looks at {one.name}")


def _rounds(one: Iteration) -> Html:
    parts: list[Html] = [el("h3", f"{one.name}, in rounds")]
    if one.best_round is not None:
        best = f"Round {one.best_round} is the best." if one.best_round else "No round was better than the start."
        parts.append(el("p", f"{words.count(len(one.rounds), 'round')}. {best}", cls="note"))
    else:
        parts.append(el("p", f"{words.count(len(one.rounds), 'round')} so far; they did not end yet.", cls="note"))
    judges = (
        ("by the reward model that chose the pairs", "by_reward_model", 0),
        ("by the second judge", "by_second", 1),
    )
    series = []
    for name, key, place in judges:
        rates = [(one_.round, standing.start) for one_ in one.rounds if (standing := getattr(one_, key)) is not None]
        if rates:
            series.append(
                Series(
                    name=name,
                    series=place,
                    points=[(float(number), rate.value) for number, rate in rates],
                    marked=True,
                    intervals=[(float(number), rate.low, rate.high) for number, rate in rates],
                )
            )
    flags = [(float(found.round), "flag") for found in one.rounds if found.health.flagged]
    if one.best_round:
        flags.append((float(one.best_round), "kept"))
    lengths = [(float(found.round), found.words) for found in one.rounds]
    if one.words_at_start is not None:
        lengths = [(0.0, one.words_at_start), *lengths]
    drawn = panels(
        panel(
            Panel(title="Win rate over the start", across="round", series=series, share=True, level=0.5, upright=flags)
        ),
        panel(
            Panel(
                title="Words of an answer",
                across="round",
                series=[Series(name="mean", series=2, points=lengths, marked=True)],
                upright=flags,
            )
        ),
    )
    if drawn:
        caption = (
            "All rounds answer the same held-out prompts. A reward that rises while a second judge's falls is "
            "over-optimisation."
        )
        parts.append(figure(drawn, caption, behind(_rounds_table(one))))
    stops = [(found.round, reason) for found in one.rounds for reason in found.stop]
    if stops:
        items = [el("li", el("strong", f"Stopped after round {number}: "), reason) for number, reason in stops]
        parts.append(el("ul", items, cls="flags"))
    return el("div", parts, cls="model")


def _rounds_table(one: Iteration) -> Html:
    rows = []
    for found in one.rounds:
        standings = (found.by_reward_model, found.by_second)
        cells = [words.both(each.start.value, each.start.low, each.start.high) if each else "" for each in standings]
        before = found.by_reward_model.before
        rows.append(
            (
                f"{found.round}",
                *cells,
                words.both(before.value, before.low, before.high) if before else "",
                f"{found.words:.0f}",
                "; ".join(found.health.why) if found.health.flagged else "sound",
            )
        )
    heads = ("round", "over the start", "the same, second judge", "over the round before", "words", "answers")
    return table(heads, rows, f"Rounds of {one.name}")
