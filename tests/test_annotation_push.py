"""Questions go onto a real page: blinded, once each, whatever is killed in between."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Outcome
from making import make_run, policy_of

from prefkit.annotation import environment
from prefkit.annotation.attention import read_made
from prefkit.annotation.connection import call
from prefkit.annotation.items import Item, items_of, keep_items, new_secret, pseudonym
from prefkit.annotation.plan import words_digest
from prefkit.errors import InputError, PrefkitError
from prefkit.run import Run
from prefkit.status import run_status

START_SECONDS = 120
NAMES = ("anna", "ben", "cleo")
POLICIES = ("Quokka-70b", "Wombat-7b", "Numbat-13b")
Call = Callable[..., Outcome]


class Serving:
    """A real Argilla server, as far as these tests look at it."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder, self._python = folder, python
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, port: int = 0) -> None:
        launcher = environment.server().launcher
        kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        paths = os.pathsep.join(filter(None, (str(launcher), os.environ.get("PYTHONPATH"))))
        words = ["serve", "--dir", str(self.folder), "--port", str(port), "--annotators", ",".join(NAMES)]
        with self.folder.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(self._python), "-m", "argilla_embedded", *words],
                stdout=log,
                stderr=log,
                env={**kept, "PYTHONPATH": paths},
            )
        until = time.monotonic() + START_SECONDS
        while self._told().get("pid") != self.process.pid:
            assert self.process.poll() is None and time.monotonic() < until, self.folder.with_suffix(".log").read_text()
            time.sleep(0.05)

    def _told(self) -> dict[str, Any]:
        try:
            told: dict[str, Any] = json.loads((self.folder / "server.json").read_text())
        except (OSError, ValueError):
            return {}
        return told

    @property
    def address(self) -> str:
        return str(self._told()["address"])

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(60)

    def account(self, name: str) -> dict[str, str]:
        users = json.loads((self.folder / "accounts.json").read_text())["users"]
        found: dict[str, str] = next(user for user in users if user["username"] == name)
        return found

    def get(self, path: str, by: str = "owner", method: str = "GET", **options: Any) -> Any:
        headers = {"X-Argilla-Api-Key": self.account(by)["api_key"]}
        url = f"{self.address}/api/v1/{path}"
        with httpx.Client(headers=headers, timeout=60, trust_env=False) as client:
            answer = client.request(method, url, **options)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text[:300]}"
        return answer.json()

    def datasets(self, by: str = "owner") -> dict[str, str]:
        """Name -> id of what somebody can see."""
        return {one["name"]: one["id"] for one in self.get("me/datasets", by)["items"]}

    def records(self, deck: str, by: str = "owner") -> list[dict[str, Any]]:
        """The records of a deck in the order in which the link that is sent shows them."""
        path = f"me/datasets/{self.datasets(by)[deck]}/records/search?limit=500&include=responses"
        sort = [{"scope": {"entity": "metadata", "metadata_property": "position"}, "order": "asc"}]
        found = self.get(path, by, "POST", json={"sort": sort})
        return [one["record"] for one in found["items"]]


