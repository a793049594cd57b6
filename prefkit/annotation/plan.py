"""Who is asked what, in which order, and what stands left.

From cases to the places of decks; nothing is read or written, and the same seed gives the same plan. What is chosen:

    overlap     a case goes to ``overlap`` decks; loads differ by one at most, and any two decks share about as many
                cases as any other two, so that each pair of annotators can be compared
    shared      a random share of the cases goes to every deck, early: agreement of all is known before all is done
    sides       drawn for each deck; each policy stands left in half of its cases, to within one
    repeats     a share of a deck comes a second time, sides swapped, ``GAP`` places later or more
    attention   questions with a known answer, spread over the deck, never the first

A repeat is swapped since it is then less likely to be recognised, and since somebody who goes by the side disagrees
with themself in place of looking reliable. That costs a distinction: a changed mind and a preference for a side look
alike in one repeat. The preference for a side is measured on all cases, whose sides are balanced.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import msgspec

from prefkit.annotation.items import Item, Kind, Mode, Side
from prefkit.records import Prompt, digest

GAP = 10
"""Places between a case and its repeat, at least."""


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """How cases are dealt. ``shared`` and ``repeats`` are shares, of the cases and of a deck."""

    overlap: int = 1
    shared: float = 0.0
    repeats: float = 0.0
    ranked: bool = False
    """Whether the cases come with the most wanted first, and are to be shown so; otherwise each deck is shuffled."""
    seed: int = 0


@dataclass(frozen=True)
class Asked:
    """A question before it is known who sees it, and on which side what stands.

    ``responses`` are two, or one to rate; ``policies`` are whose. Of an attention item the first is the better one.
    ``barred`` are the numbers of decks that may not get it.
    """

    prompt_id: str
    responses: tuple[str, ...]
    policies: tuple[str, ...]
    kind: Kind = "item"
    barred: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Place:
    """A question in a deck: ``flipped`` where its second response stands left."""

    asked: Asked
    flipped: bool = False
    sample: int = 0

    @property
    def kind(self) -> Kind:
        """What it is there for."""
        return "repeat" if self.sample else self.asked.kind

    @property
    def left(self) -> str:
        """The id of the response that stands left, or alone."""
        return self.asked.responses[self.flipped]

    @property
    def right(self) -> str | None:
        """The id of the response that stands right."""
        return self.asked.responses[not self.flipped] if len(self.asked.responses) == 2 else None

    @property
    def expected(self) -> Side | None:
        """The known answer of an attention item."""
        if self.asked.kind != "attention":
            return None
        return "right" if self.flipped else "left"


def plan(cases: Sequence[Asked], attention: Sequence[Sequence[Asked]], settings: PlanSettings) -> list[list[Place]]:
    """Deal cases to decks.

    Args:
        cases: what is asked about, the most wanted first.
        attention: for each deck what is mixed in with a known answer; its length is the number of decks.
        settings: how.

    Returns:
        For each deck its places in order.

    Raises:
        ValueError: the overlap is not between one and the number of decks, or a share not between 0 and 1.
    """
    decks = len(attention)
    if not 1 <= settings.overlap <= decks:
        raise ValueError(f"an overlap of {settings.overlap} with {decks} decks")
    if not (0 <= settings.shared <= 1 and 0 <= settings.repeats < 1):
        raise ValueError(f"shares of {settings.shared} and {settings.repeats}")
    common = _common(len(cases), decks, settings)
    own = [case for number, case in enumerate(cases) if number not in common]
    hands: list[list[Asked]] = [[] for _ in range(decks)]
    for case, those in zip(
        own, dealt([case.barred for case in own], decks, settings.overlap, _random(settings, "deal")), strict=True
    ):
        for deck in those:
            hands[deck].append(case)
    shared = [case for number, case in enumerate(cases) if number in common]
    return [
        _deck(hand, shared, known, settings, _random(settings, "deck", number))
        for number, (hand, known) in enumerate(zip(hands, attention, strict=True))
    ]


def _random(settings: PlanSettings, *what: object) -> random.Random:
    return random.Random(digest("plan", settings.seed, *what))


def _common(cases: int, decks: int, settings: PlanSettings) -> set[int]:
    """The numbers of the cases that every deck gets: any of them, not the most wanted, since agreement on the hardest
    ones would say nothing about all."""
    if settings.overlap == decks:
        return set()
    return set(_random(settings, "shared").sample(range(cases), round(settings.shared * cases)))


def dealt(barred: Sequence[frozenset[int]], decks: int, overlap: int, rng: random.Random) -> list[tuple[int, ...]]:
    """For each case, given the decks that may not get it, those that do; fewer than ``overlap`` where too many are
    barred.

    Loads differ by one at most, if none is barred. Any two decks meet about equally often: a balanced incomplete block
    design where the numbers allow one, and near it elsewhere. Each case goes to decks of the least load; among these,
    one after the other, to the deck that has met those already chosen least often.
    """
    load = [0] * decks
    met = [[0] * decks for _ in range(decks)]
    found = []
    for never in barred:
        chance = [rng.random() for _ in range(decks)]
        free = {deck for deck in range(decks) if deck not in never}
        chosen: list[int] = []
        while free and len(chosen) < overlap:
            chosen.append(
                min(free, key=lambda deck: (load[deck], sum(met[deck][other] for other in chosen), chance[deck]))
            )
            free.remove(chosen[-1])
        for deck in chosen:
            load[deck] += 1
            for other in chosen:
                met[deck][other] += deck != other
        found.append(tuple(sorted(chosen)))
    return found


def _deck(
    own: list[Asked], shared: list[Asked], known: Sequence[Asked], settings: PlanSettings, rng: random.Random
) -> list[Place]:
    """The places of one deck: shared cases in turn with its own as long as there are any, then repeats, then attention
    items in between."""
    shared = rng.sample(shared, len(shared))
    own = own if settings.ranked else rng.sample(own, len(own))
    first = min(len(shared), len(own))
    order = [case for both in zip(shared, own, strict=False) for case in both] + shared[first:] + own[first:]
    places = [
        Place(case, flip) for case, flip in zip(order, flips([case.policies for case in order], rng), strict=True)
    ]
    places = _with_repeats(places, settings.repeats, rng)
    sides = [number % 2 == 0 for number in range(len(known))]
    rng.shuffle(sides)
    return _spread(places, [Place(case, side) for case, side in zip(known, sides, strict=True)], rng)


def flips(pairs: Sequence[tuple[str, ...]], rng: random.Random) -> list[bool]:
    """Whether the second of each pair stands left, so that everybody stands left and right equally often, to within
    one.

    Policies are the points and pairs the lines of a drawing. Lines that are followed in closed walks enter each point
    as often as they leave it; lines to a point of their own close the walks of points with an odd number of lines.
    Walks are drawn at random, each as likely as its reverse, so that each pair by itself is flipped with probability
    1/2. Two responses of one policy take turns. Where there is one response there is nothing to flip.
    """
    flip = [False] * len(pairs)
    alone = [number for number, pair in enumerate(pairs) if len(pair) == 2 and pair[0] == pair[1]]
    rng.shuffle(alone)
    start = rng.random() < 0.5
    for turn, number in enumerate(alone):
        flip[number] = (turn % 2 == 0) == start
    for walk in _closed_walks(
        [(n, *pair) for n, pair in enumerate(pairs) if len(pair) == 2 and pair[0] != pair[1]], rng
    ):
        for number, forward in walk:
            flip[number] = forward
    return flip


def _closed_walks(lines: Sequence[tuple[int, str, str]], rng: random.Random) -> list[list[tuple[int, bool]]]:
    """The lines (number, one end, other end) in closed walks: numbers, each with whether it was walked from its first
    end. Lines that were added to close a walk are left out of it."""
    added = object()
    ends: dict[Hashable, list[tuple[int, Hashable, bool]]] = defaultdict(list)
    for number, one, other in lines:
        ends[one].append((number, other, True))
        ends[other].append((number, one, False))
    extra = -1
    for point in [point for point, there in ends.items() if len(there) % 2]:
        ends[point].append((extra, added, True))
        ends[added].append((extra, point, False))
        extra -= 1
    for there in ends.values():
        rng.shuffle(there)
    points = list(ends)
    rng.shuffle(points)
    used: set[int] = set()
    walks = []
    for point in points:
        while walk := _walk(point, ends, used):
            walks.append([step for step in walk if step[0] >= 0])
    return walks


def _walk(
    point: Hashable, ends: dict[Hashable, list[tuple[int, Hashable, bool]]], used: set[int]
) -> list[tuple[int, bool]]:
    walk = []
    while there := ends[point]:
        number, other, forward = there.pop()
        if number in used:
            continue
        used.add(number)
        walk.append((number, forward))
        point = other
    return walk


def _with_repeats(places: list[Place], share: float, rng: random.Random) -> list[Place]:
    """A deck with some of its places a second time, ``GAP`` or more later; none where the deck is too short for it."""
    early = range(max(0, len(places) - GAP + 1))
    count = min(round(share * len(places)), len(early))
    after: dict[int, list[Place]] = defaultdict(list)
    for number in rng.sample(early, count):
        one = places[number]
        after[rng.randint(number + GAP, len(places))].append(replace(one, flipped=not one.flipped, sample=1))
    order: list[Place] = []
    for number in range(len(places) + 1):
        order += after[number]
        order += places[number : number + 1]
    return order


def _spread(places: list[Place], among: list[Place], rng: random.Random) -> list[Place]:
    """A deck with some others in between, one in each equal part of it, none at its beginning."""
    among = rng.sample(among, len(among))
    slots = [1 + int((part + rng.random()) * len(places) / len(among)) for part in range(len(among))]
    order = list(places)
    for slot, one in zip(reversed(slots), reversed(among), strict=True):
        order.insert(slot, one)
    return order


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """What all items of a push have in common: mode, rubric, form, the secret that their ids are digested with, and how
    the texts shown are digested, by prompt and response ids."""

    mode: Mode
    rubric: str
    form: str
    secret: bytes
    words: Callable[[str, str, str | None], str]


def items(places: Sequence[Place], deck: str, first: int, stamp: Stamp) -> list[Item]:
    """The items of a deck, from the number ``first``. An id tells nothing, and is the same at another time."""
    return [_item(place, deck, first + number, stamp) for number, place in enumerate(places)]


def _item(place: Place, deck: str, number: int, stamp: Stamp) -> Item:
    asked = place.asked
    what = (deck, stamp.form, asked.prompt_id, *sorted(asked.responses), asked.kind, place.sample)
    return Item(
        id=hashlib.blake2b(msgspec.json.encode(what), key=stamp.secret, digest_size=10).hexdigest(),
        deck=deck,
        number=number,
        kind=place.kind,
        mode=stamp.mode,
        prompt_id=asked.prompt_id,
        left=place.left,
        right=place.right,
        rubric=stamp.rubric,
        form=stamp.form,
        words=stamp.words(asked.prompt_id, place.left, place.right),
        sample=place.sample,
        expected=place.expected,
    )


def words_digest(prompt: Prompt, left: str, right: str | None) -> str:
    """What the texts of an item digest to, in the order in which they are shown."""
    return digest("words", [(message.role, message.content) for message in prompt.messages], left, right)
