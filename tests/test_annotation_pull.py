"""People's answers come into a run: from a server that stands still, changes, lies or fails, and from a real one."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import making
import msgspec
import pytest
from asked import asked_run, item, winners
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.annotation import server_answers
from prefkit.annotation.connection import ServerError
from prefkit.annotation.items import Item, items_of, pseudonym
from prefkit.annotation.pull import REJECTS, PullReport, pull_server
from prefkit.errors import RunError
from prefkit.records import Comparison
from prefkit.run import Run

DAY = "2026-11-21T"


@dataclass
class FakeArgilla:
    """A server's API as far as a pull asks it: records in pages, by deck."""

    decks: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    workspaces: dict[str, str] = field(default_factory=dict)
    status: Callable[[str], int] = lambda path: 200
    shuffled: Iterator[int] | None = None
    min_submitted: int = 1
    asked: list[str] = field(default_factory=list)

    def answer(self, item: Item, user: str, overall: str = "A", status: str = "submitted", **more: Any) -> None:
        """Put a user's answer to an item, in the place of an earlier one."""
        begun, saved = more.pop("inserted", "10:00:00"), more.pop("updated", None)
        values = {"overall": overall, **{name.replace("_", "-"): value for name, value in more.items()}}
        response = {
            "id": f"{item.id} by {user}",
            "status": status,
            "user_id": user,
            "inserted_at": DAY + begun,
            "updated_at": DAY + (saved or begun),
            "values": {name: {"value": value} for name, value in values.items()},
        }
        responses = self.record(item)["responses"]
        responses[:] = [one for one in responses if one["user_id"] != user] + [response]

    def record(self, item: Item) -> dict[str, Any]:
        """The record of an item; made where there is none."""
        records = self.decks.setdefault(item.deck, [])
        for one in records:
            if one["external_id"] == item.id:
                return one
        records.append({"id": f"record {item.id}", "external_id": item.id, "fields": {"case": {}}, "responses": []})
        return records[-1]

    def http(self) -> httpx.Client:
        """A client of it."""
        return httpx.Client(transport=httpx.MockTransport(self._serve), base_url="http://fake")

    def _serve(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1/")
        self.asked.append(path)
        if self.status(path) != 200:
            return httpx.Response(self.status(path), json={"detail": "no"})
        if path == "me/workspaces":
            return httpx.Response(200, json={"items": [{"id": f"w {name}", "name": name} for name in self.decks]})
        if path == "me/datasets":
            found = [
                {
                    "id": name,
                    "name": name,
                    "workspace_id": f"w {name}",
                    "distribution": {"min_submitted": self.min_submitted},
                }
                for name in self.decks
            ]
            return httpx.Response(200, json={"items": found})
        records = self.decks[path.split("/")[1]]
        offset, limit = int(request.url.params["offset"]), int(request.url.params["limit"])
        assert request.url.params["include"] == "responses"
        if self.shuffled:
            turn = next(self.shuffled) % len(records)
            records = records[turn:] + records[:turn]
        return httpx.Response(200, json={"items": records[offset : offset + limit], "total": len(records)})


AB, BA, BC = item("p1/A", "p1/B"), item("p2/B", "p2/A"), item("p3/B", "p3/C", deck="first-2")
JUDGED = making.both_orders("p1/A", "p1/B", "llm:one") + making.compared("p1/A", "p1/B", "a", "human:someone")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with two decks, and judgements of a model and of a person that a pull has nothing to do with."""
    return asked_run(tmp_path / "first", AB, BA, BC, judgements=JUDGED)


@pytest.fixture
def argilla() -> FakeArgilla:
    """The same decks at a server; nobody has answered."""
    fake = FakeArgilla()
    for one in (AB, BA, BC):
        fake.record(one)
    return fake


def pull(run: Run, fake: FakeArgilla, *decks: str) -> PullReport:
    return pull_server(run, fake.http(), decks=decks)


def contents(run: Run) -> dict[str, bytes]:
    """All files of a run but its lock."""
    files = (path for path in run.path.rglob("*") if path.is_file() and not path.name.startswith(".lock"))
    return {str(path.relative_to(run.path)): path.read_bytes() for path in files}


def mine(run: Run) -> list[Comparison]:
    """What was pulled, in the order of the file."""
    return [one for one in run.judgements() if isinstance(one, Comparison)][len(JUDGED) :]


def test_answers_come_with_the_sides_undone_and_leave_the_others_as_they_are(run: Run, argilla: FakeArgilla) -> None:
    before = (run.path / "judgements.jsonl").read_bytes()
    argilla.answer(AB, "u1", "A")
    argilla.answer(BA, "u1", "A", principle_warm="B", reason="Kinder.", strength="much", flags=["risk"])
    argilla.answer(BC, "u2", "tie")
    report = pull(run, argilla)
    assert winners(run) == {"p1/A|p1/B": "p1/A", "p2/B|p2/A": "p2/B", "p3/B|p3/C": "tie"}
    assert (run.path / "judgements.jsonl").read_bytes().startswith(before)
    assert (report.merged.new, report.merged.changed, report.merged.gone) == (3, 0, 0)
    warm = mine(run)[1]
    assert (warm.principles, warm.reason, warm.strength, warm.flags) == (
        {"warm": "b", "safe": None},
        "Kinder.",
        3,
        ("risk",),
    )


def test_a_second_pull_changes_no_byte(run: Run, argilla: FakeArgilla) -> None:
    for number, one in enumerate((AB, BA, BC)):
        argilla.answer(one, "u1", "B", inserted=f"10:0{number}:00")
    pull(run, argilla)
    before = contents(run)
    stamp = (run.path / "judgements.jsonl").stat().st_mtime_ns
    again = pull(run, argilla)
    assert contents(run) == before
    assert (run.path / "judgements.jsonl").stat().st_mtime_ns == stamp
    assert (again.merged.new, again.merged.changed, again.merged.as_before) == (0, 0, 3)


def test_a_changed_answer_and_a_draft_that_was_submitted_take_the_place_of_their_records(
    run: Run, argilla: FakeArgilla
) -> None:
    argilla.answer(AB, "u1", "A")
    argilla.answer(BA, "u1", "A", "draft")
    argilla.answer(BC, "u1", "tie")
    pull(run, argilla)
    lines = (run.path / "judgements.jsonl").read_bytes().splitlines()
    argilla.answer(AB, "u1", "B")
    argilla.answer(BA, "u1", "B")
    report = pull(run, argilla)
    after = (run.path / "judgements.jsonl").read_bytes().splitlines()
    assert (report.merged.changed, report.merged.as_before, report.merged.new) == (2, 1, 0)
    assert [new == old for new, old in zip(after, lines, strict=True)] == [True] * 3 + [False, False, True]
    assert winners(run) == {"p1/A|p1/B": "p1/B", "p2/B|p2/A": "p2/A", "p3/B|p3/C": "tie"}


def test_an_answer_taken_back_at_the_server_stays_and_is_counted(run: Run, argilla: FakeArgilla) -> None:
    argilla.answer(AB, "u1")
    argilla.answer(BC, "u1")
    pull(run, argilla)
    argilla.record(AB)["responses"].clear()
    argilla.record(BC)["responses"].clear()
    before = (run.path / "judgements.jsonl").read_bytes()
    assert pull(run, argilla).merged.gone == 2
    assert pull(run, argilla, "first-2").merged.gone == 1
    assert (run.path / "judgements.jsonl").read_bytes() == before


def test_what_can_no_longer_be_read_is_not_gone(run: Run, argilla: FakeArgilla) -> None:
    argilla.answer(AB, "u1")
    pull(run, argilla)
    argilla.answer(AB, "u1", "neither")
    report = pull(run, argilla)
    assert (report.merged.gone, report.refused) == (0, {"a value that cannot be understood": 1})


def test_lines_that_others_wrote_in_their_own_way_stay_so(run: Run, argilla: FakeArgilla) -> None:
    argilla.answer(AB, "u1", "A")
    pull(run, argilla)
    path = run.path / "judgements.jsonl"
    spaced = b"".join(json.dumps(json.loads(line)).encode() + b" \n" for line in path.read_bytes().splitlines())
    path.write_bytes(spaced)
    assert pull(run, argilla).merged.as_before == 1
    assert path.read_bytes() == spaced
    argilla.answer(AB, "u1", "B")
    pull(run, argilla)
    assert path.read_bytes().splitlines()[:3] == spaced.splitlines()[:3]


ANSWER = st.tuples(
    st.sampled_from(["u1", "u2"]),
    st.sampled_from([AB, BA, BC]),
    st.sampled_from(["A", "B", "tie"]),
    st.sampled_from(["submitted", "draft", "discarded"]),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(ANSWER, max_size=4), max_size=4))
def test_pulling_often_or_once_says_the_same(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[list[tuple[str, Item, str, str]]]
) -> None:
    often, once = (asked_run(tmp_path_factory.mktemp("runs") / "run", AB, BA, BC) for _ in range(2))
    for one in (often, once):
        (one.path / "annotation" / "secret").write_bytes(b"the same")
    fake = FakeArgilla({AB.deck: [], BC.deck: []})
    for answers in rounds:
        for user, about, overall, status in answers:
            fake.answer(about, user, overall, status)
        pull(often, fake)
    pull(once, fake)
    assert {one.id: one for one in often.judgements()} == {one.id: one for one in once.judgements()}


def test_no_name_and_no_account_is_in_the_run(run: Run, argilla: FakeArgilla) -> None:
    argilla.answer(AB, "3fa85f64-5717-4562-b3fc-2c963f66afa6")
    argilla.answer(BA, "3fa85f64-5717-4562-b3fc-2c963f66afa6", "neither")
    pull(run, argilla)
    assert not [name for name, text in contents(run).items() if b"3fa85f64" in text]
    assert mine(run)[0].annotator == pseudonym(run, "3fa85f64-5717-4562-b3fc-2c963f66afa6")


def test_an_answer_to_an_item_of_another_run_is_listed(run: Run, argilla: FakeArgilla) -> None:
    argilla.answer(msgspec.structs.replace(AB, id="another's"), "u1")
    argilla.answer(BA, "u1")
    report = pull(run, argilla)
    assert report.refused == {"an item that this run does not have": 1}
    listed = [json.loads(line) for line in (run.path / REJECTS).read_text().splitlines()]
    assert [(one["reason"], one["found"]) for one in listed] == [
        ("an item that this run does not have", repr("another's"))
    ]
    argilla.decks["first-1"] = [one for one in argilla.decks["first-1"] if one["external_id"] != "another's"]
    assert pull(run, argilla).rejects is None
    assert not (run.path / REJECTS).exists()


def test_each_annotator_is_told_with_their_flags_attention_items_and_repeats(tmp_path: Path) -> None:
    first, again = item("p1/A", "p1/B"), item("p1/B", "p1/A", kind="repeat")
    known = [item(f"{prompt}/A", f"{prompt}/C", kind="attention", expected="left") for prompt in ("p4", "p5")]
    run = asked_run(tmp_path / "first", first, again, BA, *known)
    fake = FakeArgilla()
    fake.answer(first, "u1", "A")
    fake.answer(again, "u1", "B")
    fake.answer(first, "u2", "A")
    fake.answer(again, "u2", "A")
    fake.answer(known[0], "u1", "A")
    fake.answer(known[1], "u1", "B", flags=["uncomfortable"])
    fake.answer(BA, "u1", "A", "discarded", flags=["uncomfortable"])
    told = pull(run, fake).annotators
    one, two = (told[pseudonym(run, user)] for user in ("u1", "u2"))
    assert (one.statuses, one.flags) == ({"submitted": 4, "discarded": 1}, {"uncomfortable": 2})
    assert (one.attention_right, one.attention) == (1, 2)
    assert (one.repeats_equal, one.repeats) == (1, 1)
    assert (two.repeats_equal, two.repeats, two.attention) == (0, 1, 0)


def test_what_is_left_over_counts_each_answer_that_was_wanted(run: Run, argilla: FakeArgilla) -> None:
    argilla.min_submitted = 2
    argilla.answer(AB, "u1")
    argilla.answer(AB, "u2", status="discarded")
    argilla.answer(AB, "u3")
    argilla.answer(BA, "u1", status="draft")
    first = pull(run, argilla).decks[0]
    assert (first.items, first.wanted, first.finished) == (2, 4, 2)


def test_times_follow_from_when_one_annotators_answers_were_saved(run: Run, argilla: FakeArgilla) -> None:
    argilla.answer(AB, "u1", inserted="10:00:00")
    argilla.answer(BA, "u1", inserted="10:00:42")
    argilla.answer(BC, "u1", inserted="10:01:00", status="draft")
    argilla.answer(BC, "u2", inserted="10:01:00")
    pull(run, argilla)
    assert [one.seconds for one in mine(run)] == [None, 42.0, None, None]


def test_records_that_change_places_between_pages_are_each_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Argilla orders records by the time of pushing, which is one for many."""
    monkeypatch.setattr(server_answers, "MOST", 2)
    monkeypatch.setattr(server_answers, "TRIES", 20)
    items = [item(f"p{number}/A", f"p{number}/B") for number in range(1, 7)]
    run = asked_run(tmp_path / "first", *items)
    fake = FakeArgilla(shuffled=iter([0, 3, 3, 1, 0, 2, *range(100)]))
    for one in items:
        fake.answer(one, "u1")
    report = pull(run, fake)
    assert (report.merged.new, report.statuses["submitted"], report.decks[0].items) == (6, 6, 6)


def test_pages_are_as_large_as_texts_let_them_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of 10,000 characters and more: four of them fill 50,000 bytes."""
    monkeypatch.setattr(server_answers, "PAGE_BYTES", 50_000)
    monkeypatch.setattr(server_answers, "FIRST_PAGE", 1)
    items = [item(f"p{number}/A", f"p{number}/B") for number in range(1, 7)]
    run = asked_run(tmp_path / "first", *items)
    fake = FakeArgilla()
    for one in items:
        fake.answer(one, "u1")
        fake.record(one)["fields"]["case"] = "long" * 2500
    assert pull(run, fake).merged.new == 6
    assert [path for path in fake.asked if path.startswith("datasets")] == ["datasets/first-1/records"] * 3


def test_a_deck_that_never_comes_whole_changes_nothing(run: Run, argilla: FakeArgilla, monkeypatch: Any) -> None:
    monkeypatch.setattr(server_answers, "MOST", 1)
    argilla.shuffled = iter([0, 1] * 50)
    argilla.answer(AB, "u1")
    before = contents(run)
    with pytest.raises(ServerError, match="1 of 2 records"):
        pull(run, argilla)
    assert contents(run) == before


@pytest.mark.parametrize("left", [None, b""])
def test_without_the_runs_secret_nobody_gets_another_pseudonym(
    run: Run, argilla: FakeArgilla, left: bytes | None
) -> None:
    argilla.answer(AB, "u1")
    path = run.path / "annotation" / "secret"
    path.unlink()
    if left is not None:
        path.write_bytes(left)
    before = contents(run)
    with pytest.raises(RunError, match="no secret"):
        pull(run, argilla)
    assert contents(run) == before


def test_a_server_that_fails_in_the_middle_changes_nothing(run: Run, argilla: FakeArgilla) -> None:
    argilla.answer(AB, "u1")
    pull(run, argilla)
    argilla.answer(AB, "u1", "B")
    argilla.answer(BC, "u1")
    before = contents(run)
    argilla.status = lambda path: 500 if "first-2" in path else 200
    with pytest.raises(ServerError, match="500"):
        pull(run, argilla)
    assert contents(run) == before


def test_what_cannot_be_listed_brings_nothing_in(run: Run, argilla: FakeArgilla) -> None:
    """The list of refused answers is written after the judgements, and all of it takes effect together."""
    argilla.answer(AB, "u1")
    argilla.answer(BA, "u1", "neither")
    (run.path / "rejects").write_text("not a folder")
    before = contents(run)
    with pytest.raises(RunError):
        pull(run, argilla)
    assert contents(run) == before


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_may_not_see_all_answers_is_said_so(run: Run, argilla: FakeArgilla, status: int) -> None:
    argilla.status = lambda path: status
    with pytest.raises(ServerError, match=str(status)):
        pull(run, argilla)


def test_something_that_is_not_argilla_is_said_so(run: Run) -> None:
    http = httpx.Client(
        transport=httpx.MockTransport(lambda request: httpx.Response(200, text="<html>")), base_url="http://fake"
    )
    with pytest.raises(ServerError, match=r"expected what Argilla 2\.8 says"):
        pull_server(run, http)


def test_a_deck_that_is_not_at_the_server_is_named_and_the_others_are_read(run: Run, argilla: FakeArgilla) -> None:
    del argilla.decks["first-2"]
    argilla.answer(AB, "u1")
    report = pull(run, argilla)
    assert (report.missing_decks, report.merged.new) == (["first-2"], 1)
    argilla.decks.clear()
    with pytest.raises(RunError, match=r"none of its decks \(first-1, first-2\)"):
        pull(run, argilla)


def test_only_the_decks_called_so_are_read(run: Run, argilla: FakeArgilla) -> None:
    argilla.answer(AB, "u1")
    argilla.answer(BC, "u1")
    assert pull(run, argilla, "first-2").merged.new == 1
    assert pull(run, argilla, "first").merged.new == 1
    with pytest.raises(RunError, match="no deck 'second'"):
        pull(run, argilla, "second")


def test_a_run_that_showed_nothing_to_anybody_says_what_to_do_first(tmp_path: Path) -> None:
    run = making.make_run(tmp_path / "first", making.rated({"p1/A": 3}))
    with pytest.raises(RunError, match="prefkit annotate push"):
        pull_server(run, FakeArgilla().http())


def test_where_somebody_answered_a_question_in_two_decks_the_finished_and_later_answer_counts(tmp_path: Path) -> None:
    twin = item("p1/A", "p1/B", deck="second")
    run = asked_run(tmp_path / "first", AB, twin)
    fake = FakeArgilla()
    fake.answer(AB, "u1", "A", updated="12:00:00")
    fake.answer(twin, "u1", "B", updated="11:00:00")
    report = pull(run, fake)
    assert winners(run) == {"p1/A|p1/B": "p1/A"}
    assert sum(report.notes.values()) == 1
    fake.answer(AB, "u1", "A", "draft", updated="13:00:00")
    pull(run, fake)
    assert winners(run) == {"p1/A|p1/B": "p1/B"}


# The real server, with decks that `prefkit annotate push` put there.


@pytest.fixture(scope="module")
def argilla_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a real server with the annotators anna and ben; skipped where none is installed."""
    from prefkit.annotation import environment

    pytest.importorskip("argilla")
    server = environment.server()
    python = environment.python_of(server)
    if python is None:
        pytest.skip("no Argilla server here: run `prefkit annotate serve` once, or set PREFKIT_ANNOTATION_ENV")
    folder = tmp_path_factory.mktemp("argilla")
    variables = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    command = [python, "-m", "argilla_embedded", "serve", "--dir", folder / "a", "--port", "0"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--annotators", "anna,ben"],
            stdout=log,
            stderr=log,
            env={**variables, "PYTHONPATH": str(server.launcher)},
        )
    try:
        until = time.monotonic() + 120
        while not (folder / "a" / "server.json").exists():
            assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.1)
        yield folder / "a"
    finally:
        process.terminate()
        process.wait(60)


