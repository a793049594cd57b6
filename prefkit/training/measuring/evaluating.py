"""Reward models on a run's held-out pairs, or on any file of preferences, beside the baselines.

Reads   RUN or a file of preferences (``examples.read_groups``), folders of reward models
Gives   a Report; Scores for a file in the format of RewardBench

Baselines are fitted on the run's training pairs; a file without any has them fitted on itself, five folds by prompt, so
that they know its kind of text while the models do not. Beside each stands its accuracy on pairs of two policies that
it never saw: a baseline and a frozen model are fitted again without them; a trained model shows it where policies were
left out of its training (``training.json`` names those that were not).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.resampling import Floats
from prefkit.training.groups import Group, Scorer
from prefkit.training.measuring import calibrating
from prefkit.training.measuring.report import MeasureSettings, Report, Scored, measure
from prefkit.training.measuring.rewardbench import Scores, read_items, score
from prefkit.training.measuring.table import Table, margins_of, rewards_of, table_of
from prefkit.training.reward_info import RewardInfo, read_info

if TYPE_CHECKING:
    from prefkit.training.baselines import Maker

Say = Callable[[str], None]
HELD_OUT, TRAINING, VALIDATION = "test", "train", "validation"
ON_ITSELF = "fitted on the same file, five folds by prompt"
ON_TRAINING = "fitted on the training pairs"


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How reward models are evaluated.

    Args:
        split: whose pairs are measured on; None for ``test`` of a run, and for all of a file.
        baselines: whether they are fitted and shown.
        left_out: whether baselines and frozen models are fitted again without the policies of the pairs they score.
        soft: labels are the share of annotators that prefer a side; else what most of them say.
        device: that models run on; None for the fastest there is.
        measure: how figures are made.
    """

    split: str | None = None
    baselines: bool = True
    left_out: bool = True
    soft: bool = True
    device: str | None = None
    measure: MeasureSettings = field(default_factory=MeasureSettings)


@dataclass(frozen=True)
class Pairs:
    """The groups of one evaluation; ``training`` and ``validation`` are empty where there are none."""

    source: str
    split: str | None
    held_out: Iterable[Group]
    training: Sequence[Group] = ()
    validation: Iterable[Group] = ()


def evaluate(
    source: Path, models: Sequence[Path], settings: EvaluationSettings, say: Say = lambda words: None
) -> Report:
    """Measure reward models on the pairs of a run or a file.

    Raises:
        PrefkitError: there are no pairs, or a folder holds no reward model.
    """
    infos = {folder: read_info(folder) for folder in models}  # before anything that takes long
    names = _names(models)
    pairs = read_pairs(source, settings, plain=_plain(source, infos))
    table = table_of(pairs.held_out, source)
    scored = []
    for folder, info in infos.items():
        say(f"{names[folder]}: {len(table.length):,} responses")
        scored.append(_of_model(folder, names[folder], info, pairs, table, settings, say))
    if settings.baselines:
        scored += baselines(pairs, table, settings, say)
    return measure(table, scored, settings.measure, source=pairs.source, split=pairs.split)


def evaluate_benchmark(
    source: Path, models: Sequence[Path], settings: EvaluationSettings, say: Say = lambda words: None
) -> dict[str, Scores] | None:
    """Score reward models on a file in the format of RewardBench; None where it is another file."""
    from prefkit.training.reward_model import RewardModel

    found = read_items(source) if source.is_file() else None
    if found is None:
        return None
    version, items = found
    names, scores = _names(models), {}
    for folder in models:
        say(f"{names[folder]}: {len(items):,} rows")
        model = RewardModel.load(folder, settings.device)
        how = settings.measure
        scores[names[folder]] = score(model, items, version, rounds=how.rounds, seed=how.seed)
    return scores


