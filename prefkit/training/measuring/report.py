"""What some scorers are worth on the same pairs: all figures, with intervals.

Reads   a Table, rewards of each scorer
Gives   a Report

Each figure's interval is from a bootstrap over prompts (``resampling``). All scorers are measured on the same pairs and
the same draws, so that ``ahead``, the difference in accuracy to each baseline, is of pairs of measurements.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.resampling import Figure, Floats, Sums, estimates, wilson
from prefkit.training.measuring import accuracy, best_of, calibrating, together
from prefkit.training.measuring.accuracy import Counting, hits, relative_length
from prefkit.training.measuring.calibrating import Bin
from prefkit.training.measuring.table import UNKNOWN, Bools, Table

K = TypeVar("K", bound=Hashable)
Kind = Literal["model", "ensemble", "baseline"]
LENGTHS = (-1.0, -0.5, -0.2, -0.05, 0.05, 0.2, 0.5, 1.0)
LENGTH_WORDS = (
    "chosen less than half as long",
    "shorter by 20 to 50%",
    "shorter by 5 to 20%",
    "within 5%",
    "longer by 5 to 20%",
    "longer by 20 to 50%",
    "rejected less than half as long",
)
GAP_WIDTHS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 25.0)
"""Of gaps that are shown together: the smallest that needs no more than five of them."""
MOST_ROWS = 30
FEW_PROMPTS = 15
"""Below which intervals of shares are not drawn: on 10 prompts the bootstrap's reached from 1% to 100%."""


@dataclass(frozen=True, kw_only=True)
class MeasureSettings:
    """How figures are made.

    Args:
        rounds: of the bootstrap.
        seed: of its draws.
        least_gaps: accuracy is also given for pairs of at least these rating gaps.
    """

    rounds: int = 1000
    seed: int = 0
    least_gaps: tuple[float, ...] = (0.5, 1.0)


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

    def overall(self) -> Floats:
        """Its overall reward [responses]."""
        if self.rewards is None:
            raise ValueError(f"{self.name} has margins of pairs, and no rewards of responses")
        return self.rewards[:, 0]


@dataclass(frozen=True)
class Row:
    """The accuracy on some of the pairs; for a principle, also that of its own head."""

    name: str
    accuracy: Figure
    head: Figure | None = None


@dataclass(frozen=True)
class BestOf:
    """The best of ``n`` by reward: above a random response, by ``gain``; ``possible`` is the best there is."""

    n: int
    gain: Figure
    possible: Figure
    share: Figure


