"""Rewards for the responses of a run, or of any file of responses; the best of several.

Reads    prompts.jsonl, responses.jsonl of a run; or a file that `prefkit.training.examples` reads
Writes   rewards.jsonl      a line for each response and reward model, appended
         best-of-N.jsonl    the best of each prompt's first N responses, as prompt and completion; written whole

A line's id digests the model's weights, the prompt's words, the response and its words, so the same command goes on
where a killed one stopped, scores what is new or was reworded, and asks several models in turn without mixing them up.
Rewards are kept as the model gave them, and in standard deviations from its mean over the training responses. Texts
stay on disk; memory is a few bytes a response.
"""

from __future__ import annotations

import array
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from prefkit.durable import Appender, explained_disk_errors, mend_last_line, read_lines, replacing
from prefkit.errors import PrefkitError, RecordError
from prefkit.models.held import Held
from prefkit.records import Rewarded, digest
from prefkit.training.groups import Group, subset
from prefkit.training.reward_info import RewardInfo, read_info
from prefkit.training.reward_model import RewardModel

REWARDS = "rewards.jsonl"
AT_ONCE = 256
"""Groups whose ids are looked up together."""
SYNC_SECONDS = 5.0
_WEIGHTS = {".safetensors", ".bin", ".npz", ".npy", ".model", ".joblib", ".skops", ".pkl"}
_CONFIGS = {"config.json", "adapter_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}


@dataclass(frozen=True, kw_only=True)
class ScoreReport:
    """What was done.

    Args:
        path: of the rewards.
        scored: responses that got a reward now.
        held: that had one from before.
        failed: that the model cannot read.
        tally: responses that were not read as they are, by reason.
        padded: why texts were padded; None where they were packed, or nothing was read.
    """

    path: Path
    scored: int
    held: int
    failed: int
    tally: dict[str, int] = field(default_factory=dict)
    padded: str | None = None


@dataclass(frozen=True, kw_only=True)
class BestReport:
    """What choosing the best came to.

    Args:
        path: of the best responses.
        prompts: how many have one.
        fewer: of them those with fewer responses than asked for.
        best, mean: over prompts, the normalised reward of the best response, and of the mean of those that it was
            chosen from.
    """

    path: Path
    prompts: int
    fewer: int
    best: float
    mean: float


def model_digest(folder: Path) -> str:
    """What identifies a reward model's rewards: its weights, its tokenizer, and how its heads are combined. What is
    only found out about it, such as its temperature, is no part of it."""
    hashed = hashlib.blake2b(digest_size=16)
    with explained_disk_errors(folder):
        for path in sorted(folder.iterdir()):
            if path.suffix in _WEIGHTS or path.name in _CONFIGS:
                with open(path, "rb") as file:
                    hashed.update(path.name.encode() + hashlib.file_digest(file, "blake2b").digest())
    info = msgspec.structs.replace(read_info(folder), temperature=1.0, tie={})
    hashed.update(msgspec.json.encode(info, order="deterministic"))
    return hashed.hexdigest()


def reward_id(model: str, group: Group, place: int) -> str:
    """The id of the reward that a model (by its digest) gives a response."""
    said = [(turn.role, turn.content) for turn in group.messages]
    return digest("reward", model, said, group.response_ids[place], group.texts[place])


def score(
    groups: Iterable[Group],
    opened: Callable[[], RewardModel],
    model_id: str,
    path: Path,
    progress: Callable[[int], None] = lambda more: None,
    held: Held | None = None,
) -> ScoreReport:
    """Append the reward of every response that has none from this model yet.

    Args:
        groups: prompts with their responses; pairs are of no interest.
        opened: gives the model; called when the first response is found that has no reward, and not again.
        model_id: its ``model_digest``.
        path: of the rewards.
        progress: told how many more groups are done.
        held: the rewards that are there; those of the file where it is not given.

    Raises:
        PrefkitError: the model gives something that is no number; the file cannot be written.
    """
    mend_last_line(path)
    held = Held.of(path) if held is None else held
    model: RewardModel | None = None
    before: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    synced = time.monotonic()
    with Appender(path) as file:
        for batch in _unscored(groups, model_id, held, counts, progress):
            if model is None:
                model = opened()
                before = Counter(model.tally)
            for line in _scored(batch, model, progress):
                counts["failed" if line.reward is None else "scored"] += 1
                file.append(msgspec.json.encode(line) + b"\n")
            if time.monotonic() - synced > SYNC_SECONDS:
                file.sync()
                synced = time.monotonic()
    return ScoreReport(
        path=path,
        scored=counts["scored"],
        held=counts["held"],
        failed=counts["failed"],
        tally=dict(Counter(model.tally) - before) if model else {},
        padded=model.padded if model else None,
    )


def _unscored(
    groups: Iterable[Group],
    model_id: str,
    held: Held,
    counts: Counter[str],
    progress: Callable[[int], None],
) -> Iterator[list[tuple[Group, list[str]]]]:
    """What of the groups has no reward yet, with the rewards' ids, many at once."""
    stream = iter(groups)
    while batch := list(islice(stream, AT_ONCE)):
        waiting: list[tuple[Group, list[str]]] = []
        for group in batch:
            ids = [reward_id(model_id, group, place) for place in range(len(group.texts))]
            known = held.among([(name,) for name in ids])
            new = [place for place, has in enumerate(known) if not has]
            counts["held"] += sum(known)
            if new:
                waiting.append((subset(group, new), [ids[place] for place in new]))
        progress(len(batch) - len(waiting))
        if waiting:
            yield waiting


def _scored(
    batch: list[tuple[Group, list[str]]], model: RewardModel, progress: Callable[[int], None]
) -> Iterator[Rewarded]:
    """The lines of some groups, as the model gives their rewards."""
    for (group, ids), rewards in zip(batch, model.rewards(one for one, _ in batch), strict=True):
        yield from _lines(group, rewards, ids, model)
        progress(1)


def _lines(group: Group, rewards: Any, ids: list[str], model: RewardModel) -> Iterator[Rewarded]:
    normalised = model.normalised(rewards)
    for place, name in enumerate(ids):
        known = bool(np.isfinite(rewards[place]).all())
        yield Rewarded(
            id=name,
            model=model.name,
            prompt_id=group.prompt_id,
            response_id=group.response_ids[place],
            policy=group.policies[place],
            reward=_short(rewards[place, 0]) if known else None,
            normalised=_short(normalised[place, 0]) if known else None,
            heads=dict(zip(model.heads, map(_short, rewards[place, 1:]), strict=True)) if known else {},
            failure=None if known else "more tokens than the model can hold",
        )


def _short(value: Any) -> float:
    """A 32-bit number in as few digits as tell it apart from others."""
    return float(str(np.float32(value)))


class StoredRewards:
    """The rewards that a file holds, by id: sixteen bytes each.

    Args:
        path: of the rewards.

    Raises:
        RecordError: a line is not such a record.
    """

    def __init__(self, path: Path) -> None:
        decode = msgspec.json.Decoder(Rewarded).decode
        keys, values = array.array("q"), array.array("d")
        for number, line in read_lines(path):
            try:
                one = decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                remedy = "prefkit wrote this file; if you edited it, mend the line, or remove it and score again."
                raise RecordError(
                    f"{path.name}:{number}", str(error), "a reward as prefkit writes it", remedy
                ) from None
            keys.append(hash(one.id))
            values.append(float("nan") if one.reward is None else one.reward)
        found = np.frombuffer(keys, np.int64) if keys else np.empty(0, np.int64)
        order = np.argsort(found, kind="stable")
        self._keys = found[order]
        self._values = (np.frombuffer(values) if values else np.empty(0))[order]

    def of(self, names: list[str]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """The rewards with these ids; NaN where there is none."""
        wanted = np.fromiter(map(hash, names), np.int64, len(names))
        if not len(self._keys):
            return np.full(len(names), np.nan)
        place = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        return np.where(self._keys[place] == wanted, self._values[place], np.nan)


def keep_best(
    groups: Iterable[Group], info: RewardInfo, model_id: str, rewards: Path, path: Path, count: int
) -> BestReport:
    """Write the best of the first ``count`` responses to each prompt, in trl's format of prompt and completion.

    Of equal rewards the earlier response wins. A response without a reward is passed over.

    Args:
        groups: the same as were scored.
        info, model_id: what the model says of itself, and its ``model_digest``.
        rewards: the file that ``score`` wrote.
        path: where the best go.
        count: how many responses are looked at.

    Raises:
        PrefkitError: no response has a reward.
    """
    stored = StoredRewards(rewards)
    chosen: list[float] = []
    means: list[float] = []
    fewer = 0
    with replacing(path) as file:
        for group in groups:
            size = min(count, len(group.texts))
            values = stored.of([reward_id(model_id, group, place) for place in range(size)])
            if np.isnan(values).all():
                continue
            best = int(np.nanargmax(values))
            chosen.append(float(values[best]))
            means.append(float(np.nanmean(values)))
            fewer += size < count
            row = {
                "prompt": [{"role": turn.role, "content": turn.content} for turn in group.messages],
                "completion": [{"role": "assistant", "content": group.texts[best]}],
                "prompt_id": group.prompt_id,
                "response_id": group.response_ids[best],
                "policy": group.policies[best],
                "reward": _short(values[best]),
                "of": int(np.isfinite(values).sum()),
            }
            file.write(msgspec.json.encode(row) + b"\n")
        if not chosen:
            raise PrefkitError(rewards, "no response with a reward", "at least one", "Look at the responses' texts.")
    mean, std = info.mean, info.std
    return BestReport(
        path=path,
        prompts=len(chosen),
        fewer=fewer,
        best=(float(np.mean(chosen)) - mean) / std,
        mean=(float(np.mean(means)) - mean) / std,
    )