def held_out(
    scorers: Mapping[str, Scorer],
    groups: Iterable[Group],
    training: Sequence[Group] = (),
    settings: EvaluationSettings | None = None,
    *,
    source: str = "",
    say: Say = lambda words: None,
) -> Report:
    """Measure scorers that are in memory, beside baselines fitted on the training groups."""
    settings = settings or EvaluationSettings()
    pairs = Pairs(source, settings.split, groups, training)
    table = table_of(groups, source)
    scored = [
        Scored(name=name, kind="model", rewards=rewards_of(scorer, groups, table, name), heads=scorer.heads)
        for name, scorer in scorers.items()
    ]
    if settings.baselines:
        scored += baselines(pairs, table, settings, say)
    return measure(table, scored, settings.measure, source=source, split=settings.split)


def _plain(source: Path, infos: Mapping[Path, RewardInfo]) -> bool:
    """Whether texts are read as they stand, without roles: where the models of a file were trained on such."""
    plain = {info.plain for info in infos.values()}
    if len(plain) > 1 and source.is_file():
        found = "models trained on plain texts and on dialogues"
        raise PrefkitError(source, found, "one kind", "Evaluate them one after the other.")
    return source.is_file() and True in plain


def read_pairs(source: Path, settings: EvaluationSettings, *, plain: bool = False) -> Pairs:
    """The held-out pairs, and the others where the source has splits.

    Args:
        source: a run or a file.
        settings: which split, and what labels are.
        plain: texts as they stand, without roles.

    Raises:
        PrefkitError: there are none to measure on.
    """
    from prefkit.training.examples import read_groups

    splits = _splits(source)
    wanted = settings.split or (HELD_OUT if splits else None)
    groups = read_groups(source, wanted, soft=settings.soft, plain=plain)
    others = {
        split: read_groups(source, split, soft=settings.soft, plain=plain)
        for split in (TRAINING, VALIDATION)
        if split in splits and split != wanted
    }
    return Pairs(source.name, wanted, groups, list(others.get(TRAINING, ())), others.get(VALIDATION, ()))


def baselines(pairs: Pairs, table: Table, settings: EvaluationSettings, say: Say) -> list[Scored]:
    """Length, words and policy, fitted on the training pairs, or on the held-out prompts of other folds."""
    from prefkit.training.baselines import BASELINES, cross_validated

    several = len([name for name in table.policies if name]) > 1
    found = []
    for name, make in BASELINES.items():
        if name == "policy identity" and not several:
            say(f"{name}: left out, the policies are not known")
            continue
        say(f"{name}: fitting")
        try:
            if pairs.training:
                rewards = rewards_of(make(pairs.training), pairs.held_out, table, name)
                one = Scored(name=name, kind="baseline", rewards=rewards, how=ON_TRAINING)
            else:
                margins = margins_of(cross_validated(make, list(pairs.held_out)).rewards, table)
                one = Scored(name=name, kind="baseline", margins=margins, how=ON_ITSELF)
        except PrefkitError as error:
            say(f"{name}: left out, {error.found}")
            continue
        found.append(replace(one, left_out=_left_out(make, pairs, table, settings)))
    return found


def _left_out(make: Maker, pairs: Pairs, table: Table, settings: EvaluationSettings) -> Floats | None:
    """Margins [pairs] of scorers that saw neither the prompt nor either policy; None where that cannot be."""
    from prefkit.training.baselines import cross_validated, policies_left_out

    if not settings.left_out or len([name for name in table.policies if name]) < 4:
        return None
    groups = list(pairs.held_out)
    found = (
        policies_left_out(make, pairs.training, groups)
        if pairs.training
        else cross_validated(make, groups, leave_policies_out=True)
    )
    return margins_of(found.rewards, table)


