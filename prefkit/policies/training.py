"""``prefkit train-policy``: pairs to a policy, from the first token to the model's folder.

Reads   the pairs of a run or a file, a base model that answers, a reward model that judges its looks if one is named
Writes  policies/NAME/
    begun.json      what is trained on what: the same command goes on from the last checkpoint, another is refused
    scratch/        what is trained on, as tokens; removed at the end
    checkpoints/    to go on from; removed at the end
    looks.jsonl, best.safetensors    what was seen on the way (``watching``); the weights of the best look, removed
    config.json, model.safetensors, tokenizer*, README.md, curves.svg    the policy
    training.json   settings, versions, counts, the course of the loss, looks; written last: where it is, all is
        policies/NAME-sft/    the policy after supervised training, where that goes before

What the base says of each response is asked before the first step and kept in the cache (``reference``). With several
processes (``accelerate launch``, ``torchrun``) the first of each machine reads the data for all of them, and the first
of all writes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefkit.durable import remove
from prefkit.errors import PrefkitError
from prefkit.policies.settings import PolicySettings
from prefkit.training.begun import CHECKPOINTS, begin, claimed
from prefkit.training.machine import PATIENCE, SCRATCH, Machine
from prefkit.training.training_pairs import TrainingData

if TYPE_CHECKING:
    from prefkit.policies.policy_data import PolicyData
    from prefkit.policies.policy_trainer import PackedPolicyTrainer
    from prefkit.policies.reference import TokenLogProbs
    from prefkit.policies.watching import Look, Rewards, Watch
    from prefkit.rubric import Rubric
    from prefkit.training.building import Built
    from prefkit.training.groups import TokenGroup

LINES, LOOKS = 50, 5
"""Lines in the log of a training, and looks at the policy, about, unless asked otherwise."""

Opened = Callable[[str, int | None, str], Callable[[int], None]]


@dataclass(frozen=True, kw_only=True)
class TrainedPolicy:
    """What came of a training.

    Args:
        folder: of the policy.
        counts: of the training data, by name.
        looks: at the start, on the way, at the end.
        kept: the step whose weights the folder holds.
        steps, resumed: optimiser steps in all; after how many this process went on.
        seconds: of training, in this process, looks among them.
        pairs_per_second, tokens_per_second: over this process's steps; of supervised training, prompts for pairs.
        notes: what the course means, in words.
    """

    folder: Path
    counts: dict[str, int]
    looks: tuple[Look, ...]
    kept: int
    steps: int
    resumed: int
    seconds: float
    pairs_per_second: float
    tokens_per_second: float
    notes: tuple[str, ...]


def train_policy(
    data: TrainingData,
    settings: PolicySettings,
    folder: Path,
    *,
    reward_model: Path | None = None,
    overwrite: bool = False,
    opened: Opened = lambda title, total, unit: lambda done: None,
    say: Callable[[str], None] = lambda line: None,
) -> TrainedPolicy:
    """Train a policy, or go on with the training that was cut.

    Args:
        data: to train and look at.
        settings: gaps are filled with the method's values.
        folder: of the policy.
        reward_model: that says how often an answer beats the start's.
        overwrite: throw away what is in the folder.
        opened: opens a progress bar: title, total, unit -> what is told how much is done in all.
        say: told lines worth reading, in the first process only.

    Raises:
        PrefkitError: there is nothing to learn from, the model cannot be loaded or trained, it has no chat template,
            the reward model is another rubric's, the folder holds a finished policy or another training, or it cannot
            be written.
    """
    settings = settings.resolved()
    if settings.sft_first:
        before = folder.with_name(f"{folder.name}-sft")
        _supervised(data, settings, before, reward_model, overwrite, opened, say)
        settings = replace(settings, base=str(before), sft_first=0)
    return _train(data, settings, folder, reward_model, overwrite, opened, say)


def _supervised(
    data: TrainingData,
    settings: PolicySettings,
    folder: Path,
    reward_model: Path | None,
    overwrite: bool,
    opened: Opened,
    say: Callable[[str], None],
) -> None:
    """The stage before, unless it is done."""
    from prefkit.training.begun import DONE, identity
    from prefkit.training.settings import decisive

    first = replace(
        settings, method="sft", sft_first=0, epochs=settings.sft_first, learning_rate=None, beta=None, gamma=None,
        label_smoothing=0.0, length_alpha=1.0, weighted=False, sft=0.0, reference=None,
    ).resolved()  # fmt: skip
    if (folder / DONE).exists() and not overwrite:
        import msgspec

        done = msgspec.json.decode((folder / DONE).read_bytes())
        if msgspec.to_builtins(decisive(first)) == done.get("decisive") and done.get("base") == identity(first.base):
            say(f"{folder}: done before")
            return
    _train(data, first, folder, reward_model, overwrite, opened, say)


def _train(
    data: TrainingData,
    settings: PolicySettings,
    folder: Path,
    reward_model: Path | None,
    overwrite: bool,
    opened: Opened,
    say: Callable[[str], None],
) -> TrainedPolicy:
    from accelerate import PartialState  # type: ignore[import-untyped]

    from prefkit.policies.finishing import finish
    from prefkit.policies.logprobs import LANGUAGE_MODEL
    from prefkit.policies.policy_data import read_policy_data
    from prefkit.policies.templates import need_chat_template
    from prefkit.training.building import build, on_cpu, tokenizer_of, within_window
    from prefkit.training.packed_trainer import go_on

    _refuse_adapters(settings.base)
    state = PartialState(cpu=on_cpu(), timeout=PATIENCE)
    if not state.is_main_process:
        opened, say = (lambda title, total, unit: lambda done: None), (lambda line: None)
    with ExitStack() as stack:
        if state.is_main_process:
            stack.enter_context(claimed(folder, overwrite))
        state.wait_for_everyone()
        tokenizer = tokenizer_of(settings.base)
        need_chat_template(tokenizer, settings.base)
        settings = replace(settings, max_tokens=within_window(settings.max_tokens, settings.base, tokenizer, say))
        machine = Machine.of(state)
        read = read_policy_data(data, settings, tokenizer, say, folder, machine)
        rewards = _rewards(reward_model, read.rubric, data.source)
        if state.is_main_process:
            begin(folder, settings, read.digest)
        built = build(settings, tokenizer, LANGUAGE_MODEL)
        _say_what(say, settings, read, built)
        trainer = _trainer(built, read, settings, folder / CHECKPOINTS, opened, say)
        if trainer.policy_loss.settings.needs_reference:
            _ask_reference(trainer, settings, built, machine, machine.scratch(folder), say)
        watch = _watched(trainer, read, settings, folder, rewards, say)
        since, resumed = time.monotonic(), go_on(trainer, folder / CHECKPOINTS, say)
        seconds = time.monotonic() - since
        done = finish(trainer, watch, data, read, settings, folder, reward_model, seconds, resumed)
        if machine.writes:
            remove(folder / SCRATCH)
        return done


def _refuse_adapters(base: str) -> None:
    if (Path(base) / "adapter_config.json").exists():
        remedy = f"Merge it with its base first: prefkit export {base} --to FOLDER; then --base FOLDER."
        raise PrefkitError(base, "an adapter alone", "a whole model to start from", remedy)


def _rewards(folder: Path | None, rubric: Rubric | None, source: Path) -> Rewards | None:
    if folder is None:
        return None
    from prefkit.training.reward_info import need_rubric, read_info
    from prefkit.training.reward_model import RewardModel

    need_rubric(folder, read_info(folder), rubric, source)
    model = RewardModel.load(folder)
    return lambda groups: [[float(one) for one in of[:, 0]] for of in model.rewards(groups)]


def _say_what(say: Callable[[str], None], settings: PolicySettings, read: PolicyData, built: Built) -> None:
    from prefkit.training.building import device_name

    count = read.counts
    pairs = "" if settings.method == "sft" else f"{count['training pairs']:,} pairs of "
    say(
        f"{settings.method}: {pairs}{count['training prompts']:,} prompts, {count['training responses']:,} responses,"
        f" {count['training tokens']:,} tokens,"
        f" {'a prompt read again with each response' if built.padded else 'each read once an epoch'}"
    )
    share = built.trainable / sum(weight.numel() for weight in built.model.parameters())
    where = f"{settings.base}: {built.trainable / 1e6:,.1f} million weights learn ({share:.0%})"
    say(f"{where}, in {'bf16' if built.bf16 else 'fp32'} on {device_name()}")
    if built.padded:
        say(f"rows are padded, as {built.padded}")
    if not read.held_out_prompts:
        say("nothing was held out: looks are at prompts that are trained on")


def _trainer(
    built: Built,
    read: PolicyData,
    settings: PolicySettings,
    folder: Path,
    opened: Opened,
    say: Callable[[str], None],
) -> PackedPolicyTrainer:
    from transformers import TrainingArguments

    from prefkit.policies.losses import PolicyLoss, PolicyLossSettings
    from prefkit.policies.policy_trainer import PackedPolicyTrainer
    from prefkit.training.arguments import training_arguments
    from prefkit.training.building import quiet
    from prefkit.training.packed_trainer import Reporting

    assert settings.learning_rate and settings.beta and settings.gamma is not None
    units = read.counts["training pairs"] or read.counts["training prompts"]
    total = math.ceil(units / settings.pairs_per_step * settings.epochs)
    with quiet():
        arguments = TrainingArguments(
            **training_arguments(
                settings, built, folder, epochs=settings.epochs, learning_rate=settings.learning_rate,
                schedule=settings.schedule, warmup=settings.warmup,
                log_steps=settings.log_steps or max(1, min(total, settings.max_steps or total) // LINES),
            )
        )  # fmt: skip
        trainer = PackedPolicyTrainer(
            built.model,
            arguments,
            tokenizer=built.tokenizer,
            loss=PolicyLoss(
                PolicyLossSettings(
                    method=settings.method, beta=settings.beta, gamma=settings.gamma, sft=settings.sft,
                    label_smoothing=settings.label_smoothing, length_alpha=settings.length_alpha,
                    weighted=settings.weighted,
                )
            ),
            groups=read.train,
            pairs_per_step=settings.pairs_per_step,
            row_tokens=settings.row_tokens,
            held_out=read.held_out,
        )  # fmt: skip
    reach = opened("training", _steps(trainer, settings), "steps")
    trainer.add_callback(Reporting(reach, lambda step, logs: _say_progress(say, step, logs)))
    return trainer


def _steps(trainer: PackedPolicyTrainer, settings: PolicySettings) -> int:
    whole = math.ceil(len(trainer.steps) * settings.epochs)
    return min(whole, settings.max_steps or whole)


def _ask_reference(
    trainer: PackedPolicyTrainer,
    settings: PolicySettings,
    built: Built,
    machine: Machine,
    scratch: Path,
    say: Callable[[str], None],
) -> None:
    """Read what the reference says beside each group: the model before it learns, or the one that is named."""
    from prefkit.durable import cache_folder
    from prefkit.policies.policy_data import Astray
    from prefkit.policies.reference import reference_file, with_reference
    from prefkit.training.begun import identity

    named = settings.reference or settings.base
    what = {**identity(named), "precision": "bf16" if built.bf16 else "fp32"}
    built.model.to(trainer.args.device)
    opened: list[Any] = []

    def ask(groups: Sequence[TokenGroup]) -> list[TokenLogProbs]:
        if settings.reference and not opened:
            opened.append(_reference_model(settings.reference, trainer))
        return trainer.log_probs(groups, *opened)

    def asked(groups: Sequence[TokenGroup]) -> Sequence[TokenGroup]:
        path = machine.once(lambda: reference_file(cache_folder(), what, groups))
        line = f"what {named} says of {len(groups):,} prompts' responses is read first"
        return with_reference(
            groups, path, ask, machine, scratch, processes=trainer.args.world_size, say=lambda: say(line)
        )

    if settings.method == "kto":
        trainer.astray = asked(Astray(trainer.groups))
        trainer.held_out_astray = asked(Astray(trainer.held_out)) if len(trainer.held_out) > 1 else ()
    trainer.groups = asked(trainer.groups)
    if trainer.held_out:
        trainer.held_out = asked(trainer.held_out)


def _reference_model(named: str, trainer: PackedPolicyTrainer) -> Any:
    """A reference that is not the model in training.

    Raises:
        PrefkitError: it reads other tokens.
    """
    from prefkit.policies.logprobs import enable_packing
    from prefkit.policies.opening import open_policy

    model, tokenizer = open_policy(named, str(trainer.args.device))
    ours: Any = trainer.processing_class
    if tokenizer.get_vocab() != ours.get_vocab():
        remedy = "Name a model of the same family, such as an earlier policy of the same base."
        raise PrefkitError(named, "another vocabulary than the base's", "the same tokens", remedy)
    enable_packing(model)
    return model


def _watched(
    trainer: PackedPolicyTrainer,
    read: PolicyData,
    settings: PolicySettings,
    folder: Path,
    rewards: Rewards | None,
    say: Callable[[str], None],
) -> Watch:
    """Looks, and then checkpoints, so that one that is gone on from has its look."""
    from prefkit.policies.watching import Looking, Watch
    from prefkit.training.packed_trainer import SaveByTime

    watch = Watch(
        trainer, read.prompts, folder, max_tokens=settings.check_tokens, seed=settings.seed, rewards=rewards,
        keeps=settings.keep == "best" and bool(read.held_out or rewards),
    )  # fmt: skip
    every = settings.check_steps
    if every is None:
        every = max(1, math.ceil(_steps(trainer, settings) / LOOKS))
    trainer.add_callback(
        Looking(
            watch, every=every, stop_when_degenerate=settings.stop_when_degenerate, patience=settings.patience,
            told=lambda look: _say_look(say, look),
        )
    )  # fmt: skip
    if not settings.save_steps and settings.save_minutes:
        trainer.add_callback(SaveByTime(settings.save_minutes))
    return watch


def _say_progress(say: Callable[[str], None], step: int, logs: Mapping[str, float]) -> None:
    words = {
        "loss": "loss {:.3f}", "accuracy": "accuracy {:.1%}", "margin": "margin {:.2f}", "nll": "nll {:.2f}",
        "chosen": "chosen {:.1f}", "rejected": "rejected {:.1f}", "tokens_per_second": "{:,.0f} tokens/s",
    }  # fmt: skip
    if "loss" in logs:
        say(f"step {step}: {', '.join(form.format(logs[name]) for name, form in words.items() if name in logs)}")


def _say_look(say: Callable[[str], None], look: Look) -> None:
    words = {"loss": "loss {:.3f}", "accuracy": "accuracy {:.1%}", "nll": "nll {:.2f}"}
    parts = [form.format(look.held_out[name]) for name, form in words.items() if name in look.held_out]
    if rate := look.win_rate:
        parts.append(f"win rate {rate.value:.0%} ({rate.low:.0%} to {rate.high:.0%}) of {rate.n} answers")
    parts.append(f"{look.divergence:z.1f} nats from the start")
    say(f"look at step {look.step}: {', '.join(parts)}")
    for why in look.health.why:
        say(f"  degenerate: {why}" if look.health.flagged else f"  {why}")
