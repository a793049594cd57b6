"""What other commands left in the run folder, as much of it as the page shows.

Reads   audit/audit.json
        reward-models/NAME/    training.json, evaluation.json
        policies/NAME/         training.json, or looks.jsonl of a training that was cut
        iterations/NAME/       iterate.json, start/evaluation.json, round-N/evaluation.json, finished.json

Only fields that are shown are named here, so that a file of a later version is still read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from prefkit.durable import explained_disk_errors
from prefkit.errors import RecordError
from prefkit.resampling import Figure

T = TypeVar("T")


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What all of them share: fields that nobody shows are passed over."""


# ------------------------------------------------------------------------------------------------------ the audit


class AuditFigure(Kept, frozen=True, kw_only=True):
    """A figure of a judge: in a sentence, and with its interval where there is one."""

    name: str
    sentence: str
    principle: str | None = None
    unit: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    null: float | None = None
    q: float | None = None
    flagged: bool = False
    not_measured: str | None = None


class JudgeAudit(Kept, frozen=True, kw_only=True):
    """A judge's figures."""

    judge: str
    answers: int
    prompts: int
    figures: tuple[AuditFigure, ...]


class Audit(Kept, frozen=True, kw_only=True):
    """``audit.json``; ``older`` says that judgements were added since."""

    rubric: str
    judges: tuple[JudgeAudit, ...]
    tested: int = 0
    flagged: int = 0
    older: bool = False


# -------------------------------------------------------------------------------------------------- reward models


class Bin(Kept, frozen=True, kw_only=True):
    """A point of the reliability diagram."""

    confidence: float
    right: float
    low: float
    high: float
    n: int


class Row(Kept, frozen=True, kw_only=True):
    """The accuracy on some of the pairs."""

    name: str
    accuracy: Figure


class Scorer(Kept, frozen=True, kw_only=True):
    """A reward model, the ensemble of several, or a baseline."""

    name: str
    kind: str
    how: str = ""
    figures: dict[str, Figure] = {}
    by: dict[str, list[Row]] = {}
    reliability: list[Bin] = []


class Size(Kept, frozen=True, kw_only=True):
    """A point of a learning curve."""

    share: float
    prompts: int
    pairs: float
    figures: dict[str, Figure]


class Curve(Kept, frozen=True, kw_only=True):
    """A learning curve."""

    name: str
    sizes: list[Size]


class Evaluation(Kept, frozen=True, kw_only=True):
    """``evaluation.json``, as ``eval-rm`` writes it."""

    source: str = ""
    split: str | None = None
    counts: dict[str, int] = {}
    scorers: list[Scorer] = []
    notes: list[str] = []
    curves: list[Curve] = []


class _RewardTraining(Kept, frozen=True, kw_only=True):
    settings: dict[str, Any] = {}
    data: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    held_out: list[dict[str, str]] = []
    notes: list[str] = []


class RewardModel(Kept, frozen=True, kw_only=True):
    """A reward model: ``base`` is what it was made from, ``history`` the lines of the trainer's log, ``held_out`` and
    ``notes`` what was measured at the end of its training."""

    name: str
    base: str
    frozen: bool
    data: dict[str, int]
    history: list[dict[str, Any]]
    evaluation: Evaluation | None
    held_out: list[dict[str, str]] = []
    notes: list[str] = []


# ------------------------------------------------------------------------------------------------------- policies


class Rate(Kept, frozen=True, kw_only=True):
    """A win rate by a reward model."""

    value: float
    low: float
    high: float
    n: int


class Health(Kept, frozen=True, kw_only=True):
    """Whether answers are degenerate, and why that is said."""

    flagged: bool
    why: tuple[str, ...] = ()


class Look(Kept, frozen=True, kw_only=True):
    """A look at a policy in training."""

    step: int
    health: Health
    held_out: dict[str, float] = {}
    divergence: float = 0.0
    win_rate: Rate | None = None


class _PolicyTraining(Kept, frozen=True, kw_only=True):
    settings: dict[str, Any] = {}
    data: dict[str, Any] = {}
    steps: int = 0
    kept_step: int | None = None
    history: list[dict[str, Any]] = []
    looks: list[Look] = []
    notes: list[str] = []


class Policy(Kept, frozen=True, kw_only=True):
    """A policy that was trained, or whose training was cut: then only its looks are known."""

    name: str
    method: str
    base: str
    finished: bool
    steps: int
    kept_step: int | None
    data: dict[str, int]
    history: list[dict[str, Any]]
    looks: list[Look]
    notes: list[str]


class Standing(Kept, frozen=True, kw_only=True):
    """What a judge makes of a round: its mean reward, and win rates."""

    reward: float
    start: Rate
    before: Rate | None = None
    best_of: Rate | None = None


class Round(Kept, frozen=True, kw_only=True):
    """What a round came to."""

    round: int
    prompts: int
    by_reward_model: Standing
    health: Health
    by_second: Standing | None = None
    words: float = 0.0
    stop: tuple[str, ...] = ()


