"""Runs in a bucket and runs in parts: a server that speaks S3 and fails now and then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from pyarrow import parquet

from benchmarks.s3_server import BUCKET, s3_server
from prefkit.columnar import Columnar
from prefkit.converting import convert
from prefkit.errors import RecordError, RunError
from prefkit.lease import LEASE, Lease, leased, this_machine
from prefkit.parts import KINDS, Parts, generations, set_generations
from prefkit.records import Choice, Comparison, Judgement, Message, Prompt, Rating, Response, Rewarded, Usage
from prefkit.store import Store
from prefkit.working_copy import WorkingCopy, working_folder

SAMPLE = Path(__file__).parent.parent / "prefkit" / "sample"
STEPS = (
    ("import", "prompts", "RUN", str(SAMPLE / "prompts.csv")),
    ("import", "responses", "RUN", str(SAMPLE / "responses.jsonl")),
    ("import", "judgements", "RUN", str(SAMPLE / "ratings.csv")),
    ("scrub", "RUN"),
    ("screen", "RUN"),
    ("import", "judgements", "RUN", str(SAMPLE / "comparisons.csv")),
    ("build-pairs", "RUN", "--test-size", "0.2"),
)


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with s3_server(share=0.03) as variables:
        yield variables


@pytest.fixture
def bucket(server, monkeypatch, tmp_path) -> Iterator[str]:
    """The URL of a folder of its own, and a machine of its own."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PREFKIT_CACHE", str(tmp_path / "one"))
    yield f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run as JSONL, from prompts to pairs."""
    from prefkit.cli import main

    folder = tmp_path_factory.mktemp("finished") / "run"
    main(["new", str(folder), "-r", "psychocounsel"])
    for step in STEPS:
        main([str(folder) if word == "RUN" else word for word in step])
    return folder


def lines(folder: Path) -> dict[str, bytes]:
    return {kind: (folder / f"{kind}.jsonl").read_bytes() for kind in KINDS if (folder / f"{kind}.jsonl").exists()}


def records(url: str) -> dict[str, bytes]:
    """What the parts of a run hold, as lines."""
    store = Store(url)
    counting = generations(store) or {}
    found = {kind: list(Parts(store, kind, counting.get(kind, 0)).all()) for kind in KINDS}
    return {kind: b"".join(msgspec.json.encode(one) + b"\n" for one in some) for kind, some in found.items() if some}


def test_a_run_in_a_bucket_that_fails_now_and_then_is_the_run_in_a_folder(prefkit, bucket, finished, monkeypatch):
    assert prefkit("new", bucket, "-r", "psychocounsel").code == 0
    for step in STEPS:
        said = prefkit(*[bucket if word == "RUN" else word for word in step])
        assert said.code == 0, said.err
        assert str(working_folder(bucket)) not in said.out + said.err
    assert records(bucket) == lines(finished)
    store = Store(bucket)
    assert store.read("pairs.parquet") == (finished / "pairs.parquet").read_bytes()
    assert not [name for name in store.stamps() if name.endswith(".jsonl")]
    # another machine has nothing but the bucket
    monkeypatch.setenv("PREFKIT_CACHE", str(working_folder(bucket).parent.parent.parent / "two"))
    assert not working_folder(bucket).exists()
    said = prefkit("status", bucket)
    assert "160 pairs" in said.out and f"prefkit pairs {bucket}" in said.out
    assert lines(working_folder(bucket)) == lines(finished)


def test_what_another_machine_appended_is_appended_here_and_nothing_is_read_twice(prefkit, bucket, monkeypatch):
    one, two = working_folder(bucket).parent.parent, working_folder(bucket).parent.parent.parent / "two"
    prefkit("new", bucket, "-r", "psychocounsel")
    for step in STEPS[:3]:
        prefkit(*[bucket if word == "RUN" else word for word in step])
    monkeypatch.setenv("PREFKIT_CACHE", str(two))
    prefkit("import", "judgements", bucket, SAMPLE / "comparisons.csv")
    monkeypatch.setenv("PREFKIT_CACHE", str(one))
    before = (working_folder(bucket) / "judgements.jsonl").stat()
    assert "40 comparisons" in prefkit("status", bucket).out
    after = (working_folder(bucket) / "judgements.jsonl").stat()
    assert after.st_ino == before.st_ino and after.st_size > before.st_size
    assert len(Parts(Store(bucket), "judgements").names()) == 2


def test_answers_of_a_killed_command_stand_here_and_go_there_with_the_next_one(prefkit, bucket, finished):
    prefkit("new", bucket, "-r", "psychocounsel")
    for step in STEPS[:2]:
        prefkit(*[bucket if word == "RUN" else word for word in step])
    killed = """
