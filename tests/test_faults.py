"""Nothing is lost in faults: kill -9 at any moment, a full disk, two processes on one run.

The commands are the real ones. A driver process imports prefkit once and forks a child for each attempt, so that
hundreds of them are quick; an audit hook in the child, not in prefkit, counts the changes that it makes to the run
folder and kills it before the one that is asked for. Random kills run the command line as a user would.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from prefkit.rubric_files import load_rubric

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills, limits and mounts are POSIX here")

DRIVER = """
import gc, json, os, resource, signal, sys, traceback
from importlib import import_module

from prefkit.cli import COMMANDS, main

for name in ("importing.importer", "prompts.cleaning", "pairs.build", "pairs.dataset", "pairs.reading", "status"):
    import_module(f"prefkit.{name}")
for module, _ in COMMANDS.values():
    import_module(f"prefkit.cli.{module}")
import filelock, pyarrow.parquet, rich.console, sklearn.model_selection, yaml

# What is loaded on first use is loaded here, once for all children.
from prefkit.near_duplicates import near_duplicate_groups
from prefkit.language import detect_language

near_duplicate_groups(["words"], threshold=0.8, seed=0)
detect_language("Words in a language.")
gc.collect()
gc.freeze()

CHANGES = {"open", "os.rename", "os.remove", "os.truncate", "os.mkdir", "os.rmdir", "os.link", "os.symlink"}


def attempt(task, answer):
    changes = []

    def hook(event, arguments):
        if event in CHANGES and isinstance(arguments[0], (str, bytes, os.PathLike)):
            path = os.fsdecode(arguments[0])
            reads = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if path.startswith(task["folder"]) and not reads:
                changes.append(f"{event} {path[len(task['folder']):]}")
                if len(changes) == task["kill_before"]:
                    os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    if task["largest"] is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (task["largest"], task["largest"]))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if task["deadly"] else signal.SIG_IGN)
    if task["user"] is not None:
        os.setgroups([])
        os.setgid(task["user"])
        os.setuid(task["user"])
    code = 0
    try:
        main(task["command"])
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        traceback.print_exc()
        code = 70
    gc.collect()
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(answer, json.dumps([code, changes]).encode())


for line in sys.stdin:
    task = json.loads(line)
    (reading, answer), (shown, screen) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        try:
            os.dup2(screen, 1)
            os.dup2(screen, 2)
            os.close(shown)
            attempt(task, answer)
        finally:
            os._exit(0)
    os.close(answer)
    os.close(screen)
    words = open(shown, errors="replace").read()
    said = open(reading, "rb").read()
    _, status = os.waitpid(child, 0)
    code, changes = json.loads(said) if said else (os.waitstatus_to_exitcode(status), [])
    print(json.dumps({"code": code, "changes": changes, "words": words}), flush=True)
