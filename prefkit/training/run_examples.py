"""The groups of a run.

Reads   pairs.parquet, prompts and responses of a run
Gives   Groups
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np

from prefkit.by_prompt import ByPrompt
from prefkit.errors import RunError
from prefkit.records import PreferencePair, Prompt, Response
from prefkit.run import Run, read_pairs
from prefkit.training.groups import Group, Groups, Pair, without_unpaired
from prefkit.training.kept_pairs import NO_TEXT, Weighing, nothing_left, take
from prefkit.training.spool import Spool


def run_groups(run: Run, split: str | None, weighing: Weighing, *, all_responses: bool, soft: bool) -> Groups:
    """See ``examples.read_groups``."""
    responses = ByPrompt(run, lambda response: response.text is not None, lambda prompt: prompt.excluded is None)
    if not responses.counts.any():
        remedy = "Import them (prefkit import responses), or generate some (prefkit generate)."
        raise RunError(run.path, "no response with a text", "the texts of the responses", remedy)
    pairs = _pairsrun_groups(run, split, responses, needed=not all_responses)
    reader = _RunReader(run, responses, pairs, weighing, soft=soft)
    made = reader.in_pairs if not all_responses else reader.all if split is None else reader.all_in_pairs
    groups = Groups(str(run.path), run.rubric.principle_ids, made)
    if not groups.pairs and not all_responses:
        raise nothing_left(RunError, run.path, len(pairs), groups.tally, f"Look at them: prefkit pairs {run.path}")
    return groups


def _pairsrun_groups(run: Run, split: str | None, responses: ByPrompt, *, needed: bool) -> Spool:
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
    for pair in read_pairs(path):
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
    def __init__(self, run: Run, responses: ByPrompt, pairs: Spool, weighing: Weighing, *, soft: bool) -> None:
        self._path = run.path
        self._responses = responses
        self._pairs = pairs
        self._weighing = weighing
        self._soft = soft
        self._decode = msgspec.json.Decoder(PreferencePair).decode
        self._by_key = np.argsort(responses.keys, kind="stable")

    def in_pairs(self, tally: Counter[str]) -> Iterator[Group]:
        """The prompts of pairs, with the responses of their pairs."""
        for group in self.all_in_pairs(tally):
            if group.pairs:
                yield without_unpaired(group)

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
        keys, wanted = self._responses.keys, hash(pair.prompt_id)
        place = int(np.searchsorted(keys, wanted, sorter=self._by_key))
        if place == len(keys) or keys[self._by_key[place]] != wanted:
            raise self._gone(f"the prompt {pair.prompt_id}")
        return int(self._by_key[place])

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
            take(self._pair(pair, place), [response.text or "" for response in responses], kept, tally)
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