@pytest.fixture(scope="module")
def server(annotation_environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    serving = Serving(tmp_path_factory.mktemp("argilla") / "server", annotation_environment / "bin" / "python")
    serving.folder.mkdir()
    serving.start()
    yield serving
    serving.stop()


@pytest.fixture
def push(server: Serving, prefkit: Call) -> Call:
    """Push to the real server."""
    return lambda run, *options: prefkit("annotate", "push", run.path, "--dir", server.folder, *options)


def words(response: str) -> str:
    """An answer that names no policy and no id."""
    return f"answer number {sum(response.encode())} to {re.sub('[^0-9]', '', response.partition('/')[0])}"


def run_of(folder: Path, prompts: int = 30, **facts: Any) -> Run:
    """A run of so many prompts with an answer by each policy."""
    names = [f"promptid{number}/{policy}" for number in range(prompts) for policy in POLICIES]
    said = {f"promptid{number}": f"I am number {number} and sad." for number in range(prompts)}
    return make_run(folder, texts={name: words(name) for name in names}, prompts=said, **facts)


def decks_of(run: Run) -> dict[str, list[Item]]:
    found: dict[str, list[Item]] = {}
    for item in items_of(run):
        found.setdefault(item.deck, []).append(item)
    return found


def test_each_annotator_gets_a_deck_of_their_own_and_sees_no_other(tmp_path: Path, server: Serving, push: Call) -> None:
    run = run_of(tmp_path / "own")
    done = push(run, "--pairs", 12, "--annotators", "anna,ben")
    assert done.code == 0, done.err
    assert "own: 12 new pairs, 12 in all" in done.out
    assert {name for name in server.datasets("anna") if name.startswith("own")} == {"own-1"}
    assert {name for name in server.datasets("ben") if name.startswith("own")} == {"own-2"}
    assert not [name for name in server.datasets("cleo") if name.startswith("own")]
    for name, deck in (("anna", "own-1"), ("ben", "own-2")):
        link = f"{server.address}/dataset/{server.datasets()[deck]}/annotation-mode?"
        assert f"{deck} for {name}: 13 items (1 hidden repeats), 13 sent\n  {link}" in done.out


def test_what_the_page_shows_is_what_the_key_says_in_the_order_of_the_deck(
    tmp_path: Path, server: Serving, push: Call
) -> None:
    run = run_of(tmp_path / "shown")
    push(run, "--pairs", 25, "--annotators", "anna", "--repeats", 0.1, "--attention", 2)
    texts = {response.id: response.text for response in run.responses()}
    prompts = {prompt.id: prompt for prompt in run.prompts()}
    items = decks_of(run)["shown-1"]
    assert Counter(item.kind for item in items) == {"item": 25, "repeat": 2, "attention": 2}
    shown = server.records("shown-1", "anna")
    assert [record["external_id"] for record in shown] == [item.id for item in items]
    for record, item in zip(shown, items, strict=True):
        assert record["metadata"] == {"position": item.number}
        case = record["fields"]["case"]
        assert case["responses"] == [texts[item.left], texts[item.right or ""]]
        assert case["turns"] == [{"who": "client", "text": prompts[item.prompt_id].messages[0].content}]
        assert item.words == words_digest(prompts[item.prompt_id], *case["responses"])


def test_the_server_holds_no_policy_and_no_id_of_the_run_and_the_run_no_name_of_a_person(
    tmp_path: Path, server: Serving, push: Call
) -> None:
    run = run_of(tmp_path / "blind")
    done = push(run, "--pairs", 20, "--annotators", "anna,ben", "--attention", 2)
    assert done.code == 0, done.err
    held = b"".join(path.read_bytes() for path in server.folder.glob("*.db*"))
    assert b"I am number" in held
    for secret in (*POLICIES, "promptid", "preference", run.rubric.hash):
        assert secret.encode() not in held
    kept = b"".join(path.read_bytes() for path in run.path.rglob("*") if path.is_file())
    people = [server.account(name) for name in ("owner", "anna", "ben")]
    for secret in ("anna", "ben", "owner", *(one["api_key"] for one in people), *(one["password"] for one in people)):
        assert secret.encode() not in kept


def test_the_same_command_again_adds_nothing_and_more_pairs_add_the_difference(
    tmp_path: Path, server: Serving, push: Call
) -> None:
    run = run_of(tmp_path / "more")
    push(run, "--pairs", 10, "--annotators", "anna,ben")
    before = (run.path / "annotation/items.jsonl").read_bytes()
    again = push(run, "--pairs", 10, "--annotators", "ben,anna")
    assert "0 new pairs, 10 in all" in again.out and again.out.count("10 items, 0 sent") == 2
    assert (run.path / "annotation/items.jsonl").read_bytes() == before
    more = push(run, "--pairs", 25, "--annotators", "ben,anna", "--repeats", 0)
    assert "15 new pairs, 25 in all" in more.out
    items = decks_of(run)
    assert (run.path / "annotation/items.jsonl").read_bytes().startswith(before)
    for deck in ("more-1", "more-2"):
        pairs = [frozenset((item.left, item.right)) for item in items[deck]]
        assert len(set(pairs)) == len(pairs) == 25 == len(server.records(deck))
        assert [item.number for item in items[deck]] == list(range(25))


def test_again_gives_a_third_person_what_the_others_were_asked(tmp_path: Path, push: Call) -> None:
    run = run_of(tmp_path / "third")
    push(run, "--pairs", 12, "--annotators", "anna,ben", "--repeats", 0)
    for_nothing = push(run, "--pairs", 12, "--annotators", "cleo")
    assert "0 new pairs" in for_nothing.out and "--again gives them" in for_nothing.out
    assert "12 new pairs, 12 in all" in push(run, "--pairs", 12, "--annotators", "cleo", "--again", "--repeats", 0).out
    assert "0 new pairs" in push(run, "--pairs", 12, "--annotators", "cleo", "--again").out
    pairs = {deck: {frozenset((item.left, item.right)) for item in items} for deck, items in decks_of(run).items()}
    assert pairs["third-1"] == pairs["third-2"] == pairs["third-3"]


def test_a_pool_is_one_deck_for_all_that_asks_for_as_many_answers_as_wanted(
    tmp_path: Path, server: Serving, push: Call
) -> None:
    run = run_of(tmp_path / "pool")
    assert push(run, "--pairs", 9, "--overlap", 3).code == 0
    for name in NAMES:
        assert len(server.records("pool", name)) == 9
    made = server.get(f"datasets/{server.datasets()['pool']}")
    assert made["distribution"] == {"strategy": "overlap", "min_submitted": 3}
    assert push(run, "--pairs", 9, "--repeats", 0.1).code == 2


def test_a_pool_that_was_made_for_other_overlap_says_so(tmp_path: Path, push: Call) -> None:
    run = run_of(tmp_path / "overlapping")
    push(run, "--pairs", 4, "--overlap", 2)
    assert "made for 2 answers to each item" in push(run, "--pairs", 6, "--overlap", 3).out


def test_without_a_server_the_key_is_written_and_a_later_push_sends_it(
    tmp_path: Path, server: Serving, push: Call, prefkit: Call
) -> None:
    run = run_of(tmp_path / "files")
    done = prefkit("annotate", "push", run.path, "--no-server", "--pairs", 6, "--annotators", "anna,ben")
    assert done.code == 0 and "prefkit annotate export" in done.out and "http" not in done.out
    ids = {deck: [item.id for item in items] for deck, items in decks_of(run).items()}
    assert {deck: len(these) for deck, these in ids.items()} == {"files-1": 6, "files-2": 6}
    push(run, "--pairs", 6, "--annotators", "anna,ben")
    assert {deck: [one["external_id"] for one in server.records(deck)] for deck in ids} == ids


def test_what_two_annotators_contradict_each_other_in_goes_to_a_third_with_their_reasons(
    tmp_path: Path, server: Serving, push: Call, prefkit: Call
) -> None:
    run = run_of(tmp_path / "third-opinion")
    push(run, "--pairs", 4, "--annotators", "anna,ben", "--repeats", 0)
    sides = {item.id: item for item in items_of(run)}
    best = min(name for item in sides.values() for name in (item.left, item.right or ""))
    for name, deck in (("anna", "third-opinion-1"), ("ben", "third-opinion-2")):
        for record in server.records(deck, name):
            item = sides[record["external_id"]]
            first = min(item.left, item.right or "")
            anna_likes_one_less = name == "anna" and best in (item.left, item.right)
            chosen = "A" if (item.left == first) != anna_likes_one_less else "B"
            values = {"overall": {"value": chosen}, "reason": {"value": f"said by {name}'s pen"}}
            answer = {"status": "submitted", "values": values}
            server.get(f"records/{record['id']}/responses", name, "POST", json=answer)
    assert prefkit("annotate", "pull", run.path, "--dir", server.folder).code == 0
    assert push(run, "--adjudicate", "--annotators", "anna,ben").code == 1
    done = push(run, "--adjudicate", "--annotators", "anna,cleo,ben")
    assert "1 new pairs, 1 in all" in done.out, done.err
    assert "0 new pairs, 1 in all" in push(run, "--adjudicate", "--annotators", "anna,cleo,ben").out
    [item] = [item for item in items_of(run) if item.kind == "adjudication"]
    assert best in (item.left, item.right)
    [shown] = server.records(item.deck, "cleo")
    assert item.deck not in {**server.datasets("anna"), **server.datasets("ben")}
    assert sorted(re.findall("said by (.*?)'s pen", "".join(shown["fields"]["case"]["notes"]))) == ["anna", "ben"]


def test_rating_shows_one_response_at_a_time(tmp_path: Path, server: Serving, push: Call) -> None:
    run = run_of(tmp_path / "rated")
    done = push(run, "--responses", 8, "--annotators", "anna")
    assert "rated-rate: 8 new responses, 8 in all" in done.out
    assert [len(record["fields"]["case"]["responses"]) for record in server.records("rated-rate-1")] == [1] * 8
    assert all(item.right is None and item.mode == "rate" for item in items_of(run))


KILLED = """
import os, sys
from prefkit.annotation import decks

decks.BULK = 8
sent = decks.call
left = int(sys.argv.pop(1))

def call(client, method, path, **options):
    global left
    if method == "PUT" and "bulk" in path:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)
    return sent(client, method, path, **options)

decks.call = call
from prefkit.cli import main
main(sys.argv[1:])
"""


def test_a_push_that_is_killed_goes_on_and_nothing_comes_twice(tmp_path: Path, server: Serving, push: Call) -> None:
    """60 items in two decks of 30, in bulks of 8: killed after the first bulk, then when the second deck is made."""
    run = run_of(tmp_path / "killed", 40)
    options = ["--pairs", "30", "--annotators", "anna,ben", "--repeats", "0", "--dir", str(server.folder)]
    counts = []
    for bulks in (1, 3):
        script = [sys.executable, "-c", KILLED, str(bulks), "annotate", "push", str(run.path), *options]
        killed = subprocess.run(script, capture_output=True, text=True, timeout=120, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert len(list(items_of(run))) == 60
        counts.append(sum(len(server.records(deck)) for deck in ("killed-1", "killed-2") if deck in server.datasets()))
    assert counts == [8, 30]
    key = (run.path / "annotation/items.jsonl").read_bytes()
    done = push(run, *options)
    assert done.code == 0 and "0 new pairs, 30 in all" in done.out
    assert "30 items, 0 sent" in done.out and "30 items, 30 sent" in done.out
    assert (run.path / "annotation/items.jsonl").read_bytes() == key
    for deck, items in decks_of(run).items():
        assert [record["external_id"] for record in server.records(deck)] == [item.id for item in items]


def test_a_dataset_that_was_left_half_made_is_made_again(tmp_path: Path, server: Serving, push: Call) -> None:
    run = run_of(tmp_path / "half")
    workspace = server.get("workspaces", method="POST", json={"name": "half-1"})
    server.get("datasets", method="POST", json={"name": "half-1", "workspace_id": workspace["id"]})
    assert push(run, "--pairs", 3, "--annotators", "anna").code == 0
    assert len(server.records("half-1", "anna")) == 3


def test_answers_stay_when_more_is_pushed(tmp_path: Path, server: Serving, push: Call) -> None:
    run = run_of(tmp_path / "stay")
    push(run, "--pairs", 5, "--annotators", "anna")
    first = server.records("stay-1", "anna")[0]
    values = {"overall": {"value": "A"}}
    server.get(f"records/{first['id']}/responses", "anna", "POST", json={"status": "submitted", "values": values})
    push(run, "--pairs", 9, "--annotators", "anna")
    now = server.records("stay-1", "anna")
    assert now[0]["id"] == first["id"] and now[0]["responses"][0]["values"] == values
    assert len(now) == 9


def test_what_is_unfit_is_left_out_and_counted(tmp_path: Path, push: Call) -> None:
    run = run_of(
        tmp_path / "unfit",
        4,
        excluded={"promptid0": "too short"},
        marks={"promptid1": ("risk:self-harm",)},
    )
    from prefkit.records import Response

    records = list(run.responses())
    run.replace(Response, [*records[:-1], Response(id="x", prompt_id="promptid3", policy="Wombat-7b", text=None)])
    done = push(run, "--pairs", 50, "--annotators", "anna", "--no-risk")
    assert "left out: 3 responses: prompt excluded" in done.out and "1 responses: no text" in done.out
    assert "risk" in done.out
    assert {item.prompt_id for item in items_of(run)} == {"promptid2", "promptid3"}


def test_prompts_with_a_mark_of_risk_are_shown_unless_told_otherwise(tmp_path: Path, push: Call) -> None:
    run = run_of(tmp_path / "risky", 4, marks={"promptid1": ("risk:self-harm",)})
    push(run, "--pairs", 4, "--annotators", "anna")
    assert {item.prompt_id for item in items_of(run)} == {f"promptid{number}" for number in range(4)}


def test_attention_items_from_a_file_are_shown_once_and_kept_with_the_key(
    tmp_path: Path, server: Serving, push: Call
) -> None:
    run = run_of(tmp_path / "noticed")
    file = tmp_path / "known.jsonl"
    row = {"prompt": "My cat died.", "good": "I am sorry for your loss.", "bad": "Buy a lottery ticket."}
    file.write_text(json.dumps(row))
    push(run, "--pairs", 5, "--annotators", "anna", "--attention", file)
    file.unlink()
    push(run, "--pairs", 9, "--annotators", "anna")
    [item] = [item for item in items_of(run) if item.kind == "attention"]
    assert item.number > 0
    shown = next(one for one in server.records("noticed-1") if one["external_id"] == item.id)["fields"]["case"]
    good = shown["responses"][item.expected == "right"]
    assert (good, shown["turns"][0]["text"]) == (row["good"], row["prompt"])


def test_attention_items_made_from_the_run_set_an_answer_against_one_to_somebody_else(
    tmp_path: Path, push: Call
) -> None:
    run = run_of(tmp_path / "made", 30, marks={f"promptid{number}": ("risk:self-harm",) for number in range(15)})
    done = push(run, "--pairs", 10, "--annotators", "anna", "--attention", 3, "--dry-run")
    assert done.out.count("attention item:") == 3 and not list(items_of(run))
    push(run, "--pairs", 10, "--annotators", "anna", "--attention", 3)
    items = list(items_of(run))
    asked = {item.prompt_id for item in items if item.kind == "item"}
    for item in (item for item in items if item.kind == "attention"):
        good, bad = (item.left, item.right) if item.expected == "left" else (item.right, item.left)
        assert good is not None and bad is not None and policy_of(good) == policy_of(bad)
        assert good.startswith(f"{item.prompt_id}/") and not bad.startswith(f"{item.prompt_id}/")
        assert item.prompt_id not in asked
        assert all(int(re.findall(r"\d+", name)[0]) >= 15 for name in (good, bad))


@pytest.mark.parametrize("ending", ["jsonl", "csv", "yaml"])
def test_attention_items_are_read_from_any_of_three_kinds_of_files(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"known.{ending}"
    file.write_text(
        {
            "jsonl": '{"prompt": "Hello, I am sad", "good": "Tell me more", "bad": "No"}\n',
            "csv": 'prompt,good,bad\n"Hello, I am sad",Tell me more,No\n',
            "yaml": "- prompt: Hello, I am sad\n  good: Tell me more\n  bad: 'No'\n",
        }[ending]
    )
    [made] = read_made(file)
    assert (made.messages[0].content, made.good, made.bad) == ("Hello, I am sad", "Tell me more", "No")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"prompt": "a", "good": "b"}', "1: bad: found None"),
        ('{"prompt": "a", "good": "b", "bad": "b"}', "good and bad of the same words"),
        ("[", "JSONL, CSV or YAML"),
        ("", "no rows"),
    ],
)
def test_a_file_of_attention_items_that_lacks_something_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "known.jsonl").write_text(text + "\n" if text else "")
    with pytest.raises(InputError, match=re.escape(said)):
        read_made(tmp_path / "known.jsonl")