"""


@dataclass(frozen=True)
class Attempt:
    """What came of a command: exit code (negative: the signal that killed it), what it changed, what it said."""

    code: int
    changes: list[str]
    words: str


class Driver:
    """Runs commands in forked children of one process, which may be killed, confined, or be somebody else."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", DRIVER]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(
        self,
        command: list[str],
        folder: Path,
        *,
        kill_before: int | None = None,
        largest: int | None = None,
        deadly: bool = False,
        user: int | None = None,
    ) -> Attempt:
        assert self.process.stdin and self.process.stdout
        task = {"command": command, "folder": str(folder), "kill_before": kill_before}
        self.process.stdin.write(json.dumps({**task, "largest": largest, "deadly": deadly, "user": user}) + "\n")
        self.process.stdin.flush()
        return Attempt(**json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.close()


Make = Callable[[Path, Path], list[str]]
"""A command's arguments, given the run folder and the folder of the foreign files."""
COMMANDS: dict[str, Make] = {
    "import prompts": lambda run, files: ["import", "prompts", str(run), str(files / "prompts.csv")],
    "import responses": lambda run, files: ["import", "responses", str(run), str(files / "responses.jsonl")],
    "import ratings": lambda run, files: ["import", "judgements", str(run), str(files / "ratings.csv")],
    "import preferences": lambda run, files: [
        *("import", "judgements", str(run), str(files / "preferences.jsonl")),
        *("--set", "annotator=human:ann"),
    ],
    "scrub": lambda run, files: ["scrub", str(run)],
    "screen": lambda run, files: ["screen", str(run), "--max-chars", "5000"],
    "build-pairs": lambda run, files: ["build-pairs", str(run), "--min-gap", "0.5", "--no-gates"],
    "build-pairs again": lambda run, files: ["build-pairs", str(run), "--strategy", "all", "--format", "plain"],
}
POLICIES = ("one", "two", "three")


def write_sources(folder: Path, n_prompts: int) -> None:
    """Foreign files with the faults that real ones have: repeated rows, keys of two prompts, unknown prompts, scores
    out of range, names and telephone numbers to scrub."""
    rng = random.Random(7)
    words = ["".join(rng.choices("abcdefghijklm", k=5)) for _ in range(500)]
    folder.mkdir(parents=True)
    texts = [" ".join(rng.choices(words, k=200)) for _ in range(n_prompts)]
    for number in range(0, n_prompts, 5):
        texts[number] += " My name is Anna Example, call (202) 555-0143."
    rows = [[f"q{number}", text] for number, text in enumerate(texts)]
    rows += [
        ["other key", texts[1]],
        ["q3", "Other words under the key of the fourth question."],
        ["q1", texts[1]],
        ["", ""],
    ]
    _write_csv(folder / "prompts.csv", ["key", "text"], rows)
    with open(folder / "responses.jsonl", "w", encoding="utf-8") as file:
        for number in range(n_prompts):
            for policy in POLICIES:
                text = "Dear Anna, " * (number % 5 == 0) + " ".join(rng.choices(words, k=15))
                text += " Yours, Bob Sample, LMFT" * (number % 6 == 0)
                file.write(json.dumps({"prompt": f"q{number}", "policy": policy, "text": text}) + "\n")
        file.write(json.dumps({"prompt": "q1", "policy": "one", "text": "A second sample."}) + "\n")
        file.write(json.dumps({"prompt": "q1000000", "policy": "one", "text": "To nothing."}) + "\n")
    principles = load_rubric("psychocounsel").principle_ids
    ratings = [
        [f"q{number}", policy, "llm:judge", *rng.choices([1, 2, 3, 4, 5, 6], [9, 9, 9, 9, 9, 1], k=len(principles))]
        for number in range(n_prompts)
        for policy in POLICIES
    ]
    ratings.append(["q2", "one", "llm:judge", *[9] * len(principles)])
    ratings.append(["q5", "two", "human:bea", *[9] * len(principles)])
    _write_csv(folder / "ratings.csv", ["prompt", "policy", "annotator", *principles], ratings)
    with open(folder / "preferences.jsonl", "w", encoding="utf-8") as file:
        for number in range(n_prompts // 2):
            row = {"prompt": f"New words {number // 2}", "chosen": f"good {number}", "rejected": f"bad {number}"}
            file.write(json.dumps(row) + "\n")


def _write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def contents(run: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its bytes, and every folder; less the lock file, which holds nothing."""
    paths = (path for path in sorted(run.rglob("*")) if path.name != ".lock")
    return {str(path.relative_to(run)): path.read_bytes() if path.is_file() else None for path in paths}


def fresh(run: Path, before: Path) -> Path:
    """The run as it was before the command."""
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(before, run)
    return run


@dataclass(frozen=True)
class Undisturbed:
    """Each command's run as it was before and is after it, when nothing goes wrong.

    The run stands at ``run`` for every command, as paths may be written into files.
    """

    run: Path
    files: Path
    before: dict[str, Path]
    after: dict[str, dict[str, bytes | None]]
    changes: dict[str, list[str]]

    def command(self, name: str) -> list[str]:
        return COMMANDS[name](self.run, self.files)

    def fresh(self, name: str) -> Path:
        return fresh(self.run, self.before[name])


@pytest.fixture(scope="module")
def undisturbed(driver: Driver, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    base = tmp_path_factory.mktemp("undisturbed")
    found = Undisturbed(base / "run", base / "files", {}, {}, {})
    write_sources(found.files, 30)
    assert driver(["new", str(found.run), "--rubric", "psychocounsel"], found.run).code == 0
    for name in COMMANDS:
        found.before[name] = base / f"before {name}"
        shutil.copytree(found.run, found.before[name])
        done = driver(found.command(name), found.run)
        assert done.code == 0, done.words
        found.after[name] = contents(found.run)
        found.changes[name] = done.changes
        assert found.after[name] != contents(found.before[name])
    return found


each_command = pytest.mark.parametrize("name", COMMANDS)
# Ratings are written as preferences are, and what screening changes as what scrubbing does.
each_killed = pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("import ratings", "screen")])


@each_command
def test_the_same_command_again_changes_nothing(name: str, driver: Driver, undisturbed: Undisturbed):
    run = undisturbed.fresh(name)
    for _ in range(2):
        assert driver(undisturbed.command(name), run).code == 0
        assert contents(run) == undisturbed.after[name]


@each_killed
def test_killed_before_any_of_its_changes_it_is_finished_by_the_same_command(
    name: str, driver: Driver, undisturbed: Undisturbed
):
    rng = random.Random(name)
    command, changes = undisturbed.command(name), undisturbed.changes[name]
    locked = changes.index("open /.lock-holder") + 1
    assert len(changes) > locked + 4
    for number, change in enumerate(changes[locked - 1 :], locked):
        run = undisturbed.fresh(name)
        assert driver(command, run, kill_before=number).code == -signal.SIGKILL
        if number % 4 == 0:
            driver(command, run, kill_before=rng.randint(locked, len(changes)))
        finished = driver(command, run)
        assert finished.code == 0, (change, finished.words)
        assert contents(run) == undisturbed.after[name], change


@each_killed
def test_killed_in_the_middle_of_a_write_it_is_finished_by_the_same_command(
    name: str, driver: Driver, undisturbed: Undisturbed
):
    """The kernel kills it (SIGXFSZ) where a file grows beyond a limit, so that the file ends at that very byte."""
    command, killed = undisturbed.command(name), 0
    for limit in limits(undisturbed, name):
        run = undisturbed.fresh(name)
        outcome = driver(command, run, largest=limit, deadly=True)
        killed += outcome.code == -signal.SIGXFSZ
        assert outcome.code in (0, -signal.SIGXFSZ)
        assert driver(command, run).code == 0
        assert contents(run) == undisturbed.after[name], limit
    assert killed > 1


def limits(undisturbed: Undisturbed, name: str) -> list[int]:
    """Sizes at which the files that the command writes are half done; the largest, and one that is appended to, also
    all but for the last byte."""
    before, after = contents(undisturbed.before[name]), undisturbed.after[name]
    written = {path: text for path, text in after.items() if text and text != before.get(path)}
    starts = {
        path: len(before.get(path) or b"") if is_appended(path, before, text) else 0 for path, text in written.items()
    }
    half = {(starts[path] + len(text)) // 2 for path, text in written.items()}
    whole = {len(text) for path, text in written.items() if starts[path]} | {max(map(len, written.values()))}
    return sorted(half | {size - 1 for size in whole})


def is_appended(path: str, before: dict[str, bytes | None], text: bytes) -> bool:
    return path in ("responses.jsonl", "judgements.jsonl") and text.startswith(before.get(path) or b"")


@each_command
def test_no_room_at_any_byte_is_one_message_and_changes_nothing(name: str, driver: Driver, undisturbed: Undisturbed):
    command, refused = undisturbed.command(name), 0
    before = contents(undisturbed.before[name])
    for limit in limits(undisturbed, name):
        run = undisturbed.fresh(name)
        outcome = driver(command, run, largest=limit)
        if outcome.code == 0:
            assert contents(run) == undisturbed.after[name]
            continue
        refused += 1
        assert_refused_for_room(outcome)
        assert contents(run) == before, limit
    assert refused > 1


def assert_refused_for_room(outcome: Attempt) -> None:
    assert outcome.code == 1, outcome.words
    assert outcome.words.startswith("Error: "), outcome.words
    assert "found no space left on the disk" in outcome.words
    assert outcome.words.count("\n") == 2, outcome.words
    assert "Traceback" not in outcome.words and "ignored" not in outcome.words


@pytest.mark.parametrize("name", ["import prompts", "import responses", "import ratings", "scrub", "build-pairs"])
def test_killed_at_random_moments_the_command_line_finishes_to_the_same_bytes(name: str, undisturbed: Undisturbed):
    """The killed command is started again, and killed again."""
    rng = random.Random(name)
    command = [sys.executable, "-m", "prefkit", *undisturbed.command(name)]
    run = undisturbed.fresh(name)
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    whole = time.monotonic() - start
    assert contents(run) == undisturbed.after[name]
    undisturbed.fresh(name)
    killed = 0
    for _ in range(3 if name == "build-pairs" else 6):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            time.sleep(rng.uniform(0, whole))
            process.kill()
            killed += process.wait() == -signal.SIGKILL
            assert process.stderr and process.stderr.read() == b""
    subprocess.run(command, check=True, capture_output=True)
    assert contents(run) == undisturbed.after[name]
    assert killed > 0


# A full disk

PAGE = 4096
SIZE = "size=2m"


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@dataclass(frozen=True)
class Disk:
    """A small file system in memory."""

    path: Path

    def empty(self) -> None:
        """Remove everything, and be as small as at first."""
        for path in self.path.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        mount("-o", f"remount,{SIZE}", str(self.path))

    def leave(self, free: int) -> None:
        """Fill all but so many bytes."""
        state = os.statvfs(self.path)
        with open(self.path / "filler", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize - free)

    def enlarge(self) -> None:
        """Make room without removing anything."""
        mount("-o", "remount,size=64m", str(self.path))


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    path = tmp_path_factory.mktemp("disk")
    try:
        mount("-t", "tmpfs", "-o", SIZE, "prefkit-test", str(path))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no small file system can be mounted here ({error}); the limits on file sizes stand in for it")
    yield Disk(path)
    subprocess.run(["umount", str(path)], check=True, capture_output=True)


@each_command
def test_a_full_disk_is_one_message_changes_nothing_and_is_overcome_by_making_room(
    name: str, driver: Driver, undisturbed: Undisturbed, disk: Disk
):
    run, before = disk.path / "run", contents(undisturbed.before[name])
    command = COMMANDS[name](run, undisturbed.files)
    written = sum(len(text or b"") for path, text in undisturbed.after[name].items() if text != before.get(path))
    for free in (*(written * part // 8 // PAGE * PAGE for part in (6, 3)), 0):
        disk.empty()
        shutil.copytree(undisturbed.before[name], run)
        disk.leave(free)
        outcome = driver(command, run)
        if outcome.code or not free:
            assert_refused_for_room(outcome)
            assert contents(run) == before, free
    disk.enlarge()
    assert driver(command, run).code == 0
    assert contents(run) == undisturbed.after[name]


def test_a_new_run_on_a_full_disk_is_one_message_and_leaves_room_for_another_try(driver: Driver, disk: Disk):
    run = disk.path / "run"
    command = ["new", str(run), "--rubric", "psychocounsel"]
    disk.empty()
    disk.leave(0)
    assert_refused_for_room(driver(command, run))
    assert not run.exists() or contents(run) == {}
    disk.enlarge()
    assert driver(command, run).code == 0


# Two processes

HOLDER = """
import sys
from prefkit.run import Run

with Run(sys.argv[1]).writing("judge"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def built(undisturbed: Undisturbed) -> Path:
    """A run that has everything."""
    return undisturbed.fresh("build-pairs again")


def hold(run: Path) -> subprocess.Popen[str]:
    """A process that writes to the run until it is told to end."""
    command = [sys.executable, "-c", HOLDER, str(run)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    return process


def test_a_second_writer_is_refused_and_told_who_writes(driver: Driver, undisturbed: Undisturbed, built: Path):
    with hold(built) as holder:
        before = contents(built)
        for name in COMMANDS:
            refused = driver(undisturbed.command(name), built)
            assert refused.code == 1
            assert refused.words.startswith(
                f"Error: {built}: found a run in use by process {holder.pid} (prefkit judge);"
            )
            assert refused.words.count("\n") == 2 and "Traceback" not in refused.words
        assert contents(built) == before
        holder.communicate()


def test_readers_need_not_wait_for_a_writer(driver: Driver, built: Path):
    with hold(built) as holder:
        status, pairs = driver(["status", str(built)], built), driver(["pairs", str(built)], built)
        assert (status.code, status.changes) == (0, []) and "pairs.parquet" in status.words
        assert (pairs.code, pairs.changes) == (0, []) and "chosen" in pairs.words
        holder.communicate()


@pytest.mark.parametrize("end", [subprocess.Popen.communicate, subprocess.Popen.kill], ids=["ended", "killed"])
def test_the_lock_goes_with_its_process(
    end: Callable[[subprocess.Popen[str]], object], driver: Driver, undisturbed: Undisturbed, built: Path
):
    with hold(built) as holder:
        end(holder)
        holder.wait()
        assert driver(undisturbed.command("build-pairs again"), built).code == 0
        assert contents(built) == undisturbed.after["build-pairs again"]


# Not the owner

NOBODY = 65534


@each_command
def test_a_run_of_somebody_else_is_one_message(name: str, driver: Driver, undisturbed: Undisturbed):
    if os.geteuid():
        pytest.skip("only root can become somebody else")
    run = undisturbed.fresh(name)
    with open_to_all(run):
        before = contents(run)
        outcome = driver(undisturbed.command(name), run, user=NOBODY)
        assert outcome.code == 1
        assert outcome.words.startswith(f"Error: {run}") and "permission denied" in outcome.words
        assert outcome.words.count("\n") == 2 and "Traceback" not in outcome.words
        assert contents(run) == before


def test_a_run_of_somebody_else_can_be_read(driver: Driver, built: Path):
    if os.geteuid():
        pytest.skip("only root can become somebody else")
    with open_to_all(built):
        assert driver(["status", str(built)], built, user=NOBODY).code == 0
        assert driver(["pairs", str(built)], built, user=NOBODY).code == 0
    (built / "responses.jsonl").chmod(0)
    with open_to_all(built):
        outcome = driver(["status", str(built)], built, user=NOBODY)
        assert outcome.code == 1
        assert outcome.words.startswith(f"Error: {built}/responses.jsonl: found permission denied;")


@contextlib.contextmanager
def open_to_all(path: Path) -> Iterator[None]:
    """Let everybody pass through pytest's folders above a path, for a while."""
    closed = {folder: folder.stat().st_mode for folder in path.parents if not folder.stat().st_mode & 1}
    for folder, mode in closed.items():
        folder.chmod(mode | 1)
    yield
    for folder, mode in closed.items():
        folder.chmod(mode)
