"""A real page in a real Chromium: the embedded server as a process, annotators who click and type.

For pytest; a bench takes the long form, `prove`, or runs it::

    python tests/browser.py RUN 20 anna,ben     # 20 pairs of a copy of RUN: pushed, answered by both, pulled, compared

An `Annotator` is told what to choose and keeps what was chosen; `differences` then looks for exactly that in the run.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from prefkit.annotation.environment import ENVIRONMENT
from prefkit.annotation.environment import server as launcher
from prefkit.annotation.form import question_name
from prefkit.annotation.items import Item, items_of, pseudonym
from prefkit.records import Comparison
from prefkit.run import Run

ROOT = Path(__file__).parent.parent
SECONDS = 120
"""For the server to start and for a page to answer: a machine may be busy."""
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NEEDED = "PREFKIT_NEED_BROWSER"
SIDES = ("A", "B", "tie")
STRENGTHS = ("slightly", "clearly", "much")
FLAGGED = ("uncomfortable", "risk")


def missing(what: str, remedy: str) -> None:
    """Skip the test, or fail it where the environment says that it has to run."""
    if os.environ.get(NEEDED) or os.environ.get("CI_BROWSER"):
        pytest.fail(f"{what}, and {NEEDED} is set. {remedy}")
    pytest.skip(f"{what}. {remedy}")


def find_chromium() -> str:
    """The browser's program."""
    for name in (os.environ.get("PREFKIT_CHROMIUM"), "chromium", "chromium-browser", "google-chrome"):
        if name and (path := shutil.which(name)):
            return path
    missing("no Chromium here", "apt-get install chromium")
    raise AssertionError


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless Chromium, as playwright's ``Browser``."""
    path = find_chromium()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("no playwright here", "pip install playwright")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Server:
    """The embedded Argilla on a folder, as a process of its own."""

    folder: Path
    process: subprocess.Popen[bytes]
    address: str

    def account(self, name: str) -> dict[str, str]:
        """Password and key of a user."""
        users = json.loads((self.folder / "accounts.json").read_text())["users"]
        return next(user for user in users if user["username"] == name)

    def call(self, method: str, path: str, body: Any = None, by: str = "owner") -> Any:
        """Ask the API."""
        import requests

        session = requests.Session()
        session.trust_env = False
        headers = {"X-Argilla-Api-Key": self.account(by)["api_key"]}
        with session, session.request(method, f"{self.address}/api/v1/{path}", json=body, headers=headers) as answer:
            assert answer.ok, f"{path}: {answer.status_code} {answer.text[:400]}"
            return answer.json() if answer.content else None

    def dataset(self, name: str) -> str:
        """The id of a dataset."""
        return next(one["id"] for one in self.call("GET", "me/datasets")["items"] if one["name"] == name)

    def responses(self, dataset: str) -> dict[tuple[str, str], Clicked]:
        """All answers in a dataset, by annotator and item."""
        users = {user["id"]: user["username"] for user in self.call("GET", "users")["items"]}
        found = self.call("GET", f"datasets/{dataset}/records?limit=1000&include=responses")["items"]
        return {
            (users[one["user_id"]], record["external_id"]): Clicked(
                one["status"], {name: value["value"] for name, value in (one["values"] or {}).items()}
            )
            for record in found
            for one in record["responses"]
        }


@contextmanager
def serving(folder: Path, *annotators: str) -> Iterator[Server]:
    """A server on an empty folder, for as long as the block lasts."""
    python = Path(os.environ.get(ENVIRONMENT) or ROOT / ".venv-annotation") / "bin" / "python"
    if not python.exists():
        missing(f"no environment for Argilla ({python})", "make .venv-annotation/made")
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    words = ["serve", "--dir", str(folder), "--port", "0", "--annotators", ",".join(annotators)]
    with folder.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [str(python), "-m", "argilla_embedded", *words],
            stdout=log,
            stderr=log,
            env={**kept, "PYTHONPATH": str(launcher().launcher)},
        )
    try:
        until = time.monotonic() + SECONDS
        while not (address := _address(folder, process.pid)):
            assert process.poll() is None and time.monotonic() < until, folder.with_suffix(".log").read_text()
            time.sleep(0.05)
        yield Server(folder, process, address)
    finally:
        process.terminate()
        process.wait(60)


def _address(folder: Path, pid: int) -> str:
    with suppress(OSError, ValueError):
        told = json.loads((folder / "server.json").read_text())
        return str(told["address"]) if told["pid"] == pid else ""
    return ""


@dataclass
class Clicked:
    """What somebody did with an item: the status that it got, question -> what was chosen."""

    status: str
    values: dict[str, Any]