def test_other_questions_need_another_dataset(tmp_path: Path, push: Call) -> None:
    run = run_of(tmp_path / "mixed")
    push(run, "--pairs", 3, "--annotators", "anna")
    other = push(run, "--pairs", 6, "--annotators", "anna", "--no-strength")
    assert other.code == 1 and "asks other questions" in other.err and "--dataset NAME" in other.err
    assert push(run, "--pairs", 6, "--annotators", "anna", "--no-strength", "--dataset", "mixed-weak").code == 0


def test_a_name_that_tells_whose_responses_these_are_is_refused(tmp_path: Path, push: Call) -> None:
    done = push(run_of(tmp_path / "quokka-70B-against-all"), "--pairs", 3)
    assert done.code == 1 and "the policy Quokka-70b in it" in done.err


def test_an_annotator_without_an_account_is_an_error_that_says_how_to_make_one(tmp_path: Path, push: Call) -> None:
    run = run_of(tmp_path / "nobody")
    done = push(run, "--pairs", 3, "--annotators", "anna,zoe")
    assert done.code == 1 and "prefkit annotate users add zoe" in done.err
    assert push(run, "--pairs", 3, "--annotators", "anna,owner").code == 1
    assert not list(items_of(run))


def test_a_dry_run_changes_nothing_on_the_server_or_in_the_key(tmp_path: Path, server: Serving, push: Call) -> None:
    run = run_of(tmp_path / "dry")
    (run.path / ".lock").touch()
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    done = push(run, "--pairs", 8, "--annotators", "anna,ben", "--dry-run")
    assert "8 new pairs" in done.out and "Nothing was pushed." in done.out
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    assert not [name for name in server.datasets() if name.startswith("dry")]


