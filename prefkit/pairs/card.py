"""The dataset card: what the pairs are, where they come from, how they were chosen, and what they must not be used for.

Every number in it is counted from the run at the time of writing; the card is rewritten with the dataset.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from prefkit import __version__, cards
from prefkit.errors import RunError
from prefkit.pairs.collect import Ints
from prefkit.pairs.figures import Figures
from prefkit.pairs.settings import PairReport, PairSettings
from prefkit.pairs.splits import SPLITS
from prefkit.records import is_model
from prefkit.run import Run

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
STRATEGIES = {
    "gap": "every two responses to a prompt whose overall scores differ by {gap:g} or more",
    "best-worst": "the best against the worst response to each prompt, where they differ by {gap:g} or more",
    "all": "every two responses to a prompt whose overall scores differ",
    "top-k": "each of the {top} best responses to a prompt against each of the others, by {gap:g} or more",
    "comparisons": "every two responses that were compared, by majority of {votes} or more annotators",
}


def dataset_card(
    run: Run, figures: Figures, alike: Ints, settings: PairSettings, report: PairReport, files: str = "{split}.parquet"
) -> str:
    """The card in Markdown, with the YAML head that the Hub and `datasets` read.

    Args:
        run: where the pairs come from.
        figures: of the rows of the dataset, split by split.
        alike: [n, 2] numbers of prompts that were held together as near-duplicates.
        settings: how they were built.
        report: what was counted on the way.
        files: the files of a split.

    Raises:
        RunError: a prompt or near-duplicates stand on two sides of the split, which must not be.
    """
    parts = [
        _head(run, settings, report, files),
        _what(run, settings, report),
        cards.table(("split", "pairs", "prompts"), _split_rows(figures)),
        _checked(figures, alike, settings),
        "## Who judged\n",
        cards.table(("annotator", "kind", "pairs"), _annotator_rows(figures)),
        _agreement(figures),
        "## How pairs were selected\n",
        _selection(settings, report),
        "## Length\n",
        _length(figures.lengths),
        "## Where it comes from\n",
        cards.table(("import", "rows", "imported", "not imported"), _import_rows(run)),
        _cleaning(run, figures),
        _limits(figures, settings),
    ]
    return "\n".join(parts)


def _head(run: Run, settings: PairSettings, report: PairReport, files: str) -> str:
    count = report.dataset.total()
    head = {
        "license": settings.licence,
        "pretty_name": cards.on_one_line(run.rubric.title),
        "size_categories": [next((name for limit, name in SIZES if count < limit), "n>1M")],
        "tags": ["preference", "prefkit", run.rubric.id],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": name, "path": files.format(split=name)} for name in report.dataset],
            }
        ],
    }
    return cards.head(head)


def _what(run: Run, settings: PairSettings, report: PairReport) -> str:
    rubric = run.rubric
    source = f" Source: {cards.on_one_line(rubric.source)}." if rubric.source else ""
    return f"""# {cards.on_one_line(rubric.title)}: preference pairs

{report.dataset.total():,} pairs of a chosen and a rejected {rubric.unit}, judged by the rubric `{rubric.id}` version
{rubric.version} (content hash `{rubric.hash}`).{source} Made with prefkit {__version__}; manifest from rubric to
dataset: `{report.manifest}`. Format: {settings.format}. Licence: {settings.licence}.

