"""What a push adds to decks: new cases, what others were asked, what is in conflict, attention items.

Reads   prompts, responses, judgements; the items pushed before
Gives   Asked, which nobody is given yet

A count is a count in all: what was pushed before under the same name is part of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from prefkit.annotation.adjudicating import Conflict, conflicts
from prefkit.annotation.attention import asked_of, drawn
from prefkit.annotation.decks import Deck, NoServer, Server
from prefkit.annotation.items import Item
from prefkit.annotation.plan import Asked
from prefkit.annotation.push_settings import PushSettings
from prefkit.annotation.selecting import SelectSettings, selection
from prefkit.annotation.texts import Made
from prefkit.errors import RunError
from prefkit.run import Run

Case = tuple[str, tuple[str, ...]]
"""Prompt and responses by id, whichever side they stand on."""


@dataclass(frozen=True)
class Chosen:
    """``cases`` to add, the most wanted first; ``before`` were there; ``left_out`` by reason; ``notes`` for the user;
    ``conflicts`` are what the cases are about, where somebody is to decide."""

    cases: list[Asked]
    before: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()
    conflicts: dict[Case, Conflict] = field(default_factory=dict)


def case_of(item: Item) -> Case:
    """What an item is about."""
    return _case(item.prompt_id, filter(None, (item.left, item.right)))


def _case(prompt: str, responses: Iterable[str]) -> Case:
    return prompt, tuple(sorted(responses))


def new_cases(run: Run, settings: PushSettings, form: str, before: Sequence[Item]) -> Chosen:
    """What nobody was asked yet under this form (its digest).

    Raises:
        PrefkitError: there is nothing to ask about, and nothing was pushed before.
    """
    asked = [item for item in before if item.form == form and item.kind == "item"]
    series = re.compile(re.escape(settings.series) + r"(-\d+)?")
    mine = {case_of(item) for item in asked if series.fullmatch(item.deck)}
    if settings.count <= len(mine):
        return Chosen([], len(mine))
    choice = SelectSettings(
        count=settings.count - len(mine),
        strategy=settings.strategy,
        seed=settings.seed,
        mode=settings.mode,
        policies=settings.policies,
        rewards=settings.rewards,
        risk=settings.risk,
    )
    try:
        found = selection(run, choice, [case_of(item)[1] for item in asked])
    except RunError as error:
        if not mine:
            raise
        return Chosen([], len(mine), notes=(f"Nothing to add: {error.found}.",))
    cases = [Asked(case.prompt_id, case.responses, ()) for case in found.cases]
    return Chosen(cases, len(mine), found.left_out, found.notes)


def asked_of_others(settings: PushSettings, form: str, before: Sequence[Item], decks: Sequence[Deck]) -> Chosen:
    """What stands in other decks of the run under this form, in their order."""
    asked = [item for item in before if item.form == form and item.kind == "item"]
    names = {deck.name for deck in decks}
    mine = {case_of(item) for item in asked if item.deck in names}
    others = dict.fromkeys(case for item in asked if (case := case_of(item)) not in mine)
    return Chosen([Asked(*case, ()) for case in others][: max(0, settings.count - len(mine))], len(mine))


def in_conflict(
    run: Run, settings: PushSettings, before: Sequence[Item], decks: Sequence[Deck], server: Server | NoServer
) -> Chosen:
    """What people answered differently, each case barred from those who answered it or have it in their own deck.

    Raises:
        RunError: there is nothing that these annotators can decide.
    """
    found = {_case(one.prompt_id, one.responses): one for one in conflicts(run, settings.mode, asked=True)}
    pushed = {case_of(item) for item in before if item.kind == "adjudication"}
    who = [server.pseudonyms(run, deck) for deck in decks]
    held = _held_by_one(before, server)
    left_out: Counter[str] = Counter()
    wanted = []
    for case, one in found.items():
        if case in pushed:
            continue
        barred = frozenset(
            number
            for number, deck in enumerate(decks)
            if who[number] & one.annotators or set(deck.annotators) & held.get(case, set())
        )
        if len(barred) == len(decks):
            left_out["in conflict, but all of these annotators have seen them"] += 1
        else:
            wanted.append(Asked(*case, (), "adjudication", barred))
    if not wanted and not pushed:
        remedy = "Pull answers first (prefkit annotate pull), or name somebody who has not answered these."
        raise RunError(run.path, "no item in conflict for these annotators", "answers that differ", remedy)
    return Chosen(wanted[: max(0, settings.count - len(pushed))], len(pushed), left_out, conflicts=found)


def _held_by_one(before: Sequence[Item], server: Server | NoServer) -> dict[Case, set[str]]:
    """Case -> annotators in whose own deck it stands; a pool is nobody's own."""
    members = {deck: server.members(deck) for deck in {item.deck for item in before}}
    held: dict[Case, set[str]] = {}
    for item in before:
        if len(members[item.deck]) == 1:
            held.setdefault(case_of(item), set()).update(members[item.deck])
    return held


def attention_items(
    run: Run,
    settings: PushSettings,
    before: Sequence[Item],
    decks: Sequence[Deck],
    made: Sequence[Made],
    prompts: set[str],
) -> list[list[Asked]]:
    """For each deck the attention items to add.

    Args:
        run: the run.
        settings: how many.
        before: the items pushed before.
        decks: the decks.
        made: those that somebody wrote; else they are made from the run.
        prompts: those that are to be asked about, which attention items are not made of.

    Raises:
        RunError: there are not enough.
    """
    there = [
        {item.prompt_id for item in before if item.deck == deck.name and item.kind == "attention"} for deck in decks
    ]
    if made:
        asked = asked_of(made)
        return [[one for one in asked if one.prompt_id not in known] for known in there]
    lacking = [max(0, settings.attention - len(known)) for known in there]
    if not any(lacking):
        return [[] for _ in there]
    asked = drawn(run, max(lacking), prompts | {item.prompt_id for item in before}, settings.seed)
    return [asked[:count] for count in lacking]
