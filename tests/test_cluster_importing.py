"""Scrubbing and importing on a cluster of Ray: what comes out is what the local engine gives."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prefkit.cluster.cluster import Cluster, joined
from prefkit.cluster.importing import import_on_cluster
from prefkit.cluster.scrubbing import scrub_on_cluster
from prefkit.converting import convert
from prefkit.errors import InputError
from prefkit.importing.columns import Kind
from prefkit.importing.importer import import_file
from prefkit.importing.resolver import ImportReport, ImportSettings
from prefkit.prompts.cleaning import scrub_run
from prefkit.records import Message, Prompt, Response
from prefkit.run import Run
from prefkit.store import Store
from tests.making import TWO

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")  # of its own settings, as it reads them
NAMES = ["Ann Example", "Bob Sample", "Cleo Specimen", "Dora Muster"]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two processors of this machine; the one that other tests of this process have made, if they did."""
    with joined(None, 2) as found:
        yield found


def in_parts(run: Run, folder: Path) -> tuple[Run, Store]:
    """The same run with its records in parts."""
    folder.mkdir()
    for file in run.path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    store = Store(str(folder))
    convert(store, "parquet")
    return Run(folder), store


def files(run: Run) -> dict[str, bytes]:
    """All files of a run."""
    found = (path for path in sorted(run.path.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(run.path).as_posix(): path.read_bytes() for path in found}


def signed_run(folder: Path) -> Run:
    """Prompts and responses in which people are named, some scrubbed before, some responses to nobody's prompt."""
    rng = random.Random(2)
    run = Run.create(folder, TWO)
    run.replace(
        Prompt,
        [
            Prompt(
                id=f"p{number}",
                messages=(Message(role="user", content=f"My name is {rng.choice(NAMES)} and I am {number}."),),
                scrubbed=number % 9 == 4,
            )
            for number in range(40)
        ],
    )
    texts = [None, "Rest.", "As [NAME_3] said.", *(f"Rest. {name}, LMFT, (202) 555-0143" for name in NAMES)]
    answers = [
        Response(id=str(at), prompt_id=f"p{rng.randrange(43)}", policy="A", text=rng.choice(texts), scrubbed=not at % 7)
        for at in range(150)
    ]
    run.replace(Response, answers)
    return run


def test_a_run_scrubbed_on_a_cluster_has_the_words_counts_and_order_of_the_local_engine(tmp_path, cluster, monkeypatch):
    for name, size in (("PROMPTS_AT_ONCE", 15), ("RESPONSES_AT_ONCE", 60)):
        monkeypatch.setattr(f"prefkit.cluster.scrubbing.{name}", size)
    run = signed_run(tmp_path / "local")
    there, store = in_parts(run, tmp_path / "parts")
    before = store.stamps("prompts.parquet"), store.stamps("responses.parquet"), store.read("run.json")
    dry = scrub_on_cluster(there, store, cluster, dry_run=True)
    assert before == (store.stamps("prompts.parquet"), store.stamps("responses.parquet"), store.read("run.json"))
    assert dry == scrub_run(run, dry_run=True)
    assert dry.examples.most_common() == scrub_run(run, dry_run=True).examples.most_common()
    report, wanted = scrub_on_cluster(there, store, cluster), scrub_run(run)
    assert (report.texts, report.found.most_common()) == (wanted.texts, wanted.found.most_common())
    assert len(store.stamps("responses.parquet")) == 3 and not store.stamps("by-prompt")
    convert(store, "jsonl")
    assert files(there) == files(run)


# Importing


def lines(*rows: dict[str, object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def some_files(folder: Path, seed: int) -> list[tuple[Kind, Path, ImportSettings]]:
    """Files that refer to prompts by key, id and words, to responses by key and policy, and do much else wrong."""
    rng = random.Random(seed)
    words = [f"I sleep badly, {number} times." for number in range(25)]
    names = [*map(str, range(33)), *words, "nobody's"]

    def key() -> str:
        return rng.choice((*(f"r{rng.randrange(90)}" for _ in range(5)), "A"))

    def prompt(at: int) -> dict[str, object]:
        asked = {"id": rng.choice((at, at, at, rng.randrange(30), None)), "topic": rng.choice(("sleep", "work", None))}
        return asked | {"text": words[at % 25] if rng.random() < 0.9 else " "}

    def response(at: int) -> dict[str, object]:
        said = f"Since when, {rng.randrange(9)}?" if rng.random() < 0.9 else ""
        named = {"id": rng.choice((key(), key(), None)), "policy": rng.choice("ABC")}
        return named | {"prompt": rng.choice(names), "text": said}

    def rating(at: int) -> dict[str, object]:
        who = {"annotator": rng.choice(("human:a", "human:b", "human:c", "x")), "policy": rng.choice("ABCD")}
        what = {"prompt": rng.choice((*names, None)), "response": rng.choice((key(), None, None))}
        return who | what | {"warm": rng.choice((1, 2, 3, 4, 5, 9, None, "x"))}

    def comparison(at: int) -> dict[str, object]:
        by_policy = {"prompt": rng.choice(names), "a": rng.choice("ABC"), "b": rng.choice("ABC")}
        return rng.choice((by_policy, {"a": key(), "b": key()})) | {"winner": rng.choice("ab02")}

    def preference(at: int) -> dict[str, object]:
        sides = {"chosen": f"Yes {rng.randrange(4)}.", "rejected": f"No {rng.randrange(4)}."}
        return sides | {"prompt": rng.choice((*words, "Another."))}

    by = {"annotator": "human:b"}
    preferred = lines(*map(preference, range(40))) + "{no row\n" + lines(*map(preference, range(40)))
    contents: list[tuple[Kind, str, str, ImportSettings]] = [
        ("prompts", "p", lines(*map(prompt, range(60))), ImportSettings()),
        ("prompts", "p", "", ImportSettings(key_prefix="x-")),
        ("responses", "r", lines(*map(response, range(160))), ImportSettings()),
        ("judgements", "ratings", lines(*map(rating, range(200))), ImportSettings()),
        ("judgements", "compared", lines(*map(comparison, range(80))), ImportSettings(constants=by)),
        ("judgements", "preferred", preferred, ImportSettings(constants=by, skip_broken=True)),
        ("responses", "r", "", ImportSettings()),
    ]
    found = []
    for kind, name, content, settings in contents:
        file = folder / f"{name}.jsonl"
        if content:
            file.write_text(content)
        found.append((kind, file, settings))
    return found


class InOneProcess(Cluster):
    """A cluster that works here, on items and groups in another order each time."""

    def put(self, value: Any) -> Any:
        return SimpleNamespace(get=lambda: value)

    def over(self, items: Any, work: Any, **how: Any) -> Any:
        yield from map(work, random.sample(list(items), len(list(items))))


class GatheredHere(list[Any]):
    """Results of groups, in one process."""

    def kept(self) -> GatheredHere:
        return self

    def then(self, spread: Any, gather: Any) -> Any:
        return iter(gathered_here(self, spread, gather))


def gathered_here(items: Any, spread: Any, gather: Any) -> GatheredHere:
    groups: dict[int, list[Any]] = {}
    for item in random.sample(list(items), len(items)):
        for group, piece in spread(item):
            groups.setdefault(group, []).append(piece)
    return GatheredHere(gather(group, groups[group]) for group in random.sample(list(groups), len(groups)))


def small_lots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let batches, blocks and lots have a few rows."""
    monkeypatch.setattr("prefkit.cluster.import_job.ROWS_AT_ONCE", 20)
    monkeypatch.setattr("prefkit.cluster.import_job.RECORDS_AT_ONCE", 15)
    monkeypatch.setattr("prefkit.cluster.import_lots.ROWS_IN_A_LOT", 8)


def outcome(call: Callable[[], ImportReport]) -> Any:
    """What an import reports, with the order of its counts; or its error."""
    try:
        report = call()
    except InputError as error:
        return str(error)
    return [list(value.items()) if isinstance(value, dict) else value for value in vars(report).values()][:-1]


@pytest.mark.parametrize("seed", range(2))
def test_rows_resolved_apart_bring_what_the_whole_file_brings_in_its_order(tmp_path, monkeypatch, seed):
    small_lots(monkeypatch)
    for module in ("import_lots", "resolving"):
        monkeypatch.setattr(f"prefkit.cluster.{module}.gathered", gathered_here)
    run = Run.create(tmp_path / "local", TWO)
    there, store = in_parts(run, tmp_path / "parts")
    for kind, file, settings in some_files(tmp_path, seed):
        wanted = outcome(lambda: import_file(run, kind, str(file), settings))  # noqa: B023
        name = str(file) if kind == "prompts" else f"file://{file}"
        found = outcome(lambda: import_on_cluster(there, store, kind, name, settings, InOneProcess(1)))  # noqa: B023
        assert found == wanted
    convert(store, "jsonl")
    assert files(there) == files(run)


def test_preferences_imported_on_a_cluster_are_those_of_the_local_engine(tmp_path, cluster, monkeypatch):
    small_lots(monkeypatch)
    run = Run.create(tmp_path / "local", TWO)
    there, store = in_parts(run, tmp_path / "parts")
    kind, file, settings = some_files(tmp_path, 1)[5]
    wanted = outcome(lambda: import_file(run, kind, str(file), settings))
    assert outcome(lambda: import_on_cluster(there, store, kind, str(file), settings, cluster)) == wanted
    assert not store.stamps("by-prompt")
    convert(store, "jsonl")
    assert files(there) == files(run)


@pytest.mark.parametrize(
    ("which", "message"),
    [(5, "preferred.jsonl:41: found"), (2, "r.jsonl:1-160: found no row to import: unknown prompt")],
)
def test_a_file_that_cannot_be_imported_is_told_in_the_same_words_and_changes_nothing(
    tmp_path, monkeypatch, which, message
):
    for module in ("import_lots", "resolving"):
        monkeypatch.setattr(f"prefkit.cluster.{module}.gathered", gathered_here)
    run = Run.create(tmp_path / "local", TWO)
    there, store = in_parts(run, tmp_path / "parts")
    kind, file, settings = some_files(tmp_path, 1)[which]
    settings = dataclasses.replace(settings, skip_broken=False)
    before = files(there)
    wanted = outcome(lambda: import_file(run, kind, str(file), settings))
    assert message in wanted
    for name in (str(file), f"file://{file}"):
        found = outcome(lambda: import_on_cluster(there, store, kind, name, settings, InOneProcess(1)))  # noqa: B023
        assert found == wanted
    assert files(there) == before
