"""trl's RewardTrainer on packed rows: a batch is an optimiser step, made of whole prompts.

trl and transformers do what they do for every training: the optimiser, its schedule, accelerate with DDP and FSDP,
PEFT, callbacks, checkpoints and going on from one. What is ours is what a step reads and what it learns from that:

- ``training_step`` runs the rows of a step one after the other, each prompt and response read once, and lets processes
  exchange gradients at the last. The loss is divided by the weight of the whole step, over all rows and processes,
  so that how a step was cut into rows has no influence on what is learned.
- ``evaluate`` counts pairs, not batches.

Which step of which epoch comes next follows from the number of steps done, so a training that was cut goes on with the
same pairs in the same order.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate.utils import broadcast_object_list, gather_object  # type: ignore[import-untyped]
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from prefkit.errors import PrefkitError
from prefkit.training.groups import TokenGroup
from prefkit.training.losses import RewardLoss
from prefkit.training.packed import rewards as rewards_of_row
from prefkit.training.packing import PackedRow, pack
from prefkit.training.steps import RowPlan, Steps, in_order

Floats = npt.NDArray[np.float64]
LOSS_STATE = "loss.json"
STATE = "trainer_state.json"

_SUMS = ("pairs", "right", "decided", "lead", "tokens")
"""What is summed between two lines of the log: pairs, those put right, those that are no ties, leads, tokens."""


class PackedRewardTrainer(RewardTrainer):
    """Trains a sequence classifier on groups.

    Args:
        model: ready for packed rows, or one that reads padded ones; PEFT models too.
        args: of trl; its batch sizes and lengths have no say here.
        tokenizer: saved beside each checkpoint; says which token pads.
        loss: of the pairs of a row.
        groups: to train on, in tokens; all have pairs.
        pairs_per_step, row_tokens: see ``Steps``.
        held_out: groups that ``evaluate`` scores.
        principles: of the model's heads.
        callbacks: of transformers.
    """

    def __init__(
        self,
        model: Any,
        args: RewardConfig,
        *,
        tokenizer: Any,
        loss: RewardLoss,
        groups: Sequence[TokenGroup],
        pairs_per_step: int,
        row_tokens: int,
        held_out: Sequence[TokenGroup] = (),
        principles: Sequence[str] = (),
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.groups, self.held_out, self.principles = groups, held_out, tuple(principles)
        self.row_tokens, self.pair_loss = row_tokens, loss
        self.steps = Steps(
            [group.tokens for group in groups],
            [len(group.group.pairs) for group in groups],
            pairs_per_step=pairs_per_step,
            row_tokens=row_tokens,
            seed=args.seed,
            process=args.process_index,
            processes=args.world_size,
        )
        self._weights = np.array([sum(pair.weight for pair in group.group.pairs) for group in groups])
        labels, model.config.num_labels = model.config.num_labels, 1  # trl knows no model with several rewards
        placeholder = Dataset.from_dict({"step": range(len(self.steps))})
        super().__init__(
            model=model,
            args=args,
            train_dataset=placeholder,
            eval_dataset=placeholder if held_out else None,
            processing_class=tokenizer,
            callbacks=list(callbacks),
        )
        model.config.num_labels = labels
        self.remove_callback(PrinterCallback)
        self._pad = int(tokenizer.pad_token_id)
        self._sums = torch.zeros(len(_SUMS), dtype=torch.float64)
        self._since = time.monotonic()

    def _prepare_dataset(self, dataset: Any, *others: Any) -> Any:
        return dataset  # the groups are in tokens already

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
        weight = self._weights[self.steps.groups(*self._place())].sum() / self.args.world_size
        losses, statistics = [], []
        for number, (plan, row) in enumerate(zip(inputs, self.rows(inputs, self.groups), strict=True), 1):
            together = contextlib.nullcontext() if number == len(inputs) else self.accelerator.no_sync(model)
            with together, self.maybe_activation_offload_context:
                with self.compute_loss_context_manager():
                    rewards = rewards_of_row(model, row, self._pad)
                    part = self.pair_loss(rewards, row)
                self.accelerator.backward(part.loss / weight)
            losses.append(part.loss.detach() / weight)
            statistics.append(part.statistics)
            if not plan.filler:
                self._count(self.pair_loss.overall(rewards.detach().float()), row)
        self.pair_loss.finish_step(self.accelerator.reduce(torch.stack(statistics).sum(0), "sum"))
        loss = torch.stack(losses).sum()
        if not torch.isfinite(loss):
            remedy = "Run the same command with a smaller --learning-rate and --overwrite."
            raise PrefkitError(f"step {self.state.global_step + 1}", "a loss that is no number", "a number", remedy)
        return loss

    def scores(self, groups: Sequence[TokenGroup]) -> list[Floats]:
        """The model's outputs for each group's responses, [responses, outputs]; on every process."""
        self.model_wrapped.eval()
        mine: list[tuple[int, Floats]] = []
        if groups:
            sizes = [group.tokens for group in groups]
            plans = in_order(sizes, self.row_tokens, self.args.process_index, self.args.world_size)
            for plan, row in zip(plans, self.rows(plans, groups), strict=True):
                with torch.no_grad(), self.compute_loss_context_manager():
                    rewards = rewards_of_row(self.model_wrapped, row, self._pad)
                outputs = rewards.double().cpu().numpy()
                cuts = np.cumsum([len(groups[place].responses) for place in plan.groups])[:-1]
                mine += zip(plan.groups, np.split(outputs, cuts), strict=True)
        everyone = gather_object(mine) if self.args.world_size > 1 else mine
        found = dict(everyone)
        return [found[place] for place in range(len(groups))]

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """What the held-out pairs say: ties count half, and each pair counts as every other."""
        groups = self.held_out if eval_dataset is None else eval_dataset
        overall = [self.pair_loss.overall(torch.from_numpy(outputs)).numpy() for outputs in self.scores(groups)]
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in agreement(groups, overall).items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.model_wrapped.train()
        return metrics

    def floating_point_ops(self, inputs: Any) -> int:
        """Six operations for each token and each weight that multiplies it."""
        model: Any = self.model
        weights = model.num_parameters(exclude_embeddings=True)
        tokens = sum(int(self.steps.tokens[list(plan.groups)].sum()) for plan in inputs)
        return 6 * tokens * int(weights)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what was counted since the last line."""
        if "loss" in logs:
            sums = self.accelerator.reduce(self._sums.to(self.args.device), "sum").cpu()
            logs |= _figures(dict(zip(_SUMS, sums.tolist(), strict=True)), time.monotonic() - self._since)
            logs |= self.pair_loss.figures()
            self._sums.zero_()
            self._since = time.monotonic()
        super().log(logs, start_time)

    def create_model_card(self, *others: Any, **more: Any) -> None:
        """None for a checkpoint: the card is written with the model."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / LOSS_STATE).write_text(json.dumps(self.pair_loss.state()))
        super()._save_checkpoint(model, trial)  # type: ignore[no-untyped-call]

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.pair_loss.load(json.loads((Path(checkpoint) / LOSS_STATE).read_text()))

    def _place(self) -> tuple[int, int]:
        """The epoch and the step in it that come next."""
        return divmod(self.state.global_step, len(self.steps))

    def _count(self, rewards: Tensor, row: PackedRow) -> None:
        lead = rewards[row.chosen] - rewards[row.rejected]
        decided = row.target != 0.5
        right = ((lead * (row.target - 0.5) > 0).float() + 0.5 * (lead == 0))[decided]
        number = torch.tensor([len(lead), row.tokens], dtype=torch.float64, device=lead.device)
        sums = (number[0], right.sum(), decided.sum(), lead.sum(), number[1])
        self._sums += torch.stack([one.double() for one in sums]).cpu()


class _RowsOfSteps(torch.utils.data.Dataset[list[RowPlan]]):
    """The steps of the epoch in which the trainer is."""

    def __init__(self, trainer: PackedRewardTrainer) -> None:
        self._trainer = trainer

    def __len__(self) -> int:
        return len(self._trainer.steps)

    def __getitem__(self, number: int) -> list[RowPlan]:
        epoch, _ = self._trainer._place()
        return self._trainer.steps.rows(epoch, number)


def _only(batch: list[list[RowPlan]]) -> list[RowPlan]:
    return batch[0]


def agreement(groups: Sequence[TokenGroup], rewards: Sequence[Floats]) -> dict[str, float]:
    """What rewards make of the pairs of groups, each pair counted once.

    Args:
        groups: with or without pairs.
        rewards: overall ones of each group's responses, [responses].

    Returns:
        Empty without pairs. ``accuracy`` is over pairs that are no ties, equal rewards counting half; ``loss`` is in
        nats; the correlation of reward and length is within prompts, over differences.
    """
    pairs = [
        (float(of[one.chosen] - of[one.rejected]), len(ids[one.chosen]) - len(ids[one.rejected]), one.preferred)
        for group, of in zip(groups, rewards, strict=True)
        for ids, one in ((group.responses, pair) for pair in group.group.pairs)
    ]
    if not pairs:
        return {}
    lead, longer, target = np.array(pairs, np.float64).T
    decided = target != 0.5
    right = np.where(lead == 0, 0.5, (lead > 0) == (target > 0.5))[decided]
    spread = math.sqrt(float(lead @ lead) * float(longer @ longer))
    return {
        "pairs": float(len(lead)),
        "loss": float(np.mean(target * np.logaddexp(0, -lead) + (1 - target) * np.logaddexp(0, lead))),
        **({"accuracy": float(right.mean())} if decided.any() else {}),
        "margin": float(lead.mean()),
        **({"length correlation": float(lead @ longer) / spread} if spread else {}),
    }


def _figures(sums: Mapping[str, float], seconds: float) -> dict[str, float]:
    """The line of the log."""
    return {
        **({"accuracy": sums["right"] / sums["decided"]} if sums["decided"] else {}),
        **({"margin": sums["lead"] / sums["pairs"]} if sums["pairs"] else {}),
        "tokens_per_second": sums["tokens"] / max(seconds, 1e-9),
    }


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
