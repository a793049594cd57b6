"""``reward.json``: what a reward model's folder says of itself, beside the files that transformers reads.

Reads and writes  reward-models/NAME/reward.json

A reward is only right under the chat template, the base and the scale that it was made with; they stand here, so that
scoring can refuse what does not fit instead of giving numbers that mean nothing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from prefkit.durable import explained_disk_errors, replacing
from prefkit.errors import PrefkitError

if TYPE_CHECKING:
    from prefkit.rubric import Rubric

NAME = "reward.json"
Pooling = Literal["last", "mean", "mean+last"]


class RewardInfo(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What ``reward.json`` holds.

    Args:
        kind: ``trained``: the folder is a sequence-classification model that plain transformers loads; ``frozen``: a
            linear head on features of the model ``base``.
        base: the model it was made from, as it was named.
        template: digest of the chat template that its texts were written with; None where the base has none.
        max_tokens: of a prompt with a response, in training.
        plain: its texts were written as they are, without the chat template that the tokenizer has.
        heads: principles that have a reward of their own, in the order of the model's outputs; empty for one reward.
        combine: the weight of each head in the overall reward.
        mean, std: of the overall reward over the training responses, for normalised rewards.
        temperature: what differences of rewards are divided by before they are read as log-odds.
        tie: the tie parameter of the loss (theta of Rao and Kupper, nu of Davidson), by the loss's name.
        layer, pooling: of a frozen model's features.
        control_policies: whether rewards were learned beside an effect of each policy.
        rubric: that said what better means, its id and its hash; None for pairs of a file.
    """

    format: int = 1
    kind: Literal["trained", "frozen"]
    base: str
    template: str | None
    max_tokens: int
    plain: bool = False
    heads: tuple[str, ...] = ()
    combine: tuple[float, ...] = ()
    mean: float = 0.0
    std: float = 1.0
    temperature: float = 1.0
    tie: dict[str, float] = {}
    layer: int | None = None
    pooling: Pooling | None = None
    control_policies: bool = False
    rubric: str | None = None


def template_digest(template: str | None) -> str | None:
    """What identifies a chat template: 20 hexadecimal digits of its text."""
    return hashlib.blake2b(template.encode(), digest_size=10).hexdigest() if template else None


def read_info(folder: Path) -> RewardInfo:
    """What a reward model says of itself.

    Raises:
        PrefkitError: the folder holds no reward model of prefkit, or a broken one.
    """
    path = folder / NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=RewardInfo)
    except FileNotFoundError:
        remedy = "Name a folder that `prefkit train-rm` wrote, such as RUN/reward-models/NAME."
        raise PrefkitError(folder, f"no {NAME}", "a reward model", remedy) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise PrefkitError(path, str(error), "what prefkit wrote there", "Train the model again.") from error


def reward_model_folder(named: str, run: Path) -> Path:
    """The folder of a reward model, by its path or by its name in a run; for a file, ``run`` has none."""
    folder, of_run = Path(named), run / "reward-models" / named
    return of_run if not folder.is_dir() and of_run.is_dir() else folder


def rubric_mark(rubric: Rubric | None) -> str | None:
    """What ``RewardInfo.rubric`` says of a rubric."""
    return f"{rubric.id} {rubric.hash}" if rubric else None


def need_rubric(folder: Path, info: RewardInfo, rubric: Rubric | None, run: object) -> None:
    """Refuse a reward model that learned another rubric's "better" than a run's; one that does not know is taken.

    Raises:
        PrefkitError: it did.
    """
    if rubric is None or info.rubric is None or info.rubric == rubric_mark(rubric):
        return
    remedy = "Train one on pairs of this run's rubric: prefkit train-rm."
    expected = f"one of the rubric {rubric_mark(rubric)}, by which {run} is judged"
    raise PrefkitError(folder, f"a reward model of the rubric {info.rubric}", expected, remedy)


def write_info(folder: Path, info: RewardInfo) -> None:
    """Write it, whole or not at all."""
    with explained_disk_errors(folder), replacing(folder / NAME) as file:
        file.write(msgspec.json.format(msgspec.json.encode(info), indent=1) + b"\n")
