"""`prefkit annotate serve` and its sisters with a real Argilla server, and its installation."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from prefkit.annotation import environment
from prefkit.annotation.environment import ENVIRONMENT, PYTHONS, Server, make, place, python_of, server
from prefkit.annotation.server import DIRECTORY, default_folder, running
from prefkit.errors import PrefkitError

SECONDS = 120
"""For one command. A start takes six seconds of processor time, and tests may share two cores."""


@dataclass(frozen=True)
class Said:
    """What a command did."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Commands:
    """`prefkit annotate` on one folder."""

    folder: Path
    environment: Path

    def __call__(self, *arguments: object, **variables: str) -> Said:
        process = self.start(*arguments, **variables)
        out, err = process.communicate(timeout=SECONDS)
        return Said(process.returncode, out, err)

    def start(self, *arguments: object, **variables: str) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        return subprocess.Popen(
            [sys.executable, "-m", "prefkit", "annotate", *map(str, arguments)],
            env={**kept, DIRECTORY: str(self.folder), ENVIRONMENT: str(self.environment), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @property
    def accounts(self) -> dict[str, dict[str, str]]:
        users = json.loads((self.folder / "accounts.json").read_text())["users"]
        return {user["username"]: user for user in users}


@pytest.fixture
def commands(tmp_path: Path, annotation_environment: Path) -> Iterator[Commands]:
    """On a folder of the test's own; what it started is stopped."""
    made = Commands(tmp_path / "study", annotation_environment)
    yield made
    made("stop")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, annotation_environment: Path) -> Iterator[tuple[Commands, Said]]:
    """A server with two annotators, for the tests that leave it running, and what its start said."""
    made = Commands(tmp_path_factory.mktemp("served") / "study", annotation_environment)
    said = made("serve", "--port", 0, "--annotators", "anna,ben", OPENAI_API_KEY="sk-of-a-judge")
    assert said.code == 0, said.err
    yield made, said
    made("stop")


def ask(address: str, path: str, body: Any = None, key: str = "", form: str | None = None) -> Any:
    """The answer of a server: JSON where it is some, else its text."""
    data = form.encode() if form is not None else json.dumps(body).encode() if body is not None else None
    kind = "application/x-www-form-urlencoded" if form is not None else "application/json"
    headers = {"Content-Type": kind, **({"X-Argilla-Api-Key": key} if key else {})}
    method = "PUT" if path.endswith("/publish") else "POST" if data is not None else "GET"
    request = urllib.request.Request(address + path, data, headers, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=SECONDS) as answer:
        text = answer.read().decode()
    return json.loads(text) if text.startswith(("{", "[")) else text


def test_serve_prints_an_address_where_the_page_answers_and_passwords_that_log_in(served):
    _, said = served
    address = re.search(r"answers at (http://127\.0\.0\.1:\d+)", said.out)[1]
    assert "<title>" in ask(address, "/")
    for name in ("owner", "anna", "ben"):
        password = re.search(rf"^  {name} +(\S+)$", said.out, re.MULTILINE)[1]
        assert ask(address, "/api/v1/token", form=f"username={name}&password={password}")["access_token"]


def test_a_served_folder_gives_its_address_and_owners_key_to_other_commands(served):
    commands, _ = served
    found = running(commands.folder)
    assert ask(found.address, "/api/v1/me", key=found.owner_key)["username"] == "owner"
    assert found.owner_key not in repr(found)


def test_serve_on_a_server_that_runs_says_where_it_is_and_adds_who_is_missing(served):
    commands, _ = served
    said = commands("serve", "--annotators", "anna,emil")
    address = running(commands.folder).address
    assert (said.code, said.out.splitlines()[0]) == (0, f"Argilla runs already at {address}")
    assert re.findall(r"^  (\w+)  \S+$", said.out, re.MULTILINE) == ["emil"]
    assert commands.accounts["anna"]["password"] not in said.out


def test_users_are_added_listed_and_given_new_passwords_while_it_runs(served):
    commands, _ = served
    added = commands("users", "add", "cleo", "anna")
    assert f"  cleo  {commands.accounts['cleo']['password']}\n" in added.out
    assert "already there, unchanged: anna" in added.out
    assert {"owner  owner", "anna  annotator", "cleo  annotator"} <= set(commands("users", "list").out.splitlines())
    before = commands.accounts["cleo"]["password"]
    renewed = commands("users", "password", "cleo")
    assert commands.accounts["cleo"]["password"] != before
    assert f"  cleo  {commands.accounts['cleo']['password']}\n" in renewed.out


def test_nobody_else_can_read_the_folder_and_no_key_is_shown_or_logged(served):
    commands, said = served
    shown = (
        said.out
        + said.err
        + "".join(
            outcome.out + outcome.err
            for outcome in (commands("status"), commands("serve"), commands("users", "list"), commands("backup"))
        )
    )
    assert commands.folder.stat().st_mode & 0o777 == 0o700
    files = [path for path in commands.folder.iterdir() if path.is_file()]
    assert {path.name for path in files} >= {"accounts.json", "log", "argilla.db", "secret"}
    assert [path.name for path in files if path.stat().st_mode & 0o077] == []
    for account in commands.accounts.values():
        assert account["api_key"] not in shown
        assert not {account["api_key"], account["password"]} & set((commands.folder / "log").read_text().split())


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="Linux shows a process's variables")
def test_keys_of_models_do_not_reach_the_server(served):
    commands, _ = served
    assert b"sk-of-a-judge" not in Path(f"/proc/{running(commands.folder).pid}/environ").read_bytes()