class _Start(Kept, frozen=True, kw_only=True):
    prompts: int = 0
    words: float = 0.0


class _Finished(Kept, frozen=True, kw_only=True):
    best_round: int = 0
    stopped: tuple[str, ...] = ()


class Iteration(Kept, frozen=True, kw_only=True):
    """Rounds of training: ``best_round`` is None until they ended, 0 where the start is the best."""

    name: str
    rounds: list[Round]
    best_round: int | None
    stopped: tuple[str, ...]
    words_at_start: float | None


# -------------------------------------------------------------------------------------------------------- reading


class Written(Kept, frozen=True, kw_only=True):
    """What there is in the run folder beside the records."""

    audit: Audit | None
    reward_models: list[RewardModel]
    policies: list[Policy]
    iterations: list[Iteration]


def read_written(run: Path) -> Written:
    """Everything that other commands left there.

    Raises:
        RecordError: a file is not what prefkit writes.
    """
    return Written(
        audit=_audit(run),
        reward_models=_each(run, "reward-models", _reward_model),
        policies=_each(run, "policies", _policy),
        iterations=_each(run, "iterations", _iteration),
    )


def _each(run: Path, name: str, read: Callable[[Path], T | None]) -> list[T]:
    """What is read of each folder below ``name``, where there is anything."""
    folders = sorted(one for one in run.glob(f"{name}/*") if one.is_dir())
    return [found for found in map(read, folders) if found is not None]


def _read(path: Path, what: type[T]) -> T | None:
    if not path.is_file():
        return None
    try:
        with explained_disk_errors(path):
            return msgspec.json.decode(path.read_bytes(), type=what)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        remedy = "prefkit wrote this file; run the command that wrote it again, or move it out of the run."
        place = "/".join(path.parts[-3:])
        raise RecordError(place, " ".join(str(error).split()), "what prefkit writes there", remedy) from None


def _audit(run: Path) -> Audit | None:
    path = run / "audit" / "audit.json"
    found = _read(path, Audit)
    if found is None:
        return None
    newest = max((one.stat().st_mtime for one in run.glob("judgements.*")), default=0.0)
    return msgspec.structs.replace(found, older=newest > path.stat().st_mtime)


def _reward_model(folder: Path) -> RewardModel | None:
    training = _read(folder / "training.json", _RewardTraining)
    evaluation = _read(folder / "evaluation.json", Evaluation)
    if training is None and evaluation is None:
        return None
    training = training or _RewardTraining()
    return RewardModel(
        name=folder.name,
        base=_base(training.settings),
        frozen=bool(training.settings.get("frozen")),
        data=_counts(training.data),
        history=training.history,
        evaluation=evaluation,
        held_out=training.held_out,
        notes=training.notes,
    )


def _counts(data: dict[str, Any]) -> dict[str, int]:
    """What was counted of the training data; where it lay is nobody's business."""
    return {name: value for name, value in data.items() if isinstance(value, int)}


def _base(settings: dict[str, Any]) -> str:
    """The base as it was named; of a path only the last part, as the rest is nobody's business."""
    base = str(settings.get("base") or "")
    return Path(base).name if base.startswith(("/", ".", "~")) or "\\" in base else base


def _policy(folder: Path) -> Policy | None:
    done = _read(folder / "training.json", _PolicyTraining)
    looks = done.looks if done else _looks(folder / "looks.jsonl")
    if done is None and not looks:
        return None
    done_or_empty = done or _PolicyTraining()
    return Policy(
        name=folder.name,
        method=str(done_or_empty.settings.get("method") or ""),
        base=_base(done_or_empty.settings),
        finished=done is not None,
        steps=done_or_empty.steps or (looks[-1].step if looks else 0),
        kept_step=done_or_empty.kept_step,
        data=_counts(done_or_empty.data),
        history=done_or_empty.history,
        looks=looks,
        notes=done_or_empty.notes,
    )


def _looks(path: Path) -> list[Look]:
    """The looks of a training that goes on; a last line that was cut is left out."""
    if not path.is_file():
        return []
    decode = msgspec.json.Decoder(Look).decode
    found = []
    with explained_disk_errors(path):
        lines = path.read_bytes().splitlines()
    for line in lines:
        try:
            found.append(decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            break
    return found


def _iteration(folder: Path) -> Iteration | None:
    places = sorted(folder.glob("round-*/evaluation.json"), key=lambda one: (len(one.parent.name), one.parent.name))
    rounds = [one for path in places if (one := _read(path, Round))]
    finished = _read(folder / "finished.json", _Finished)
    start = _read(folder / "start" / "evaluation.json", _Start)
    if not rounds and finished is None and not (folder / "iterate.json").exists():
        return None
    return Iteration(
        name=folder.name,
        rounds=rounds,
        best_round=finished.best_round if finished else None,
        stopped=finished.stopped if finished else (),
        words_at_start=start.words if start else None,
    )
