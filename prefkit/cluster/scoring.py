"""Rewards for the responses of a run on a cluster: a reward model in each worker, loaded once.

Reads   the parts of prompts, responses and rewards; reward-models/NAME in the store, or a folder that all workers see
Writes  a part of rewards for each block of prompts

Ids, texts and order within a prompt are those of the local engine. A worker fills its forward passes with the responses
of one block, and the local engine with those of all; what stands beside a text in a pass may change the last bits of
its reward.
"""

from __future__ import annotations

import functools
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from prefkit.cluster.blocks import PromptBlock, parts_of, prompt_blocks, read_prompts, read_responses, small_run
from prefkit.cluster.by_prompt import numbered, ordered_by_prompt
from prefkit.cluster.cluster import Cluster, Progress, Shared
from prefkit.cluster.held import HeldKeys, held_in
from prefkit.durable import cache_folder, make_folders
from prefkit.errors import PrefkitError, RunError
from prefkit.parts import Parts
from prefkit.records import Rewarded, digest
from prefkit.run import Run, read_records
from prefkit.store import Store
from prefkit.training.reward_info import reward_model_folder
from prefkit.training.scoring import REWARDS, ScoreReport, model_digest, score

if TYPE_CHECKING:
    from prefkit.training.reward_model import RewardModel

PROMPTS = 64
"""Prompts in a block: what is scored again when a worker dies."""
MODELS = "reward-models"


@dataclass(frozen=True)
class ModelPlace:
    """Where workers find a reward model: under a name in the store, or in a folder that they all see."""

    store: Store
    named: str

    def folder(self) -> Path:
        """The model's folder on this machine, fetched if need be.

        Raises:
            PrefkitError: there is none.
        """
        inside = f"{MODELS}/{self.named}"
        files = {} if "/" in self.named else self.store.stamps(inside)
        if not files:
            folder = Path(self.named)
            if not folder.is_dir():
                remedy = "Name one of the run's reward-models, or put it in a folder that all workers see."
                raise PrefkitError(self.named, "no such folder on a worker's machine", "a reward model", remedy)
            return folder
        if self.store.local:
            return self.store.local / inside
        return self._fetched(files)

    def _fetched(self, files: dict[str, str]) -> Path:
        from filelock import FileLock

        folder = cache_folder() / MODELS / digest(self.store.url, files) / self.named
        make_folders(folder)
        with FileLock(f"{folder}.lock"):  # workers of a machine come here at the same time
            for name in files:
                place = folder / name.removeprefix(f"{MODELS}/{self.named}/")
                if not place.exists():
                    self.store.download(name, place)
        return folder


def score_on_cluster(
    run: Run,
    store: Store,
    model: str,
    cluster: Cluster,
    *,
    device: str | None = None,
    tokens: int | None = None,
    progress: Progress = lambda more: None,
) -> ScoreReport:
    """Give every response of a run whose records stand in parts a reward; see ``training.scoring.score``.

    Args:
        run: the run's folder here.
        store: where its records are.
        model: a name among the store's reward-models, or a folder that all workers see.
        cluster: that works; a worker has a GPU where there are any, else a processor.
        device, tokens: see ``RewardModel.load``.
        progress: told how many more prompts are done.

    Raises:
        PrefkitError: as for the local engine; or the records do not stand in parts.
    """
    place = ModelPlace(store, _named(model, run))
    gpus = 1 if cluster.gpus else 0
    with ExitStack() as stack:
        stack.enter_context(run.writing("score"))
        prompts, responses, rewards = (parts_of(store, kind) for kind in ("prompts", "responses", "rewards"))
        by_prompt = stack.enter_context(ordered_by_prompt(cluster, numbered(cluster, prompts), responses))
        model_id = next(cluster.over([place], _digest_of))
        load = functools.partial(
            _Worker,
            info=msgspec.json.encode(run.info),
            prompts=prompts,
            responses=by_prompt.parts,
            place=place,
            model_id=model_id,
            load=(device, tokens),
            rewards=rewards,
            base=rewards.next_number(),
            held=cluster.put(held_in(cluster, rewards)),
        )
        blocks = [block for block in prompt_blocks(prompts, PROMPTS, by_prompt) if block.responses]
        total = Counter[str]()
        tally, padded, texts = Counter[str](), None, 0
        for done in cluster.over_loaded(blocks, load, workers=cluster.gpus or cluster.cpus, gpus=gpus):
            total.update(scored=done.report.scored, held=done.report.held, failed=done.report.failed)
            tally.update(done.report.tally)
            padded, texts = padded or done.report.padded, texts + done.texts
            progress(done.prompts)
    if not texts:
        remedy = "Import them (prefkit import responses), or generate some (prefkit generate)."
        raise RunError(run.path, "no response with a text", "the texts of the responses", remedy)
    return ScoreReport(path=Path(rewards.folder), **total, tally=dict(tally), padded=padded)


