"""Turn judgements into preference pairs, and pairs into a dataset.

Reads   prompts, responses, judgements of a run
Writes  pairs.parquet   pairs by id: who is preferred to whom, by how much, who said so, in which split
        dataset/        the same with their words, as trl and `datasets` read them, with a card; without ties

Nothing here calls a model, and the same run and settings give the same bytes. A pair that was selected and not kept
is counted under the first reason against it, in this order: prompt excluded, gates, words, other pairs of its prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt

from prefkit.errors import RunError
from prefkit.pairs.collect import Collected, Floats, Ints
from prefkit.pairs.evidence import Evidence, gather
from prefkit.pairs.filters import drop, filtered, widest
from prefkit.pairs.select import Candidates, select
from prefkit.pairs.settings import PairReport, PairSettings
from prefkit.pairs.splits import SPLITS, TEST, split_prompts
from prefkit.pairs.votes import ONE_ORDER, Support, majority
from prefkit.records import prompt_text
from prefkit.rubric import Rubric
from prefkit.run import Run

NOT_THE_WIDEST = "not the widest pair of its test prompt"
Bools = npt.NDArray[np.bool_]
Progress = Callable[[int], None]
Stages = Callable[[str, int | None, str], Progress]
"""Opens a progress bar with a title, a total and a unit, and gives the function that moves it."""


def silent(title: str, total: int | None, unit: str) -> Progress:
    """Opens no bar."""
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
    chosen_first: Bools
    alike: Ints
    """[n, 2] prompts that are near-duplicates of each other, enough of them to tie each group together."""

    def __getitem__(self, rows: Ints) -> Pairs:
        return replace(
            self,
            at=self.at[rows],
            rating_gap=self.rating_gap[rows],
            gaps=self.gaps[rows],
            support=self.support[rows],
            split=self.split[rows],
            chosen_first=self.chosen_first[rows],
        )


@dataclass(frozen=True)
class Undivided:
    """Pairs before it is known which prompt is in which split; fields are as those of ``Pairs``."""

    collected: Collected
    rubric: Rubric
    at: Candidates
    rating_gap: Floats
    gaps: Floats
    rated: Floats
    support: Support
    prompts: Ints
    """[n_prompts] those that have a pair, ascending."""
    place: Ints
    """[n_pairs] of each pair's prompt among ``prompts``."""
    in_test: Bools
    """[n_pairs] whether it stays where its prompt is in the test split: of each such prompt one pair, and its ties."""

    def kept(self, split: npt.NDArray[np.int8]) -> Bools:
        """[n_pairs] which pairs stay, given the split of each prompt."""
        keep: Bools = (split[self.place] != TEST) | self.in_test
        return keep

    def divided(self, split: npt.NDArray[np.int8], chosen_first: Bools, alike: Ints, report: PairReport) -> Pairs:
        """The pairs that stay.

        Args:
            split: [n_prompts] of each prompt.
            chosen_first: of each pair that stays.
            alike: see ``Pairs``.
            report: is told how many stay.
        """
        keep = self.kept(split)
        rows = np.flatnonzero(keep)
        pairs, of_pair = drop(self.at, keep, NOT_THE_WIDEST, report), split[self.place[rows]]
        report.kept += Counter({name: int((of_pair == part).sum()) for part, name in enumerate(SPLITS)})
        report.tied += Counter({name: int((of_pair[pairs.tied] == part).sum()) for part, name in enumerate(SPLITS)})
        return Pairs(
            collected=self.collected,
            rubric=self.rubric,
            at=pairs,
            rating_gap=self.rating_gap[rows],
            gaps=self.gaps[rows],
            rated=self.rated,
            support=self.support[rows],
            split=of_pair,
            chosen_first=chosen_first,
            alike=alike,
        )


def build_pairs(run: Run, settings: PairSettings, stages: Stages = silent) -> PairReport:
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
        note(run, settings, report)
    return report


def note(run: Run, settings: PairSettings, report: PairReport) -> None:
    """Write to ``run.json`` what came of it."""
    counts = {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(report).items()}
    run.record_stage("build-pairs", settings=asdict(settings), **counts)


def find_pairs(run: Run, settings: PairSettings, report: PairReport, stages: Stages) -> Pairs:
    """Select, filter and split; ``report`` is filled in on the way.

    Raises:
        RunError: there is nothing to build pairs from, or no pair is left.
        RecordError: a line of the run is not a record.
    """
    evidence = gather(run, settings, lambda total: stages("Reading responses and judgements", total, "MB"))
    undivided = weighed(evidence, settings, report, lambda total: stages("Comparing texts", total, "pairs"))
    if not len(undivided.at):
        raise nothing_left(run, report)
    prompts = evidence.collected.prompts
    texts = [prompt_text(prompts[index].messages) for index in undivided.prompts.tolist()]
    split, alike = split_prompts(texts, settings)
    keep = undivided.kept(split)
    first = random_half(int(keep.sum()), settings.seed)
    return undivided.divided(split, first, undivided.prompts[alike], report)


def weighed(
    evidence: Evidence, settings: PairSettings, report: PairReport, open_bar: Callable[[int], Progress]
) -> Undivided:
    """The pairs that a strategy finds and nothing speaks against, with gaps and votes.

    Args:
        evidence: of a run, or of some of its prompts.
        settings: which pairs.
        report: is told what was found and left out.
        open_bar: opens a progress bar, given how many pairs of texts there are to compare.
    """
    report.judgements += evidence.unusable
    report.responses += evidence.response_counts()
    pairs = filtered(evidence, _selected(evidence, settings, report), settings, report, open_bar)
    prompts, place = np.unique(evidence.collected.responses.prompt[pairs.chosen], return_inverse=True)
    every = settings.strategy == "comparisons"
    return Undivided(
        collected=evidence.collected,
        rubric=evidence.rubric,
        at=pairs,
        rating_gap=evidence.gap(pairs),
        gaps=evidence.gaps(pairs),
        rated=evidence.rated,
        support=evidence.support(pairs).with_ties(pairs.tied),
        prompts=prompts,
        place=place,
        in_test=np.ones(len(pairs), bool) if every else pairs.tied | widest(evidence, pairs, 1),
    )


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


def _selected(evidence: Evidence, settings: PairSettings, report: PairReport) -> Candidates:
    """The pairs that the strategy finds, sorted by prompt."""
    prompt = evidence.collected.responses.prompt
    if settings.strategy == "comparisons":
        result = majority(evidence.votes, settings.min_votes, ties=settings.ties)
        report.selected = result.compared
        report.dropped += result.dropped
        return result.pairs.sorted_by(prompt)
    pairs = select(evidence.totals, prompt, settings.strategy, settings.needed_gap, settings.top, ties=settings.ties)
    report.selected = len(pairs)
    return pairs


def random_half(count: int, seed: int) -> Bools:
    """True for a random half."""
    sides = np.arange(count) % 2 == 0
    np.random.default_rng(seed).shuffle(sides)
    return sides
