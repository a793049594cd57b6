"""Near-duplicates and pairs on a cluster of Ray: what comes out is what the local engine gives."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from prefkit.cluster.cluster import Cluster, joined
from prefkit.cluster.duplicates import screen_on_cluster
from prefkit.cluster.pairs import build_pairs_on_cluster
from prefkit.converting import convert
from prefkit.errors import RunError
from prefkit.near_duplicates import find_near_duplicate_pairs, jaccard, may_be_alike, sketches
from prefkit.pairs.build import build_pairs
from prefkit.pairs.settings import PairSettings
from prefkit.parts import generations
from prefkit.prompts.cleaning import screen_run
from prefkit.prompts.screening import ScreenSettings
from prefkit.records import Comparison, Judgement, Message, Prompt, Rating, Response
from prefkit.run import Run, read_pairs
from prefkit.store import Store
from tests.making import TWO

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")  # of its own settings, as it reads them
WORDS = [f"word{number}" for number in range(200)]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two processors of this machine; the one that other tests of this process have made, if they did."""
    with joined(None, 2) as found:
        yield found


def speeches(count: int, seed: int = 7) -> list[str]:
    """Texts of which a third repeat an earlier one, some with words changed."""
    rng = random.Random(seed)
    texts: list[str] = []
    for _ in range(count):
        text = rng.choices(WORDS, k=rng.randint(25, 60))
        if texts and rng.random() < 0.3:
            text = rng.choice(texts).split()
            for _ in range(rng.choice((0, 1, 2, 5))):
                text[rng.randrange(len(text))] = rng.choice(WORDS)
        texts.append(" ".join(text))
    return texts


def judged_run(folder: Path, prompts: int, seed: int = 3) -> Run:
    """A run with several annotators, whose scores are no round numbers; the first of them judges what nobody knows."""
    rng = random.Random(seed)
    run = Run.create(folder, TWO)
    said = [
        Prompt(
            id=f"{number:020x}",
            messages=(Message(role="user", content=text),),
            excluded="long" if number == 5 else None,
        )
        for number, text in enumerate(speeches(prompts, seed))
    ]
    answers = [
        Response(id=f"{prompt.id}/{policy}", prompt_id=prompt.id, policy=policy, text=" ".join(rng.choices(WORDS, k=9)))
        for prompt in said
        for policy in rng.sample("ABCD", rng.randint(1, 4))
    ]
    names = ["human:zoe", "llm:b", "human:amy"]
    stray = {"prompt_id": said[0].id, "rubric": TWO.hash}
    judgements: list[Judgement] = [
        Rating(id="unknown", annotator="human:amy", response_id="nobody's", scores={"warm": 1, "safe": 1}, **stray),
        Rating(id="stranger", annotator="llm:b", response_id="x", scores={}, prompt_id="nowhere", rubric=TWO.hash),
    ]
    for answer in answers:
        for name in rng.sample(names, 2):
            scores = {"warm": 1 + 4 * rng.random(), "safe": rng.randint(1, 5)}
            facts = {"annotator": name, "prompt_id": answer.prompt_id, "rubric": TWO.hash}
            judgements.append(Rating(id=f"{name} on {answer.id}", response_id=answer.id, scores=scores, **facts))
    for first, second in pairwise(answers):
        if first.prompt_id == second.prompt_id:
            facts = {"annotator": "human:zoe", "prompt_id": first.prompt_id, "rubric": TWO.hash}
            ids = {"id": f"zoe on {first.id}", "a": first.id, "b": second.id}
            judgements.append(Comparison(winner=rng.choice(("a", "b", "tie")), **ids, **facts))
    rest = judgements[2:]
    judgements[2:] = rng.sample(rest, len(rest))
    run.replace(Prompt, said)
    run.replace(Response, rng.sample(answers, len(answers)))
    run.replace(Judgement, judgements)
    return run


def in_parts(run: Run, folder: Path) -> tuple[Run, Store]:
    """The same run with its records in parts."""
    folder.mkdir()
    for file in run.path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    store = Store(str(folder))
    convert(store, "parquet")
    return Run(folder), store


def test_sketches_tell_near_duplicates_from_texts_that_share_no_more_than_a_bucket():
    texts = speeches(300)
    sketch = sketches(texts, threshold=0.8)
    first, second = np.triu_indices(len(texts), k=1)
    near = may_be_alike(sketch[first], sketch[second], 0.8)
    found = set(zip(first[near].tolist(), second[near].tolist(), strict=True))
    pairs = find_near_duplicate_pairs(texts, threshold=0.8)
    assert len(pairs) > 30
    assert found >= set(map(tuple, pairs.tolist()))
    assert all(jaccard(texts[one], texts[other]) > 0.3 for one, other in found)


def test_the_screen_on_a_cluster_says_of_each_prompt_what_the_local_one_says(tmp_path, cluster, monkeypatch):
    for name, value in (("PROMPTS_AT_ONCE", 40), ("TEXTS_AT_ONCE", 10), ("KEYS_AT_ONCE", 2000)):
        monkeypatch.setattr(f"prefkit.cluster.duplicates.{name}", value)
    run = judged_run(tmp_path / "local", 100)
    there, store = in_parts(run, tmp_path / "parts")
    settings = ScreenSettings(near_duplicates=0.7)
    report = screen_run(run, settings)
    assert report.excluded["near-duplicate"] and report.excluded["duplicate"]
    assert screen_on_cluster(there, store, settings, cluster) == report
    convert(store, "jsonl")
    assert list(there.prompts()) == list(run.prompts())


def test_pairs_built_on_a_cluster_are_those_of_the_local_engine_row_for_row(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr("prefkit.cluster.pairs.PROMPTS_AT_ONCE", 25)
    run = judged_run(tmp_path / "local", 60)
    there, store = in_parts(run, tmp_path / "parts")
    settings = PairSettings(strategy="all", ties=True, test_size=0.2, near_duplicates=0.7)
    report = build_pairs(run, settings)
    built = build_pairs_on_cluster(there, store, settings, cluster)
    assert vars(built) | {"manifest": report.manifest} == vars(report)
    assert list(read_pairs(there.path / "pairs.parquet")) == list(read_pairs(run.path / "pairs.parquet"))
    for split in ("train", "test"):
        assert dataset(there, split) == dataset(run, split) != []
    assert not store.stamps("by-prompt")


def dataset(run: Run, split: str) -> list[dict[str, object]]:
    """What `datasets` reads from a run's folder."""
    from pyarrow import parquet

    head = (run.path / "dataset" / "README.md").read_text().split("---")[1]
    pattern = next(line.partition("path: ")[2] for line in head.splitlines() if f"path: {split}" in line)
    files = sorted((run.path / "dataset").glob(pattern.strip("'\"")))
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


def test_z_scores_are_for_the_local_engine_and_the_message_says_so(tmp_path):
    run = judged_run(tmp_path / "local", 5)
    with pytest.raises(RunError, match=r"(?s)--z-scores: found --engine ray.*Leave out --engine ray"):
        build_pairs_on_cluster(run, Store(str(run.path)), PairSettings(z_scores=True), Cluster(1))


def test_a_run_in_lines_is_told_how_its_records_come_into_parts(tmp_path):
    run = judged_run(tmp_path / "local", 5)
    assert generations(Store(str(run.path))) is None
    with pytest.raises(RunError, match=r"prefkit convert .* --to parquet"):
        build_pairs_on_cluster(run, Store(str(run.path)), PairSettings(), Cluster(1))
