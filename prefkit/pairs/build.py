"""Turn judgements into preference pairs, and pairs into a dataset.

Reads   prompts, responses, judgements of a run
Writes  pairs.parquet   pairs by id: who is preferred to whom, by how much, who said so, in which split
        dataset/        the same with their words, as trl and `datasets` read them, with a card

Nothing here calls a model, and the same run and settings give the same bytes. A pair that was selected and not kept
is counted under the first reason against it, in this order: prompt excluded, gates, words, other pairs of its prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from prefkit.errors import RunError
from prefkit.pairs.aggregate import gap, over_annotators, overall, z_scored
from prefkit.pairs.collect import Collected, Floats, Ints, Ratings, collect
from prefkit.pairs.select import Candidates, select, strongest
from prefkit.pairs.settings import PairReport, PairSettings
from prefkit.pairs.splits import SPLITS, TEST, split_prompts
from prefkit.pairs.texts import longer_than, text_objections
from prefkit.pairs.votes import ONE_ORDER, Support, Votes, majority, support, votes_from_comparisons
from prefkit.records import prompt_text
from prefkit.rubric import Rubric
from prefkit.run import Run

Progress = Callable[[int], None]
Stages = Callable[[str, int | None, str], Progress]
"""Opens a progress bar with a title, a total and a unit, and gives the function that moves it."""


def _silent(title: str, total: int | None, unit: str) -> Progress:
    return lambda done: None


@dataclass(frozen=True)
class Pairs:
    """The pairs that were kept, in the order in which they are written; all arrays are [n_pairs] or [n_pairs,
    principles]."""

    collected: Collected
    rubric: Rubric
    at: Candidates
    rating_gap: Floats
    gaps: Floats
    rated: Floats
    """[n_responses, principles] scores over annotators, in the rubric's units whether or not gaps are of z-scores."""
    support: Support
    split: npt.NDArray[np.int8]
    chosen_first: npt.NDArray[np.bool_]
    group: Ints
    """Group of near-duplicate prompts: equal for pairs whose prompts must share a split."""

    def __getitem__(self, rows: Ints) -> Pairs:
        return replace(
            self,
            at=self.at[rows],
            rating_gap=self.rating_gap[rows],
            gaps=self.gaps[rows],
            support=self.support[rows],
            split=self.split[rows],
            chosen_first=self.chosen_first[rows],
            group=self.group[rows],
        )


def build_pairs(run: Run, settings: PairSettings, stages: Stages = _silent) -> PairReport:
    """Build ``pairs.parquet`` and ``dataset/`` of a run anew.

    Raises:
        RunError: there is nothing to build pairs from, no pair is left, or the run is in use.
        RecordError: a line of the run is not a record.
    """
    from prefkit.pairs.dataset import manifest, write_dataset, write_pairs

    with run.writing("build-pairs"), run.at_once():
        report = PairReport()
        pairs = find_pairs(run, settings, report, stages)
        report.manifest = manifest(run, settings)
        with run.replacing("pairs.parquet") as file:
            write_pairs(file, pairs)
        write_dataset(run, pairs, settings, report, stages("Writing the dataset", len(pairs.at), "pairs"))
        run.record_stage("build-pairs", settings=asdict(settings), **_counts(report))
    return report


def _counts(report: PairReport) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(report).items()}


def find_pairs(run: Run, settings: PairSettings, report: PairReport, stages: Stages) -> Pairs:
    """Select, filter and split; ``report`` is filled in on the way."""
    files = [path for path in (run.file(record) for record in _records()) if path]
    collected = collect(
        run, stages("Reading responses and judgements", sum(file.stat().st_size for file in files), "MB")
    )
    rubric = run.rubric
    report.judgements = collected.counts
    ratings = z_scored(collected.ratings) if settings.z_scores else collected.ratings
    rated = over_annotators(collected.ratings, len(collected.responses), settings.aggregate)
    scores = over_annotators(ratings, len(collected.responses), settings.aggregate) if settings.z_scores else rated
    totals = overall(scores, rubric)
    report.responses = _response_counts(collected, totals)
    votes, unusable = votes_from_comparisons(collected, both_orders=settings.orders == "both")
    report.judgements += unusable
    pairs = _selected(collected, totals, votes, settings, report)
    pairs = _without_excluded(collected, pairs, report)
    pairs = _through_gates(rubric, scores, rated, collected, votes, pairs, settings, report)
    pairs = _fit_to_read(collected, pairs, settings, report, stages)
    if settings.per_prompt:
        keep = strongest(pairs, _strength(totals, pairs), collected.responses.prompt, settings.per_prompt)
        pairs = _drop(pairs, keep, f"beyond {settings.per_prompt} pairs of one prompt", report)
    if not len(pairs):
        raise nothing_left(run, report)
    return _assembled(collected, rubric, ratings, scores, rated, totals, votes, pairs, settings, report)


def _records() -> tuple[Any, ...]:
    from prefkit.records import Judgement, Response

    return Response, Judgement


def nothing_left(run: Run, report: PairReport) -> RunError:
    """The error for a run without a single pair: what was found, and the commonest reason against it."""
    found = f"{report.selected:,} pairs selected and none kept"
    if report.dropped:
        reason, count = report.dropped.most_common(1)[0]
        found += f" ({reason}: {count:,})"
    unusable = ", ".join(f"{name}: {count:,}" for name, count in report.judgements.items() if count and " " in name)
    remedy = "Try --strategy all, a smaller --min-gap, or see `prefkit status` for what the run holds."
    if report.judgements[ONE_ORDER]:
        remedy = f"--orders any takes a model's word from one order. {remedy}"
    if unusable:
        remedy = f"Judgements that could not be used: {unusable}. {remedy}"
    return RunError(run.path, found, "at least one pair", remedy)


