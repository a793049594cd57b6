"""A run in a bucket that fails now and then, and processes that are killed while they write to it.

    python -m benchmarks.scale_parts.storage [--only demo|kills|answers] [--kills N]

Writes  benchmarks/out/scale-storage.json

The bucket is moto's server in a process of its own; a share of all requests is answered with 500 or with 503 SlowDown.

**demo**      ``prefkit demo s3://bucket/demo``, a fifth of the requests failing, beside ``prefkit demo FOLDER``
**kills**     import, scrub, screen and build-pairs, killed with -9 at random moments, every third time gone on with by
              a machine that has nothing but the bucket; beside the same commands on a folder
**answers**   a judge killed while it asks; the same command goes on
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
from pyarrow import parquet

from benchmarks.judge import copied, new_run, running
from benchmarks.proof import Check, report
from benchmarks.s3_server import BUCKET, s3_server
from prefkit.parts import KINDS, Parts, generations
from prefkit.store import Store

SAMPLE = Path(__file__).parent.parent.parent / "prefkit" / "sample"
SHARE = 0.2
STEPS = (
    ("import", "prompts", "RUN", SAMPLE / "prompts.csv"),
    ("import", "responses", "RUN", SAMPLE / "responses.jsonl"),
    ("import", "judgements", "RUN", SAMPLE / "ratings.csv"),
    ("scrub", "RUN"),
    ("screen", "RUN"),
    ("import", "judgements", "RUN", SAMPLE / "comparisons.csv"),
    ("build-pairs", "RUN", "--test-size", "0.2"),
)


def command(*arguments: object) -> list[str]:
    """A command of prefkit in a process of its own."""
    return [sys.executable, "-m", "prefkit", *map(str, arguments)]


def step(words: tuple[object, ...], run: object) -> list[str]:
    """A step, on a run."""
    return command(*[run if word == "RUN" else word for word in words])


def kept(run: str) -> dict[str, list[bytes]]:
    """The records of a run, in parts or not, as lines."""
    store = Store(run)
    counting = generations(store)
    found: dict[str, list[bytes]] = {}
    for kind in KINDS:
        if counting is None:
            found[kind] = (store.read(f"{kind}.jsonl") or b"").splitlines()
        else:
            records = Parts(store, kind, counting.get(kind, 0)).all()
            found[kind] = [msgspec.json.encode(record) for record in records]
    return found


def pairs(run: str) -> list[object]:
    """The rows of pairs.parquet."""
    with Store(run).opened("pairs.parquet") as file:
        rows: list[object] = parquet.read_table(file).to_pylist()
    return rows


def same(name: str, there: str, here: str) -> list[Check]:
    """Whether two runs hold the same."""
    found, wanted = kept(there), kept(here)
    equal = {kind: found[kind] == wanted[kind] for kind in KINDS if wanted[kind]}
    said = ", ".join(f"{len(wanted[kind]):,} {kind}" for kind in equal)
    rows = pairs(there) == pairs(here)
    return [
        Check(f"{name}: records, byte for byte", said if all(equal.values()) else f"differ: {equal}", goal="the same",
              ok=all(equal.values())),
        Check(f"{name}: rows of pairs.parquet", len(pairs(there)), goal="the same", ok=rows),
    ]  # fmt: skip


def faults() -> int:
    """How many requests the bucket has answered with an error."""
    with urllib.request.urlopen(f"{os.environ['AWS_ENDPOINT_URL']}/faults") as said:
        return int(said.read())


@contextlib.contextmanager
def bucket(share: float = SHARE) -> Iterator[None]:
    """A bucket of this machine, in the environment."""
    with s3_server(share) as variables:
        os.environ.update(variables)
        yield


def demo(folder: Path, kills: int) -> list[Check]:
    """The whole demo in a bucket."""
    os.environ["PREFKIT_CACHE"] = str(folder / "cache")
    here, there = str(folder / "demo"), f"s3://{BUCKET}/demo"
    subprocess.run(command("demo", here), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with bucket():
        done = subprocess.run(command("demo", there), capture_output=True, text=True, check=False)
        checks = [Check("demo: exit code", done.returncode, goal="0", ok=done.returncode == 0)]
        checks += same("demo", f"{there}/run", f"{here}/run")
        asked = [
            {msgspec.json.decode(line)["id"] for line in kept(f"{run}/asked")["responses"]} for run in (there, here)
        ]
        checks.append(Check("demo: ids of what the model was asked", len(asked[0]), goal="the same",
                            ok=asked[0] == asked[1]))  # fmt: skip
        names = {name for name in Store(f"{there}/run").stamps() if not name.endswith(".parquet")}
        wanted = {name for name in Store(f"{here}/run").stamps() if not name.endswith((".parquet", ".jsonl", ".lock"))}
        checks.append(Check("demo: files that a folder has and the bucket lacks", len(wanted - names), goal="0",
                            ok=wanted <= names))  # fmt: skip
        checks.append(Check("demo: requests that failed", faults()))
    return checks


def killed(line: list[str], after: float | None) -> int | None:
    """Run a command, or kill it after some seconds; its exit code, None where it was killed."""
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return None
    return process.returncode


def kills(folder: Path, kills: int) -> list[Check]:
    """Commands killed at random moments."""
    rng, here, there = random.Random(11), str(folder / "run"), f"s3://{BUCKET}/killed"
    steps = (("new", "RUN", "-r", "psychocounsel"), *STEPS)
    for words in steps:
        subprocess.run(step(words, here), check=True, stdout=subprocess.DEVNULL)
    done = machines = refused = 0
    share = kills / len(steps)
    with bucket(0.05):
        for number, words in enumerate(steps):
            due = round(share * (number + 1)) - round(share * number)
            while True:
                os.environ["PREFKIT_CACHE"] = str(folder / f"machine-{machines}")
                code = killed(step(words, there), rng.uniform(0.2, 3.0) if due else None)
                if code is None:
                    done, due = done + 1, due - 1
                    machines += done % 3 == 0
                elif code == 0 or words[0] == "new":  # a `new` that was killed behind its last file was done
                    break
                else:
                    refused += 1
        checks = [Check("kills: of commands in a bucket", done, goal=f"{kills}", ok=done == kills)]
        checks += [Check("kills: gone on with by a machine that had nothing", machines)]
        checks += [Check("kills: commands that ended with an error", refused, goal="0", ok=refused == 0)]
        checks += same("kills", there, here)
    return checks


def answers(folder: Path, kills: int) -> list[Check]:
    """A judge killed while it asks."""
    rng, there, count = random.Random(5), f"s3://{BUCKET}/asked", 2_000
    os.environ["PREFKIT_CACHE"] = str(folder / "cache")
    with running(latency=0.1, jitter=0.2) as server, bucket(0.02):
        run = new_run(folder / "asked", count, server.url)
        store = Store(there)
        for path in copied(run, folder / "copy").iterdir():
            if path.is_file():
                store.upload(path, path.name)
        subprocess.run(command("convert", there, "--to", "parquet"), check=True, stdout=subprocess.DEVNULL)
        line, done = command("judge", there, "--judge", "fake", "--concurrency", 32), 0
        while done < kills:
            goal = server.counts()["requests"] + rng.randint(1, 2 * count // (3 * kills))
            process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while server.counts()["requests"] < goal and process.poll() is None:
                time.sleep(0.01)
            process.kill()
            process.wait()
            done += 1
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ids = Counter(msgspec.json.decode(text)["id"] for text in kept(there)["judgements"])
        asked = server.counts()["requests"]
    return [
        Check("answers: kills of a judge with 32 in flight", done, goal=f"{kills}", ok=done == kills),
        Check("answers: questions without an answer", count - len(ids), goal="0", ok=len(ids) == count),
        Check("answers: questions with two", ids.total() - len(ids), goal="0", ok=ids.total() == len(ids)),
        Check("answers: questions asked again", asked - count, goal=f"<= {32 * done}", ok=asked - count <= 32 * done),
    ]


PARTS = {"demo": demo, "kills": kills, "answers": answers}


def main() -> int:
    """Run the proofs that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=tuple(PARTS), action="append")
    parser.add_argument("--kills", type=int, default=24)
    asked = parser.parse_args()
    checks: list[Check] = []
    for name in asked.only or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            checks += PARTS[name](Path(folder), asked.kills)
    return report("scale-storage", checks)


if __name__ == "__main__":
    sys.exit(main())