def _named(model: str, run: Run) -> str:
    """A model as workers know it: by its name in the run, else by the whole path of its folder."""
    folder = reward_model_folder(model, run.path)
    if not folder.is_dir() or folder.parent == run.path / MODELS:
        return folder.name if folder.is_dir() else model
    return str(folder.resolve())


def _digest_of(place: ModelPlace) -> str:
    return model_digest(place.folder())


@dataclass(frozen=True)
class _Done:
    """What a block came to: of so many prompts and texts."""

    report: ScoreReport
    prompts: int
    texts: int


class _Worker:
    """Scores the responses of a block that have no reward, with a model that is loaded when the first is found."""

    def __init__(
        self,
        *,
        info: bytes,
        prompts: Parts,
        responses: Parts,
        place: ModelPlace,
        model_id: str,
        load: tuple[str | None, int | None],
        rewards: Parts,
        base: int,
        held: Shared[HeldKeys],
    ) -> None:
        self._info = info
        self._prompts = prompts
        self._responses = responses
        self._place = place
        self._model_id = model_id
        self._load = load
        self._rewards = rewards
        self._base = base
        self._held = held.get()
        self._opened: RewardModel | None = None

    def __call__(self, block: PromptBlock) -> _Done:
        prompts = read_prompts(self._prompts, block)
        wanted = {prompt.id for prompt in prompts if prompt.excluded is None}
        responses = [
            one for one in read_responses(self._responses, block) if one.text is not None and one.prompt_id in wanted
        ]
        if not responses:
            return _Done(ScoreReport(path=Path(), scored=0, held=0, failed=0), len(prompts), 0)
        name = self._rewards.name(self._base + block.number, digest(self._model_id, [one.id for one in responses]))
        if self._rewards.there(name):
            return _Done(self._told(name, len(responses)), len(prompts), len(responses))
        with small_run(self._info, prompts, responses) as run:
            report = self._scored(run)
            found = list(read_records(run.path / REWARDS, Rewarded)) if report.scored or report.failed else []
        self._rewards.write(name, found)
        return _Done(report, len(prompts), len(responses))

    def _scored(self, run: Run) -> ScoreReport:
        from prefkit.training.examples import read_groups

        groups = read_groups(run.path, all_responses=True)
        return score(groups, self._model, self._model_id, run.path / REWARDS, held=self._held)

    def _model(self) -> RewardModel:
        from prefkit.training.reward_model import RewardModel

        if self._opened is None:
            device, tokens = self._load
            self._opened = RewardModel.load(self._place.folder(), device, budget=tokens)
        return self._opened

    def _told(self, name: str, responses: int) -> ScoreReport:
        """Of a block whose rewards another worker put in place, and then died."""
        found = list(self._rewards.read(name))
        failed = sum(one.reward is None for one in found)
        held = responses - len(found)
        return ScoreReport(path=Path(), scored=len(found) - failed, held=held, failed=failed)
