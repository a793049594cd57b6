"""The boards of a run or a file: all of it ranked, and each principle or judge beside it.

Reads   a run's judgements or rewards, or a file of comparisons
Gives   Boards: the ranking, by principle or judge, and how judges differ from people; with answers alike in length or
        style, what that changes

A judge that was asked in both orders counts once for each two responses, with the mean of both, and a model that was
asked in one order only is left out and counted; where the first slot is fitted, each row counts as it was shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.evaluation.board_shifts import Compared, compare
from prefkit.evaluation.board_styles import NO_TEXT, alike
from prefkit.evaluation.comparison_files import read_comparisons
from prefkit.evaluation.elo import Elo, elo
from prefkit.evaluation.outcomes import Outcomes, balanced, known, reward_outcomes, run_outcomes
from prefkit.evaluation.rankings import Ranking, RankingSettings, rank
from prefkit.evaluation.styles import Texts
from prefkit.records import Judgement, is_model
from prefkit.run import Run

PEOPLE = "people"
OpenBar = Callable[[str, int | None, str], Callable[[int], None]]


@dataclass(frozen=True, kw_only=True)
class BoardSettings:
    """What is ranked.

    Args:
        by: rank each principle or judge too.
        judges: annotators that count; empty for all.
        models: reward models of the run whose rewards count in place of judgements.
        principle: who is preferred on it; None for the whole.
        elo: Elo as well.
        ranking: how.
    """

    by: Literal["principle", "judge"] | None = None
    judges: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    principle: str | None = None
    elo: bool = False
    ranking: RankingSettings = field(default_factory=RankingSettings)


@dataclass(frozen=True)
class Boards:
    """The ranking of all, ``by`` principle or judge, and the judges' beside the ``reference``'s (people, or the first
    judge). ``unranked`` says why a part has no board. With a control ``plain`` is the ranking of the same rows without
    it, and ``controlled`` how the one differs from the other."""

    source: str
    judges: str
    overall: Ranking
    by: dict[str, Ranking] = field(default_factory=dict)
    unranked: dict[str, str] = field(default_factory=dict)
    reference: str | None = None
    compared: dict[str, Compared] = field(default_factory=dict)
    elo: Elo | None = None
    plain: Ranking | None = None
    controlled: Compared | None = None

    def as_json(self) -> dict[str, Any]:
        """All figures."""
        return {
            "source": self.source,
            "judges": self.judges,
            "overall": self.overall.as_json(),
            "by": {name: board.as_json() for name, board in self.by.items()},
            "unranked": self.unranked,
            "reference": self.reference,
            "compared": {name: asdict(one) for name, one in self.compared.items()},
            "elo": asdict(self.elo) if self.elo else None,
            "plain": self.plain.as_json() if self.plain else None,
            "controlled": asdict(self.controlled) if self.controlled else None,
        }


def boards(source: Path, settings: BoardSettings, open_bar: OpenBar) -> Boards:
    """Rank the policies of a run or of a file of comparisons.

    Raises:
        PrefkitError: there is nothing to rank, or no such judge, principle, reward model; the board falls apart.
        RecordError, InputError: a file is broken.
    """
    outcomes, texts = _outcomes(source, settings, settings.principle, open_bar)
    overall = _ranked(outcomes, texts, settings.ranking, "ranking", open_bar)
    parts, unranked = {}, {}
    for name, part in _parts(source, settings, outcomes, open_bar):
        try:
            parts[name] = _ranked(part, texts, settings.ranking, name, open_bar)
        except PrefkitError as error:
            unranked[name] = f"no board: {error.found}"
    plain = None
    if texts:
        seen = alike(outcomes, texts, settings.ranking.control)[0]
        plain = _ranked(seen, None, replace(settings.ranking, control=()), "without the control", open_bar)
    reference, compared = _beside(parts) if settings.by == "judge" else (None, {})
    judges = [outcomes.judges[code] for code in np.unique(outcomes.judge)]
    return Boards(
        source=str(source),
        judges=", ".join(judges) if len(judges) <= 4 else f"{len(judges)} judges",
        overall=overall,
        by=parts,
        unranked=unranked,
        reference=reference,
        compared=compared,
        elo=elo(outcomes, seed=settings.ranking.seed) if settings.elo else None,
        plain=plain,
        controlled=compare(plain, overall) if plain else None,
    )


def _outcomes(
    source: Path, settings: BoardSettings, principle: str | None, open_bar: OpenBar
) -> tuple[Outcomes, Texts | None]:
    """The rows, and the texts where there is a control."""
    control = bool(settings.ranking.control)
    if source.is_dir():
        outcomes = _of_run(source, settings, principle, open_bar)
        texts = Texts((one.prompt_id, one.policy, one.text) for one in Run(source).responses()) if control else None
    else:
        outcomes, texts = _of_file(source, settings)
    return (outcomes if settings.ranking.first_slot else balanced(outcomes)), texts


def _of_run(source: Path, settings: BoardSettings, principle: str | None, open_bar: OpenBar) -> Outcomes:
    run = Run(source)
    if settings.models:
        return reward_outcomes(source / "rewards.jsonl", run, principle, models=settings.models)
    file = run.file(Judgement)
    bar = open_bar("reading", file.stat().st_size if file else None, "MB")
    return run_outcomes(run, principle, judges=settings.judges or None, progress=bar)


def _of_file(source: Path, settings: BoardSettings) -> tuple[Outcomes, Texts | None]:
    if settings.principle or settings.models or settings.by == "principle":
        remedy = "Leave out --principle, --rm and --by principle, or import the file into a run."
        raise PrefkitError(source, "a file of comparisons", "a run, for principles and reward models", remedy)
    read = read_comparisons(source)
    texts = Texts(read.responses) if settings.ranking.control else None
    if not settings.judges:
        return read.outcomes, texts
    codes = [known(name, read.outcomes.judges, "judge", source) for name in settings.judges]
    return read.outcomes[np.isin(read.outcomes.judge, codes)], texts


def _ranked(
    outcomes: Outcomes, texts: Texts | None, settings: RankingSettings, title: str, open_bar: OpenBar
) -> Ranking:
    features = None
    if texts:
        some, features = alike(outcomes, texts, settings.control)
        if len(outcomes) and not len(some):
            remedy = "Leave out --control, or bring the texts: a file holds them as response_a and response_b."
            found = f"{len(outcomes):,} comparisons {NO_TEXT}"
            raise PrefkitError(outcomes.source, found, "texts, to control for their form", remedy)
        outcomes = some
    return rank(outcomes, settings, open_bar(title, settings.rounds, "draws"), features=features)


def _parts(
    source: Path, settings: BoardSettings, outcomes: Outcomes, open_bar: OpenBar
) -> Iterator[tuple[str, Outcomes]]:
    if settings.by == "principle":
        for name in Run(source).rubric.principle_ids:
            try:
                yield name, _outcomes(source, settings, name, open_bar)[0]
            except PrefkitError:
                yield name, outcomes[np.empty(0, np.int64)]
    if settings.by == "judge":
        people = np.asarray([not is_model(name) for name in outcomes.judges], dtype=bool)[outcomes.judge]
        if len(np.unique(outcomes.judge[people])) > 1:
            yield PEOPLE, outcomes[people]
        for code, name in sorted(enumerate(outcomes.judges), key=lambda one: (is_model(one[1]), one[1])):
            yield name, outcomes[outcomes.judge == code]


def _beside(parts: dict[str, Ranking]) -> tuple[str | None, dict[str, Compared]]:
    """Each judge beside the first board, which is that of people where there are any."""
    if len(parts) < 2:
        return None, {}
    reference, *others = parts
    who = {one.policy for one in parts[reference].policies}
    same = [name for name in others if {one.policy for one in parts[name].policies} == who]
    return reference, {name: compare(parts[reference], parts[name]) for name in same}
