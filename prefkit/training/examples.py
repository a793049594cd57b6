"""What a reward model reads: groups out of a run, or out of a preference file.

Reads   pairs.parquet, prompts and responses of a run; or a file, a folder (``dataset/`` of a run) or a dataset of the
        hub in one of the shapes of ``preference_files``
Gives   Groups: each prompt once, with the responses of all its pairs

Groups can be gone through again and again. Texts stay on disk; memory is some 100 bytes a record. All is read once
before the first group is given, so that what is missing or wrong is said at the beginning, and what was left out is
counted in ``Groups.tally``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from prefkit.by_prompt import ByPrompt
from prefkit.errors import InputError, PrefkitError, RunError
from prefkit.records import PreferencePair, Prompt, Response, digest, pair_id, prompt_id
from prefkit.run import Run, read_parquet_records
from prefkit.training.groups import Group, Pair, subset
from prefkit.training.spool import Spool

if TYPE_CHECKING:
    from prefkit.training.preference_files import Compared, ComparedPair, Reader, Reading

Progress = Callable[[int], None]
Weights = Mapping[str, float]

EMPTY = "pairs with an empty response, left out"
IDENTICAL = "pairs of identical texts, left out"
NO_TEXT = "pairs of responses whose text is not known, left out"
NO_WEIGHT = "pairs of weight 0, left out"


class Groups:
    """Groups that can be gone through again and again.

    Args:
        source: what they were read from.
        principles: on which the pairs may have gaps, in the rubric's order; () where there is no rubric.
        made: gives the groups anew, and counts what it leaves out.
    """

    def __init__(
        self, source: str, principles: tuple[str, ...], made: Callable[[Counter[str]], Iterator[Group]]
    ) -> None:
        self.source = source
        self.principles = principles
        self.tally: Counter[str] = Counter()
        """What was left out, by reason."""
        self.prompts = self.responses = self.pairs = 0
        self._made = made
        for group in made(self.tally):
            self.prompts += 1
            self.responses += len(group.texts)
            self.pairs += len(group.pairs)

    def __iter__(self) -> Iterator[Group]:
        return self._made(Counter())

    def __len__(self) -> int:
        return self.prompts


def read_groups(
    source: str | Path,
    split: str | None = None,
    *,
    all_responses: bool = False,
    plain: bool = False,
    soft: bool = True,
    weights: Weights | None = None,
    progress: Progress | None = None,
) -> Groups:
    """The groups of a run or of a preference file.

    Args:
        source: a run folder; a file, a folder or the name of a dataset on the hub.
        split: only the pairs of this split; None for all that are there.
        all_responses: also the responses that stand in no pair, for scoring; then there need be no pairs at all.
        plain: take the texts of a file as they stand, without roles, as trl does with texts.
        soft: labels are the share of annotators that prefer the chosen side; else 1, and 0.5 for a tie.
        weights: of annotators, 1 for one that is not named; a pair's weight is the mean of its annotators'.
        progress: told the bytes of a file as they are read.

    Raises:
        InputError: a file that cannot be read, or without pairs.
        RunError: a run without pairs, texts, or this split.
        PrefkitError: a weight that is none, of an annotator that is not there.
    """
    from prefkit.training.preference_files import Reading

    weighing = _Weighing(weights or {})
    if (Path(source) / "run.json").exists():
        if plain:
            raise PrefkitError(source, "a run", "a file of plain texts for --plain", "Leave out --plain.")
        groups = _of_run(Run(source), split, weighing, all_responses=all_responses, soft=soft)
    else:
        reading = Reading(plain, soft)
        groups = _of_file(source, split, weighing, progress, reading, all_responses=all_responses)
    weighing.check_names(source)
    return groups


class _Weighing:
    """The weight of a pair by its annotators."""

    def __init__(self, weights: Weights) -> None:
        for name, weight in weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                remedy = "Give the annotator a number such as 0.5; 0 leaves out what only they said."
                raise PrefkitError(f"weight of {name}", f"{weight}", "a finite number from 0", remedy)
        self._weights = weights
        self._seen: set[str] = set()

    def of(self, annotators: Sequence[str]) -> float:
        """The mean of the annotators' weights."""
        if not self._weights or not annotators:
            return 1.0
        self._seen.update(annotators)
        return sum(self._weights.get(name, 1.0) for name in annotators) / len(annotators)

    def check_names(self, source: object) -> None:
        """Raise an error about the weight of an annotator that judged nothing."""
        unknown = [name for name in self._weights if name not in self._seen]
        if unknown:
            known = ", ".join(sorted(self._seen)[:5]) or "none"
            remedy = "Look at the spelling: llm:NAME or human:NAME."
            raise PrefkitError(source, f"no pair of the annotator {unknown[0]!r}", f"one of: {known}", remedy)