import os, signal, sys
from pathlib import Path
from prefkit.run import Run
from prefkit.durable import Appender
run = Run(Path(sys.argv[1]))
with run.writing("judge"), Appender(run.path / "judgements.jsonl") as file:
    for line in open(sys.argv[2], "rb").readlines()[:100]:
        file.append(line)
    file.append(b'{"kind":"rating","id":"torn')
    os.kill(os.getpid(), signal.SIGKILL)
"""
    answers = finished / "judgements.jsonl"
    subprocess.run([sys.executable, "-c", killed, str(working_folder(bucket)), str(answers)], check=False)
    assert "judgements" not in records(bucket)
    assert Store(bucket).read(LEASE) is not None
    assert prefkit("import", "judgements", bucket, SAMPLE / "ratings.csv").code == 0
    assert sorted(records(bucket)["judgements"].splitlines()) == sorted(answers.read_bytes().splitlines()[:240])
    assert Store(bucket).read(LEASE) is None


def test_a_part_that_was_put_when_the_process_died_before_it_noted_so_is_not_put_again(prefkit, bucket):
    prefkit("new", bucket, "-r", "psychocounsel")
    prefkit("import", "prompts", bucket, SAMPLE / "prompts.csv")
    copy = WorkingCopy.of(working_folder(bucket))
    rows = copy.state.records["prompts"]
    rows.next, rows.bytes, rows.parts = (rows.parts[0], rows.bytes), 0, []
    copy._save()
    assert "prompts.jsonl     48" in prefkit("status", bucket).out
    assert prefkit("scrub", bucket).code == 0
    assert len(list(Parts(Store(bucket), "prompts", generations(Store(bucket))["prompts"]).all())) == 48


def test_an_upload_that_was_not_finished_is_not_seen(bucket, server):
    import boto3

    parts = Parts(Store(bucket), "responses")
    whole = [Response(id=str(n), prompt_id="p", policy="m", text="x") for n in range(10)]
    parts.write(parts.name(0), whole)
    client = boto3.client("s3")
    key = f"{bucket.partition(f'{BUCKET}/')[2]}/responses.parquet/{parts.name(1)}"
    upload = client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    for _ in range(20):  # the server fails now and then
        try:
            client.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=1, Body=b"PAR1 and a half")
            break
        except client.exceptions.ClientError:
            continue
    assert parts.names() == [parts.name(0)] and list(parts.all()) == whole


def test_a_part_half_written_on_this_machine_is_not_seen(tmp_path):
    parts = Parts(Store(str(tmp_path)), "responses")
    parts.write(parts.name(0), [Response(id="1", prompt_id="p", policy="m", text="x")])
    whole = (tmp_path / "responses.parquet" / parts.name(0)).read_bytes()
    (tmp_path / "responses.parquet" / f"{parts.name(1)}.part").write_bytes(whole[:50])
    assert parts.names() == [parts.name(0)]
    (tmp_path / "responses.parquet" / parts.name(1)).write_bytes(whole[:50])
    with pytest.raises(RecordError, match="a whole Parquet file"):
        list(parts.all())


def test_one_machine_writes_at_a_time_and_a_dead_ones_hold_ends(prefkit, bucket):
    prefkit("new", bucket, "-r", "psychocounsel")
    store, far = Store(bucket), Lease("prefkit judge", "elsewhere 1", 7, time.time())
    store.write(LEASE, msgspec.json.encode(far))
    said = prefkit("import", "prompts", bucket, SAMPLE / "prompts.csv")
    assert said.code == 1 and "a run in use by prefkit judge, process 7 on elsewhere" in said.err
    assert "prompts" not in records(bucket)
    assert prefkit("status", bucket).code == 0  # reading is free
    far.renewed -= 1000
    store.write(LEASE, msgspec.json.encode(far))
    assert prefkit("import", "prompts", bucket, SAMPLE / "prompts.csv").code == 0
    with leased(store, "judge"), pytest.raises(RunError, match="one writer"), leased(Store(bucket), "judge"):
        store.write(LEASE, msgspec.json.encode(Lease("prefkit judge", this_machine(), os.getppid(), 0.0)))
        with leased(store, "second"):
            pass


def test_where_both_sides_changed_a_file_neither_is_overwritten(prefkit, bucket):
    prefkit("new", bucket, "-r", "psychocounsel")
    prefkit("import", "prompts", bucket, SAMPLE / "prompts.csv")
    here = working_folder(bucket)
    (here / "models.yaml").write_text("ours: {}\n")
    Store(bucket).write("models.yaml", b"theirs: {}\n")
    said = prefkit("status", bucket)
    assert said.code == 1 and f"{bucket}/models.yaml: found a change there and another here" in said.err
    assert str(here.name) in said.err
    assert Store(bucket).read("models.yaml") == b"theirs: {}\n"
    assert (here / "models.yaml").read_text() == "ours: {}\n"


def test_a_file_that_became_a_folder_there_becomes_one_here_and_a_broken_pull_is_gone_on_with(prefkit, bucket):
    prefkit("new", bucket, "-r", "psychocounsel")
    store, here = Store(bucket), working_folder(bucket)
    store.write("dataset/README.md", b"one")
    store.write("extra", b"one file")
    assert prefkit("status", bucket).code == 0
    store.remove(["extra"])
    store.write("extra/a", b"a folder")
    store.write("dataset/README.md", b"two")
    (here / "dataset" / "README.md").write_bytes(b"two")  # fetched by a process that died before it noted so
    assert prefkit("status", bucket).code == 0
    assert (here / "extra" / "a").read_bytes() == b"a folder"
    (here / "extra" / "a").unlink()
    (here / "extra").rmdir()
    (here / "extra").write_bytes(b"one file again")
    assert prefkit("status", bucket).code == 0
    assert store.read("extra") == b"one file again" and store.read("extra/a") is None


@pytest.mark.parametrize("where", ["here", "bucket"])
def test_converting_there_and_back_loses_nothing(prefkit, bucket, finished, tmp_path, where):
    run = str(tmp_path / "run") if where == "here" else bucket
    for path in finished.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            Store(run).upload(path, path.relative_to(finished).as_posix())
    before = {name: Store(run).read(name) for name in Store(run).stamps()}
    said = prefkit("convert", run, "--to", "parquet")
    assert said.out == f"{run}: 48 prompts, 192 responses, 280 judgements, as Parquet parts\n"
    assert records(run) == lines(finished)
    assert not {f"{kind}.jsonl" for kind in KINDS} & set(Store(run).stamps())
    assert "280 (240 ratings, 40 comparisons" in prefkit("status", run).out
    assert prefkit("convert", run, "--to", "jsonl").code == 0
    assert {name: Store(run).read(name) for name in Store(run).stamps()} == before
    assert "280 (240 ratings, 40 comparisons" in prefkit("status", run).out


@pytest.fixture
def outside(monkeypatch, tmp_path) -> Iterator[str]:
    """A place that is not in the house, in this process's memory."""
    import fsspec

    monkeypatch.setenv("PREFKIT_CACHE", str(tmp_path / "one"))
    yield f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").store.clear()