@dataclass(frozen=True)
class Measured:
    """One scorer's figures.

    Args:
        name, kind, how: as in ``Scored``.
        figures: by name.
        as_it_is: Brier, log-loss and calibration error before the temperature.
        temperature: the mean of those that were used.
        by: the accuracy for ``gap``, ``length``, ``topic``, ``policies``, ``principle``, ``disagreement``.
        reliability: bins of the reliability diagram, after the temperature.
        best_of: for each n.
        ahead: accuracy minus that of each baseline, on the same draws.
    """

    name: str
    kind: Kind
    how: str
    figures: dict[str, Figure]
    as_it_is: dict[str, Figure] = field(default_factory=dict)
    temperature: float = 1.0
    temperature_from: str = ""
    by: dict[str, list[Row]] = field(default_factory=dict)
    reliability: list[Bin] = field(default_factory=list)
    best_of: list[BestOf] = field(default_factory=list)
    ahead: dict[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What was measured.

    Args:
        counts: of what the figures rest on.
        scorers: models first, then the ensemble, then baselines.
        labels: what the pairs themselves say: how often the longer side is chosen.
        rated: whether the worth of a response (``best_of``) is in the unit of ratings.
        notes: what the figures mean, in sentences.
    """

    source: str
    split: str | None
    counts: dict[str, int]
    scorers: list[Measured]
    labels: dict[str, Figure]
    rated: bool
    settings: MeasureSettings
    notes: list[str] = field(default_factory=list)


def measure(
    table: Table,
    scorers: Sequence[Scored],
    settings: MeasureSettings | None = None,
    *,
    source: str = "",
    split: str | None = None,
) -> Report:
    """Measure scorers on a table; several models get an ensemble beside them."""
    from prefkit.training.measuring.words import notes

    settings = settings or MeasureSettings()
    kept = _read_by_all(table, scorers)
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
        found.append(_measured(counting, one, worth, against, of_all, settings))
    labels = _estimated(dict(_of_labels(counting)), settings)
    report = Report(source, split, _counts(table, int((~kept).sum())), found, labels, rated, settings)
    return replace(report, notes=notes(report))


def rows(report: Report, names: Mapping[str, str] | None = None) -> list[dict[str, str]]:
    """The main figures in words, a row a scorer: for a model card or a table."""
    wanted = {
        name: words
        for name, words in (names or {**RIGHT, **SURE}).items()
        if any(name in one.figures for one in report.scorers)
    }
    return [
        {"": one.name} | {words: in_words(name, one.figures.get(name)) for name, words in wanted.items()}
        for one in report.scorers
    ]


RIGHT = {
    "accuracy": "accuracy",
    "left_out": "policies left out",
    "policy_matched": "policies matched",
    "length_matched": "length matched",
}
"""The main figures of which side is put first, and what they are called."""
SURE = {
    "auc": "AUC",
    "log_loss": "log-loss",
    "brier": "Brier",
    "ece": "ECE",
    "length_correlation": "r(reward, length)",
}
"""The main figures of how far rewards are apart."""
SHARES = ("accuracy", "policy_matched", "left_out", "length_matched", "longer", "share", "three_way_accuracy")


def in_words(name: str, figure: Figure | None) -> str:
    """A figure with its interval; a dash where it is not defined."""
    if figure is None or figure.value is None:
        return "-"
    share = name.startswith(SHARES)

    def one(value: float) -> str:
        return f"{100 * value:.1f}" if share else f"{value:.3f}".replace("0.", ".", 1 if abs(value) < 1 else 0)

    if figure.low is None or figure.high is None:
        return one(figure.value)
    return f"{one(figure.value)} [{one(figure.low)}, {one(figure.high)}]"


def gap_name(least: float) -> str:
    """The name of the accuracy of pairs of at least a gap."""
    return f"accuracy_gap_{least:g}"


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
        sums |= {("by", *place): one for place, one in _by(counting, scored, margin, doubt)}
        for n, parts in best_of.best_of(counting, worth, scored.overall()).items():
            sums |= {("best of", n, name): one for name, one in parts.items()}
        for other in baselines:
            apart = hits(margin) - hits(other.margins_in(table))
            sums["ahead", other.name] = counting.mean(apart, decided)
    if doubt is not None:
        sums["figure", "disagreement"] = counting.mean(doubt, decided)
    found = _estimated(sums, settings)
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
        _rows(found),
        _reliability(table, odds, temperature) if whole else [],
        [
            BestOf(n, *(found["best of", n, name] for name in ("gain", "possible", "share")))
            for n in sorted({int(str(key[1])) for key in found if key[0] == "best of"})
        ],
        {str(key[1]): figure for key, figure in found.items() if key[0] == "ahead"},
    )


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
        length = table.length.astype(np.float64)
        yield "length_correlation", counting.correlation(scored.overall(), length)
        yield "length_correlation_within", counting.within_prompts(scored.overall(), length)
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


def _by(
    counting: Counting, scored: Scored, margin: Floats, doubt: Floats | None
) -> Iterator[tuple[tuple[str, str, str], Sums]]:
    """The accuracy on groups of pairs: what they are grouped by, the group, ``accuracy`` or ``head``."""
    table = counting.table
    for what, name, kept in _groups(table, doubt):
        if (kept & table.decided).any():
            yield (what, name, "accuracy"), counting.accuracy(margin, kept)
    for column, name in enumerate(table.principles):
        side = table.sides[:, column]
        kept = np.isfinite(side) & (side != 0.5)
        if not kept.any():
            continue
        way = np.sign(np.nan_to_num(side) - 0.5)
        yield ("principle", name, "accuracy"), counting.share(hits(margin * way), kept)
        if name in scored.heads and scored.rewards is not None:
            own = table.margins(scored.rewards[:, 1 + scored.heads.index(name)])
            yield ("principle", name, "head"), counting.share(hits(own * way), kept)


def _groups(table: Table, doubt: Floats | None) -> Iterator[tuple[str, str, Bools]]:
    known = np.isfinite(table.gap) & table.decided
    if known.any():
        edges = _edges(float(np.quantile(table.gap[known], 0.98)))
        for start, end in zip(edges, [*edges[1:], np.inf], strict=True):
            words = f"{start:g} to {end:g}" if np.isfinite(end) else f"{start:g} or more"
            yield "gap", words, known & (table.gap >= start - 1e-9) & (table.gap < end - 1e-9)
    relative = relative_length(table)
    place = np.clip(np.searchsorted(LENGTHS, relative, side="right") - 1, 0, len(LENGTH_WORDS) - 1)
    for number, words in enumerate(LENGTH_WORDS):
        yield "length", words, place == number
    if len([name for name in table.topics if name != UNKNOWN]) > 1:
        for number in _commonest(table.topic):
            yield "topic", table.topics[number] or "none", table.topic == number
    couple, _, kept = accuracy.policy_pairs(table)
    if kept.any():
        for number in _commonest(couple[kept]):
            first, second = divmod(int(number), len(table.policies))
            yield "policies", f"{table.policies[first]} / {table.policies[second]}", kept & (couple == number)
        chosen = table.policy[table.chosen]
        same = (chosen == table.policy[table.rejected]) & ~kept
        same &= np.asarray([name != UNKNOWN for name in table.policies])[chosen]
        if same.any():
            yield "policies", "the same policy twice", same
    if doubt is not None:
        quarters = np.quantile(doubt, (0.25, 0.5, 0.75))
        quarter = np.searchsorted(quarters, doubt, side="left")
        for number, words in enumerate(("least quarter", "second", "third", "most")):
            yield "disagreement", words, quarter == number


def _edges(largest: float) -> list[float]:
    """Where groups of gaps begin."""
    width = next((one for one in GAP_WIDTHS if largest / one <= 5), largest / 5)
    return [place * width for place in range(max(1, min(5, int(np.ceil(largest / width)))))]


def _commonest(numbers: np.ndarray) -> list[int]:
    found, often = np.unique(numbers, return_counts=True)
    return [int(one) for one in found[np.argsort(-often, kind="stable")[:MOST_ROWS]]]


def _rows(found: dict[tuple[Hashable, ...], Figure]) -> dict[str, list[Row]]:
    by: dict[str, list[Row]] = {}
    for key, figure in found.items():
        if key[0] == "by" and key[3] == "accuracy":
            head = found.get((*key[:3], "head"))
            by.setdefault(str(key[1]), []).append(Row(str(key[2]), figure, head))
    return by


def _of_labels(counting: Counting) -> Iterator[tuple[str, Sums]]:
    longer, decided = counting.table.longer.astype(np.float64), counting.table.decided
    if decided.any():
        yield "longer", counting.share(hits(longer), decided)


def _read_by_all(table: Table, scorers: Sequence[Scored]) -> Bools:
    """The pairs that all models can read.

    Raises:
        PrefkitError: there is no other pair.
    """
    kept = np.ones(len(table.ids), dtype=bool)
    for one in scorers:
        if one.rewards is not None and one.kind != "baseline":
            kept &= np.isfinite(table.margins(one.overall()))
    if not kept.any():
        remedy = "Train with more --max-tokens, or evaluate on shorter texts."
        raise PrefkitError("the pairs", "none that all models can read", "at least one", remedy)
    return kept


def _counts(table: Table, unread: int) -> dict[str, int]:
    return {
        "pairs": len(table.ids),
        "ties": int((~table.decided).sum()),
        "prompts": len(np.unique(table.prompt)),
        "responses": len(table.length),
        "unread": unread,
        "policies": len([name for name in table.policies if name != UNKNOWN]),
    }


def _estimated(sums: dict[K, Sums], settings: MeasureSettings) -> dict[K, Figure]:
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