# --- from a run ------------------------------------------------------------------------------------------------------


def _of_run(run: Run, split: str | None, weighing: _Weighing, *, all_responses: bool, soft: bool) -> Groups:
    responses = ByPrompt(run, lambda response: response.text is not None, lambda prompt: prompt.excluded is None)
    if not responses.counts.any():
        remedy = "Import them (prefkit import responses), or generate some (prefkit generate)."
        raise RunError(run.path, "no response with a text", "the texts of the responses", remedy)
    pairs = _pairs_of_run(run, split, responses, needed=not all_responses)
    reader = _RunReader(run, responses, pairs, weighing, soft=soft)
    made = reader.in_pairs if not all_responses else reader.all if split is None else reader.all_in_pairs
    groups = Groups(str(run.path), run.rubric.principle_ids, made)
    if not groups.pairs and not all_responses:
        raise nothing_left(RunError, run.path, len(pairs), groups.tally, f"Look at them: prefkit pairs {run.path}")
    return groups


def nothing_left(
    error: type[PrefkitError], source: object, count: int, tally: Counter[str], remedy: str
) -> PrefkitError:
    """The error for a source of which no pair is left: how many there were, and the commonest reason."""
    reasons = "; ".join(f"{number:,} {reason}" for reason, number in tally.most_common(2))
    return error(
        source, f"{count:,} pairs or rows of which none can be used ({reasons})", "pairs to learn from", remedy
    )


def _pairs_of_run(run: Run, split: str | None, responses: ByPrompt, *, needed: bool) -> Spool:
    """The pairs of a split, by prompt.

    Raises:
        RunError: there are none.
    """
    spool, path = Spool(), run.path / "pairs.parquet"
    if not path.exists():
        if needed and responses.counts.max() < 2:
            remedy = "Generate more (prefkit generate), or import another policy's."
            raise RunError(run.path, "one response for each prompt", "two or more to compare", remedy)
        if needed or split is not None:
            raise RunError(run.path, "no pairs", "pairs.parquet", f"Build them: prefkit build-pairs {run.path}")
        return spool
    by_split: Counter[str] = Counter()
    for pair in read_parquet_records(path, PreferencePair):
        by_split[pair.split] += 1
        if split in (None, pair.split):
            spool.add(pair.prompt_id, msgspec.json.encode(pair))
    if not len(spool) and (needed or split is not None):
        there = ", ".join(f"{count:,} {name}" for name, count in by_split.items()) or "none at all"
        size = f" --{split}-size" if split in ("validation", "test") else ""
        remedy = f"Build pairs with such a split (prefkit build-pairs {run.path}{size}), or name another."
        raise RunError(path, f"no pair in the split {split!r} ({there})", "a split that has pairs", remedy)
    return spool


