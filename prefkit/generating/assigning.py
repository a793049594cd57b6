"""Deal the policies out to the prompts: each prompt gets some of them, all are used equally often.

Reads   how many policies there are, a seed
Gives   for each prompt of the file, in its order, the policies that answer it

The policies are a deck that is shuffled and dealt out from the top, so many to a prompt; when it runs out in the middle
of a hand, a fresh deck is shuffled and its first cards that the hand does not hold complete it. So no policy comes
twice to a prompt, and after any number of prompts the policies have been used equally often, to within one. No two
policies are treated unlike any other two: which of them meet at a prompt is chance, with the same expectation for all.

A hand depends on the prompt's place in the file, the seed and the number of policies, and on nothing that happens
later: excluding prompts, adding prompts at the end and stopping in between change no other hand. (The balance is that
of all prompts; among those that are not excluded it holds on average.)

Source: the responses of PsychoCounsel, 4 of 20 models for each speech (arXiv:2502.19731).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence


def hands(policies: Sequence[str], size: int, seed: int) -> Iterator[tuple[str, ...]]:
    """The policies for each prompt, without end; in what order ``policies`` names them makes no difference.

    Raises:
        ValueError: a hand of that size cannot be dealt from so many policies.
    """
    cards = sorted(set(policies))
    if not 1 <= size <= len(cards):
        raise ValueError(f"a hand of {size} cannot be dealt from {len(cards)} policies")
    chance = random.Random(seed)
    deck: list[str] = []
    while True:
        hand, deck = deck[:size], deck[size:]
        if len(hand) < size:
            # Sorted by random numbers: these stay the same in later versions of Python, and shuffle() need not.
            fresh = sorted(cards, key=lambda card: chance.random())
            held, missing = set(hand), size - len(hand)
            drawn = [card for card in fresh if card not in held][:missing]
            hand += drawn
            deck = [card for card in fresh if card not in drawn]
        yield tuple(hand)