{cards.principles(rubric)}
"""


def _split_rows(figures: Figures) -> list[tuple[str, int, int]]:
    prompts = np.bincount(figures.split, minlength=len(SPLITS)).tolist()
    return [(name, figures.pairs[name], prompts[part]) for part, name in enumerate(SPLITS) if figures.pairs[name]]


def _checked(figures: Figures, alike: Ints, settings: PairSettings) -> str:
    """Say that no prompt and no near-duplicate stands on two sides, after looking."""
    crossing = _in_two_splits(figures.prompts, figures.split) + _in_two_splits(figures.words, figures.split)
    order = np.argsort(figures.prompts)
    numbers = figures.prompts[order]
    place = np.minimum(np.searchsorted(numbers, alike), len(numbers) - 1)
    both = (numbers[place] == alike).all(axis=1)
    sides = figures.split[order][place[both]]
    near = int((sides[:, 0] != sides[:, 1]).sum())
    if crossing or near:
        found = f"{crossing} prompts and {near} near-duplicates on two sides of the split"
        raise RunError("the split", found, "none", "This is a bug of prefkit: please report it with your settings.")
    return (
        "Checked: no prompt stands in two splits, and no two prompts with a similarity (Jaccard of word pairs) of"
        f" {settings.near_duplicates:g} or more do: {len(alike):,} pairs of near-duplicates were found and held"
        " together.\n"
    )


def _in_two_splits(what: npt.NDArray[Any], split: npt.NDArray[np.int8]) -> int:
    """How many values stand in more than one split."""
    order = np.lexsort((split, what))
    same = what[order][1:] == what[order][:-1]
    return int((same & (split[order][1:] != split[order][:-1])).sum())


def _annotator_rows(figures: Figures) -> list[tuple[str, str, int]]:
    return [(name, "model" if is_model(name) else "person", count) for name, count in figures.votes.most_common()]


def _agreement(figures: Figures) -> str:
    share = figures.shares
    if not len(share):
        return "No pair has more than one annotator, so nothing is known here about how far annotators agree.\n"
    unanimous = float((share == 1).mean())
    return (
        f"{len(share):,} pairs have two annotators or more; on {unanimous:.1%} of them all prefer the chosen side,"
        f" and the mean share that does is {float(share.mean()):.1%}. The column `preferred` holds that share for each"
        " pair (a soft label).\n"
    )


def _selection(settings: PairSettings, report: PairReport) -> str:
    words = STRATEGIES[settings.strategy].format(gap=settings.needed_gap, top=settings.top, votes=settings.min_votes)
    rows: list[tuple[str, int]] = [(f"selected ({settings.strategy})", report.selected)]
    rows += [(f"left out: {reason}", count) for reason, count in report.dropped.most_common()]
    if report.tied:
        rows.append(("left out: ties (in pairs.parquet only)", report.tied.total()))
    if unknown := report.kept.total() - report.tied.total() - report.dataset.total():
        rows.append(("left out: text unknown (in pairs.parquet only)", unknown))
    rows.append(("kept", report.dataset.total()))
    judgements = ", ".join(f"{name} {count:,}" for name, count in report.judgements.items() if count)
    options = ", ".join(f"{name} {value}" for name, value in msgspec.to_builtins(settings).items() if value is not None)
    if settings.strategy == "comparisons":
        test = "A test prompt has all its pairs."
    else:
        test = "A test prompt has one pair, that of the widest gap left: best against worst."
    return (
        f"Strategy `{settings.strategy}`: {words}; over annotators by {settings.aggregate}. {test}\n\n"
        + cards.table(("pairs", "count"), rows)
        + f"\nJudgements read: {judgements}.\n\nSettings: {options}.\n"
    )


def _length(lengths: npt.NDArray[np.int32]) -> str:
    difference = lengths[:, 0] - lengths[:, 1]
    decided = difference != 0
    longer = float((difference[decided] > 0).mean()) if decided.any() else 0.5
    rows = [
        (name, *(f"{value:,.0f}" for value in (column.mean(), *np.percentile(column, (10, 50, 90)))))
        for name, column in (("chosen", lengths[:, 0]), ("rejected", lengths[:, 1]))
    ]
    return (
        cards.table(("characters", "mean", "10%", "median", "90%"), rows)
        + f"\nThe longer response is the chosen one in {longer:.1%} of the pairs of unequal length: a reward model that"
        " only preferred longer responses would score that much.\n"
    )


def _import_rows(run: Run) -> list[tuple[str, int, str, str]]:
    return [
        (
            f"{entry.kind} from {entry.file}",
            entry.rows,
            ", ".join(f"{count:,} {name}" for name, count in entry.imported.items()) or "-",
            ", ".join(f"{name}: {count:,}" for name, count in (*entry.rejected.items(), *entry.notes.items())) or "-",
        )
        for entry in run.info.imports
    ]


def _cleaning(run: Run, figures: Figures) -> str:
    screened = "screen" in run.info.stages
    return (
        "Identifying text was replaced by placeholders in"
        f" {figures.scrubbed:,} of {len(figures.prompts):,} prompts (`prefkit scrub`)."
        + (f" The risk screen marked {figures.risky:,} of them." if screened else " No risk screen was run.")
        + "\n"
    )


def _limits(figures: Figures, settings: PairSettings) -> str:
    people = not all(map(is_model, figures.judges))
    units = "standard deviations of each annotator's scores" if settings.z_scores else "the rubric's units"
    judged = "People judged at least some of the pairs." if people else "No person judged these pairs: only models did."
    return f"""## Known limits

- {judged} A rubric's scores are an opinion under instructions, not an outcome for a client.
- Scrubbing is a net with holes; it is not anonymisation. Treat client speech as sensitive.
- A gap is in {units} and depends on who rated; scores under another rubric hash are not comparable.
- A reward model can reach a high accuracy by telling policies apart. Evaluate with policies left out.
- Not for clinical use, for diagnosing, or for deciding about a person.
"""
