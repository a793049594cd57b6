"""Pairs to files: ``pairs.parquet`` by id, and ``dataset/`` with the words.

The dataset has one Parquet file a split and a card, ``README.md``, whose head tells ``datasets.load_dataset`` which
file is which split. Formats:

    conversational   prompt, chosen, rejected as lists of messages (trl's explicit-prompt conversational preference)
    plain            the same as texts
    psychocounsel    the columns of PsychoCounsel-Preference

There is never a column named ``margin``: trl subtracts such a column inside its loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from prefkit import __version__
from prefkit.durable import file_digest
from prefkit.pairs.build import Pairs
from prefkit.pairs.card import dataset_card
from prefkit.pairs.collect import Floats
from prefkit.pairs.figures import Figures, figures, together
from prefkit.pairs.settings import PairReport, PairSettings
from prefkit.pairs.splits import SPLITS
from prefkit.records import Judgement, Prompt, Response, digest, pair_id, prompt_text
from prefkit.run import Run

CHUNK = 1 << 14


def manifest(run: Run, settings: PairSettings) -> str:
    """One hash from rubric to dataset: over the rubric (what is shown of it and how it is used), the run's records, the
    settings and prefkit's version."""
    rubric = run.rubric
    used = (rubric.aggregate, [principle.weight for principle in rubric.principles], rubric.gates)
    files = [file_digest(path) for path in map(run.file, (Prompt, Response, Judgement)) if path]
    return digest("dataset", rubric.hash, used, files, msgspec.to_builtins(settings), __version__)


def write_pairs(file: BinaryIO, pairs: Pairs) -> None:
    """Write ``pairs.parquet``: the fields of ``PreferencePair`` as columns."""
    import pyarrow as pa
    from pyarrow import parquet

    writer = None
    for rows in _chunks(len(pairs.at)):
        table = pa.table({**_ids(pairs, rows), **_provenance(pairs, rows)})
        writer = writer or parquet.ParquetWriter(file, table.schema, compression="zstd")
        writer.write_table(table)
    if writer:
        writer.close()


def write_dataset(
    run: Run, pairs: Pairs, settings: PairSettings, report: PairReport, progress: Callable[[int], None]
) -> None:
    """Write ``dataset/``: a Parquet file for each split that has pairs, and the card.

    Pairs of responses whose texts the run does not know stay out of it, and so do ties, whose chosen side trl would
    take for the better one; where nothing is left, there is no dataset.
    """
    written: list[Figures] = []
    with run.replacing_folder("dataset") as folder:
        for part, name in enumerate(SPLITS):
            found = write_split(folder / f"{name}.parquet", pairs, part, settings, progress)
            if found:
                written.append(found)
                report.dataset[name] = found.pairs[name]
        if written:
            card = dataset_card(run, together(written), pairs.alike, settings, report)
            (folder / "README.md").write_text(card, encoding="utf-8")
    if not written:
        run.remove("dataset")


def _chunks(count: int) -> Iterator[Any]:
    for start in range(0, count, CHUNK):
        yield np.arange(start, min(start + CHUNK, count))


def write_split(
    file: Path | BinaryIO,
    pairs: Pairs,
    part: int,
    settings: PairSettings,
    progress: Callable[[int], None],
    first_prompt: int = 0,
) -> Figures | None:
    """Write a split's pairs to a file; give their figures, or None, and no file, where there are none.

    Args:
        file: its path, or the file, open.
        pairs: of all splits.
        part: the split, see ``SPLITS``.
        settings: the format.
        progress: told how many more pairs are done.
        first_prompt: see ``figures``.
    """
    import pyarrow as pa
    from pyarrow import parquet

    rows = np.flatnonzero((pairs.split == part) & ~pairs.at.tied)
    writer, written = None, [rows[:0]]
    lengths: list[tuple[int, int]] = []
    for chunk in _chunks(len(rows)):
        these, chosen, rejected = _with_texts(pairs, rows[chunk])
        progress(len(chunk))
        if not len(these):
            continue
        written.append(these)
        lengths.extend(zip(map(len, chosen), map(len, rejected), strict=True))
        columns = {
            "conversational": _conversational,
            "plain": _plain,
            "psychocounsel": _psychocounsel,
        }[settings.format](pairs, these, chosen, rejected)
        if settings.format != "psychocounsel":
            columns |= {**_ids(pairs, these), **_provenance(pairs, these)}
            del columns["split"]
        table = pa.table(columns)
        writer = writer or parquet.ParquetWriter(file, table.schema, compression="zstd")
        writer.write_table(table)
    if writer is None:
        return None
    writer.close()
    return figures(pairs[np.concatenate(written)], lengths, first_prompt)


