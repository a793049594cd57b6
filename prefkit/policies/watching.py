"""How a training goes, looked at on the way: what the policy says of held-out pairs, and what it answers.

Reads   the policy in training, prompts that stay the same, a reward model if one is named
Writes  FOLDER/looks.jsonl    a ``Look`` a line, its answers among them
        FOLDER/best.safetensors    of the best look, the weights that learn

The first look is at the policy before training: its answers are what later ones are compared with, by their
``Health``, and by the reward model. How far the policy went is the divergence of the start from it, over the answers
of the start: KL(start || policy), by answer.

A look is as good as its win rate against the start where there is a reward model; else as the held-out pairs that are
put right; of two that are alike in that the one with the lower loss is better. Where nothing is held out and no reward
model judges, none is better than the last. One whose answers are flagged is never the best,
however good its figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import TrainerCallback

from prefkit.durable import append_lines, explained_disk_errors, put_in_place, remove, replacing
from prefkit.policies.health import Health, health
from prefkit.policies.looking import Answers, Text, look
from prefkit.policies.policy_trainer import PackedPolicyTrainer
from prefkit.policies.sampling import Answer, sample
from prefkit.policies.templates import prompt_ids
from prefkit.records import Message, Record, prompt_text
from prefkit.resampling import wilson
from prefkit.training.groups import Group, TokenGroup
from prefkit.training.token_store import Floats

LOOKS, BEST = "looks.jsonl", "best.safetensors"
TEMPERATURE = 1.0
"""Of the answers: what the policy itself would say, so that its divergence can be read off them."""

LOST = 2.0
"""Nats that a token of the start's answers may lose: DPO that went well has been seen to take 0.1 to 0.2, at a rate a
thousand times too high, whose answers are word salad, 2.8."""

Rewards = Callable[[Sequence[Group]], list[list[float]]]
"""The rewards of the responses of each group."""


class WinRate(Record, frozen=True, kw_only=True):
    """How often the reward model prefers the policy's answer to the start's; equal rewards are half a win."""

    value: float
    low: float
    high: float
    n: int


class Look(Record, frozen=True, kw_only=True):
    """One look.

    ``held_out`` are figures of the held-out pairs; ``divergence`` is in nats an answer; ``answers`` are those at the
    fixed prompts, in order. The first look has their tokens too, and what they say: ``start`` is the log-probability
    of each.
    """

    step: int
    held_out: dict[str, float]
    health: Health
    divergence: float = 0.0
    win_rate: WinRate | None = None
    answers: tuple[str, ...] = ()
    tokens: tuple[tuple[int, ...], ...] = ()
    start: tuple[float, ...] = ()

    def worth(self) -> tuple[float, ...]:
        """What the best look has most of; the first number that differs decides."""
        rate = (self.win_rate.value,) if self.win_rate else ()
        return (*rate, self.held_out.get("accuracy", 0.0), -self.held_out.get("loss", 0.0))


class Watch:
    """Looks at a policy in training.

    Args:
        trainer: of the policy.
        prompts: that it answers at each look.
        folder: of the policy.
        max_tokens: of an answer.
        seed: of the answers.
        rewards: a reward model's; None where there is none.
        keeps: whether the weights of the best look are kept.
    """

    def __init__(
        self,
        trainer: PackedPolicyTrainer,
        prompts: Sequence[Sequence[Message]],
        folder: Path,
        *,
        max_tokens: int,
        seed: int,
        rewards: Rewards | None = None,
        keeps: bool = True,
    ) -> None:
        self.looks: list[Look] = []
        self._trainer, self._prompts, self._folder = trainer, [tuple(turns) for turns in prompts], folder
        self._max_tokens, self._seed, self._rewards, self._keeps = max_tokens, seed, rewards, keeps
        self._said_first: list[TokenGroup] = []
        self._reference: Answers | None = None

    def begin(self, step: int) -> None:
        """Take up the looks of a training that goes on after ``step``, or look for the first time.

        The start is looked at before its weights change; a training that goes on finds its answers in the file.
        """
        self.looks = [one for one in read_looks(self._folder / LOOKS) if one.step <= step]
        if self._trainer.args.should_save:
            _rewrite(self._folder / LOOKS, self.looks)
        if not self.looks:
            self.look()
        start = self.looks[0]
        words = [prompt_text(turns) for turns in self._prompts]
        self._reference = look(words, [[Text(answer, finish=None)] for answer in start.answers])

    def look(self) -> Look:
        """Look now, and keep the weights if none was better."""
        with self._trainer.pausing():
            return self._look()

    def _look(self) -> Look:
        trainer, step = self._trainer, self._trainer.state.global_step
        held_out = trainer.evaluate() if trainer.held_out else {}
        said = sample(
            trainer.accelerator.unwrap_model(trainer.model_wrapped), trainer.processing_class, self._prompts,
            max_tokens=self._max_tokens, temperature=TEMPERATURE, seed=self._seed,
        )  # fmt: skip
        answers: list[Sequence[Answer]] = [list(some) for some in said]
        looked = look([prompt_text(turns) for turns in self._prompts], answers)
        texts, ids = tuple(some[0].text for some in answers), tuple(some[0].ids for some in answers)
        now = self._of_start(self.looks[0].tokens if self.looks else ids)
        divergence = float(np.mean(np.subtract(self.looks[0].start, now))) if self.looks else 0.0
        found = Look(
            step=step,
            held_out={name.removeprefix("eval_"): value for name, value in held_out.items() if name != "epoch"},
            health=self._with_distance(health(looked, self._reference, step), divergence),
            divergence=divergence,
            win_rate=self._win_rate(texts),
            answers=texts,
            tokens=() if self.looks else ids,
            start=() if self.looks else now,
        )
        better = self.best is None or found.worth() > self.best.worth()
        self.looks.append(found)
        if trainer.args.should_save:
            append_lines(self._folder / LOOKS, [msgspec.json.encode(found) + b"\n"])
        if self._keeps and step and better and not found.health.flagged:
            self._keep(step)
        return found

    def _with_distance(self, found: Health, divergence: float) -> Health:
        """Flagged as well where the words of the start have become all but impossible: text that loops nowhere and
        repeats nothing can still mean nothing. Supervised training may teach other words altogether."""
        if not self.looks or self._trainer.policy_loss.settings.method == "sft":
            return found
        why = too_far(divergence, self.looks[0])
        return msgspec.structs.replace(found, flagged=True, why=(*found.why, *why)) if why else found

    @property
    def best(self) -> Look | None:
        """The best look after the first, of those that are not flagged."""
        sound = [one for one in self.looks if one.step and not one.health.flagged]
        return max(sound, key=Look.worth, default=None)

    def _keep(self, step: int) -> None:
        trainer = self._trainer
        names = [name for name, weight in _learning(trainer)]
        weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        if not trainer.args.should_save:
            return
        part = self._folder / f"{BEST}.part"
        with explained_disk_errors(self._folder):
            save_file({name: weights[name].contiguous() for name in names}, part, {"step": str(step)})
            put_in_place(part, self._folder / BEST)

    def kept_step(self) -> int:
        """The step of the weights that are handed out: the last one where those of a better look were not kept."""
        path, last = self._folder / BEST, self._trainer.state.global_step
        self._trainer.accelerator.wait_for_everyone()
        if not self._keeps or self.best is None or self.best.step == last or not path.exists():
            return last
        with safe_open(path, "pt") as file:
            return self.best.step if file.metadata() == {"step": str(self.best.step)} else last

    def best_weights(self) -> dict[str, torch.Tensor]:
        """The weights of ``kept_step`` that learned, by name; none where that is the last one."""
        if self.kept_step() == self._trainer.state.global_step:
            return {}
        with safe_open(self._folder / BEST, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict

    def _of_start(self, answers: Sequence[Sequence[int]]) -> tuple[float, ...]:
        """The log-probability, by the policy as it is now, of what the start answered, token for token."""
        if not self._said_first:
            asked = prompt_ids(self._trainer.processing_class, self._prompts, {}, self._folder)
            self._said_first = [
                TokenGroup(
                    group=_group(str(place), turns, [""]),
                    prompt=np.asarray(before, np.int32),
                    responses=(np.asarray(ids, np.int32),),
                )
                for place, (turns, before, ids) in enumerate(zip(self._prompts, asked, answers, strict=True))
            ]
        return tuple(float(of.sum()) for of in self._trainer.log_probs(self._said_first))

    def _win_rate(self, answers: Sequence[str]) -> WinRate | None:
        if self._rewards is None or not self.looks:
            return None
        first = self.looks[0].answers
        groups = [
            _group(str(place), turns, [now, before])
            for place, (turns, now, before) in enumerate(zip(self._prompts, answers, first, strict=True))
        ]
        ours, theirs = np.array(self._rewards(groups), np.float64).T
        return win_rate(ours, theirs)


def too_far(divergence: float, start: Look) -> tuple[str, ...]:
    """Whether a policy is so many nats an answer from the start that its words are lost; in words, if so."""
    by_token = divergence / float(np.mean([len(ids) for ids in start.tokens]))
    if by_token <= LOST:
        return ()
    return (f"a token of the start's answers has lost {by_token:.1f} nats, more than {LOST:g}",)


def win_rate(ours: Floats, theirs: Floats) -> WinRate | None:
    """How often an answer has the higher reward [prompts]; of two equal ones each has half a win. A prompt at which one
    of them could not be read (NaN) is in nobody's figure; None where no other is left."""
    known = ~(np.isnan(ours) | np.isnan(theirs))
    if not known.any():
        return None
    wins = np.where(ours == theirs, 0.5, ours > theirs)[known]
    low, high = wilson(float(wins.mean()), len(wins))
    return WinRate(value=float(wins.mean()), low=low, high=high, n=len(wins))