def test_run_json_says_how_it_was_pushed_and_names_nobody(tmp_path: Path, push: Call) -> None:
    run = run_of(tmp_path / "noted")
    push(run, "--pairs", 4, "--dataset", "earlier", "--annotators", "anna")
    push(run, "--pairs", 8, "--annotators", "anna,ben", "--seed", 5)
    assert "20 items in 3 decks" in "\n".join(run_status(Run(run.path)).lines)
    facts = Run(run.path).info.stages["annotate push"]
    assert facts["settings"]["annotators"] == 2 and facts["settings"]["seed"] == 5 and facts["cases"] == 8
    assert facts["decks"] == {"noted-1": {"item": 8}, "noted-2": {"item": 8}}
    assert facts["form"] == next(items_of(run)).form


def test_the_guidelines_on_the_page_say_whom_to_turn_to_and_the_run_does_not(
    tmp_path: Path, server: Serving, push: Call
) -> None:
    run = run_of(tmp_path / "told")
    push(run, "--pairs", 4, "--annotators", "anna", "--contact", "Dr Roe, 555 0100")
    page = server.get(f"datasets/{server.datasets()['told-1']}")["guidelines"]
    assert "Dr Roe, 555 0100" in page and "No program has removed names" in page
    assert "Roe" not in (run.path / "run.json").read_text()


