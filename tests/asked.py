"""Runs whose responses were shown to people: items with ids that can be read, and what people answered to them.

An item's words stand behind its id, ``deck/left|right``: ``first-1/p1/A|p1/B`` shows p1's answer by A on the left.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import making

from prefkit.annotation.form import Form
from prefkit.annotation.items import Item, Kind, Mode, Side, keep_items
from prefkit.annotation.plan import words_digest
from prefkit.records import Comparison, Judgement, Message, Prompt
from prefkit.rubric import Rubric
from prefkit.run import Run

SPEECHES = {f"p{number}": f"= {number} sleepless nights" for number in range(1, 7)}
TEXTS = {f"{prompt}/{policy}": f"{policy} to {prompt}" for prompt in SPEECHES for policy in "ABC"}


def item(
    left: str,
    right: str | None,
    *,
    deck: str = "first-1",
    kind: Kind = "item",
    expected: Side | None = None,
    rubric: Rubric = making.TWO,
    adjudicating: bool = False,
    **changes: Any,
) -> Item:
    """An item as a push makes it, of a run that `asked_run` makes."""
    mode: Mode = "compare" if right else "rate"
    prompt = left.partition("/")[0]
    messages = (Message(role="user", content=SPEECHES[prompt]),)
    words = words_digest(Prompt(id=prompt, messages=messages), TEXTS[left], TEXTS[right] if right else None)
    fields = {
        "id": f"{deck}/{left}|{right}" + (f" {kind}" if kind != "item" else ""),
        "deck": deck,
        "number": 0,
        "kind": kind,
        "mode": mode,
        "prompt_id": prompt,
        "left": left,
        "right": right,
        "rubric": rubric.hash,
        "form": Form(rubric, mode, adjudicating=adjudicating).digest,
        "words": words,
        "sample": int(kind == "repeat"),
        "expected": expected,
    }
    return Item(**{**fields, **changes})


def asked_run(folder: Path, *items: Item, rubric: Rubric = making.TWO, judgements: Iterable[Judgement] = ()) -> Run:
    """A run with these items, and the prompts and responses that they were made of."""
    run = making.make_run(folder, judgements, rubric=rubric, texts=TEXTS, prompts=SPEECHES)
    keep_items(run, items)
    return run


def winners(run: Run) -> dict[str, str | None]:
    """Who won, of each comparison by people that stands in a run: ``p1/A|p1/B`` as shown -> response id or tie."""
    return {
        f"{one.a}|{one.b}": {"a": one.a, "b": one.b}.get(one.winner or "", one.winner)
        for one in run.judgements()
        if isinstance(one, Comparison) and one.annotator.startswith("human:")
    }
