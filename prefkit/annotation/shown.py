"""The items of decks with their texts, for files that people answer elsewhere.

Reads   annotation/items.jsonl, and the texts that its items were made of
Gives   Shown, in the order of the decks

Only what was pushed or planned goes out, under the ids it has: an answer means the same wherever it was given. Left
out, and counted, are items whose texts were changed since, and adjudication items, which come with others' reasons.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prefkit.annotation.answers import forms_of
from prefkit.annotation.form import Form
from prefkit.annotation.items import ITEMS, Item, items_of
from prefkit.annotation.plan import words_digest
from prefkit.annotation.texts import Texts, made_texts
from prefkit.errors import RunError
from prefkit.records import prompt_text
from prefkit.run import Run


@dataclass(frozen=True, slots=True)
class Shown:
    """An item in words: what the client says, and the answers as they stand on the page."""

    item: Item
    client: str
    left: str
    right: str | None


@dataclass(frozen=True)
class Selected:
    """Items with their texts and their one form; what was left out, and how many texts were never scrubbed."""

    form: Form
    items: list[Shown]
    left_out: Counter[str]
    unscrubbed: int


def shown_items(run: Run, decks: Sequence[str] = ()) -> Selected:
    """The items of some decks, or of all.

    Raises:
        RunError: there are no such items, or they were shown under several forms, or a text is gone.
    """
    items = list(items_of(run))
    if not items:
        remedy = f"Choose what people are shown: prefkit annotate push {run.path}"
        raise RunError(run.path / ITEMS, "no items", "what was pushed", remedy)
    left_out: Counter[str] = Counter()
    names = frozenset(chosen_decks(run, items, decks))
    chosen = [item for item in items if item.deck in names]
    wanted = [item for item in chosen if item.kind != "adjudication"]
    left_out["adjudication item"] = len(chosen) - len(wanted)
    form = _form(run, wanted)
    texts = Texts(run, {name for item in wanted for name in (item.left, item.right) if name}, made_texts(run).values())
    found = []
    for item in wanted:
        prompt = texts.prompt(item.prompt_id)
        left, right = texts.text(item.left), texts.text(item.right) if item.right else None
        if words_digest(prompt, left, right) != item.words:
            left_out["item whose texts were changed since"] += 1
        else:
            found.append(Shown(item, prompt_text(prompt.messages), left, right))
    return Selected(form, found, +left_out, texts.unscrubbed)


def chosen_decks(run: Run, items: Iterable[Item], only: Sequence[str]) -> list[str]:
    """The decks of these items, in their order; with ``only``, those called so, or so and a number.

    Raises:
        RunError: no deck is called so.
    """
    there = list(dict.fromkeys(item.deck for item in items))
    for name in only:
        if not any(_is_called(deck, name) for deck in there):
            raise RunError(run.path, f"no deck {name!r}", f"one of {few(there)}", "Look at the spelling.")
    return [deck for deck in there if not only or any(_is_called(deck, name) for name in only)]


def _is_called(deck: str, name: str) -> bool:
    return deck == name or re.fullmatch(re.escape(name) + r"-\d+", deck) is not None


def few(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")


def _form(run: Run, items: Sequence[Item]) -> Form:
    """The one form of these items."""
    digests = {item.form: item.deck for item in items}
    if len(digests) != 1:
        found = f"items under {len(digests)} forms" if digests else "no item that can go out"
        remedy = f"Name decks of one form: --dataset {next(iter(digests.values()), 'NAME')}"
        raise RunError(run.path / ITEMS, found, "items of one form in one file", remedy)
    form = next((form for form in forms_of(run) if form.digest in digests), None)
    if form is None:
        remedy = "Use the version of prefkit that pushed them, or push them again."
        raise RunError(run.path / ITEMS, "items under a form that this version does not make", "a form", remedy)
    return form