@dataclass
class Annotator:
    """Somebody at a browser of their own, and all that they did.

    ``requests`` are the addresses that the browser asked for; ``noises`` what should not happen: errors on the page,
    windows that a script opened.
    """

    browser: Any
    server: Server
    name: str
    size: tuple[int, int] = (1366, 768)
    clicked: dict[str, Clicked] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    noises: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        context = self.browser.new_context(viewport={"width": self.size[0], "height": self.size[1]})
        context.on("request", lambda request: self.requests.append(request.url))
        self.page = context.new_page()
        self.page.set_default_timeout(SECONDS * 1000)
        self.page.on("dialog", self._dialog)
        self.page.on("popup", lambda popup: self.noises.append(f"a window: {popup.url}"))
        self.page.on("pageerror", lambda error: self.noises.append(f"an error: {error}"))

    def _dialog(self, dialog: Any) -> None:
        self.noises.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    @property
    def foreign(self) -> list[str]:
        """The requests that did not go to the server."""
        own = (self.server.address, "data:", "blob:", "about:")
        return [url for url in self.requests if not url.startswith(own)]

    def log_in(self) -> None:
        """Type name and password."""
        self.page.goto(self.server.address)
        self.page.fill("input[type=text]", self.name)
        self.page.fill("input[type=password]", self.server.account(self.name)["password"])
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector("text=Your datasets")

    def open(self, dataset: str, status: str = "pending", page: int = 1) -> None:
        """Open a dataset by its link."""
        query = f"page={page}&status={status}&sort=metadata.position.asc"
        self.page.goto(f"{self.server.address}/dataset/{dataset}/annotation-mode?{query}")
        self.wait_for_item(None)

    def choose_status(self, status: str) -> None:
        """Go to one's submitted, draft or discarded items through the menu above the text; not while the page is still
        on its way on from an answer, when it forgets the choice."""
        self.page.click("[data-title=Status]")
        with self.page.expect_response(
            lambda answer: "/records/search" in answer.url and f'"{status}"' in (answer.request.post_data or "")
        ) as found:
            self.page.click(f"label[for={status}]")
        first = found.value.json()["items"][0]["record"]["external_id"]
        while self.item() != first:
            self.page.wait_for_timeout(30)
        self._wait_for_keys()

    @property
    def case(self) -> Any:
        """The frame that shows the case, None where no item is shown."""
        return next((frame for frame in self.page.frames[1:] if not frame.is_detached()), None)

    def item(self) -> str | None:
        """The id of the item on the page."""
        with suppress(Exception):  # the frame may be on its way to the next item
            return str(self.case.evaluate("record.external_id"))
        return None

    @property
    def status(self) -> str:
        """Which items are looked at: pending, draft, submitted or discarded."""
        return parse_qs(urlsplit(self.page.url).query).get("status", ["pending"])[0]

    def wait_for_item(self, before: str | None) -> str | None:
        """Wait until another item is there, or the page says that none is left."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            item = self.item()
            if item not in (None, before):
                self._wait_for_keys()
                return item
            if self.page.locator(f"p:has-text('no {self.status} records')").count():
                return None
            self.page.wait_for_timeout(30)
        raise AssertionError(f"{self.name}: still at {before}")

    def _wait_for_keys(self) -> None:
        """Until the page has put the keys onto the first question."""
        self.page.wait_for_function("document.activeElement?.closest('.questions')")

    def go_on(self, item: str, how: str) -> str | None:
        """Go on from a pending item that was just answered: the page does so by itself, unless it was saved as a draft.

        Returns:
            The next item; None where it was the last.
        """
        if how == "draft":
            following = self.page.locator("button[aria-label^=Next]")
            if following.is_disabled():
                return None
            following.click()
        return self.wait_for_item(item)

    def shown(self) -> dict[str, Any]:
        """The words on the page as they are seen: turns, responses, notes."""
        return dict(
            self.case.evaluate(
                """() => {
                    const root = document.getElementById("prefkit").shadowRoot;
                    const all = (where) => [...root.querySelectorAll(where)].map((one) => one.innerText);
                    return {turns: all(".turn .text"), responses: all(".answer .text"), notes: all(".note .text"),
                            speakers: all(".turn .who")};
                }"""
            )
        )

    def answer(self, values: dict[str, Any], how: str = "submit", by: str = "keyboard") -> None:
        """Answer the item on the page.

        Args:
            values: question -> label, list of labels or words. Added to what was answered before; a label that was
                chosen before must not be there again, since that takes it back.
            how: ``submit``, ``draft`` or ``discard``.
            by: ``keyboard`` or ``mouse``.
        """
        item = self.item()
        assert item is not None, "no item on the page"
        (self._type if by == "keyboard" else self._click)(values)
        self._finish(how, by)
        before = self.clicked[item].values if item in self.clicked else {}
        status = {"submit": "submitted", "draft": "draft", "discard": "discarded"}[how]
        self.clicked[item] = Clicked(status, {**before, **values})

    def names(self) -> list[str]:
        """The questions on the page, in their order."""
        return list(
            self.page.evaluate(
                """[...document.querySelectorAll(".questions > div")].map(
                    (one) => one.querySelector("input[type=checkbox]")?.id.replace(/_[^_]*$/, "") || "reason")"""
            )
        )

    def _type(self, values: dict[str, Any]) -> None:
        keyboard = self.page.keyboard
        names = self.names()
        for place, name in enumerate(names):
            self._focused(place)
            wanted = values.get(name)
            if name == "reason" and wanted:
                keyboard.press("Shift+Enter")
                keyboard.type(wanted)
                keyboard.press("Escape")
            elif isinstance(wanted, list):
                for label in wanted:
                    keyboard.press(str(self._key(name, label)))
            elif wanted:
                keyboard.press(str(self._key(name, wanted)))
                continue  # a choice goes on to the next question by itself
            if place + 1 < len(names):
                keyboard.press("ArrowDown")

    def _focused(self, place: int) -> None:
        self.page.wait_for_function(
            """(place) => document.querySelectorAll(".questions > div")[place].contains(document.activeElement)""",
            arg=place,
        )

    def _key(self, question: str, label: str) -> int:
        return int(self.page.locator(f"input[id='{question}_{label}']").get_attribute("data-keyboard"))

    def _click(self, values: dict[str, Any]) -> None:
        for name, wanted in values.items():
            if name == "reason":
                self.page.click(".questions [role=textbox]")
                self.page.keyboard.type(wanted)
                continue
            for label in wanted if isinstance(wanted, list) else [wanted]:
                self.page.click(f"label[for='{name}_{label}']")

    def _finish(self, how: str, by: str) -> None:
        key, words = {
            "submit": ("Enter", "Submit"),
            "draft": ("Control+s", "Save as draft"),
            "discard": ("Backspace", "Discard"),
        }[how]
        with self.page.expect_response(
            lambda answer: "/responses" in answer.url and answer.request.method in ("POST", "PUT", "DELETE")
        ) as answered:
            if by == "keyboard":
                self.page.keyboard.press(key)
            else:
                self.page.click(f".footer-form button:has-text('{words}')")
        assert answered.value.ok, answered.value.text()


def any_answer(rng: random.Random, questions: list[str]) -> dict[str, Any]:
    """Some answer to a comparison; each question but the first is left open now and then."""
    values: dict[str, Any] = {"overall": rng.choice(SIDES)}
    for name in questions:
        if name.startswith("principle-") and rng.random() < 0.8:
            values[name] = rng.choice(SIDES)
    if values["overall"] != "tie":
        values["strength"] = rng.choice(STRENGTHS)
    if rng.random() < 0.3:
        values["reason"] = rng.choice(("It stays with the client.", 'Too many tips: 1 < 2 & "so" on.', "Wärmer. 🙂"))
    if rng.random() < 0.2:
        values["flags"] = rng.sample(FLAGGED, rng.choice((1, 2)))
    return values


def work_through(annotator: Annotator, dataset: str, rng: random.Random) -> None:
    """Do all of a dataset as people do, by keys and by mouse, with drafts and discards; then come back and edit.

    A draft is finished and submitted in the end, and two submitted answers are changed.
    """
    annotator.open(dataset)
    first = ["submit", "draft", "discard"]
    item = annotator.item()
    while item is not None:
        how = first.pop(0) if first else rng.choices(("submit", "draft", "discard"), (8, 1, 1))[0]
        annotator.answer(any_answer(rng, annotator.names()), how, rng.choice(("keyboard", "mouse")))
        item = annotator.go_on(item, how)
    annotator.open(dataset)
    annotator.choose_status("draft")
    annotator.answer({"overall": _other(annotator)}, "submit", "mouse")
    for page, by in enumerate(("keyboard", "mouse"), 1):
        annotator.open(dataset, "submitted", page)
        annotator.answer({"overall": _other(annotator)}, "submit", by)


def _other(annotator: Annotator) -> str:
    chosen = annotator.clicked[annotator.item() or ""].values["overall"]
    return SIDES[(SIDES.index(chosen) + 1) % len(SIDES)]


def differences(run: Run, server: Server, annotators: Iterable[Annotator]) -> list[str]:
    """Where the judgements of a run are not what was clicked, item by item, the sides undone.

    Args:
        run: after a pull.
        server: which knows the accounts that pseudonyms stand for.
        annotators: and what they did.

    Returns:
        A line for each difference; none where the run holds just what was clicked.
    """
    accounts = {user["username"]: user["id"] for user in server.call("GET", "users")["items"]}
    items = {item.id: item for item in items_of(run)}
    found = {(one.annotator, one.a, one.b, one.sample): one for one in run.judgements() if isinstance(one, Comparison)}
    wrong = []
    for annotator in annotators:
        who = pseudonym(run, accounts[annotator.name])
        for item_id, clicked in annotator.clicked.items():
            item = items[item_id]
            judged = found.pop((who, item.left, item.right, item.sample), None)
            said = judged and _said(judged, item)
            meant = _meant(clicked, item)
            if said != meant:
                wrong.append(f"{annotator.name}, {item_id}: clicked {meant}, judged {said}")
    return wrong + [f"never clicked: {key}" for key in found]


def _meant(clicked: Clicked, item: Item) -> dict[str, Any]:
    """What a click means, in words that no code of prefkit wrote: the id of the better response."""
    better = {"A": item.left, "B": item.right, "tie": "tie"}
    values = clicked.values if clicked.status == "submitted" else {}
    principles = {name: value for name, value in values.items() if name.startswith("principle-")}
    return {
        "status": clicked.status,
        "overall": better.get(values.get("overall", "")),
        "strength": {"slightly": 1, "clearly": 2, "much": 3}.get(values.get("strength", "")),
        **{name: better[side] for name, side in principles.items()},
        "reason": clicked.values.get("reason"),
        "flags": sorted(clicked.values.get("flags", [])),
    }


def _said(judged: Comparison, item: Item) -> dict[str, Any]:
    better = {"a": judged.a, "b": judged.b, "tie": "tie", None: None}
    return {
        "status": judged.failure or "submitted",
        "overall": better[judged.winner],
        "strength": judged.strength,
        **{question_name(name): better[winner] for name, winner in judged.principles.items() if winner},
        "reason": judged.reason,
        "flags": sorted(flag for flag in judged.flags if not flag.startswith("attention:")),
    }


@dataclass
class Proof:
    """How a proof went."""

    annotators: list[Annotator]
    differences: list[str]
    seconds: float

    @property
    def foreign(self) -> list[str]:
        """Requests that left the machine."""
        return [url for annotator in self.annotators for url in annotator.foreign]

    @property
    def noises(self) -> list[str]:
        """Errors on the page, and windows that a script opened."""
        return [noise for annotator in self.annotators for noise in annotator.noises]


def prove(run: Run, items: int, server: Server, browser: Any, names: Sequence[str], seed: int = 0) -> Proof:
    """Push items of a run to all annotators, let each do them in the browser, pull, and compare.

    Args:
        run: gets decks of so many items, and judgements.
        items: pairs, each shown to every annotator.
        server: with these annotators.
        browser: a Chromium.
        names: the annotators; each has a browser profile of their own.
        seed: what they choose.
    """
    from prefkit.cli import main

    def prefkit(*words: object) -> None:
        with suppress(SystemExit):
            main([str(word) for word in words])

    where = ("--dir", server.folder)
    shares = ("--overlap", len(names), "--shared", 0, "--repeats", 0)
    prefkit("annotate", "push", run.path, *where, "--pairs", items, "--annotators", ",".join(names), *shares)
    decks = {item.deck for item in items_of(run)}
    started = time.monotonic()
    annotators = [Annotator(browser, server, name) for name in names]
    for number, annotator in enumerate(annotators):
        annotator.log_in()
        mine = [one for one in server.call("GET", "me/datasets", by=annotator.name)["items"] if one["name"] in decks]
        work_through(annotator, mine[0]["id"], random.Random(seed + number))
    seconds = time.monotonic() - started
    prefkit("annotate", "pull", run.path, *where)
    return Proof(annotators, differences(Run(run.path), server, annotators), seconds)


def main(folder: str, items: str, names: str) -> None:
    """The long form: see the top of this file."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "run"
        shutil.copytree(folder, copy)
        people = names.split(",")
        with serving(Path(temporary) / "server", *people) as server, chromium() as browser:
            proof = prove(Run(copy), int(items), server, browser, people)
    done = sum(len(annotator.clicked) for annotator in proof.annotators)
    print(f"{done} items, {len(people)} annotators, {proof.seconds:.0f} s")
    requests = sum(len(annotator.requests) for annotator in proof.annotators)
    print(f"{requests} requests, {len(proof.foreign)} of them to elsewhere; {len(proof.noises)} noises on the page")
    print(f"{len(proof.differences)} differences between what was clicked and what was pulled")
    for line in (*proof.differences, *proof.foreign, *proof.noises):
        print(f"  {line}")
    sys.exit(bool(proof.differences or proof.foreign or proof.noises))


if __name__ == "__main__":
    main(*sys.argv[1:])
