"""trl's RewardTrainer on packed rows: what the pairs of a step say about the rewards of their responses.

Steps, rows and processes are those of ``packed_trainer``. ``evaluate`` counts pairs, not batches.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from prefkit.training.groups import TokenGroup
from prefkit.training.losses import RewardLoss
from prefkit.training.packed import rewards as rewards_of_row
from prefkit.training.packed_trainer import Learned, PackedTrainer
from prefkit.training.packing import PackedRow
from prefkit.training.token_store import Floats, sizes

LOSS_STATE = "loss.json"


class PackedRewardTrainer(PackedTrainer, RewardTrainer):
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

    counted = ("pairs", "right", "decided", "lead")
    """Pairs, those put right, those that are no ties, leads."""

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
        self.held_out, self.pair_loss = held_out, loss
        self.plan(
            args,
            groups,
            sizes(groups).weight,
            pairs_per_step=pairs_per_step,
            row_tokens=row_tokens,
            pad=int(tokenizer.pad_token_id),
            principles=principles,
        )
        labels, model.config.num_labels = model.config.num_labels, 1  # trl knows no model with several rewards
        super().__init__(
            model=model,
            args=args,
            train_dataset=self.steps_as_data(),
            eval_dataset=self.steps_as_data() if held_out else None,
            processing_class=tokenizer,
            callbacks=list(callbacks),
        )
        model.config.num_labels = labels
        self.remove_callback(PrinterCallback)

    def _prepare_dataset(self, dataset: Any, *others: Any) -> Any:
        return dataset  # the groups are in tokens already

    def learn(self, model: torch.nn.Module, row: PackedRow) -> Learned:
        """See ``PackedTrainer``."""
        with self.maybe_activation_offload_context:
            rewards = rewards_of_row(model, row, self._pad)
            part = self.pair_loss(rewards, row)
        overall = self.pair_loss.overall(rewards.detach().float())
        lead = overall[row.chosen] - overall[row.rejected]
        decided = row.target != 0.5
        right = ((lead * (row.target - 0.5) > 0).float() + 0.5 * (lead == 0))[decided]
        sums = torch.stack([lead.new_tensor(len(lead)), right.sum(), decided.sum(), lead.sum()])
        return Learned(part.loss, sums, part.statistics)

    def finish_step(self, statistics: Tensor) -> None:
        """See ``PackedTrainer``."""
        self.pair_loss.finish_step(statistics)

    def figures(self, sums: Mapping[str, float]) -> dict[str, float]:
        """See ``PackedTrainer``."""
        return {
            **({"accuracy": sums["right"] / sums["decided"]} if sums["decided"] else {}),
            **({"margin": sums["lead"] / sums["pairs"]} if sums["pairs"] else {}),
            **self.pair_loss.figures(),
        }

    def scores(self, groups: Sequence[TokenGroup]) -> list[Floats]:
        """The model's outputs for each group's responses, [responses, outputs]; on every process."""

        def outputs(model: torch.nn.Module, row: PackedRow) -> list[Floats]:
            found = rewards_of_row(model, row, self._pad).double().cpu().numpy()
            return np.split(found, np.cumsum(row.sizes)[:-1])

        return self.read(groups, outputs)

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

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / LOSS_STATE).write_text(json.dumps(self.pair_loss.state()))
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.pair_loss.load(json.loads((Path(checkpoint) / LOSS_STATE).read_text()))


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