@dataclass(frozen=True)
class Person:
    """Somebody with an account, who answers through the API as the page does."""

    http: httpx.Client
    id: str

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """Ask the API."""
        answer = self.http.request(method, path, **options)
        assert answer.is_success, answer.text
        return answer.json()

    def answer(self, record: str, status: str, **values: Any) -> None:
        """Answer a record, or change the answer."""
        wrapped = {name.replace("_", "-"): {"value": value} for name, value in values.items()}
        one = {"record_id": record, "status": status, "values": wrapped}
        given = self.ask("POST", "me/responses/bulk", json={"items": [one]})["items"][0]
        assert given["error"] is None, given

    def records(self) -> dict[str, str]:
        """Item id -> record id, of all datasets; for an owner."""
        found = {}
        for dataset in self.ask("GET", "me/datasets")["items"]:
            page = self.ask("GET", f"datasets/{dataset['id']}/records", params={"limit": 100})
            found |= {record["external_id"]: record["id"] for record in page["items"]}
        return found


@pytest.fixture
def people(argilla_folder: Path) -> Iterator[dict[str, Person]]:
    """The owner and the annotators, by name."""
    address = json.loads((argilla_folder / "server.json").read_text())["address"]
    accounts = json.loads((argilla_folder / "accounts.json").read_text())["users"]
    with contextlib.ExitStack() as stack:
        found = {}
        for account in accounts:
            headers = {"X-Argilla-Api-Key": account["api_key"]}
            client = httpx.Client(base_url=f"{address}/api/v1/", headers=headers, timeout=60, trust_env=False)
            http = stack.enter_context(client)
            found[account["username"]] = Person(http, http.get("me").json()["id"])
        yield found