def test_a_clients_words_leave_the_house_scrubbed_or_where_a_run_was_made_for_them(prefkit, outside, finished):
    prefkit("new", outside, "-r", "psychocounsel")
    said = prefkit("import", "prompts", outside, SAMPLE / "prompts.csv")
    assert said.code == 1 and "48 texts that were not scrubbed" in said.err and "--allow-unscrubbed" in said.err
    assert "prompts" not in records(outside)
    said = prefkit("convert", finished, "--to", "parquet", "--out", f"{outside}-scrubbed")
    assert said.code == 0 and records(f"{outside}-scrubbed") == lines(finished)
    assert "160 pairs" in prefkit("status", f"{outside}-scrubbed").out
    assert prefkit("convert", finished, "--to", "jsonl", "--out", f"{outside}-scrubbed").code == 1
    assert prefkit("new", f"{outside}-all", "-r", "psychocounsel", "--allow-unscrubbed").code == 0
    assert prefkit("import", "prompts", f"{outside}-all", SAMPLE / "prompts.csv").code == 0
    said = prefkit("convert", f"{outside}-all", "--to", "jsonl", "--out", f"{outside}-lines")
    assert said.code == 1 and "1 texts that were not scrubbed" in said.err
    assert not [name for name in Store(f"{outside}-lines").stamps() if name.endswith("jsonl")]


