"""Nothing is lost in faults: kill -9 at random moments, two processes on one run, a full disk, readers' memory.

    python -m benchmarks.faults --size small|full

The commands are real processes on generated data (small: 300 prompts, 1,200 responses, 6 kills a command; full: 3,000,
12,000 and 30). Each command first runs undisturbed, for its bytes and its duration. Then it runs on a copy of the same
run and is killed at a moment of that duration, one in each thirtieth; a third as many again are killed within 20 ms of
a change to the run's own files, as most of the time nothing is written. A third of the killed commands are killed once
more while they finish. A run is finished well when every file of it, but for the empty lock file, has the bytes of the
undisturbed one.

The full disk needs the right to mount a tmpfs; without it those checks are left out, and the table says so.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.generated_run import generate
from benchmarks.proof import Check, report
from prefkit.records import Rating
from prefkit.run import Run

SEED = 20261121


@dataclass(frozen=True)
class Size:
    """How much is tried: ``room`` are shares of what a command writes, ``read_prompts`` the smaller run of two that are
    read."""

    prompts: int
    kills: int
    room: tuple[float, ...]
    read_prompts: int


SIZES = {
    "small": Size(300, 6, (0.0, 0.5), 1_000),
    "full": Size(3_000, 30, (0.0, 0.1, 0.3, 0.5, 0.7, 0.9), 10_000),
}
COMMANDS = {
    "import prompts": ["import", "prompts", "RUN", "prompts.csv"],
    "import responses": ["import", "responses", "RUN", "responses.jsonl"],
    "import judgements": ["import", "judgements", "RUN", "ratings.csv"],
    "scrub": ["scrub", "RUN"],
    "build-pairs": ["build-pairs", "RUN"],
}
Contents = dict[str, bytes | None]


def main() -> int:
    """Run the checks of a size and say how they went."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SIZES, default="full")
    size = SIZES[parser.parse_args().size]
    with tempfile.TemporaryDirectory() as folder:
        stages = undisturbed(Path(folder), size.prompts)
        checks = [check for stage in stages for check in killed(stage, size.kills)]
        checks += two_processes(stages)
        checks += full_disk(Path(folder), stages, size.room)
        checks += readers(Path(folder), size.read_prompts)
    return report("faults", checks)


@dataclass(frozen=True)
class Stage:
    """A command, the run as it was before it, and as it is after it when nothing goes wrong."""

    name: str
    arguments: list[str]
    run: Path
    before: Path
    after: Contents
    seconds: float

    def command(self, run: Path) -> list[str]:
        """The command for a run folder."""
        return [sys.executable, "-m", "prefkit", *(str(run) if part == "RUN" else part for part in self.arguments)]

    def fresh(self) -> Path:
        """The run as it was before."""
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(self.before, self.run)
        return self.run


def undisturbed(folder: Path, n_prompts: int) -> list[Stage]:
    """Run each command once, from foreign files to pairs."""
    sources, run, stages = folder / "sources", folder / "run", list[Stage]()
    write_sources(sources, n_prompts)
    prefkit("new", run, "--rubric", "psychocounsel")
    for name, command in COMMANDS.items():
        arguments = [str(sources / part) if "." in part else part for part in command]
        before = folder / f"before {name}"
        shutil.copytree(run, before)
        start = time.perf_counter()
        prefkit(*(str(run) if part == "RUN" else part for part in arguments))
        stages.append(Stage(name, arguments, run, before, contents(run), time.perf_counter() - start))
    return stages