Chosen = tuple[str, str | None]
"""A status, and the response that was chosen, or a tie; None where the answer is not submitted."""


def answered(people: dict[str, Person], run: Run, name: str, deck: str) -> dict[tuple[str, str], Chosen]:
    """Have somebody answer all of a deck but its last item; the fifth is discarded.

    Returns:
        What was chosen, by annotator and ids of the responses as they stood.
    """
    records = people["owner"].records()
    given: dict[tuple[str, str], Chosen] = {}
    for number, one in enumerate([one for one in items_of(run) if one.deck == deck][:-1]):
        label = ("A", "B", "tie")[number % 3]
        status = "discarded" if number == 4 else "submitted"
        people[name].answer(records[one.id], status, overall=label, principle_warm="B", reason="=1+1 😀 </script>")
        chosen = {"A": one.left, "B": one.right, "tie": "tie"}[label]
        who = pseudonym(run, people[name].id)
        given[who, f"{one.left}|{one.right}"] = (status, chosen if status == "submitted" else None)
    return given


def said(run: Run) -> dict[tuple[str, str], Chosen]:
    """The same, as it stands in a run."""
    return {
        (one.annotator, f"{one.a}|{one.b}"): (
            one.failure or "submitted",
            {"a": one.a, "b": one.b, "tie": "tie"}.get(one.winner or ""),
        )
        for one in run.judgements()
        if isinstance(one, Comparison)
    }


