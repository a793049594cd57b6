"""The parts of the page about how far all this can be trusted: the data's way, agreement, the judges' audit, limits.

Reads   Report
Gives   Html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prefkit.evaluation.report import words
from prefkit.evaluation.report.agreement import Agreement, Section
from prefkit.evaluation.report.drawing import Axis, Bar, Point, Strip, figure, forest, waterfall
from prefkit.evaluation.report.files import AuditFigure, JudgeAudit
from prefkit.evaluation.report.flow import Step
from prefkit.evaluation.report.gathering import Report
from prefkit.evaluation.report.markup import Html, behind, command, el, joined, quoted, table
from prefkit.evaluation.report.part_wins import absent, section
from prefkit.evaluation.report.rates import Absent
from prefkit.resampling import Figure

AGREED = Axis(low=0, high=1, ticks=[(0, "0"), (0.25, "25"), (0.5, "50"), (0.75, "75"), (1, "100%")], level=0.5)
NAMES = {
    "direction": "rank two answers alike (ties left out)",
    "direction_at_gap": "rank two answers alike, where they are far apart",
    "same_side": "prefer the same of two (ties left out)",
    "accuracy": "prefer the same of two (ties left out)",
    "exact": "give the same answer",
    "kappa": "Cohen's kappa",
    "weighted_kappa": "weighted kappa",
    "fleiss": "Fleiss' kappa",
    "alpha_nominal": "Krippendorff's alpha, nominal",
    "alpha_ordinal": "Krippendorff's alpha, ordinal",
    "alpha_interval": "Krippendorff's alpha, interval",
    "ac1": "Gwet's AC1",
    "ac2": "Gwet's AC2",
    "icc_a": "ICC(A,1)",
    "correlation": "correlation of means",
}
"""Figures that are shown, in this order."""
SHARES = ("direction", "same_side", "accuracy", "exact")
FIRST = ("direction", "same_side", "accuracy", "exact")
"""Of which the first that is there is drawn."""
REST = "each of them with the rest"
STRATEGIES = {
    "gap": "every two answers whose overall scores are at least {gap:g} apart",
    "best-worst": "the best against the worst answer of each prompt",
    "all": "every two answers with different scores",
    "top-k": "each of the best answers against each of the others",
    "comparisons": "every two answers of which most annotators prefer the same one",
}


def flow_section(report: Report) -> Html:
    """What was kept at each stage, and why the rest was not."""
    flow = report.flow
    if not flow.steps:
        nothing = Absent(absent="The run is empty.", command=f"prefkit import prompts {report.typed} FILE")
        return section("data", "Data and selection", absent(nothing))
    parts: list[Html] = []
    if flow.strategy:
        gap = flow.settings.get("min_gap")
        shown = STRATEGIES.get(flow.strategy, flow.strategy).format(gap=1.0 if gap is None else gap)
        parts.append(el("p", f"A pair is {shown}. Prompts, not pairs, are split into training and test."))
    else:
        parts.append(absent(Absent(absent="No pairs were built.", command=f"prefkit build-pairs {report.typed}")))
    bars = [bar for step in flow.steps for bar in _bars(step)]
    rows = [(bar.label, bar.said) for bar in bars]
    rows += [(f"{step.name}: {name}", f"{count:,}") for step in flow.steps for name, count in step.noted.items()]
    caption = "Grey is what there was at a stage, dashed what was left out and why, blue what went on."
    parts.append(figure(waterfall(bars), caption, behind(table(("", "count"), rows, "Data and selection"))))
    if flow.placeholders:
        replaced = ", ".join(f"{count:,} {name}" for name, count in flow.placeholders.items())
        parts.append(el("p", f"Replaced in texts by placeholders: {replaced}.", cls="note"))
    return section("data", "Data and selection", parts)


def _bars(step: Step) -> Iterator[Bar]:
    """A stage: all there was, what was taken away, what is left by kind."""
    widest = max(step.total, 1)
    noted = ", ".join(f"{count:,} {name}" for name, count in step.noted.items())
    yield Bar(label=step.name, start=0, end=step.total / widest, said=f"{step.total:,}", kind="total", note=noted)
    left = step.total
    for reason, count in step.left_out.items():
        yield Bar(label=reason, start=(left - count) / widest, end=left / widest, said=f"−{count:,}", kind="out")
        left -= count
    start = 0
    for name, count in (step.kept or ({"went on": left} if step.left_out else {})).items():
        end = min(start + count, widest)
        yield Bar(label=name, start=start / widest, end=end / widest, said=f"{count:,}", kind="kept")
        start = end


# -------------------------------------------------------------------------------------------------------- agreement


def agreement_section(report: Report) -> Html:
    """How far annotators agree."""
    found = report.agreement
    if isinstance(found, Absent):
        return section("agreement", "Agreement", absent(found))
    titles = {one.id: one.title for one in report.facts.principles}
    parts: list[Html] = []
    who = {"people": "People with each other", "judges": "Judges with each other"}.get(found.kind, "With each other")
    for kind, part in (("comparisons", found.group.comparisons), ("ratings", found.group.ratings)):
        if part and part.figures:
            parts.append(_agreed(f"{who}: {kind}", part, titles, words.listed(found.group.annotators)))
    if found.with_judges:
        parts += _with_judges(found, titles)
    if found.inattentive:
        parts.append(
            el("p", f"Fewer known questions right than asked for: {words.listed(found.inattentive)}.", cls="note")
        )
    if found.notes:
        parts.append(_list(found.notes))
    return section("agreement", "Agreement", parts)


def _first(figures: Mapping[str, Figure]) -> str | None:
    return next((name for name in FIRST if name in figures and figures[name].value is not None), None)


def _agreed(title: str, part: Section, titles: Mapping[str, str], who: str) -> Html:
    rows = {"The whole": part.figures} | {titles.get(name, name): one for name, one in part.principles.items()}
    drawn = _first(part.figures)
    heads = [name for name in NAMES if any(name in figures for figures in rows.values())]
    made = table(
        ("", *(NAMES[name] for name in heads)),
        [(name, *(_cell(figures.get(head), head) for head in heads)) for name, figures in rows.items()],
        title,
    )
    if drawn is None:
        return joined(el("h3", title), made)
    strips = [
        _strip(name, figures[drawn], place == 0)
        for place, (name, figures) in enumerate(rows.items())
        if drawn in figures
    ]
    caption = f"{who}: how often two of them {NAMES[drawn]}, with 95% intervals. Coins would agree in 50."
    return joined(el("h3", title), figure(forest(strips, AGREED), caption, behind(made)))


def _strip(name: str, one: Figure, strong: bool = False, series: int = 0) -> Strip:
    point = Point(value=one.value, low=one.low, high=one.high, series=series)
    return Strip(label=name, points=[point], said=words.figure(one, share=True), strong=strong, rule=strong)


def _cell(one: Figure | None, name: str) -> str:
    return "" if one is None else words.figure(one, share=name.startswith(SHARES))


def _with_judges(found: Agreement, titles: Mapping[str, str]) -> Iterator[Html]:
    judges = found.with_judges
    if judges is None:
        return
    people = "people" if found.kind == "people" else "these annotators"
    for kind in ("comparisons", "ratings"):
        sections: dict[str, Section] = {
            one.judge: part for one in judges.measured if (part := getattr(one, kind)) is not None
        }
        if sections:
            rest: Section | None = getattr(judges, kind)
            yield el("h3", f"Judges with {people}: {kind}")
            yield _held_against(sections | ({REST: rest} if rest else {}), people, titles)


def _held_against(sections: Mapping[str, Section], people: str, titles: Mapping[str, str]) -> Html:
    rows = {who: part.figures for who, part in sections.items()}
    rows |= {
        f"{who}, {titles.get(name, name)}": figures
        for who, part in sections.items()
        for name, figures in part.principles.items()
    }
    heads = [head for head in NAMES if any(head in figures for figures in rows.values())]
    body = [(who, *(_cell(figures.get(head), head) for head in heads)) for who, figures in rows.items()]
    made = table(("", *(NAMES[head] for head in heads)), body, f"Judges held against {people}")
    drawn = next((first for part in sections.values() if (first := _first(part.figures))), None)
    if drawn is None:
        return made
    strips = [
        _strip(who, part.figures[drawn], series=1 if who == REST else 0)
        for who, part in sections.items()
        if drawn in part.figures
    ]
    caption = f"How often a judge and {people} {NAMES[drawn]}"
    caption += ", and, as a mark to reach, each of them with the rest." if REST in sections else "."
    return figure(forest(strips, AGREED), caption, behind(made))


# ---------------------------------------------------------------------------------------------------------- the audit


def audit_section(report: Report) -> Html:
    """Whether judges follow order, length or family."""
    audit = report.audit
    if isinstance(audit, Absent):
        return section("audit", "Audit of the judges", absent(audit))
    flagged = f"{audit.flagged} of them are flagged" if audit.flagged else "none is flagged"
    parts = [
        el(
            "p",
            f"{words.count(audit.tested, 'figure')} were held against what an unbiased judge would show; {flagged} "
            "(5% false discoveries, over all of them).",
        )
    ]
    if audit.older:
        parts.append(absent(Absent(absent="Judgements were added since.", command=f"prefkit audit {report.typed}")))
    if audit.rubric != report.facts.rubric_hash:
        parts.append(
            absent(Absent(absent="It was made under another rubric.", command=f"prefkit audit {report.typed}"))
        )
    parts += [_audited(one) for one in audit.judges]
    return section("audit", "Audit of the judges", parts)


def _audited(judge: JudgeAudit) -> Html:
    measured = [one for one in judge.figures if one.not_measured is None]
    flagged = [one for one in measured if one.flagged]
    rest = [one for one in measured if not one.flagged and one.principle is None]
    missing = sorted({one.not_measured for one in judge.figures if one.not_measured})
    rows = [(_named(one), _value(one), _interval(one), _null(one), _q(one)) for one in measured]
    heads = ("", "value", "95% interval", "unbiased", "q")
    return el(
        "div",
        el("h3", judge.judge),
        el("p", f"{words.count(judge.answers, 'answer')} about {words.count(judge.prompts, 'prompt')}.", cls="note"),
        el("ul", [el("li", el("strong", "Flagged: "), _said(one)) for one in flagged], cls="flags")
        if flagged
        else None,
        el("ul", [el("li", quoted(_said(one))) for one in rest]) if rest else None,
        el("details", el("summary", "What was not measured"), _list(missing)) if missing else None,
        behind(table(heads, rows, f"Figures of {judge.judge}")) if rows else None,
        cls="judge",
    )


def _list(found: Sequence[str]) -> Html:
    return el("ul", [el("li", quoted(one)) for one in found], cls="notes")


def _said(one: AuditFigure) -> str:
    return f"On {one.principle}: {one.sentence}" if one.principle else one.sentence


def _named(one: AuditFigure) -> str:
    return f"{one.name} ({one.principle})" if one.principle else one.name


def _value(one: AuditFigure) -> str:
    if one.value is None:
        return "–"
    return words.percent(one.value) if one.unit == "share" else f"{one.value:.3g}"


def _interval(one: AuditFigure) -> str:
    if one.low is None or one.high is None:
        return ""
    return words.ends(one.low, one.high) if one.unit == "share" else f"[{one.low:.3g}, {one.high:.3g}]"


def _null(one: AuditFigure) -> str:
    if one.null is None:
        return ""
    return words.percent(one.null) if one.unit == "share" else f"{one.null:.3g}"


def _q(one: AuditFigure) -> str:
    return "" if one.q is None else "< 0.001" if one.q < 0.001 else f"{one.q:.3f}"


# ------------------------------------------------------------------------------------------------------------- limits


def limits_section(report: Report) -> Html:
    """What was not measured, and what the page must not be used for."""
    gaps = [
        el(
            "li",
            el("strong", f"{one.title}. "),
            one.words,
            joined(" ", command(one.command)) if one.command else None,
        )
        for one in report.limits.not_measured
    ]
    return joined(
        section("not-measured", "What was not measured", el("ul", gaps, cls="gaps")),
        section(
            "not-for",
            "What this must not be used for",
            el("ul", [el("li", one) for one in report.limits.not_for], cls="notfor"),
        ),
    )


def made_section(report: Report) -> Html:
    """The rubric, and how the page was made."""
    facts = report.facts
    rows: Sequence[tuple[str, ...]] = [(one.title, one.statement, one.scale) for one in facts.principles]
    how = [
        ("Run", report.run),
        ("Rubric", f"{facts.rubric}, content hash {facts.rubric_hash}"),
        ("Who is preferred", "by judgements" if isinstance(report.wins, Absent) else f"by {report.wins.by}"),
        ("Judges", words.listed(list(facts.annotators), 12)),
        ("Policies", words.listed(list(facts.policies), 12)),
        ("prefkit", report.prefkit),
        ("Seed", str(report.settings.seed)),
    ]
    return section(
        "made",
        "How this was made",
        el("h3", "What better means"),
        table(("principle", "statement", "scale"), rows, facts.rubric),
        el("h3", "Figures"),
        el("dl", [el("div", el("dt", name), el("dd", value)) for name, value in how], cls="made"),
        el(
            "p",
            "Intervals are 95% and over prompts: a prompt is the unit, as judgements on one depend on each other. Both "
            "orders of a judge are averaged first, then a judge's answers on a prompt, then judges. All figures are in "
            "report.json beside this file. Colours are after Okabe and Ito, told apart with any colour vision, and "
            "every series has a shape of its own.",
            cls="note",
        ),
    )