def test_what_a_model_answered_is_no_clients_word(outside):
    store = Store(outside)
    answer = Response(id="1", prompt_id="p", policy="m", text="x", usage=Usage(prompt=1, completion=1))
    Parts(store, "responses").write("0000-00000000.parquet", [answer])
    with pytest.raises(RunError, match="1 texts that were not scrubbed"):
        Parts(store, "responses").write("0000-00000001.parquet", [msgspec.structs.replace(answer, usage=None)])


def test_a_conversion_that_died_at_any_moment_is_finished_by_the_same_command(finished, tmp_path):
    def copied(name: str) -> Store:
        store = Store(str(tmp_path / name))
        for kind, text in lines(finished).items():
            store.write(f"{kind}.jsonl", text)
        store.write("run.json", (finished / "run.json").read_bytes())
        return store

    early, late = copied("early"), copied("late")
    parts = Parts(early, "responses")
    parts.write(parts.name(0), list(parts_of(finished, Response))[:50])  # and then it died, before parts.json
    parts.write(parts.name(7), list(parts_of(finished, Response))[50:60])
    convert(early, "parquet")
    assert records(early.url) == lines(finished)
    convert(late, "parquet")
    for kind, text in lines(finished).items():
        late.write(f"{kind}.jsonl", text)  # it died with parts.json, before it removed these
    convert(late, "parquet")
    assert records(late.url) == lines(finished) and not list(Path(late.url).glob("*.jsonl"))


def parts_of(folder: Path, record: type) -> Iterator[Response]:
    from prefkit.run import read_records

    return read_records(folder / "responses.jsonl", record)


def test_what_other_tools_read_of_the_parts_are_the_columns_of_the_records(finished, tmp_path):
    store = Store(str(tmp_path / "run"))
    store.write("run.json", (finished / "run.json").read_bytes())
    for kind, text in lines(finished).items():
        store.write(f"{kind}.jsonl", text)
    convert(store, "parquet")
    table = parquet.read_table(tmp_path / "run" / "judgements.parquet")
    first = json.loads(lines(finished)["judgements"].splitlines()[0])
    row = table.slice(0, 1).to_pylist()[0]
    assert dict(row["scores"]) == first["scores"] and row["response_id"] == first["response_id"]
    assert set(first) <= set(table.schema.names)