class Looking(TrainerCallback):
    """Looks in the course of a training.

    Args:
        watch: looks.
        every: steps between looks; 0 for one at the start and one at the end only.
        stop_when_degenerate: end the training at a look that is flagged.
        patience: end it after so many looks that were not better than the best; None: never.
        told: of each look.
    """

    def __init__(
        self,
        watch: Watch,
        *,
        every: int,
        stop_when_degenerate: bool,
        patience: int | None,
        told: Callable[[Look], None],
    ) -> None:
        self._watch, self._every, self._told = watch, every, told
        self._stop_when_degenerate, self._patience = stop_when_degenerate, patience

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Look at the start."""
        self._watch.begin(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Look where it is time."""
        due = self._every and state.global_step % self._every == 0
        if not (due or state.global_step >= state.max_steps):
            return
        noted = control.should_log  # what is noted of a look takes the place of the step's line otherwise
        found = self._watch.look()
        control.should_log = noted
        self._told(found)
        if found.health.flagged and self._stop_when_degenerate:
            control.should_training_stop = True
        best = self._watch.best
        looks = [one.step for one in self._watch.looks if one.step > (best.step if best else 0)]
        if self._patience and len(looks) >= self._patience:
            control.should_training_stop = True


def _learning(trainer: PackedPolicyTrainer) -> list[tuple[str, torch.nn.Parameter]]:
    """The weights that learn, by name."""
    model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    return [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]


def _group(name: str, turns: Sequence[Message], texts: Sequence[str]) -> Group:
    names = tuple(f"{name}:{place}" for place in range(len(texts)))
    return Group(
        prompt_id=name,
        messages=tuple(turns),
        response_ids=names,
        texts=tuple(texts),
        policies=names,
    )


def read_looks(path: Path) -> list[Look]:
    """The looks of a file; a last line that was cut is left out."""
    if not path.exists():
        return []
    decode = msgspec.json.Decoder(Look).decode
    found = []
    for line in path.read_bytes().splitlines():
        try:
            found.append(decode(line))
        except msgspec.DecodeError:
            break
    return found


def _rewrite(path: Path, looks: Sequence[Look]) -> None:
    if looks:
        with replacing(path) as file:
            file.writelines(msgspec.json.encode(one) + b"\n" for one in looks)
    elif path.exists():
        remove(path)