def test_a_killed_server_counts_as_stopped_and_starts_again_with_the_same_accounts_and_answers(commands):
    commands("serve", "--port", 0, "--annotators", "anna,ben")
    accounts, found = commands.accounts, running(commands.folder)
    annotate_one_of_two(found.address, found.owner_key, accounts["anna"]["api_key"])
    progress = (
        "\n  annotation/deck: 1 of 2 items done\n    anna  1 submitted, 0 drafts, 0 discarded\n    ben   0 submitted, "
    )
    assert progress in commands("status").out
    os.kill(found.pid, signal.SIGKILL)
    until = time.monotonic() + SECONDS
    while running(commands.folder) and time.monotonic() < until:
        time.sleep(0.05)
    assert (commands.folder / "server.json").exists()
    killed = commands("status").out
    assert (killed.startswith("Argilla is stopped\n"), progress in killed) == (True, True)
    again = commands("serve", "--port", 0, "--annotators", "anna")
    assert (again.code, commands.accounts) == (0, accounts)
    assert accounts["anna"]["password"] not in again.out
    assert progress in commands("status").out


def annotate_one_of_two(address: str, owner: str, annotator: str) -> None:
    """Make a dataset of two records; an annotator submits one."""
    workspace = ask(address, "/api/v1/me/workspaces", key=owner)["items"][0]["id"]
    dataset = ask(address, "/api/v1/datasets", {"name": "deck", "workspace_id": workspace}, owner)["id"]
    at = f"/api/v1/datasets/{dataset}"
    text = {"type": "text", "use_markdown": False}
    ask(address, f"{at}/fields", {"name": "prompt", "title": "Prompt", "required": True, "settings": text}, owner)
    ask(address, f"{at}/questions", {"name": "say", "title": "Say", "required": True, "settings": text}, owner)
    ask(address, f"{at}/publish", {}, owner)
    items = [{"fields": {"prompt": words}} for words in ("one", "two")]
    record = ask(address, f"{at}/records/bulk", {"items": items}, owner)["items"][0]["id"]
    answer = {"values": {"say": {"value": "well"}}, "status": "submitted"}
    ask(address, f"/api/v1/records/{record}/responses", answer, annotator)