def test_texts_that_were_not_scrubbed_go_to_no_server_outside(
    tmp_path: Path, server: Serving, monkeypatch: pytest.MonkeyPatch, push: Call
) -> None:
    """The server is here; only what is said about its address is not."""
    monkeypatch.setattr("prefkit.annotation.push.is_local", lambda url: False)
    run = run_of(tmp_path / "raw")
    done = push(run, "--pairs", 8, "--annotators", "anna")
    assert done.code == 1 and "texts that were not scrubbed" in done.err and "--allow-unscrubbed" in done.err
    assert not list(items_of(run)) and "raw-1" not in server.datasets()
    assert push(run, "--pairs", 8, "--annotators", "anna", "--allow-unscrubbed").code == 0


def test_no_server_is_an_error_that_says_how_to_start_one(tmp_path: Path, prefkit: Call) -> None:
    done = prefkit("annotate", "push", run_of(tmp_path / "run").path, "--dir", tmp_path / "none")
    assert done.code == 1 and "prefkit annotate serve" in done.err and "Traceback" not in done.err


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("wrong", "a key that this server does not know"),
        ("anna", "an account with the role annotator"),
        (None, "no key"),
    ],
)
def test_a_key_that_does_not_open_the_server_is_refused_and_never_repeated(
    tmp_path: Path, server: Serving, prefkit: Call, monkeypatch: pytest.MonkeyPatch, key: str | None, said: str
) -> None:
    monkeypatch.setenv("PREFKIT_ANNOTATION_DIR", str(tmp_path / "none"))
    monkeypatch.delenv("ARGILLA_API_KEY", raising=False)
    if key is not None:
        key = server.account(key)["api_key"] if key == "anna" else "a-secret-that-is-wrong"
        monkeypatch.setenv("PREFKIT_ARGILLA_API_KEY", key)
    done = prefkit("annotate", "push", run_of(tmp_path / "run").path, "--url", server.address)
    assert done.code == 1 and said in done.err
    assert key is None or key not in done.err + done.out


