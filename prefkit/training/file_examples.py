"""The groups of a preference file.

Reads   a file, a folder (``dataset/`` of a run) or a dataset of the hub in one of the shapes of ``preference_files``
Gives   Groups: its rows, put together by their prompts
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from prefkit.errors import InputError
from prefkit.records import digest, pair_id, prompt_id
from prefkit.rows.drafts import Unfit
from prefkit.rows.files import is_hub_name, read_rows
from prefkit.training.groups import Group, Groups, Pair, without_unpaired
from prefkit.training.kept_pairs import Weighing, nothing_left, take
from prefkit.training.preference_files import Compared, ComparedPair, Reader, Reading, reader_for
from prefkit.training.spool import Spool

Progress = Callable[[int], None]
"""Told the bytes of a file as they are read."""


def file_groups(
    source: str | Path,
    split: str | None,
    weighing: Weighing,
    progress: Progress | None,
    reading: Reading,
    *,
    all_responses: bool,
) -> Groups:
    """See ``examples.read_groups``."""
    whole_file = not is_hub_name(source) and Path(source).is_file()
    rows = read_rows(source, split=None if whole_file else split, progress=progress)
    reader = _FileReader(source, reading, weighing, all_responses=all_responses)
    for row in rows:
        if row.broken:
            reader.unfit["rows that could not be read, left out"] += 1
        elif not whole_file or split is None or _split_of(row.values, source) == split:
            reader.take(row.number, row.values)
    if not reader.rows and whole_file and split is not None:
        raise InputError(source, f"no row of the split {split!r}", "a split that has rows", "Look at its spelling.")
    groups = Groups(str(source), tuple(reader.principles), reader.groups)
    if not groups.prompts:
        remedy = "See that prompt, chosen and rejected hold what their names say."
        raise nothing_left(InputError, source, reader.rows, groups.tally, remedy)
    return groups


def _split_of(values: Mapping[str, Any], source: object) -> Any:
    if "split" not in values:
        raise InputError(source, "one file, without splits", "a column `split`, or a folder of splits", "Leave it out.")
    return values["split"]


class _FileReader:
    """Rows of a file, put together by their prompts."""

    def __init__(self, source: object, reading: Reading, weighing: Weighing, *, all_responses: bool) -> None:
        self.rows = 0
        self.unfit: Counter[str] = Counter()
        self.principles: dict[str, None] = {}
        self._source = source
        self._reading = reading
        self._weighing = weighing
        self._all_responses = all_responses
        self._read: Reader | None = None
        self._spool = Spool()

    def take(self, number: int, values: Mapping[str, Any]) -> None:
        """Keep a row, or count why it cannot be used."""
        self.rows += 1
        self._read = self._read or reader_for(self._source, values, self._reading, all_responses=self._all_responses)
        try:
            said = self._read(values, self._reading)
        except Unfit as fault:
            self.unfit[f"rows left out: {fault.reason}"] += 1
        except InputError as error:
            where = f"{self._source}: row {number:,}: {error.where}"
            raise InputError(where, error.found, error.expected, error.remedy) from None
        else:
            for pair in said.pairs:
                self.principles.update(dict.fromkeys(pair.gaps))
            prompt = msgspec.json.encode([(turn.role, turn.content) for turn in said.messages])
            self._spool.add(prompt.decode(), msgspec.msgpack.encode(said))

    def groups(self, tally: Counter[str]) -> Iterator[Group]:
        """The rows of each prompt as a group."""
        decode = msgspec.msgpack.Decoder(Compared).decode
        tally.update(self.unfit)
        for lines in self._spool.groups():
            group = self._merged([decode(line) for line in lines], tally)
            if self._all_responses:
                yield group
            elif group.pairs:
                yield without_unpaired(group)

    def _merged(self, rows: Sequence[Compared], tally: Counter[str]) -> Group:
        prompt = rows[0].prompt_id or prompt_id(rows[0].messages)
        place: dict[tuple[str, str], int] = {}
        names: list[str] = []
        for row in rows:
            given = row.response_ids or (None,) * len(row.texts)
            for response, name in zip(zip(row.policies, row.texts, strict=True), given, strict=True):
                if response not in place:
                    place[response] = len(names)
                    names.append(name or digest("response", prompt, *response))
        policies, texts = zip(*place, strict=True)
        kept: list[Pair] = []
        for row in rows:
            at = [place[response] for response in zip(row.policies, row.texts, strict=True)]
            for pair in row.pairs:
                take(self._pair(pair, at, names, prompt), texts, kept, tally)
        return Group(
            prompt_id=prompt,
            messages=rows[0].messages,
            response_ids=tuple(names),
            texts=texts,
            policies=policies,
            pairs=_with_ids_of_their_own(kept),
            topic=rows[0].topic,
        )

    def _pair(self, pair: ComparedPair, at: Sequence[int], names: Sequence[str], prompt: str) -> Pair:
        chosen, rejected = at[pair.chosen], at[pair.rejected]
        return Pair(
            id=pair.id or pair_id(prompt, names[chosen], names[rejected]),
            chosen=chosen,
            rejected=rejected,
            preferred=pair.preferred,
            weight=pair.weight * self._weighing.of(pair.annotators),
            gap=pair.gap,
            gaps=pair.gaps,
            principle_preferred=pair.principle_preferred,
        )


def _with_ids_of_their_own(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """The pairs of a prompt; one that stands in several rows gets a number behind its id."""
    times: Counter[str] = Counter()
    found = []
    for pair in pairs:
        times[pair.id] += 1
        found.append(pair if times[pair.id] == 1 else replace(pair, id=f"{pair.id}#{times[pair.id]}"))
    return tuple(found)
