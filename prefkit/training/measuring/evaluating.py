"""Reward models on a run's held-out pairs, or on any file of preferences, beside the baselines.

Reads   RUN or a file of preferences (``examples.read_groups``), folders of reward models
Gives   a Report; Scores for a file in the format of RewardBench

Baselines are fitted on the run's training pairs; a file without any has them fitted on itself, five folds by prompt, so
that they know its kind of text while the models do not. Learning curves are of what is fitted in seconds: baselines and
frozen models; a trained model would have to be trained again for each size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from prefkit.errors import PrefkitError
from prefkit.training.baselines import BASELINES, Maker
from prefkit.training.groups import Group, Scorer
from prefkit.training.measuring.figures import Scored, measure, read_by_all
from prefkit.training.measuring.learning_curve import fits, learning_curve
from prefkit.training.measuring.report import Curve, MeasureSettings, Report
from prefkit.training.measuring.rewardbench import Scores, read_items, score
from prefkit.training.measuring.scorers import Say, of_baselines, of_model
from prefkit.training.measuring.sources import TRAINING, Pairs, read_pairs, splits_of
from prefkit.training.measuring.table import Bools, Table, rewards_of, table_of
from prefkit.training.measuring.words import notes_on_curves
from prefkit.training.reward_info import RewardInfo, read_info

Opened = Callable[[str, int, str], Callable[[int], None]]
"""Opens a bar with a title, a number and a unit; gives what moves it."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How reward models are evaluated.

    Args:
        split: whose pairs are measured on; None for ``test`` of a run, and for all of a file.
        baselines: whether they are fitted and shown.
        left_out: whether baselines and frozen models are fitted again without the policies of the pairs they score.
        curve: whether baselines and frozen models are fitted again on shares of the training pairs.
        soft: labels are the share of annotators that prefer a side; else what most of them say.
        device: that models run on; None for the fastest there is.
        measure: how figures are made.
    """

    split: str | None = None
    baselines: bool = True
    left_out: bool = True
    curve: bool = False
    soft: bool = True
    device: str | None = None
    measure: MeasureSettings = field(default_factory=MeasureSettings)


def evaluate(
    source: Path,
    models: Sequence[Path],
    settings: EvaluationSettings,
    say: Say = lambda words: None,
    opened: Opened = lambda title, total, unit: lambda done: None,
) -> Report:
    """Measure reward models on the pairs of a run or a file.

    Args:
        source: the run or the file.
        models: folders.
        settings: what is measured.
        say: told what is done.
        opened: opens a bar for what takes long.

    Raises:
        PrefkitError: there are no pairs, a folder holds no reward model, or nothing can be fitted for a learning curve.
    """
    infos = {folder: read_info(folder) for folder in models}  # before anything that takes long
    if settings.curve:
        _need_training(source, settings)
        _need_what_can_be_fitted(settings, infos)
    names = _names(models)
    pairs = read_pairs(source, settings.split, soft=settings.soft, plain=_plain(source, infos))
    table = table_of(pairs.held_out, source)
    scored, makers = list[Scored](), dict[str, Maker]()
    for folder, info in infos.items():
        say(f"{names[folder]}: {len(table.length):,} responses")
        one, make = of_model(
            folder, names[folder], info, pairs, table, left_out=settings.left_out, device=settings.device, say=say
        )
        scored.append(one)
        makers |= {one.name: make} if make else {}
    return _beside_baselines(pairs, table, scored, makers, settings, say, opened)


def evaluate_benchmark(
    source: Path, models: Sequence[Path], settings: EvaluationSettings, say: Say = lambda words: None
) -> dict[str, Scores] | None:
    """Score reward models on a file in the format of RewardBench; None where it is another file."""
    from prefkit.training.reward_model import RewardModel

    found = read_items(source) if source.is_file() else None
    if found is None:
        return None
    if settings.curve:
        _need_training(source, settings)
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
    pairs = Pairs(source, settings.split, groups, training, left_out=dict(getattr(groups, "tally", {})))
    table = table_of(groups, source)
    scored = [
        Scored(name=name, kind="model", rewards=rewards_of(scorer, groups, table, name), heads=scorer.heads)
        for name, scorer in scorers.items()
    ]
    return _beside_baselines(pairs, table, scored, {}, settings, say, lambda title, total, unit: lambda done: None)


def _beside_baselines(
    pairs: Pairs,
    table: Table,
    models: Sequence[Scored],
    makers: Mapping[str, Maker],
    settings: EvaluationSettings,
    say: Say,
    opened: Opened,
) -> Report:
    """The report of models and baselines; ``makers`` fit those models anew that can be."""
    scored = [*models, *(of_baselines(pairs, table, left_out=settings.left_out, say=say) if settings.baselines else [])]
    report = measure(table, scored, settings.measure, source=pairs.source, split=pairs.split, left_out=pairs.left_out)
    if not settings.curve:
        return report
    all_makers = {**makers, **{one.name: BASELINES[one.name] for one in scored if one.kind == "baseline"}}
    say(f"learning curves of {', '.join(all_makers)}: {fits()} fits each")
    kept = read_by_all(table, scored)
    report = replace(report, curves=list(_curves(all_makers, pairs, kept, settings, say, opened)))
    return replace(report, notes=[*report.notes, *notes_on_curves(report)])


def _curves(
    makers: Mapping[str, Maker], pairs: Pairs, kept: Bools, settings: EvaluationSettings, say: Say, opened: Opened
) -> Iterator[Curve]:
    how = settings.measure
    for name, make in makers.items():
        fitted = opened(f"learning curve of {name}", fits(), "fits")
        try:
            yield learning_curve(
                make, pairs.training, pairs.held_out, name=name, settings=how, kept=kept, fitted=fitted
            )
        except PrefkitError as error:
            say(f"learning curve of {name}: left out, {error.found}")


def _need_training(source: Path, settings: EvaluationSettings) -> None:
    """Stop where there are no training pairs to draw from."""
    there = splits_of(source)
    if TRAINING in there and settings.split != TRAINING:
        return
    if settings.split == TRAINING:
        found, remedy = "the training pairs themselves", "Leave out --split, so that others are measured on."
    elif there:
        found, remedy = "no training pairs", f"Build them: prefkit build-pairs {source}"
    else:
        found, remedy = "no run with training pairs", "Leave out --learning-curve, or name the run of the pairs."
    raise PrefkitError(source, found, "training and held-out pairs, for a learning curve", remedy)


def _need_what_can_be_fitted(settings: EvaluationSettings, infos: Mapping[Path, RewardInfo]) -> None:
    if not settings.baselines and not any(info.kind == "frozen" for info in infos.values()):
        found = "trained models alone, each of which takes a training for each size"
        raise PrefkitError("a learning curve", found, "a frozen model or baselines", "Leave out --no-baselines.")


def _plain(source: Path, infos: Mapping[Path, RewardInfo]) -> bool:
    """Whether texts are read as they stand, without roles: where the models of a file were trained on such."""
    plain = {info.plain for info in infos.values()}
    if len(plain) > 1 and source.is_file():
        found = "models trained on plain texts and on dialogues"
        raise PrefkitError(source, found, "one kind", "Evaluate them one after the other.")
    return source.is_file() and True in plain


def _names(models: Sequence[Path]) -> dict[Path, str]:
    """What models are called: the names of their folders, with the folder above where two are alike."""
    names = [folder.resolve().name for folder in models]
    return {
        folder: name if names.count(name) == 1 else f"{folder.resolve().parent.parent.name}/{name}"
        for folder, name in zip(models, names, strict=True)
    }


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