def test_a_key_with_a_line_break_is_refused_and_never_repeated(
    tmp_path: Path, server: Serving, prefkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFKIT_ARGILLA_API_KEY", "abc\ndef")
    done = prefkit("annotate", "push", run_of(tmp_path / "run").path, "--url", server.address)
    assert done.code == 1 and "characters that no key has" in done.err and "abc" not in done.err


def test_a_server_by_its_address_takes_the_key_from_the_environment(
    tmp_path: Path, server: Serving, prefkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARGILLA_API_KEY", server.account("owner")["api_key"])
    run = run_of(tmp_path / "byaddress")
    done = prefkit("annotate", "push", run.path, "--url", server.address, "--pairs", 2, "--annotators", "anna")
    assert done.code == 0, done.err
    assert len(server.records("byaddress-1")) == 2


def test_a_key_is_not_sent_in_the_clear_outside_this_network(
    tmp_path: Path, prefkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFKIT_ARGILLA_API_KEY", "abc")
    done = prefkit("annotate", "push", run_of(tmp_path / "run").path, "--url", "http://argilla.example.org")
    assert done.code == 1 and "https" in done.err


def test_what_answers_but_is_not_argilla_2_8_is_told(
    tmp_path: Path, prefkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Old(BaseHTTPRequestHandler):
        said = b'{"version": "1.29.0"}'

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.said)

        def log_message(self, *words: object) -> None:
            pass

    monkeypatch.setenv("PREFKIT_ARGILLA_API_KEY", "abc")
    with ThreadingHTTPServer(("127.0.0.1", 0), Old) as old:
        Thread(target=old.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{old.server_port}"
        run = run_of(tmp_path / "run").path
        assert "Argilla 1.29.0" in prefkit("annotate", "push", run, "--url", url).err
        Old.said = b"<html>"
        assert "no Argilla" in prefkit("annotate", "push", run, "--url", url).err
        old.shutdown()


def test_a_server_that_goes_away_in_the_middle_is_told_and_the_same_command_goes_on(
    tmp_path: Path, server: Serving, push: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tmp_path / "gone", 40)

    def sent_until_gone(client: Any, method: str, path: str, **options: Any) -> Any:
        if method == "PUT" and len(server.records("gone-1")) == 20:
            raise httpx.ReadError("gone")
        return call(client, method, path, **options)

    with monkeypatch.context() as patched:
        patched.setattr("prefkit.annotation.decks.BULK", 10)
        patched.setattr("prefkit.annotation.decks.call", sent_until_gone)
        done = push(run, "--pairs", 35, "--annotators", "anna", "--repeats", 0)
    assert done.code == 1 and "The same command goes on" in done.err
    assert "15 sent" in push(run, "--pairs", 35, "--annotators", "anna", "--repeats", 0).out


def test_a_server_that_stumbles_is_asked_again(
    tmp_path: Path, server: Serving, push: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    stumbled: list[str] = []
    send = httpx.Client.request

    def request(self: httpx.Client, method: str, url: str, **options: Any) -> httpx.Response:
        if method == "PUT" and "bulk" in url and not stumbled:
            stumbled.append(url)
            return httpx.Response(500, text="database is locked")
        return send(self, method, url, **options)

    monkeypatch.setattr("prefkit.annotation.connection.PAUSE", 0.0)
    monkeypatch.setattr(httpx.Client, "request", request)
    assert push(run_of(tmp_path / "stumbling"), "--pairs", 5, "--annotators", "anna").code == 0
    assert stumbled and len(server.records("stumbling-1")) == 5


def test_a_lost_server_is_filled_anew_from_the_key(tmp_path: Path, server: Serving, push: Call) -> None:
    """As after a dataset was deleted: what the key holds and the server lacks is sent, in its place."""
    run = run_of(tmp_path / "lost")
    push(run, "--pairs", 12, "--annotators", "anna", "--repeats", 0)
    ids = [record["external_id"] for record in server.records("lost-1")]
    server.get(f"datasets/{server.datasets()['lost-1']}", method="DELETE")
    assert "12 items, 12 sent" in push(run, "--pairs", 12, "--annotators", "anna", "--repeats", 0).out
    assert [record["external_id"] for record in server.records("lost-1")] == ids


def test_a_deck_goes_by_the_account_whatever_the_order_of_names(tmp_path: Path, server: Serving, push: Call) -> None:
    run = run_of(tmp_path / "order")
    push(run, "--pairs", 4, "--annotators", "ben,anna")
    push(run, "--pairs", 8, "--annotators", "anna,cleo,ben")
    owners = {name: [deck for deck in server.datasets(name) if deck.startswith("order-")] for name in NAMES}
    assert owners == {"ben": ["order-1"], "anna": ["order-2"], "cleo": ["order-3"]}


def test_a_missing_package_is_told(prefkit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefkit.annotation.connection import sdk

    monkeypatch.setitem(sys.modules, "argilla", None)
    with pytest.raises(PrefkitError, match=re.escape("prefkit[annotate]")):
        sdk()


def test_a_pseudonym_is_the_same_for_an_account_and_tells_no_name(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    keep_items(run, [], new_secret())
    assert pseudonym(run, "anna") == pseudonym(run, "anna") != pseudonym(run, "ben")
    assert "anna" not in pseudonym(run, "anna")