def _of_model(
    folder: Path,
    name: str,
    info: RewardInfo,
    pairs: Pairs,
    table: Table,
    settings: EvaluationSettings,
    say: Say,
) -> Scored:
    from prefkit.training.reward_model import RewardModel

    model = RewardModel.load(folder, settings.device)
    rewards = rewards_of(model, pairs.held_out, table, name)
    scored = Scored(
        name=name, kind="model", rewards=rewards, heads=model.heads, tie=info.tie, how=f"{info.kind} {info.base}"
    )
    temperature, whence = _temperature(scored, model, info, pairs, table, name)
    scored = replace(scored, temperature=temperature, temperature_from=whence)
    if info.kind == "frozen" and pairs.training and settings.left_out:
        from prefkit.training.frozen import FrozenRewardModel

        say(f"{name}: fitting again with policies left out")
        make = FrozenRewardModel.maker(folder, device=settings.device)
        return replace(scored, left_out=_left_out(make, pairs, table, settings))
    return replace(scored, left_out=_unseen(folder, scored, table))


def _temperature(
    scored: Scored, model: Scorer, info: RewardInfo, pairs: Pairs, table: Table, name: str
) -> tuple[float | Floats, str]:
    """The temperature of the model's own folder; else from validation pairs; else from held-out pairs of other prompts.
    And where it is from."""
    if info.temperature != 1.0:
        return info.temperature, "training"
    validation = list(pairs.validation)
    if validation:
        theirs = table_of(validation, name)
        margin = calibrating.log_odds(theirs.margins(rewards_of(model, validation, theirs, name)[:, 0]), info.tie)
        kept = theirs.decided & np.isfinite(margin)
        if kept.any():
            found = calibrating.fit_temperature(margin[kept], theirs.preferred[kept])
            return found, "validation pairs"
    margin = calibrating.log_odds(scored.margins_in(table), info.tie)
    kept = table.decided & np.isfinite(margin)
    temperature = np.ones(len(margin))
    temperature[kept] = calibrating.cross_fitted(margin[kept], table.preferred[kept], table.prompt[kept])
    return temperature, "these pairs, five folds by prompt"


def _unseen(folder: Path, scored: Scored, table: Table) -> Floats | None:
    """The margins [pairs] of pairs whose two policies were not in the training of a model; NaN for others."""
    try:
        seen = json.loads((folder / "training.json").read_bytes()).get("policies")
    except (OSError, ValueError, AttributeError):
        return None
    if not seen:
        return None
    new = np.asarray([bool(name) and name not in seen for name in table.policies])
    kept = new[table.policy[table.chosen]] & new[table.policy[table.rejected]]
    return np.where(kept, scored.margins_in(table), np.nan) if kept.any() else None


def _names(models: Sequence[Path]) -> dict[Path, str]:
    """What models are called: the names of their folders, with the folder above where two are alike."""
    names = [folder.resolve().name for folder in models]
    return {
        folder: name if names.count(name) == 1 else f"{folder.resolve().parent.parent.name}/{name}"
        for folder, name in zip(models, names, strict=True)
    }


def _splits(source: Path) -> set[str]:
    """The splits of a run's pairs; none of a file."""
    path = source / "pairs.parquet"
    if not path.exists():
        return set()
    from pyarrow import parquet

    return set(parquet.read_table(path, columns=["split"])["split"].unique().to_pylist()) - {None}


def saved_in(source: Path, models: Sequence[Path]) -> Path | None:
    """Where the evaluation of a run is written: in the folder of the model, or of several together; None for a file."""
    if not (source / "run.json").exists() or not models:
        return None
    return source / "reward-models" / "+".join(_names(models)[folder].replace("/", "-") for folder in models)


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write ``evaluation.json`` and ``evaluation.svg``."""
    import msgspec

    from prefkit.training.measuring.picture import picture

    content = msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"
    return _written(folder, {"evaluation.json": content, "evaluation.svg": picture(report).encode()})


def write_scores(scores: Mapping[str, Scores], folder: Path) -> list[Path]:
    """Write ``rewardbench.json``."""
    import msgspec

    return _written(folder, {"rewardbench.json": msgspec.json.format(msgspec.json.encode(scores), indent=1) + b"\n"})


def _written(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    from prefkit.durable import explained_disk_errors, replacing

    with explained_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with replacing(folder / name) as file:
                file.write(content)
    return [folder / name for name in files]