def untimed(lines: bytes) -> list[dict[str, Any]]:
    """Judgements without their times, which files do not hold."""
    return sorted(({**json.loads(line), "seconds": None} for line in lines.splitlines()), key=lambda row: row["id"])


def argillas_files(argilla_folder: Path, folder: Path) -> dict[str, list[Path]]:
    """The two decks in each shape that Argilla's SDK writes."""
    from prefkit.annotation.connection import connect

    files: dict[str, list[Path]] = {"json": [], "parquet": [], "flat": []}
    with connect(folder=argilla_folder) as client:
        for deck in ("first-1", "first-2"):
            records = client.datasets(deck, workspace=deck).records
            made = {
                shape: folder / f"{deck}.{ending}"
                for shape, ending in zip(files, ("json", "parquet", "jsonl"), strict=True)
            }
            records.to_json(made["json"])
            records.to_datasets().to_parquet(made["parquet"])
            made["flat"].write_text("".join(json.dumps(row) + "\n" for row in records.to_list(flatten=True)))
            for shape, path in made.items():
                files[shape].append(path)
    return files


def test_a_real_servers_answers_come_as_they_were_given_also_from_each_of_argillas_exports(
    argilla_folder: Path, people: dict[str, Person], tmp_path: Path, prefkit: Callable[..., Any]
) -> None:
    run = asked_run(tmp_path / "first")
    judgements = run.path / "judgements.jsonl"

    def called(*command: Any) -> str:
        outcome = prefkit("annotate", command[0], run.path, *command[1:])
        assert outcome.code == 0, outcome.err
        return str(outcome.out)

    called("push", "--pairs", 6, "--annotators", "anna,ben", "--overlap", 2, "--dir", argilla_folder)
    given = answered(people, run, "anna", "first-1") | answered(people, run, "ben", "first-2")
    out = called("pull", "--dir", argilla_folder)
    assert said(run) == given
    assert "answers: 8 submitted, 0 drafts, 2 discarded" in out
    assert "first-1: 1 of 6 answers left over" in out
    assert {one.reason for one in run.judgements()} == {"=1+1 😀 </script>"}
    before = contents(run)
    called("pull", "--dir", argilla_folder)
    assert contents(run) == before

    first = next(one for one in items_of(run) if one.deck == "first-1")
    people["anna"].answer(people["owner"].records()[first.id], "submitted", overall="B")
    called("pull", "--dir", argilla_folder)
    given[pseudonym(run, people["anna"].id), f"{first.left}|{first.right}"] = ("submitted", first.right)
    assert said(run) == given
    for text in ("anna", "ben", people["anna"].id, people["ben"].id):
        assert not [name for name, held in contents(run).items() if text.encode() in held]

    pulled = judgements.read_bytes()
    for shape, files in argillas_files(argilla_folder, tmp_path).items():
        for path in files:
            called("pull", "--file", path)
        assert judgements.read_bytes() == pulled, f"{shape}, beside what the server said"
        judgements.write_bytes(b"")
        for path in files:
            out = called("pull", "--file", path)
        assert ("answers without a status, read as submitted" in out) == (shape == "json")
        lacking = [row for row in untimed(pulled) if row not in untimed(judgements.read_bytes())]
        assert [row["failure"] for row in lacking] == ["discarded", "discarded"] * (shape == "json")
        judgements.write_bytes(pulled)
