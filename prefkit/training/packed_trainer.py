"""A trainer of transformers whose batch is an optimiser step, made of whole prompts in packed rows.

transformers does what it does for every training: the optimiser, its schedule, accelerate with DDP and FSDP, PEFT,
callbacks, checkpoints and going on from one. What is ours is what a step reads and what it learns from that:

- ``training_step`` runs the rows of a step one after the other, each prompt and response read once, and lets processes
  exchange gradients at the last. The loss is divided by the weight of the whole step, over all rows and processes,
  so that how a step was cut into rows has no influence on what is learned.
- ``read`` goes through groups that are not learned from, spread over the processes.

Which step of which epoch comes next follows from the number of steps done, so a training that was cut goes on with the
same pairs in the same order.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, gather_object  # type: ignore[import-untyped]
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, set_seed

from prefkit.durable import explained_disk_errors
from prefkit.errors import PrefkitError
from prefkit.training import checkpoints
from prefkit.training.building import quiet
from prefkit.training.checkpoints import Kept, Way
from prefkit.training.groups import TokenGroup
from prefkit.training.packing import PackedRow, pack, shortest
from prefkit.training.steps import EVEN, RowPlan, Steps, in_order
from prefkit.training.token_store import Floats, sizes


class Learned(NamedTuple):
    """Of a row: its loss, before it is divided by the weight of the step; sums for the log, in the order of the
    trainer's ``counted``, without gradients; and what the trainer wants at the end of the step."""

    loss: Tensor
    sums: Tensor
    statistics: Tensor | None = None