def test_of_two_serves_at_once_one_starts_the_server_and_the_other_says_where_it_is(commands):
    both = [commands.start("serve", "--port", 0) for _ in range(2)]
    said = [process.communicate(timeout=SECONDS)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    address = running(commands.folder).address
    assert sum(f"answers at {address}\n" in out for out in said) == 1
    assert sum(f"runs already at {address}\n" in out for out in said) == 1
    assert (commands("stop").out, running(commands.folder)) == ("stopped\n", None)


def test_a_server_in_the_foreground_stops_with_ctrl_c(commands):
    process = commands.start("serve", "--port", 0, "--foreground")
    while "Ctrl-C" not in (line := process.stdout.readline()):
        assert line, process.stderr.read()
    assert running(commands.folder)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=SECONDS)
    assert (process.returncode, out) == (0, "stopped\n")
    assert running(commands.folder) is None


def test_a_backup_restores_to_another_folder(served, tmp_path):
    commands, _ = served
    file = tmp_path / "friday.tar.gz"
    said = commands("backup", "--to", file)
    assert (said.code, file.stat().st_mode & 0o777) == (0, 0o600)
    restored = Commands(tmp_path / "restored", commands.environment)
    assert restored("restore", file).code == 0
    assert "anna, ben" in restored("status").out
    assert restored.accounts["anna"] == commands.accounts["anna"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--host", "0.0.0.0"), "--host 0.0.0.0, which others can reach"),
        (("--annotators", "an na"), "user name 'an na'"),
    ],
)
def test_what_the_server_refuses_is_said_in_its_words_without_a_traceback(commands, options, words):
    said = commands("serve", "--port", 0, *options)
    assert (said.code, words in said.err, "Traceback" in said.err) == (1, True, False)


def test_a_port_in_use_is_named(commands):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = commands("serve", "--port", port)
    assert (said.code, f"found port {port} on 127.0.0.1" in said.err) == (1, True)


def test_a_long_log_makes_room_at_the_next_start_and_is_kept_in_place_of_the_one_before(commands):
    commands.folder.mkdir()
    for size in (1_200_000, 1_100_000, 100):
        (commands.folder / "log").write_bytes(b"x" * size)
        commands("serve", "--port", 0, "--annotators", "an na")  # is refused, which the log has
    assert (commands.folder / "log").stat().st_size < 2000
    assert (commands.folder / "log.1").stat().st_size == 1_100_000


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path, annotation_environment):
    (tmp_path / "thesis.txt").write_text("mine")
    mode = tmp_path.stat().st_mode
    said = Commands(tmp_path, annotation_environment)("serve")
    assert (said.code, tmp_path.stat().st_mode, [path.name for path in tmp_path.iterdir()]) == (1, mode, ["thesis.txt"])
    assert "a folder with other files in it" in said.err


def test_commands_on_a_folder_where_nothing_was_served_say_so(tmp_path, annotation_environment):
    commands = Commands(tmp_path / "none", annotation_environment)
    assert (commands("stop").code, commands("status").code) == (0, 0)
    said = commands("users", "add", "anna")
    assert said.code == 1
    assert "prefkit annotate serve" in said.err
    assert not commands.folder.exists()


