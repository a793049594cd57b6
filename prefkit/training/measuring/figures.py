"""All figures of some scorers on the same pairs, with intervals.

Reads   a Table, rewards of each scorer
Gives   a Report

Each figure's interval is from a bootstrap over prompts (``resampling``). All scorers are measured on the same pairs and
the same draws, so that ``ahead``, the difference in accuracy to each baseline, is of pairs of measurements.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.resampling import Figure, Floats, Sums, estimates, wilson
from prefkit.training.measuring import accuracy, best_of, calibrating, together
from prefkit.training.measuring.accuracy import Counting, hits
from prefkit.training.measuring.calibrating import Bin
from prefkit.training.measuring.report import BestOf, Kind, Measured, MeasureSettings, Report, gap_name
from prefkit.training.measuring.subgroups import by_group, rows_by_group
from prefkit.training.measuring.table import UNKNOWN, Bools, Table
from prefkit.training.measuring.words import notes

K = TypeVar("K", bound=Hashable)
FEW_PROMPTS = 15
"""Below which intervals of shares are not drawn: on 10 prompts the bootstrap's reached from 1% to 100%."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a scorer says of the responses of a table.

    Args:
        name, kind: of the scorer.
        rewards: [responses, 1 + heads]; None where only margins are known.
        margins: [pairs], where a pair's own model gave them.
        tie: the tie parameter of its loss, by the loss's name.
        heads: the principles that have a reward of their own.
        how: what it was fitted on, in words.
        temperature: that makes log-odds of its margins, or one for each pair [pairs].
        temperature_from: what that was fitted on, in words.
        left_out: margins [pairs] of scorers fitted without the pair's prompt and without its two policies; NaN where
            there is none.
        tally: what it read otherwise than it stands, or not at all, by reason.
    """

    name: str
    kind: Kind
    rewards: Floats | None = None
    margins: Floats | None = None
    tie: Mapping[str, float] = field(default_factory=dict)
    heads: tuple[str, ...] = ()
    how: str = ""
    temperature: float | Floats = 1.0
    temperature_from: str = ""
    left_out: Floats | None = None
    tally: Mapping[str, int] = field(default_factory=dict)

    def margins_in(self, table: Table) -> Floats:
        """Its margins [pairs]; 0 where it has none."""
        if self.margins is not None:
            return np.nan_to_num(self.margins, nan=0.0)
        return table.margins(self.overall())

    def only(self, kept: Bools) -> Scored:
        """The same with what is of pairs for these pairs alone."""
        return replace(
            self,
            margins=None if self.margins is None else self.margins[kept],
            temperature=calibrating.of_pairs(self.temperature, kept),
            left_out=None if self.left_out is None else self.left_out[kept],
        )

    def unread_in(self, table: Table) -> Bools:
        """The pairs of the table that it is to read and cannot."""
        if self.rewards is None or self.kind == "baseline":
            return np.zeros(len(table.ids), dtype=bool)
        return ~np.isfinite(table.margins(self.overall()))

    def overall(self) -> Floats:
        """Its overall reward [responses]."""
        if self.rewards is None:
            raise ValueError(f"{self.name} has margins of pairs, and no rewards of responses")
        return self.rewards[:, 0]


def measure(
    table: Table,
    scorers: Sequence[Scored],
    settings: MeasureSettings | None = None,
    *,
    source: str = "",
    split: str | None = None,
    left_out: Mapping[str, int] | None = None,
) -> Report:
    """Measure scorers on the pairs of a table that all models can read; several models get an ensemble beside them.

    Args:
        table: of all pairs.
        scorers: models and baselines.
        settings: how figures are made.
        source, split: where the pairs come from.
        left_out: what of the source is not in the table, by reason.

    Raises:
        PrefkitError: there is no pair that all models can read.
    """
    settings = settings or MeasureSettings()
    kept = read_by_all(table, scorers)
    unread = {one.name: int(one.unread_in(table).sum()) for one in scorers}
    if not kept.all():
        table, scorers = table.only(kept), [one.only(kept) for one in scorers]
    counting = Counting(table, settings.seed)
    worth, rated = best_of.known(table)
    models = [one for one in scorers if one.kind == "model"]
    baselines = [one for one in scorers if one.kind == "baseline"]
    doubt = None
    if len(models) > 1:
        overall = [one.overall() for one in models]
        scales = [float(np.mean(one.temperature)) for one in models]
        mean = together.ensemble(overall, scales)
        doubt = together.disagreement(table, overall, scales)
        models.append(Scored(name="all together", kind="ensemble", rewards=mean[:, None], how="the mean of the models"))
    found = []
    for one in (*models, *baselines):
        of_all = doubt if one.kind == "ensemble" else None
        against = [] if one.kind == "baseline" else baselines
        measured = _measured(counting, one, worth, against, of_all, settings)
        found.append(replace(measured, unread=unread.get(one.name, 0)))
    labels = estimated(dict(_of_labels(counting)), settings)
    counts = _counts(table, int((~kept).sum()))
    report = Report(source, split, counts, found, labels, rated, settings, left_out=dict(left_out or {}))
    return replace(report, notes=notes(report))


def _measured(
    counting: Counting,
    scored: Scored,
    worth: list[best_of.Known],
    baselines: Sequence[Scored],
    doubt: Floats | None,
    settings: MeasureSettings,
) -> Measured:
    table, temperature = counting.table, scored.temperature
    margin, decided = scored.margins_in(table), table.decided
    odds = calibrating.log_odds(margin, scored.tie)
    whole = scored.kind != "baseline"
    sums: dict[tuple[Hashable, ...], Sums] = {}
    sums |= {("figure", name): one for name, one in _overall(counting, scored, margin, odds, settings)}
    if whole:
        as_it_is = calibrating.calibration_sums(counting, odds)
        sums |= {("as it is", name): one for name, one in as_it_is.items()}
        sums |= {("by", *place): one for place, one in by_group(counting, margin, _own(scored, table), doubt)}
        for n, parts in best_of.best_of(counting, worth, scored.overall()).items():
            sums |= {("best of", n, name): one for name, one in parts.items()}
        for other in baselines:
            apart = hits(margin) - hits(other.margins_in(table))
            sums["ahead", other.name] = counting.mean(apart, decided)
    if doubt is not None:
        sums["figure", "disagreement"] = counting.mean(doubt, decided)
    found = estimated(sums, settings)
    figures = {str(key[1]): figure for key, figure in found.items() if key[0] == "figure"}
    if decided.any():
        figures["auc"] = _moved(figures["auc"], accuracy.auc(margin[decided]))
    if whole and decided.any():
        luck = calibrating.expected_by_luck(odds[decided], calibrating.of_pairs(temperature, decided), draws=50)
        figures["ece_by_luck"] = Figure(luck, None, None, int(decided.sum()), figures["ece"].prompts)
    if doubt is not None and (share := together.errors_found(doubt[decided], hits(margin[decided]))) is not None:
        figures["errors_found"] = Figure(share, None, None, int(decided.sum()), figures["accuracy"].prompts)
    return Measured(
        scored.name,
        scored.kind,
        scored.how,
        figures,
        {str(key[1]): figure for key, figure in found.items() if key[0] == "as it is"},
        float(np.mean(temperature)),
        scored.temperature_from,
        rows_by_group({(str(k[1]), str(k[2]), str(k[3])): figure for k, figure in found.items() if k[0] == "by"}),
        _reliability(table, odds, temperature) if whole else [],
        [
            BestOf(n, *(found["best of", n, name] for name in ("gain", "possible", "share")))
            for n in sorted({int(str(key[1])) for key in found if key[0] == "best of"})
        ],
        {str(key[1]): figure for key, figure in found.items() if key[0] == "ahead"},
        tally=dict(scored.tally),
    )


def _own(scored: Scored, table: Table) -> dict[str, Floats]:
    """The margins [pairs] of its heads, by principle."""
    if scored.rewards is None:
        return {}
    return {name: table.margins(scored.rewards[:, 1 + place]) for place, name in enumerate(scored.heads)}


def _reliability(table: Table, odds: Floats, temperature: float | Floats) -> list[Bin]:
    kept = table.decided
    return calibrating.reliability(odds[kept], table.preferred[kept], calibrating.of_pairs(temperature, kept))


def _overall(
    counting: Counting, scored: Scored, margin: Floats, odds: Floats, settings: MeasureSettings
) -> Iterator[tuple[str, Sums]]:
    table = counting.table
    if table.decided.any():
        yield "accuracy", counting.accuracy(margin)
        for least in settings.least_gaps:
            kept = table.decided & (table.gap >= least - 1e-9)
            if kept.any():
                yield gap_name(least), counting.accuracy(margin, kept)
        yield "auc", counting.auc(margin)
        yield from calibrating.calibration_sums(counting, odds, scored.temperature).items()
        for name, matched in (
            ("policy_matched", counting.policy_matched(margin)),
            ("length_matched", counting.length_matched(margin)),
        ):
            if matched is not None:
                yield name, matched
        if scored.left_out is not None and (there := np.isfinite(scored.left_out)).any():
            left_out = np.where(there, scored.left_out, 0.0)
            yield "left_out", counting.accuracy(left_out, there)
            for least in settings.least_gaps:
                kept = there & table.decided & (table.gap >= least - 1e-9)
                if kept.any():
                    yield f"left_out_gap_{least:g}", counting.accuracy(left_out, kept)
    if scored.rewards is not None:
        length, rewards = table.length.astype(np.float64), np.where(table.paired, scored.overall(), np.nan)
        yield "length_correlation", counting.correlation(rewards, length)
        yield "length_correlation_within", counting.within_prompts(rewards, length)
    if not table.decided.all() and table.decided.any():
        yield "ties", _closer(counting, margin)
    if scored.tie:
        yield from _three_ways(counting, margin, scored.tie)


def _three_ways(counting: Counting, margin: Floats, tie: Mapping[str, float]) -> Iterator[tuple[str, Sums]]:
    """Of all pairs, with ties as an outcome of their own: how often the likeliest one is right, and the log-loss."""
    table, all_pairs = counting.table, np.ones(len(margin), dtype=bool)
    said = np.stack(calibrating.outcomes(margin, tie), axis=1)
    which = np.where(table.decided, 0, 1)
    right = (said.argmax(axis=1) == which).astype(np.float64)
    loss = -np.log(np.maximum(said[np.arange(len(which)), which], 1e-300))
    yield "three_way_accuracy", counting.share(right, all_pairs)
    yield "three_way_log_loss", counting.mean(loss, all_pairs)


def _closer(counting: Counting, margin: Floats) -> Sums:
    """How often a tie's margin is smaller than a decided pair's, in absolute value; binned."""
    size, tie = np.abs(margin), ~counting.table.decided
    edges = np.unique(np.quantile(size, np.linspace(0, 1, 65)[1:-1]))
    columns = len(edges) + 1
    cells = counting.cluster * columns + np.searchsorted(edges, size, side="right")
    parts = [np.bincount(cells[kept], minlength=counting.size * columns) for kept in (tie, ~tie)]
    values = np.concatenate([part.reshape(counting.size, columns) for part in parts], axis=1).astype(np.float64)

    def figure(totals: Floats) -> Floats:
        ties, others = totals[..., :columns], totals[..., columns:]
        above = np.cumsum(others[..., ::-1], axis=-1)[..., ::-1] - others / 2
        number = ties.sum(axis=-1) * others.sum(axis=-1)
        nan = np.full(number.shape, np.nan)
        result: Floats = np.divide((ties * above).sum(axis=-1), number, out=nan, where=number > 0)
        return result

    return Sums(values, figure, int(tie.sum()), share=True)


def _of_labels(counting: Counting) -> Iterator[tuple[str, Sums]]:
    longer, decided = counting.table.longer.astype(np.float64), counting.table.decided
    if decided.any():
        yield "longer", counting.share(hits(longer), decided)


def read_by_all(table: Table, scorers: Sequence[Scored]) -> Bools:
    """The pairs that all models can read.

    Raises:
        PrefkitError: there is none.
    """
    kept = ~np.any([one.unread_in(table) for one in scorers] or [np.zeros(len(table.ids), dtype=bool)], axis=0)
    if not kept.any():
        remedy = "Train with more --max-tokens, or evaluate on shorter texts."
        raise PrefkitError("the pairs", "none that all models can read", "at least one", remedy)
    return np.asarray(kept)


def _counts(table: Table, unread: int) -> dict[str, int]:
    return {
        "pairs": len(table.ids),
        "ties": int((~table.decided).sum()),
        "prompts": len(np.unique(table.prompt)),
        "responses": int(table.paired.sum()),
        "unread": unread,
        "policies": len([name for name in table.policies if name != UNKNOWN]),
    }


def estimated(sums: Mapping[K, Sums], settings: MeasureSettings) -> dict[K, Figure]:
    """Figures with intervals; that of a share of few prompts is Wilson's."""
    found = estimates(sums, resamples=settings.rounds, seed=settings.seed) if sums else {}
    return {name: _of_few(figure) if sums[name].share else figure for name, figure in found.items()}


def _of_few(figure: Figure) -> Figure:
    """A share of few prompts with Wilson's interval, a prompt being one observation: too few to draw again from."""
    if figure.value is None or not 0 < figure.prompts < FEW_PROMPTS:
        return figure
    low, high = wilson(figure.value, figure.prompts)
    return replace(figure, low=low, high=high)


def _moved(figure: Figure, value: float) -> Figure:
    """The figure at its exact value, the interval as far from it as it was."""
    if figure.value is None or figure.low is None or figure.high is None:
        return replace(figure, value=value)
    by = value - figure.value
    return replace(figure, value=value, low=min(figure.low + by, value), high=min(1.0, max(figure.high + by, value)))