def _response_counts(collected: Collected, totals: Floats) -> Counter[str]:
    return +Counter(
        {
            "responses": len(collected.responses),
            "responses rated": int((~np.isnan(totals)).sum()),
            "responses to unknown prompts": collected.responses.unknown_prompt,
        }
    )


def _selected(
    collected: Collected, totals: Floats, votes: Votes, settings: PairSettings, report: PairReport
) -> Candidates:
    if settings.strategy == "comparisons":
        result = majority(votes, settings.min_votes)
        report.selected = result.compared
        report.dropped += result.dropped
        order = np.lexsort(
            (result.pairs.rejected, result.pairs.chosen, collected.responses.prompt[result.pairs.chosen])
        )
        return result.pairs[order]
    pairs = select(totals, collected.responses.prompt, settings.strategy, settings.needed_gap, settings.top)
    report.selected = len(pairs)
    return pairs


def _drop(pairs: Candidates, keep: npt.NDArray[np.bool_], reason: str, report: PairReport) -> Candidates:
    if not keep.all():
        report.dropped[reason] += int((~keep).sum())
    return pairs[keep]


def _without_excluded(collected: Collected, pairs: Candidates, report: PairReport) -> Candidates:
    excluded = np.asarray([prompt.excluded is not None for prompt in collected.prompts], dtype=bool)
    return _drop(pairs, ~excluded[collected.responses.prompt[pairs.chosen]], "prompt excluded by screening", report)


def _through_gates(
    rubric: Rubric,
    scores: Floats,
    rated: Floats,
    collected: Collected,
    votes: Votes,
    pairs: Candidates,
    settings: PairSettings,
    report: PairReport,
) -> Candidates:
    """Leave out pairs that a gate forbids; for one that was compared and not rated, by the principle's own
    comparisons."""
    for gate in rubric.gates if settings.gates else ():
        column = rubric.principle_ids.index(gate.principle)
        chosen, rejected = scores[pairs.chosen, column], scores[pairs.rejected, column]
        if gate.value is not None:
            keep = ~(gap(rated[pairs.chosen, column], gate.value) < 0)
            reason = f"gate: chosen side below {gate.value:g} on {gate.principle}"
        else:
            keep = ~(gap(chosen, rejected) < 0)
            reason = f"gate: chosen side lower on {gate.principle}"
            unrated = np.flatnonzero(np.isnan(chosen) | np.isnan(rejected))
            if len(unrated):
                compared = support(collected, pairs[unrated], np.empty(0), votes, ratings=False)
                keep[unrated] = ~(compared.by_principle[:, column] < 0.5)
        pairs = _drop(pairs, keep, reason, report)
    return pairs


def _fit_to_read(
    collected: Collected, pairs: Candidates, settings: PairSettings, report: PairReport, stages: Stages
) -> Candidates:
    too_long = longer_than(settings.max_chars, settings.max_tokens, settings.tokenizer)
    progress = stages("Comparing texts", len(pairs), "pairs")
    reasons = text_objections(collected.responses, pairs, settings.near_identical, too_long, progress)
    keep = np.asarray([reason is None for reason in reasons], dtype=bool)
    report.dropped.update(Counter(reasons[~keep].tolist()))
    return pairs[keep]


def _strength(totals: Floats, pairs: Candidates) -> Floats:
    gaps: Floats = np.nan_to_num(gap(totals[pairs.chosen], totals[pairs.rejected]), nan=0.0)
    return gaps


def _assembled(
    collected: Collected,
    rubric: Rubric,
    ratings: Ratings,
    scores: Floats,
    rated: Floats,
    totals: Floats,
    votes: Votes,
    pairs: Candidates,
    settings: PairSettings,
    report: PairReport,
) -> Pairs:
    """Split by prompt, keep one pair of each test prompt, and attach gaps, votes and the side to show first."""
    prompt = collected.responses.prompt
    used, place = np.unique(prompt[pairs.chosen], return_inverse=True)
    texts = [prompt_text(collected.prompts[index].messages) for index in used.tolist()]
    by_prompt, groups = split_prompts(texts, settings)
    if settings.strategy != "comparisons":
        widest = strongest(pairs, _strength(totals, pairs), prompt, 1)
        keep = (by_prompt[place] != TEST) | widest
        pairs, place = _drop(pairs, keep, "not the widest pair of its test prompt", report), place[keep]
    backed = support(collected, pairs, overall(ratings.scores, rubric), votes)
    split = by_prompt[place]
    report.kept = Counter(
        {name: int((split == part).sum()) for part, name in enumerate(SPLITS) if (split == part).any()}
    )
    return Pairs(
        collected,
        rubric,
        pairs,
        gap(totals[pairs.chosen], totals[pairs.rejected]),
        gap(scores[pairs.chosen], scores[pairs.rejected]),
        rated,
        backed,
        split,
        _half(len(pairs), settings.seed),
        groups[place],
    )


def _half(count: int, seed: int) -> npt.NDArray[np.bool_]:
    """True for a random half."""
    sides = np.arange(count) % 2 == 0
    np.random.default_rng(seed).shuffle(sides)
    return sides