class _RunReader:
    def __init__(self, run: Run, responses: ByPrompt, pairs: Spool, weighing: _Weighing, *, soft: bool) -> None:
        self._path = run.path
        self._responses = responses
        self._pairs = pairs
        self._weighing = weighing
        self._soft = soft
        self._decode = msgspec.json.Decoder(PreferencePair).decode
        self._number = {int(key): number for number, key in enumerate(responses.keys)}

    def in_pairs(self, tally: Counter[str]) -> Iterator[Group]:
        """The prompts of pairs, with the responses of their pairs."""
        for group in self.all_in_pairs(tally):
            if group.pairs:
                yield _without_unpaired(group)

    def all_in_pairs(self, tally: Counter[str]) -> Iterator[Group]:
        """The prompts of pairs, with all their responses."""
        for lines in self._pairs.groups():
            pairs = [self._decode(line) for line in lines]
            yield self._group(self._numbered(pairs[0]), pairs, tally)

    def all(self, tally: Counter[str]) -> Iterator[Group]:
        """All prompts that have a response, with all of them."""
        for number in range(len(self._responses)):
            if self._responses.counts[number]:
                lines = self._pairs.of(self._responses.prompt(number).id)
                yield self._group(number, [self._decode(line) for line in lines], tally)

    def _numbered(self, pair: PreferencePair) -> int:
        number = self._number.get(hash(pair.prompt_id))
        if number is None:
            raise self._gone(f"the prompt {pair.prompt_id}")
        return number

    def _gone(self, what: str) -> RunError:
        found = f"pairs of {what}, which the run does not hold (or no longer uses)"
        remedy = f"Build them again: prefkit build-pairs {self._path}"
        return RunError(self._path / "pairs.parquet", found, "pairs of this run", remedy)

    def _group(self, number: int, pairs: Sequence[PreferencePair], tally: Counter[str]) -> Group:
        prompt = self._responses.prompt(number)
        responses = [self._responses.response(place) for place in self._responses.places(number)]
        place = {response.id: at for at, response in enumerate(responses)}
        kept: list[Pair] = []
        for pair in pairs:
            if pair.chosen_id not in place or pair.rejected_id not in place:
                tally[NO_TEXT] += 1
                continue
            _take(self._pair(pair, place), [response.text or "" for response in responses], kept, tally)
        return _run_group(prompt, responses, kept)

    def _pair(self, pair: PreferencePair, place: Mapping[str, int]) -> Pair:
        preferred = 1.0 if pair.preferred is None else pair.preferred
        if not self._soft:
            preferred = 0.5 if preferred == 0.5 and not pair.rating_gap else 1.0
        return Pair(
            id=pair.id,
            chosen=place[pair.chosen_id],
            rejected=place[pair.rejected_id],
            preferred=preferred,
            weight=self._weighing.of(pair.annotators),
            gap=pair.rating_gap,
            gaps=pair.gaps,
            principle_preferred=pair.principle_preferred,
        )


def _run_group(prompt: Prompt, responses: Sequence[Response], pairs: Sequence[Pair]) -> Group:
    return Group(
        prompt_id=prompt.id,
        messages=prompt.messages,
        response_ids=tuple(response.id for response in responses),
        texts=tuple(response.text or "" for response in responses),
        policies=tuple(response.policy for response in responses),
        pairs=tuple(pairs),
        topic=prompt.topic,
    )


def _take(pair: Pair, texts: Sequence[str], kept: list[Pair], tally: Counter[str]) -> None:
    """Put a pair to those that are kept, or count why it is not."""
    chosen, rejected = texts[pair.chosen], texts[pair.rejected]
    if not chosen.strip() or not rejected.strip():
        tally[EMPTY] += 1
    elif chosen == rejected:
        tally[IDENTICAL] += 1
    elif not pair.weight:
        tally[NO_WEIGHT] += 1
    else:
        kept.append(pair)


def _without_unpaired(group: Group) -> Group:
    """The group with only those responses that stand in a pair."""
    return subset(group, sorted({side for pair in group.pairs for side in (pair.chosen, pair.rejected)}))


# --- from a file -----------------------------------------------------------------------------------------------------


def _of_file(
    source: str | Path,
    split: str | None,
    weighing: _Weighing,
    progress: Progress | None,
    reading: Reading,
    *,
    all_responses: bool,
) -> Groups:
    from prefkit.training.preference_files import is_hub_name, read_rows

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

    def __init__(self, source: object, reading: Reading, weighing: _Weighing, *, all_responses: bool) -> None:
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
        from prefkit.training.preference_files import Unfit, reader_for

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
        from prefkit.training.preference_files import Compared

        decode = msgspec.msgpack.Decoder(Compared).decode
        tally.update(self.unfit)
        for lines in self._spool.groups():
            group = self._merged([decode(line) for line in lines], tally)
            if self._all_responses:
                yield group
            elif group.pairs:
                yield _without_unpaired(group)

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
                _take(self._pair(pair, at, names, prompt), texts, kept, tally)
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