class PackedTrainer(Trainer):
    """What trainers on packed rows share; a subclass says what is learned from a row.

    A subclass calls ``plan`` before the ``__init__`` of transformers or trl, with ``steps_as_data`` as the data set.
    """

    counted: tuple[str, ...] = ()
    """What is summed between two lines of the log, besides the tokens read."""

    def plan(
        self,
        args: Any,
        groups: Sequence[TokenGroup],
        weights: Floats,
        *,
        pairs_per_step: int,
        row_tokens: int,
        pad: int,
        principles: Sequence[str] = (),
    ) -> None:
        """Say what is read.

        Args:
            args: of transformers; its batch sizes and lengths have no say here.
            groups: to train on, in tokens.
            weights: of the groups: by their sum a step's loss is divided.
            pairs_per_step, row_tokens: see ``Steps``.
            pad: the token that fills padded rows.
            principles: of the pairs.
        """
        self.groups, self.principles, self.row_tokens = groups, tuple(principles), row_tokens
        known = sizes(groups)
        self.steps = Steps(
            known.read,
            np.maximum(1, known.pairs),
            pairs_per_step=pairs_per_step,
            row_tokens=row_tokens,
            seed=args.seed,
            process=args.process_index,
            processes=args.world_size,
        )
        self._weights = weights
        self._pad = pad
        self._sums = torch.zeros(len(self.counted) + 1, dtype=torch.float64)
        self._since = time.monotonic()

    def steps_as_data(self) -> Dataset:
        """What transformers takes for the data: the numbers of an epoch's steps."""
        return Dataset.from_dict({"step": range(len(self.steps))})

    def learn(self, model: torch.nn.Module, row: PackedRow) -> Learned:
        """What a row says, with gradients."""
        raise NotImplementedError

    def finish_step(self, statistics: Tensor) -> None:
        """Told the sum of the rows' ``statistics``, over all processes."""

    def figures(self, sums: Mapping[str, float]) -> dict[str, float]:
        """The line of the log, of what was counted since the last one."""
        raise NotImplementedError

    def get_train_dataloader(self) -> DataLoader[Any]:
        """A batch is a step: the rows of this process."""
        return DataLoader(_RowsOfSteps(self), batch_size=1, collate_fn=_only)

    def rows(self, plans: Sequence[RowPlan], groups: Sequence[TokenGroup]) -> Iterator[PackedRow]:
        """The rows of a plan, on this process's device; one that fills a gap has no weight."""
        for plan in plans:
            some = [groups[place] for place in plan.groups]
            if plan.filler:
                row = pack(list(map(shortest, some)), principles=self.principles).without_weight()
            else:
                row = pack(some, principles=self.principles)
            yield row.to(self.args.device)

    def training_step(
        self, model: torch.nn.Module, inputs: Any, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Learn from the rows of a step; its loss, which averages over processes to that of the whole step.

        Raises:
            PrefkitError: the loss is not a number.
        """
        model.train()
        weight = self._weights[self.steps.groups(*self.place())].sum() / self.args.world_size
        losses, statistics = [], []
        for number, row in enumerate(self.rows(inputs, self.groups), 1):
            with contextlib.nullcontext() if number == len(inputs) else self._apart(model):
                with self.compute_loss_context_manager():
                    part = self.learn(model, row)
                self.accelerator.backward(part.loss / weight)
            losses.append(part.loss.detach() / weight)
            if part.statistics is not None:
                statistics.append(part.statistics)
            if not row.filler:
                self._sums += torch.cat((part.sums.double().cpu(), torch.tensor([row.tokens], dtype=torch.float64)))
        if statistics:
            self.finish_step(self.accelerator.reduce(torch.stack(statistics).sum(0), "sum"))
        loss = torch.stack(losses).sum()
        if not torch.isfinite(loss):
            remedy = "Run the same command with a smaller --learning-rate and --overwrite."
            raise PrefkitError(f"step {self.state.global_step + 1}", "a loss that is no number", "a number", remedy)
        return loss

    @contextlib.contextmanager
    def _apart(self, model: torch.nn.Module) -> Iterator[None]:
        """Nothing is exchanged with other processes, and DeepSpeed takes no step, which it does by itself otherwise."""
        state = self.accelerator.gradient_state
        with self.accelerator.no_sync(model):
            state._set_sync_gradients(False)
            try:
                yield
            finally:
                state._set_sync_gradients(True)

    def train(self, *others: Any, **more: Any) -> Any:
        """See transformers; what was done before does not count as training, where tokens a second are told."""
        self._since = time.monotonic()
        return super().train(*others, **more)

    def read(
        self,
        groups: Sequence[TokenGroup],
        of: Callable[[torch.nn.Module, PackedRow], list[Floats]],
        model: torch.nn.Module | None = None,
    ) -> list[Floats]:
        """What is read of each group without learning; on every process, in order.

        Args:
            groups: in tokens.
            of: gives an array for each group of a row.
            model: that is asked; None for the one in training.
        """
        asked = self.model_wrapped if model is None else model
        asked.eval()
        mine: list[tuple[int, Floats]] = []
        known = sizes(groups).read
        for plans in in_order(known, self.row_tokens, self.args.process_index, self.args.world_size):
            for plan, row in zip(plans, self.rows(plans, groups), strict=True):
                with torch.no_grad(), self.compute_loss_context_manager():
                    found = of(asked, row)
                if not plan.filler:
                    mine += zip(plan.groups, found, strict=True)
        everyone = gather_object(mine) if self.args.world_size > 1 else mine
        by_place = dict(everyone)
        return [by_place[place] for place in range(len(groups))]

    def floating_point_ops(self, inputs: Any) -> int:
        """Six operations for each token and each weight that multiplies it."""
        model: Any = self.model
        weights = model.num_parameters(exclude_embeddings=True)
        tokens = sum(int(self.steps.tokens[list(plan.groups)].sum()) for plan in inputs)
        return 6 * tokens * int(weights)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what was counted since the last line."""
        if "loss" in logs:
            sums = self.accelerator.reduce(self._sums.to(self.args.device), "sum").cpu().tolist()
            logs |= self.figures(dict(zip(self.counted, sums, strict=False)))
            logs["tokens_per_second"] = sums[-1] / max(time.monotonic() - self._since, 1e-9)
            self._sums.zero_()
            self._since = time.monotonic()
        super().log(logs, start_time)

    def create_model_card(self, *others: Any, **more: Any) -> None:
        """None for a checkpoint: the card is written with the model."""

    @contextlib.contextmanager
    def pausing(self) -> Iterator[None]:
        """What is done inside does not count as training, where tokens a second are told."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._since += time.monotonic() - began

    def even(self) -> str | None:
        """How evenly processes share the tokens, in words; None for one process."""
        if self.args.world_size == 1:
            return None
        uneven = self.steps.unevenness()
        words = f"{self.args.world_size} processes: the fullest reads {uneven:.2f} times the mean of their tokens"
        if uneven >= EVEN and (larger := self.steps.even_batch()):
            words += f"; with --batch {larger} it would be even"
        return words

    @property
    def way(self) -> Way:
        """How a checkpoint is kept."""
        return "deepspeed" if self.is_deepspeed_enabled else "sharded" if self.is_fsdp_enabled else "whole"

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self.args.should_save:
            folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
            checkpoints.note(folder, self.args.world_size, self.way)
        super()._save_checkpoint(model, trial)

    def _load_from_checkpoint(self, checkpoint: str, model: Any = None) -> None:
        if checkpoints.kept(Path(checkpoint)).way == self.way:
            super()._load_from_checkpoint(checkpoint, model)
            return
        asked: Any = self.model if model is None else model
        checkpoints.load_weights(asked, Path(checkpoint), sharded=self.is_fsdp_enabled, first=self._first)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or checkpoints.kept(Path(checkpoint)).way == self.way:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        checkpoints.load_optimiser(
            self.optimizer, self.model_wrapped, Path(checkpoint), sharded=self.is_fsdp_enabled, first=self._first
        )
        schedule = torch.load(Path(checkpoint) / "scheduler.pt", weights_only=True)
        self.lr_scheduler.load_state_dict(schedule)  # type: ignore[union-attr]

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None or checkpoints.kept(Path(checkpoint)).processes == self.args.world_size:
            super()._load_rng_state(checkpoint)
        else:
            drawn = np.random.default_rng([self.args.seed, self.state.global_step, self.args.process_index])
            set_seed(int(drawn.integers(1 << 32)))

    @property
    def _first(self) -> bool:
        return int(self.args.process_index) == 0

    def place(self) -> tuple[int, int]:
        """The epoch and the step in it that come next."""
        return divmod(self.state.global_step, len(self.steps))


class _RowsOfSteps(torch.utils.data.Dataset[list[RowPlan]]):
    """The steps of the epoch in which the trainer is."""

    def __init__(self, trainer: PackedTrainer) -> None:
        self._trainer = trainer

    def __len__(self) -> int:
        return len(self._trainer.steps)

    def __getitem__(self, number: int) -> list[RowPlan]:
        epoch, _ = self._trainer.place()
        return self._trainer.steps.rows(epoch, number)


def _only(batch: list[list[RowPlan]]) -> list[RowPlan]:
    return batch[0]


@dataclass
class Reporting(TrainerCallback):
    """Tells how far a training is.

    Args:
        reach: told the steps done.
        note: told each line of the log.
    """

    reach: Callable[[int], None]
    note: Callable[[int, Mapping[str, float]], None]

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Move the bar."""
        self.reach(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **more: Any) -> None:
        """Say what was noted."""
        if logs and state.is_world_process_zero:
            self.note(state.global_step, logs)


class SaveByTime(TrainerCallback):
    """Keeps a checkpoint every so many minutes; the first process's clock decides for all."""

    def __init__(self, minutes: float) -> None:
        self._seconds = minutes * 60
        self._last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Ask for a checkpoint when it is time."""
        due = [time.monotonic() - self._last >= self._seconds]
        if args.world_size > 1:
            broadcast_object_list(due)
        if due[0]:
            control.should_save = True
            self._last = time.monotonic()


def go_on(trainer: PackedTrainer, folder: Path, say: Callable[[str], None]) -> int:
    """Train to the end, from the last whole checkpoint if there is one; after how many steps that was.

    Raises:
        PrefkitError: the loss is not a number, or DeepSpeed kept the checkpoint with other processes.
        RunError: a checkpoint cannot be written.
    """
    if words := trainer.even():
        say(words)
    found = [checkpoints.last_checkpoint(folder)]
    if trainer.args.world_size > 1:
        broadcast_object_list(found)
    (checkpoint,) = found
    if trainer.args.should_save:
        checkpoints.remove_others(folder, checkpoint)
    trainer.accelerator.wait_for_everyone()
    done = int(checkpoint.name.removeprefix("checkpoint-")) if checkpoint else 0
    if checkpoint:
        now = Kept(trainer.args.world_size, trainer.way)
        checkpoints.need_same_engine(checkpoint, *now)
        before = checkpoints.kept(checkpoint)
        say(f"goes on after step {done}" + ("" if before == now else f", kept {before.in_words}"))
    with quiet(), explained_disk_errors(folder):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return done
