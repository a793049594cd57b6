"""A policy's trainer on packed rows: what the pairs of a step say about the log-probabilities of their responses.

Steps, rows and processes are those of ``packed_trainer``. The reference is not a second model: what it said was asked
once, before the first step, and is read beside each row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import TrainingArguments
from transformers.trainer_callback import PrinterCallback, TrainerCallback

from prefkit.policies.logprobs import LogProbs, log_probs
from prefkit.policies.losses import STATISTICS, PolicyLoss
from prefkit.policies.reference import TokenLogProbs
from prefkit.training.groups import TokenGroup
from prefkit.training.packed_trainer import Learned, PackedTrainer
from prefkit.training.packing import PackedRow
from prefkit.training.token_store import Floats, sizes


class PackedPolicyTrainer(PackedTrainer):
    """Trains a language model on groups.

    Args:
        model: after ``logprobs.enable_packing``; PEFT models too.
        args: of transformers; its batch sizes have no say here.
        tokenizer: saved beside each checkpoint; says which token pads.
        loss: of the pairs, or for sft of the responses.
        groups: to train on, in tokens; for sft without pairs, for a loss with a reference with it.
        pairs_per_step, row_tokens: see ``Steps``; of sft, prompts in place of pairs.
        held_out: groups that ``evaluate`` reads, as those to train on.
        callbacks: of transformers.
    """

    counted = STATISTICS
    astray: Sequence[TokenGroup] = ()
    held_out_astray: Sequence[TokenGroup] = ()
    """For kto: each group's prompt with a response to another one, and the reference; their mean log-ratio is the
    divergence of a step."""

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        *,
        tokenizer: Any,
        loss: PolicyLoss,
        groups: Sequence[TokenGroup],
        pairs_per_step: int,
        row_tokens: int,
        held_out: Sequence[TokenGroup] = (),
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.held_out, self.policy_loss, self._divergence = held_out, loss, 0.0
        self.plan(
            args,
            groups,
            _weights(groups, loss),
            pairs_per_step=pairs_per_step,
            row_tokens=row_tokens,
            pad=int(tokenizer.pad_token_id),
        )
        super().__init__(
            model=model,
            args=args,
            train_dataset=self.steps_as_data(),
            eval_dataset=self.steps_as_data() if held_out else None,
            processing_class=tokenizer,
            callbacks=list(callbacks),
        )
        self.remove_callback(PrinterCallback)

    def training_step(
        self, model: torch.nn.Module, inputs: Any, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """See ``PackedTrainer``."""
        if self.astray:
            self._divergence = self._divergence_of([self.astray[place] for place in self.steps.groups(*self.place())])
        return super().training_step(model, inputs, num_items_in_batch)

    def _divergence_of(self, groups: Sequence[TokenGroup]) -> float:
        """The mean log-ratio of responses, not below 0."""
        said = self.log_probs(groups)
        ratios = [
            float(now.sum() - of.reference.sum())
            for now, of in zip(said, groups, strict=True)
            if of.reference is not None
        ]
        return max(0.0, float(np.mean(ratios)))

    def learn(self, model: torch.nn.Module, row: PackedRow) -> Learned:
        """See ``PackedTrainer``."""
        said = log_probs(model, row, self._pad, collisions=self.policy_loss.settings.weighted)
        part = self.policy_loss(said, _reference(row), row, divergence=self._divergence)
        return Learned(part.loss, part.statistics)

    def figures(self, sums: Mapping[str, float]) -> dict[str, float]:
        """See ``PackedTrainer``."""
        return figures(sums)

    def log_probs(self, groups: Sequence[TokenGroup], model: torch.nn.Module | None = None) -> list[TokenLogProbs]:
        """The log-probability of the tokens of each group's responses, float32; on every process.

        Args:
            groups: in tokens.
            model: that is asked; None for the one in training.
        """

        def said(model: torch.nn.Module, row: PackedRow) -> list[Floats]:
            tokens = log_probs(model, row, self._pad).tokens.cpu().numpy()
            ends = np.cumsum(row.lengths.cpu().numpy())[np.cumsum(row.sizes) - 1]
            return np.split(tokens, ends[:-1])

        return [of.astype(np.float32) for of in self.read(groups, said, model)]

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """What the model says of the held-out pairs, each counted once."""
        groups = self.held_out if eval_dataset is None else eval_dataset
        divergence = self._divergence_of(self.held_out_astray) if self.held_out_astray else 0.0
        weighted = self.policy_loss.settings.weighted

        def counted(model: torch.nn.Module, row: PackedRow) -> list[Floats]:
            said = log_probs(model, row, self._pad, collisions=weighted)
            part = self.policy_loss(said, _reference(row), row, divergence=divergence)
            rest = np.zeros((len(row.sizes) - 1, len(STATISTICS) + 1))
            of_row = np.append(part.statistics.numpy(), float(part.loss))
            return list(np.concatenate((of_row[None], rest)))

        sums = np.sum(self.read(groups, counted), axis=0)
        found = figures(dict(zip(STATISTICS, sums.tolist(), strict=False)))
        found["loss"] = float(sums[-1]) / float(_weights(groups, self.policy_loss).sum())
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.model_wrapped.train()
        return metrics


def _reference(row: PackedRow) -> LogProbs | None:
    return None if row.reference is None else LogProbs(row.reference, row.lengths)


def _weights(groups: Sequence[TokenGroup], loss: PolicyLoss) -> Floats:
    known = sizes(groups)
    return known.responses.astype(np.float64) if loss.settings.method == "sft" else known.weight


def figures(sums: Mapping[str, float]) -> dict[str, float]:
    """The line of the log, from ``STATISTICS``: by pair, lengths in tokens, log-probabilities in nats."""
    found: dict[str, float] = {}
    if sums["decided"]:
        found["accuracy"] = sums["right"] / sums["decided"]
    if sums["pairs"]:
        names = ("margin", "chosen", "rejected", "chosen_ratio", "rejected_ratio", "chosen_tokens", "rejected_tokens")
        found |= {name: sums[name] / sums["pairs"] for name in names}
    if sums["nll_tokens"]:
        found["nll"] = sums["nll"] / sums["nll_tokens"]
    return found
