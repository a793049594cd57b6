"""Put questions of a run onto a page, blinded.

Reads   prompts, responses, judgements (for what to ask next), annotation/items.jsonl
Writes  annotation/items.jsonl        the key, whole and on the disk before anything is shown
        annotation/attention.jsonl    attention items that are in no other file
        an Argilla server             decks: workspaces, datasets, records

A count is a count in all: what was pushed before is part of it, so the same command again adds nothing, and goes on
where one was killed. What the key holds and the server lacks is sent; an item's id is its record's external id, so
nothing comes twice. The server is told the words shown and their place in the deck, and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import msgspec

from prefkit.annotation.attention import read_made
from prefkit.annotation.choosing import Chosen, asked_of_others, attention_items, case_of, in_conflict, new_cases
from prefkit.annotation.connection import Client
from prefkit.annotation.decks import Deck, NoServer, Server
from prefkit.annotation.form import POSITION, Form
from prefkit.annotation.guidelines import guidelines_for
from prefkit.annotation.items import (
    Item,
    items_of,
    keep_items,
    known_secret,
    make_folder,
    new_secret,
    secret_of,
)
from prefkit.annotation.plan import Asked, PlanSettings, Stamp, items, plan, words_digest
from prefkit.annotation.push_settings import DeckReport, PushReport, PushSettings
from prefkit.annotation.selecting import Strategy
from prefkit.annotation.texts import MADE, Texts, as_lines, made_texts
from prefkit.errors import RunError
from prefkit.models.addresses import is_local
from prefkit.records import digest, prompt_text
from prefkit.run import Progress, Run

STAGE = "annotate push"
RANKED: tuple[Strategy, ...] = ("uncertain", "disagreement", "judge-person")
"""Strategies whose order says what helps most."""


def push(
    run: Run,
    client: Client | None,
    settings: PushSettings,
    progress: Callable[[int], Progress] = lambda total: lambda more: None,
    *,
    dry: bool = False,
) -> PushReport:
    """Put questions onto a page.

    Args:
        run: the run.
        client: of the server, with its owner's key; None to write the key alone, for people who answer in files.
        settings: what is asked of whom.
        progress: given how many records are to be sent, gives what is told how many more were.
        dry: change nothing.

    Raises:
        PrefkitError: there is nothing to ask about, an annotator is not known, texts are not scrubbed, or the server
            stops answering; what was sent until then stays, and the same command goes on.
    """
    with run.writing(STAGE):
        pushing = _Push(run, NoServer() if client is None else Server(client), settings)
        pushing.refuse_unscrubbed()
        pushing.refuse_names()
        if not dry:
            pushing.keep()
            pushing.send(progress)
            run.record_stage(STAGE, **pushing.facts())
    return pushing.report


class _Push:
    """What is to be done; nothing is changed until ``keep``.

    Raises:
        PrefkitError: it cannot be done.
    """

    def __init__(self, run: Run, server: Server | NoServer, settings: PushSettings) -> None:
        self._run, self._server, self._settings = run, server, settings
        self._form = Form(
            rubric=run.rubric,
            mode=settings.mode,
            per_principle=settings.principles,
            strength=settings.strength,
            adjudicating=settings.adjudicate,
        )
        self._items = list(items_of(run))
        self._secret = secret_of(run) if self._items else known_secret(run) or new_secret()
        self._decks = self._who()
        self._datasets = {deck.name: server.dataset(deck.name) for deck in self._decks}
        self._check_decks()
        made = read_made(settings.attention_file) if settings.attention_file else []
        self._made = made_texts(run) | {one.prompt.id: one for one in made}
        self._chosen = self._choose()
        asked_about = {case.prompt_id for case in self._chosen.cases}
        attention = attention_items(run, settings, self._items, self._decks, made, asked_about)
        self._texts = self._look_up(attention)
        self._guidelines = guidelines_for(
            self._form, settings.guidelines, contact=settings.contact, scrubbed=not self._texts.unscrubbed
        )
        self.report = PushReport(
            cases=self._chosen.before + len(self._chosen.cases),
            new=len(self._chosen.cases),
            left_out=self._chosen.left_out,
            notes=list(self._chosen.notes),
        )
        self._note_other_overlap()
        self._items += self._planned(attention)
        self._lacking = {deck.name: self._lacking_in(deck.name) for deck in self._decks}
        self._tell()

    def _choose(self) -> Chosen:
        run, settings, form = self._run, self._settings, self._form.digest
        if settings.adjudicate:
            return in_conflict(run, settings, self._items, self._decks, self._server)
        if settings.again:
            return asked_of_others(settings, form, self._items, self._decks)
        return new_cases(run, settings, form, self._items)

    def _who(self) -> list[Deck]:
        settings = self._settings
        if not settings.annotators:
            return self._server.pool(settings.series)
        return self._server.decks(settings.series, settings.annotators, {item.deck for item in self._items})

    def _of_deck(self, name: str) -> list[Item]:
        return [item for item in self._items if item.deck == name]

    def _check_decks(self) -> None:
        """Refuse to mix questions of two forms, or to add to what is not this run's."""
        for deck in self._decks:
            there = self._of_deck(deck.name)
            if any(item.form != self._form.digest for item in there):
                found = f"{deck.name}, which asks other questions (another rubric, or other options)"
                raise RunError("--dataset", found, "one that asks the same", "Name a new one: --dataset NAME.")
            if self._datasets[deck.name] is not None and not there:
                found = f"{deck.name}, a dataset on this server that is not this run's"
                raise RunError("--dataset", found, "a new name", "Name another: --dataset NAME.")

    @property
    def _overlap(self) -> int:
        """Answers that complete a record: a deck of one's own asks for one."""
        return 1 if self._settings.annotators else self._settings.overlap

    def _note_other_overlap(self) -> None:
        for deck in self._decks:
            dataset = self._datasets[deck.name]
            if dataset and dataset.distribution and dataset.distribution.min_submitted != self._overlap:
                many = dataset.distribution.min_submitted
                self.report.notes.append(f"{deck.name} was made for {many} answers to each item, and stays so.")

    def _look_up(self, attention: list[list[Asked]]) -> Texts:
        """The words of all items of these decks, those to come included."""
        names = {deck.name for deck in self._decks}
        wanted = {name for asked in (self._chosen.cases, *attention) for one in asked for name in one.responses}
        wanted.update(name for item in self._items if item.deck in names for name in case_of(item)[1])
        return Texts(self._run, wanted, self._made.values())

    def _planned(self, attention: list[list[Asked]]) -> list[Item]:
        """The new items of all decks."""
        settings = self._settings
        how = PlanSettings(
            overlap=settings.overlap if settings.annotators else 1,
            shared=settings.shared,
            repeats=settings.repeats,
            ranked=settings.strategy in RANKED or settings.adjudicate,
            seed=settings.seed,
        )
        asked = [replace(case, policies=tuple(map(self._texts.policy, case.responses))) for case in self._chosen.cases]
        stamp = Stamp(
            mode=settings.mode,
            rubric=self._run.rubric.hash,
            form=self._form.digest,
            secret=self._secret,
            words=self._words,
        )
        dealt = plan(asked, attention, how)
        found = []
        for deck, places in zip(self._decks, dealt, strict=True):
            found += items(places, deck.name, len(self._of_deck(deck.name)), stamp)
        if settings.repeats and any(places and not any(place.sample for place in places) for places in dealt):
            self.report.notes.append("A deck got no repeats: it is too short for one to come unnoticed.")
        return found

    def _words(self, prompt: str, left: str, right: str | None) -> str:
        return words_digest(self._texts.prompt(prompt), self._texts.text(left), right and self._texts.text(right))

    def _lacking_in(self, deck: str) -> list[Item]:
        """The items of a deck that the server does not hold; their words are those of now, since nobody saw them."""
        there, dataset = self._of_deck(deck), self._datasets[deck]
        held = self._server.held(dataset, {item.id for item in there}) if dataset else set()
        return [
            msgspec.structs.replace(item, words=self._words(item.prompt_id, item.left, item.right))
            for item in there
            if item.id not in held
        ]

    def _tell(self) -> None:
        report = self.report
        for deck in self._decks:
            there = self._of_deck(deck.name)
            kinds = Counter(item.kind for item in there)
            report.decks.append(DeckReport(deck, kinds, len(there) - len(self._lacking[deck.name])))
        shown = {
            item.prompt_id: item for lacking in self._lacking.values() for item in lacking if item.kind == "attention"
        }
        for item in shown.values():
            good, bad = (item.left, item.right) if item.expected == "left" else (item.right, item.left)
            words = prompt_text(self._texts.prompt(item.prompt_id).messages)
            report.attention.append((words, self._texts.text(good or ""), self._texts.text(bad or "")))

    def refuse_unscrubbed(self) -> None:
        """Let no text that was not scrubbed leave this machine or its private network."""
        away = isinstance(self._server, Server) and not is_local(self._server.address)
        if self._texts.unscrubbed and away and not self._settings.allow_unscrubbed:
            found = f"{self._texts.unscrubbed:,} texts that were not scrubbed, for a server outside this network"
            remedy = (
                f"Run `prefkit scrub {self._run.path}` first, or say --allow-unscrubbed if nobody can be named in them."
            )
            raise RunError(self._run.path, found, "scrubbed texts", remedy)

    def refuse_names(self) -> None:
        """Let no deck's name, which annotators see, tell whose responses are in it."""
        series = self._settings.series.casefold()
        for policy in self._texts.policies:
            if len(policy) > 1 and policy.casefold() in series:
                found = f"the name {self._settings.series}, which annotators see, with the policy {policy} in it"
                raise RunError("--dataset", found, "a name that tells nothing", "Name it otherwise: --dataset NAME.")

    def keep(self) -> None:
        """Write the key, and what it refers to, before anything is shown."""
        fresh = {item.id: item for lacking in self._lacking.values() for item in lacking}
        make_folder(self._run)
        if self._made:
            with self._run.replacing(MADE) as file:
                file.writelines(as_lines(self._made.values()))
        keep_items(self._run, [fresh.get(item.id, item) for item in self._items], self._secret)

    def send(self, progress: Callable[[int], Progress]) -> None:
        """Make the decks, and send what the server lacks."""
        server = self._server
        if isinstance(server, NoServer):
            return
        advance = progress(sum(map(len, self._lacking.values())))
        for told in self.report.decks:
            if not told.kinds:
                continue
            dataset = server.open(
                told.deck, lambda: self._form.settings(self._guidelines, self._overlap, server.client)
            )
            told.sent = server.send(dataset, map(self._record, self._lacking[told.deck.name]), advance)
            told.link = server.link(dataset)

    def _record(self, item: Item) -> dict[str, Any]:
        texts = self._texts
        right = None if item.right is None else texts.text(item.right)
        conflict = self._chosen.conflicts.get(case_of(item))
        notes = conflict.notes(item.left, self._run.rubric) if conflict else ()
        fields = self._form.fields(texts.prompt(item.prompt_id).messages, texts.text(item.left), right, notes)
        return {"external_id": item.id, "fields": fields, "metadata": {POSITION: item.number}}

    def facts(self) -> dict[str, Any]:
        """What ``run.json`` is told: no names of people."""
        settings = asdict(self._settings)
        del settings["contact"]
        settings["annotators"] = len(self._settings.annotators)
        for name in ("rewards", "attention_file", "guidelines"):
            settings[name] = path.name if (path := settings[name]) else None
        decks = {told.deck.name: dict(sorted(told.kinds.items())) for told in self.report.decks if told.kinds}
        return {
            "settings": settings,
            "rubric": self._run.rubric.hash,
            "form": self._form.digest,
            "guidelines": digest(self._guidelines),
            "cases": self.report.cases,
            "decks": dict(sorted(decks.items())),
            "left_out": dict(self.report.left_out),
        }