def _with_texts(pairs: Pairs, rows: Any) -> tuple[Any, list[str], list[str]]:
    """The rows whose two texts are known, and the texts."""
    responses = pairs.collected.responses
    chosen = [responses[index].text for index in pairs.at.chosen[rows].tolist()]
    rejected = [responses[index].text for index in pairs.at.rejected[rows].tolist()]
    known = [at for at, (a, b) in enumerate(zip(chosen, rejected, strict=True)) if a is not None and b is not None]
    return rows[known], [chosen[at] or "" for at in known], [rejected[at] or "" for at in known]


def _conversational(pairs: Pairs, rows: Any, chosen: list[str], rejected: list[str]) -> dict[str, Any]:
    import pyarrow as pa

    prompts = [_prompt(pairs, row).messages for row in rows]
    offsets = np.concatenate(([0], np.cumsum([len(messages) for messages in prompts]))).astype(np.int32)
    turns = [message for messages in prompts for message in messages]
    return {
        "prompt": pa.ListArray.from_arrays(
            offsets, _messages([turn.role for turn in turns], [turn.content for turn in turns])
        ),
        "chosen": pa.ListArray.from_arrays(_one_each(rows), _messages(["assistant"] * len(rows), chosen)),
        "rejected": pa.ListArray.from_arrays(_one_each(rows), _messages(["assistant"] * len(rows), rejected)),
    }


def _one_each(rows: Any) -> Any:
    return np.arange(len(rows) + 1, dtype=np.int32)


def _messages(roles: list[str], contents: list[str]) -> Any:
    import pyarrow as pa

    return pa.StructArray.from_arrays(
        [pa.array(roles, pa.string()), pa.array(contents, pa.string())], ["role", "content"]
    )


def _plain(pairs: Pairs, rows: Any, chosen: list[str], rejected: list[str]) -> dict[str, Any]:
    prompts = [prompt_text(_prompt(pairs, row).messages) for row in rows]
    return {"prompt": prompts, "chosen": chosen, "rejected": rejected}


def _psychocounsel(pairs: Pairs, rows: Any, chosen: list[str], rejected: list[str]) -> dict[str, Any]:
    prompts = [_prompt(pairs, row) for row in rows]
    of_pair = pairs.collected.responses.prompt[pairs.at.chosen]
    columns: dict[str, Any] = {
        "ID": [prompt.keys[0] if prompt.keys else prompt.id for prompt in prompts],
        "prefID": rows - np.searchsorted(of_pair, of_pair[rows]),  # pairs stand prompt by prompt
        "question": [prompt_text(prompt.messages) for prompt in prompts],
        "chosen": chosen,
        "rejected": rejected,
    }
    responses = pairs.collected.responses
    for side, at in (("chosen", pairs.at.chosen[rows]), ("rejected", pairs.at.rejected[rows])):
        columns[f"{side}_model"] = [responses.policies[policy] for policy in responses.policy[at]]
        for column, name in enumerate(pairs.rubric.principle_ids):
            columns[f"{side}_{name}_rating"] = _nullable(pairs.rated[at, column])
    return columns


def _prompt(pairs: Pairs, row: int) -> Prompt:
    return pairs.collected.prompts[pairs.collected.responses.prompt[pairs.at.chosen[row]]]


def _ids(pairs: Pairs, rows: Any) -> dict[str, Any]:
    responses, chosen, rejected = pairs.collected.responses, pairs.at.chosen[rows], pairs.at.rejected[rows]
    prompts = [pairs.collected.prompts[index].id for index in responses.prompt[chosen]]
    names = [(responses.ids[a], responses.ids[b]) for a, b in zip(chosen.tolist(), rejected.tolist(), strict=True)]
    return {
        "id": [pair_id(prompt, a, b) for prompt, (a, b) in zip(prompts, names, strict=True)],
        "prompt_id": prompts,
        "chosen_id": [a for a, _ in names],
        "rejected_id": [b for _, b in names],
        "chosen_policy": [responses.policies[index] for index in responses.policy[chosen]],
        "rejected_policy": [responses.policies[index] for index in responses.policy[rejected]],
    }


def _provenance(pairs: Pairs, rows: Any) -> dict[str, Any]:
    import pyarrow as pa

    names = list(pairs.rubric.principle_ids)
    annotators = pairs.collected.annotators
    return {
        "rating_gap": _nullable(pairs.rating_gap[rows]),
        "gaps": pa.StructArray.from_arrays([_nullable(column) for column in pairs.gaps[rows].T], names),
        "preferred": _nullable(pairs.support.overall[rows]),
        "principle_preferred": pa.StructArray.from_arrays(
            [_nullable(column) for column in pairs.support.by_principle[rows].T], names
        ),
        "annotators": pa.array(
            [[annotators[index] for index in pairs.support.voters[row]] for row in rows], pa.list_(pa.string())
        ),
        "first": np.where(pairs.chosen_first[rows], "chosen", "rejected").tolist(),
        "split": [SPLITS[part] for part in pairs.split[rows]],
    }


def _nullable(values: Floats) -> Any:
    import pyarrow as pa

    return pa.array([None if math.isnan(value) else value for value in values.tolist()], pa.float64())