EVERYTHING = {
    Prompt: [
        Prompt(id="1", messages=(Message(role="user", content="a\n\x00 ü 🦉"), Message(role="assistant", content=""))),
        Prompt(id="2", messages=(), topic="t", keys=("a", ""), scrubbed=True, marks=("risk:x",), excluded="too short"),
    ],
    Response: [
        Response(id="1", prompt_id="p", policy="m", text=None),
        Response(
            id="2", prompt_id="p", policy="m", text="", sample=3, sampling={"temperature": 0.7, "stop": [["x"], None]},
            finish="length", keys=("k",), scrubbed=True, marks=("empty",),
            usage=Usage(prompt=1, completion=2, cost=0.1),
        ),
    ],
    Judgement: [
        Rating(id="1", annotator="llm:m", prompt_id="p", rubric=None, response_id="r", scores={}),
        Rating(id="2", annotator="llm:m", prompt_id="p", rubric="r", response_id="r", expected=True,
               scores={"b": 1, "a": None, "c": 2.25}, usage=Usage(prompt=1, completion=1)),
        Rating(id="3", annotator="llm:m", prompt_id="p", rubric="r", response_id="r", scores={"a": None},
               failure="not JSON", reply="{", flags=("risk",), seconds=1.5, reason="why"),
        Comparison(id="4", annotator="human:x", prompt_id="p", rubric="r", a="1", b="2", winner=None),
        Comparison(id="5", annotator="human:x", prompt_id="p", rubric="r", a="1", b="2", winner="tie",
                   principles={"z": "a", "y": None}, preference=0.0, strength=1),
        Choice(id="6", annotator="human:x", prompt_id="p", rubric="r", responses=("1", "2", "3"), best=None),
        Choice(id="7", annotator="human:x", prompt_id="p", rubric="r", responses=("1", "2", "3"), best=0, sample=2),
    ],
    Rewarded: [
        Rewarded(id="1", model="m", prompt_id="p", response_id="r", policy="q", reward=None, normalised=None,
                 failure="too long"),
        Rewarded(id="2", model="m", prompt_id="p", response_id="r", policy="q", reward=1e-300, normalised=float("inf"),
                 heads={"a": 4.0, "b": -0.1}),
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", EVERYTHING, ids=["prompts", "responses", "judgements", "rewards"])
def test_a_record_comes_back_from_its_columns_as_it_was(kind):
    columnar = Columnar(kind)
    back = list(columnar.records(columnar.table(EVERYTHING[kind])))
    assert back == EVERYTHING[kind]
    assert list(map(msgspec.json.encode, back)) == list(map(msgspec.json.encode, EVERYTHING[kind]))


def test_rewritten_records_change_all_at_once_and_earlier_parts_are_not_read(tmp_path):
    store = Store(str(tmp_path))
    old, new = Parts(store, "responses", 0), Parts(store, "responses", 1)
    some = [Response(id=str(n), prompt_id="p", policy="m", text="old") for n in range(3)]
    old.write_all(some)
    set_generations(store, {})
    new.write_all([msgspec.structs.replace(one, text="new") for one in some])
    assert {one.text for one in Parts(store, "responses", generations(store).get("responses", 0)).all()} == {"old"}
    set_generations(store, {"responses": 1})
    assert {one.text for one in Parts(store, "responses", generations(store)["responses"]).all()} == {"new"}
    store.remove(new.earlier())
    assert old.names() == [] and len(new.names()) == 1


def test_blocks_cover_every_record_once(tmp_path):
    parts = Parts(Store(str(tmp_path)), "responses")
    some = [Response(id=str(n), prompt_id="p", policy="m", text="x") for n in range(10_000)]
    parts.write(parts.name(0), some[:9_000])
    parts.write(parts.name(1), some[9_000:])
    blocks = parts.blocks(700)
    assert [block.number for block in blocks] == list(range(15))
    assert [one for block in blocks for one in parts.read(block.part, block.first, block.count)] == some


def test_the_address_of_a_server_is_no_run(prefkit, tmp_path):
    prefkit("new", tmp_path / "run", "-r", "psychocounsel")
    said = prefkit("annotate", "push", tmp_path / "run", "--url", "http://127.0.0.1:1", "--key", "x")
    assert "run.json" not in said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("status", "BUCKET/nothing"), ("found no run.json", "prefkit new BUCKET/nothing")),
        (("status", "s3://no-such-bucket/run"), ("s3://no-such-bucket/run: found no run.json",)),
        (("new", "s3://no-such-bucket/run", "-r", "psychocounsel"), ("a place that is there", "Make the bucket first")),
        (("status", "foo://a/run"), ("a URL that fsspec reads",)),
        (("status", "gs://a/run"), ("pip install 'prefkit[gcs]'",)),
        (("convert", "BUCKET/nothing", "--to", "jsonl"), ("found no run.json",)),
    ],
)
def test_what_is_wrong_with_a_place_is_one_message(prefkit, bucket, arguments, words):
    said = prefkit(*[word.replace("BUCKET", bucket) for word in arguments])
    assert said.code == 1 and "Traceback" not in said.err
    for word in words:
        assert word.replace("BUCKET", bucket) in said.err