def test_the_folder_is_the_users_own_unless_a_variable_names_one(monkeypatch, tmp_path):
    monkeypatch.delenv(DIRECTORY, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "prefkit" / "annotation"
    monkeypatch.setenv(DIRECTORY, str(tmp_path / "elsewhere"))
    assert default_folder() == tmp_path / "elsewhere"


# The installation


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server that is one package of one line, which pip can only find in a folder; there is no uv."""
    launcher, wheels = tmp_path / "launcher", tmp_path / "wheels"
    launcher.mkdir()
    wheels.mkdir()
    (launcher / "constraints.txt").write_text("argilla-server==0.1\n")
    with zipfile.ZipFile(wheels / "argilla_server-0.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("argilla_server/__init__.py", "words = 'here'\n")
        wheel.writestr(
            "argilla_server-0.1.dist-info/METADATA", "Metadata-Version: 2.1\nName: argilla-server\nVersion: 0.1\n"
        )
        wheel.writestr(
            "argilla_server-0.1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("argilla_server-0.1.dist-info/RECORD", "")
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return Server(launcher, "0.1", ("argilla-server==0.1",))


def made(of: Server) -> tuple[Path, list[str], dict[str, int]]:
    """Make its environment: the Python, what was said, and how far each bar came."""
    said: list[str] = []
    bars: dict[str, int] = {}

    def opened(title: str, total: int | None, unit: str) -> Callable[[int], None]:
        return lambda done: bars.update({title: done})

    return make(of, opened, said.append), said, bars


def test_an_interrupted_installation_is_not_complete_and_the_next_one_is(tiny):
    leftover = place(tiny).with_name(place(tiny).name + ".part")
    (leftover / "bin").mkdir(parents=True)
    (leftover / "bin" / "python").touch()
    assert python_of(tiny) is None
    python, said, bars = made(tiny)
    assert python == python_of(tiny) == place(tiny) / "bin" / "python"
    assert "1 packages" in said[0]
    assert bars == {"fetched": 1, "unpacked": 1}
    asked = [str(python), "-c", "import argilla_server; print(argilla_server.words)"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "here\n"
    assert not leftover.exists()
    assert made(tiny)[1] == []
    python.unlink()
    python.symlink_to("/nowhere/python3.11")
    assert python_of(tiny) is None


def test_ctrl_c_ends_an_installation_and_leaves_nothing_that_goes_on_writing(tiny):
    def interrupted(title: str, total: int | None, unit: str) -> Callable[[int], None]:
        def advance(done: int) -> None:
            if any(place(tiny).parent.glob("*.part/lib/*/site-packages/pip")):
                raise KeyboardInterrupt

        return advance

    with pytest.raises(KeyboardInterrupt):
        make(tiny, interrupted, lambda line: None)
    time.sleep(1)
    assert sorted(path.suffix for path in place(tiny).parent.iterdir()) == [".lock", ".log"]


def test_a_failed_installation_says_pips_last_words_and_leaves_nothing_that_looks_complete(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(PrefkitError, match=r"No matching distribution found for argilla-server==0\.1") as raised:
        made(tiny)
    assert "same command" in raised.value.remedy
    assert python_of(tiny) is None
    assert sorted(path.suffix for path in place(tiny).parent.iterdir()) == [".lock", ".log"]


def test_without_a_fitting_python_the_message_names_those_that_fit(tiny, monkeypatch):
    monkeypatch.setattr(environment.sys, "version_info", (3, 14, 0))
    with pytest.raises(PrefkitError, match=r"found Python 3\.14, and no other; expected Python 3\.12 or 3\.11"):
        made(tiny)


def test_a_full_disk_is_said_before_anything_is_fetched(tiny, monkeypatch):
    usage = environment.shutil.disk_usage("/")._replace(free=100_000_000)
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(PrefkitError, match="found 100 MB free"):
        made(tiny)


def test_a_named_environment_without_argilla_is_refused(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    with pytest.raises(PrefkitError, match=r"\$PREFKIT_ANNOTATION_ENV, where there is no argilla-server 0\.1"):
        python_of(tiny)


def test_the_pins_cover_what_the_server_needs_for_each_python_it_may_get():
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    of = server()
    project = tomllib.loads((of.launcher / "pyproject.toml").read_text())["project"]
    pins = {requirement.name.lower(): requirement for requirement in map(Requirement, of.pins)}
    for need in map(Requirement, project["dependencies"]):
        assert next(iter(pins[need.name].specifier)).version in need.specifier
    assert all(f"{major}.{minor}" in SpecifierSet(project["requires-python"]) for major, minor in PYTHONS)
