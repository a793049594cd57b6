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
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from accelerate.utils import broadcast_object_list, gather_object  # type: ignore[import-untyped]
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback

from prefkit.durable import explained_disk_errors, remove
from prefkit.errors import PrefkitError
from prefkit.training.building import quiet
from prefkit.training.groups import TokenGroup
from prefkit.training.packing import PackedRow, pack
from prefkit.training.steps import RowPlan, Steps, in_order

Floats = npt.NDArray[np.float64]
STATE = "trainer_state.json"


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
        weights: Sequence[float],
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
        self.steps = Steps(
            [group.tokens for group in groups],
            [max(1, len(group.group.pairs)) for group in groups],
            pairs_per_step=pairs_per_step,
            row_tokens=row_tokens,
            seed=args.seed,
            process=args.process_index,
            processes=args.world_size,
        )
        self._weights = np.asarray(weights, np.float64)
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
            row = pack([groups[place] for place in plan.groups], principles=self.principles)
            if plan.filler:
                row = row.without_weight()
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
            together = contextlib.nullcontext() if number == len(inputs) else self.accelerator.no_sync(model)
            with together:
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
        if groups:
            sizes = [group.tokens for group in groups]
            plans = in_order(sizes, self.row_tokens, self.args.process_index, self.args.world_size)
            for plan, row in zip(plans, self.rows(plans, groups), strict=True):
                with torch.no_grad(), self.compute_loss_context_manager():
                    mine += zip(plan.groups, of(asked, row), strict=True)
        everyone = gather_object(mine) if self.args.world_size > 1 else mine
        found = dict(everyone)
        return [found[place] for place in range(len(groups))]

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


def last_checkpoint(folder: Path, processes: int = 1) -> Path | None:
    """The latest checkpoint that was written to its end; None where there is none.

    What it says of itself is written last, behind the weights, the optimiser and the states of random numbers.
    """
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    for path in sorted(found, key=lambda path: -int(path.name.removeprefix("checkpoint-"))):
        with contextlib.suppress(OSError, ValueError):
            json.loads((path / STATE).read_text())
            if processes == 1 or len(list(path.glob("rng_state_*.pth"))) >= processes:
                return path
    return None


def go_on(trainer: PackedTrainer, folder: Path, say: Callable[[str], None]) -> int:
    """Train to the end, from the last whole checkpoint if there is one; after how many steps that was.

    Raises:
        PrefkitError: the loss is not a number.
        RunError: a checkpoint cannot be written.
    """
    checkpoint = last_checkpoint(folder, trainer.args.world_size)
    if trainer.args.should_save:
        for path in folder.glob("checkpoint-*"):
            if path != checkpoint:
                remove(path)
    trainer.accelerator.wait_for_everyone()
    done = int(checkpoint.name.removeprefix("checkpoint-")) if checkpoint else 0
    if checkpoint:
        say(f"goes on after step {done}")
    with quiet(), explained_disk_errors(folder):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return done