def write_sources(folder: Path, n_prompts: int) -> None:
    """A generated run as the files that a user would import; every seventh prompt has something to scrub."""
    folder.mkdir()
    run = generate(folder / "generated", n_prompts)
    keys, asked = {}, {}
    with open(folder / "prompts.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["key", "text"])
        for number, prompt in enumerate(run.prompts()):
            keys[prompt.id] = f"q{number}"
            name = " My name is Anna Example, call (202) 555-0143." if number % 7 == 0 else ""
            rows.writerow([keys[prompt.id], prompt.messages[0].content + name])
    with open(folder / "responses.jsonl", "w", encoding="utf-8") as lines:
        for response in run.responses():
            asked[response.id] = keys[response.prompt_id], response.policy
            row = {"prompt": keys[response.prompt_id], "policy": response.policy, "text": response.text}
            lines.write(json.dumps(row) + "\n")
    with open(folder / "ratings.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["prompt", "policy", "annotator", *run.rubric.principle_ids])
        for rating in run.judgements():
            assert isinstance(rating, Rating)
            rows.writerow([*asked[rating.response_id], rating.annotator, *rating.scores.values()])


def prefkit(*arguments: object) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "prefkit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def tried(command: list[str]) -> subprocess.CompletedProcess[str]:
    """What comes of a command that may fail."""
    return subprocess.run(command, check=False, capture_output=True, text=True)


def contents(run: Path) -> Contents:
    """Every file below a folder with its bytes, and every folder; less the lock file, which holds nothing."""
    paths = (path for path in sorted(run.rglob("*")) if path.name != ".lock")
    return {str(path.relative_to(run)): path.read_bytes() if path.is_file() else None for path in paths}


# Kills


@dataclass
class Kills:
    """What came of the kills of one command."""

    done: int = 0
    again: int = 0
    halfway: int = 0
    """Kills that left a file that is neither as before nor as after, or one that is not yet in its place."""
    finished: int = 0
    different: list[str] = field(default_factory=list)


def killed(stage: Stage, n_kills: int) -> list[Check]:
    """Kill a command in each part of its duration and while it writes, and finish it with the same command."""
    rng = random.Random(f"{SEED} {stage.name}")
    kills = Kills()
    for part in range(n_kills):
        moment = stage.seconds * (part + rng.random()) / n_kills
        while not kill(stage.command(stage.fresh()), moment):
            moment *= rng.random()
        settle(stage, kills, rng)
    for _ in range(n_kills // 3):
        while not kill_writing(stage.command(stage.fresh()), stage.run, rng.random() * 0.02):
            pass
        settle(stage, kills, rng)
    wanted = n_kills + n_kills // 3
    words = (
        f"{stage.name}: kills, one in each {n_kills}th of its {stage.seconds:.1f} s, and {n_kills // 3} as it writes"
    )
    compared = f"{stage.name}: files with other bytes, of {wanted * len(stage.after):,} compared"
    which = " ".join(sorted(set(kills.different)))
    return [
        Check(words, kills.done, "", f"= {wanted}", kills.done == wanted),
        Check(f"{stage.name}: of them killed once more while it finished", kills.again),
        Check(f"{stage.name}: of them with files half written or half in place", kills.halfway),
        Check(
            f"{stage.name}: finished by the same command", kills.finished, "", f"= {wanted}", kills.finished == wanted
        ),
        Check(compared, len(kills.different), which, "= 0", not kills.different),
    ]


def settle(stage: Stage, kills: Kills, rng: random.Random) -> None:
    """Finish a run whose command was just killed, and count what came of it."""
    kills.done += 1
    kills.halfway += halfway(contents(stage.before), contents(stage.run), stage.after)
    if rng.random() < 1 / 3:
        kills.again += kill(stage.command(stage.run), rng.random() * stage.seconds)
    done, found = tried(stage.command(stage.run)), contents(stage.run)
    kills.finished += done.returncode == 0 and found == stage.after
    kills.different += [name for name in found.keys() | stage.after.keys() if found.get(name) != stage.after.get(name)]


def kill(command: list[str], moment: float) -> bool:
    """Start a command and kill it after so many seconds; False where it had ended before."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(moment)
        process.kill()
        return process.wait() == -signal.SIGKILL


def kill_writing(command: list[str], run: Path, delay: float) -> bool:
    """Start a command and kill it so many seconds after the first change to the run's own files."""

    def sizes() -> set[tuple[str, int]]:
        with os.scandir(run) as entries:
            own = (entry for entry in entries if not entry.name.startswith((".lock", "new-", "rejects")))
            return {(entry.name, entry.stat().st_size) for entry in own}

    before = sizes()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        with contextlib.suppress(FileNotFoundError):
            while process.poll() is None and sizes() == before:
                time.sleep(0.0002)
        time.sleep(delay)
        process.kill()
        return process.wait() == -signal.SIGKILL


def halfway(before: Contents, found: Contents, after: Contents) -> bool:
    """Whether a file is not yet in its place, or neither as it was before the command nor as it is after it, or whether
    some are as before and others as after."""
    now = {name: text for name, text in found.items() if name not in (".lock-holder", "rejects")}
    states = set[str]()
    for name in now.keys() | (before.keys() | after.keys()) - {"rejects"}:
        text, old, new = now.get(name), before.get(name), after.get(name)
        if old != new:
            states.add("before" if text == old else "after" if text == new else "between")
    return any(name.endswith(".part") for name in now) or "between" in states or len(states) > 1


# Two processes


def two_processes(stages: list[Stage]) -> list[Check]:
    """Stop a command in the middle, try every other one, then kill it."""
    stage = stages[-1]
    run = stage.fresh()
    with subprocess.Popen(stage.command(run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as holder:
        note = run / ".lock-holder"
        while not (note.exists() and note.stat().st_size):
            time.sleep(0.001)
        holder.send_signal(signal.SIGSTOP)
        held = contents(run)
        refused = 0
        for other in stages:
            done = tried(other.command(run))
            told = f"in use by process {holder.pid} (prefkit {stage.name})" in done.stderr
            refused += done.returncode == 1 and told and done.stderr.count("\n") == 2
        unchanged = contents(run) == held
        reads = tried([sys.executable, "-m", "prefkit", "status", str(run)]).returncode == 0
        holder.kill()
    done = tried(stage.command(run))
    free = done.returncode == 0 and contents(run) == stage.after
    return [
        Check(
            "second process: refused, told the first one's pid",
            refused,
            "commands",
            f"= {len(stages)}",
            refused == len(stages),
        ),
        Check("second process: run unchanged by it", str(unchanged), "", "True", unchanged),
        Check("status while another process writes", str(reads), "", "True", reads),
        Check("after kill -9 of the first: lock free, same bytes", str(free), "", "True", free),
    ]


# A full disk


def full_disk(folder: Path, stages: list[Stage], shares: tuple[float, ...]) -> list[Check]:
    """Run every command with too little room, on a file system that is then made larger."""
    with contextlib.ExitStack() as stack:
        try:
            disk = stack.enter_context(mounted(folder / "disk"))
        except (OSError, subprocess.CalledProcessError) as error:
            return [Check("full disk", f"left out: no tmpfs can be mounted here ({error})")]
        full = refused = unchanged = same = 0
        for stage in stages:
            before = contents(stage.before)
            size = sum(len(text or b"") for name, text in stage.after.items() if text != before.get(name))
            for room in shares:
                resize(disk, "1g")
                for path in disk.iterdir():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                run = disk / "run"
                shutil.copytree(stage.before, run)
                leave(disk, int(size * room))
                done = tried(stage.command(run))
                if done.returncode == 0:
                    continue
                full += 1
                one = done.stderr.startswith("Error: ") and done.stderr.count("\n") == 2
                refused += done.returncode == 1 and one and "no space left" in done.stderr
                unchanged += contents(run) == before
                resize(disk, "1g")
                tried(stage.command(run))
                same += contents(run) == stage.after
    goal = f"= {full}"
    return [
        Check("full disk: commands that ran out of room", full, "", f">= {len(stages)}", full >= len(stages)),
        Check("full disk: one message, exit code 1", refused, "", goal, refused == full),
        Check("full disk: all files as before, nothing half-written", unchanged, "", goal, unchanged == full),
        Check("full disk: with room made, finished to the same bytes", same, "", goal, same == full),
    ]


@contextlib.contextmanager
def mounted(path: Path) -> Iterator[Path]:
    """A file system in memory."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "prefkit-bench", path], check=True, capture_output=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True, capture_output=True)


def resize(disk: Path, size: str) -> None:
    """Give a file system another size."""
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True, capture_output=True)


def leave(disk: Path, free: int) -> None:
    """Make a file system so small that only so many bytes are free."""
    state = os.statvfs(disk)
    used = (state.f_blocks - state.f_bfree) * state.f_frsize
    resize(disk, str(used + free // 4096 * 4096))


# Memory of readers

READ = """
import sys
from prefkit.records import Rating
from prefkit.run import Run

run = Run(sys.argv[1])
count = sum(1 for read in (run.prompts, run.responses, run.judgements) for _ in read())
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(count, status["VmHWM"].split()[0])
"""


def readers(folder: Path, n_prompts: int) -> list[Check]:
    """Peak memory of a process that reads all records, of a run and of one ten times as large."""
    if not Path("/proc/self/status").exists():
        return [Check("readers: peak memory", "left out: this system does not tell it")]
    checks = []
    for format in ("jsonl", "parquet"):
        peaks = []
        for factor in (1, 10):
            run = folder / f"{format} {factor}"
            generate(run, n_prompts * factor)
            if format == "parquet":
                as_parquet(Run(run))
            done = subprocess.run([sys.executable, "-c", READ, run], capture_output=True, text=True, check=True)
            peaks.append(int(done.stdout.split()[1]) / 1000)
            shutil.rmtree(run)
            checks.append(
                Check(
                    f"readers of {format}: {9 * n_prompts * factor:,} records, peak memory",
                    round(peaks[-1], 1),
                    "MB",
                )
            )
        more = round(peaks[1] - peaks[0], 1) + 0.0  # never -0.0
        checks.append(Check(f"readers of {format}: ten times the records, more memory", more, "MB", "< 20", more < 20))
    return checks


def as_parquet(run: Run) -> None:
    """The run's JSONL files as Parquet."""
    import pyarrow as pa
    from pyarrow import json as arrow_json
    from pyarrow import parquet

    for path in run.path.glob("*.jsonl"):
        table = arrow_json.read_json(path, read_options=arrow_json.ReadOptions(block_size=1 << 26))
        assert isinstance(table, pa.Table)
        parquet.write_table(table, path.with_suffix(".parquet"))
        path.unlink()


if __name__ == "__main__":
    sys.exit(main())
