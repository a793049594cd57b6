"""Labels on which annotators agree, and how far each is believed: by hand, on simulated votes, beside crowd-kit."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest
from making import ONE, TWO, best_of, compared, make_run, rated

from prefkit.agreement.consensus import Consensus, Method, consensus
from prefkit.agreement.voting import Ballots, dawid_skene, mace, majority
from prefkit.errors import RunError
from prefkit.records import Comparison

METHODS: tuple[Method, ...] = ("majority", "dawid-skene", "mace")
MIRROR = np.asarray([2, 1, 0])


def ballots(rows: list[tuple[int, int, int]], turned: list[bool] | None = None, mirror: np.ndarray = MIRROR) -> Ballots:
    """Votes as (item, annotator, answer as shown)."""
    table = np.asarray(rows)
    way = np.asarray(turned or [False] * len(rows))
    return Ballots(table[:, 0], table[:, 1], table[:, 2], way, table[:, 0].max() + 1, table[:, 1].max() + 1, mirror)


def simulated(
    skills: list[float], items: int, seed: int, left: list[float] | None = None
) -> tuple[np.ndarray, Ballots]:
    """Three answers of which one is right; who errs says one of the others, who likes the left says 0 unseen."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, items)
    rows, turned = [], []
    for item in range(items):
        for who, skill in enumerate(skills):
            turn = bool(rng.random() < 0.5)
            shown = MIRROR[truth[item]] if turn else truth[item]
            said = shown if rng.random() < skill else (shown + rng.integers(1, 3)) % 3
            rows.append((item, who, 0 if rng.random() < (left or [0.0] * len(skills))[who] else int(said)))
            turned.append(turn)
    return truth, ballots(rows, turned)


def right(probability: np.ndarray, truth: np.ndarray) -> float:
    return float((probability.argmax(axis=1) == truth).mean())


def test_the_majority_is_the_share_of_votes_by_hand():
    labels = majority(ballots([(0, 0, 0), (0, 1, 0), (0, 2, 2), (1, 0, 1)]))
    assert labels.probability.tolist() == [[2 / 3, 0, 1 / 3], [0, 1, 0]]
    # On item 0 the others of annotators 0 and 1 are split one to one; annotator 2 stands against two who agree.
    assert np.isnan(labels.skill[:2]).all()
    assert labels.skill[2] == 0


def test_a_vote_seen_the_other_way_round_counts_for_the_response_and_not_for_the_side():
    labels = majority(ballots([(0, 0, 0), (0, 1, 0)], [False, True]))
    assert labels.probability.tolist() == [[0.5, 0, 0.5]]


def test_dawid_skene_finds_the_expert_among_the_noisy_and_beats_the_majority():
    found = []
    for seed in range(5):
        truth, votes = simulated([0.95, 0.5, 0.5, 0.5, 0.5], 200, seed)
        labels = dawid_skene(votes)
        assert labels.skill.argmax() == 0
        assert labels.skill[0] > labels.skill[1:].max() + 0.1
        found.append(right(labels.probability, truth) - right(majority(votes).probability, truth))
    assert np.mean(found) > 0.05


def test_mace_gives_those_who_guess_little_competence():
    truth, votes = simulated([0.9, 0.9, 1 / 3, 1 / 3, 1 / 3], 200, 1)
    labels = mace(votes)
    assert labels.skill[:2].min() > 0.6
    assert labels.skill[2:].max() < 0.3
    assert right(labels.probability, truth) > right(majority(votes).probability, truth) + 0.05


def test_knowing_the_sides_helps_against_a_liking_for_the_left():
    with_sides, without = [], []
    for seed in range(5):
        truth, votes = simulated([0.6, 0.6, 0.99], 200, seed, left=[0, 0, 0.5])
        blind = Ballots(votes.item, votes.annotator, votes.meant, np.zeros(len(votes.item), bool), 200, 3, np.arange(3))
        with_sides.append(right(dawid_skene(votes).probability, truth))
        without.append(right(dawid_skene(blind).probability, truth))
    assert np.mean(with_sides) > np.mean(without) + 0.01


def crowd_kit_frame(votes: Ballots):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({"task": votes.item, "worker": votes.annotator, "label": votes.meant})


def in_order_of_appearance(votes: Ballots) -> Ballots:
    """Annotators and answers numbered as they come: crowd-kit's MACE mixes them up otherwise."""
    columns = []
    for column in (votes.annotator, votes.said):
        names = {name: place for place, name in enumerate(dict.fromkeys(column.tolist()))}
        columns.append(np.asarray([names[name] for name in column.tolist()]))
    none = np.zeros(len(votes.item), bool)
    return Ballots(votes.item, columns[0], columns[1], none, votes.items, votes.annotators, np.arange(3))


@pytest.mark.parametrize(("model", "items"), [("DawidSkene", 60), ("MACE", 40)])
def test_the_models_are_crowd_kits_where_sides_play_no_part(model, items):
    aggregation = pytest.importorskip("crowdkit.aggregation")
    votes = in_order_of_appearance(simulated([0.9, 0.7, 0.6, 0.85], items, 3)[1])
    frame = crowd_kit_frame(votes)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The (inplace|copy) keyword", category=Warning)
        if model == "MACE":
            theirs = aggregation.MACE(n_restarts=1, n_iter=80).fit(frame).probas_
            ours = mace(votes, restarts=3).probability
        else:
            theirs = aggregation.DawidSkene(n_iter=300, tol=1e-9).fit(frame).probas_
            ours = dawid_skene(votes, smoothing=0).probability
    assert theirs.loc[range(votes.items), range(3)].to_numpy() == pytest.approx(ours, abs=1e-3)


def votes_on(case: str, *winners: str | None) -> list[Comparison]:
    """What the annotators x, y, z ... said about a prompt's A and B, as shown in that order."""
    return [
        one
        for name, winner in zip("xyzuv", winners, strict=False)
        if winner
        for one in compared(f"{case}/A", f"{case}/B", winner, f"human:{name}")  # type: ignore[arg-type]
    ]


def labels_of(found: Consensus) -> dict[str, object]:
    return {one.prompt_id: one.labels["overall"].label for one in found.compared}


def test_a_question_on_which_no_answer_leads_has_no_label(tmp_path: Path):
    run = make_run(tmp_path / "run", votes_on("p1", "a", "b"), votes_on("p2", "a", "a"), votes_on("p3", "tie", "tie"))
    assert labels_of(consensus(run, method="majority")) == {"p1": None, "p2": "a", "p3": "tie"}


@pytest.mark.parametrize("method", METHODS)
def test_labels_are_of_the_responses_whatever_side_they_stood_on(tmp_path: Path, method: Method):
    turned = [*compared("p1/B", "p1/A", "b", "human:x"), *compared("p1/B", "p1/A", "b", "human:y")]
    found = consensus(make_run(tmp_path / "run", turned), method=method)
    assert found.compared[0].responses == ("p1/A", "p1/B")
    assert found.compared[0].labels["overall"].label == "a"
    assert found.compared[0].labels["overall"].votes == {"a": 2}


def changed(judgements: list[Comparison], **facts: object) -> list[Comparison]:
    return [msgspec.structs.replace(one, **facts) for one in judgements]


@pytest.mark.parametrize("method", METHODS)
def test_an_adjudicator_settles_a_conflict_and_is_no_vote(tmp_path: Path, method: Method):
    decided = changed(compared("p1/B", "p1/A", "a", "human:z"), flags=("adjudication",))
    found = consensus(make_run(tmp_path / "run", votes_on("p1", "a", "b"), decided), method=method)
    label = found.compared[0].labels["overall"]
    assert (label.label, label.probability, label.settled, label.votes) == ("b", 1.0, True, {"a": 1, "b": 1})
    assert [one.annotator for one in found.skills_compared] == ["human:x", "human:y"]


def test_what_is_no_answer_of_a_person_is_no_vote_and_is_counted(tmp_path: Path):
    run = make_run(
        tmp_path / "run",
        votes_on("p1", "a"),
        changed(compared("p2/A", "p2/B", "b", "human:y"), sample=1),
        changed(compared("p3/A", "p3/B", "b", "human:y"), flags=("attention:wrong",)),
        changed(compared("p4/A", "p4/B", None, "human:y"), failure="draft"),
        compared("p5/A", "p5/B", "b", "human:y", under="another"),
        compared("p6/A", "p6/B", "b", "llm:m"),
        best_of(["p7/A", "p7/B", "p7/C"], 1, "human:y"),
    )
    found = consensus(run)
    assert labels_of(found) == {"p1": "a"}
    assert found.left_out == {
        "repeats": 1,
        "attention items": 1,
        "draft": 1,
        "under another rubric": 1,
        "choices of the best of several": 1,
    }
    assert labels_of(consensus(run, who="all")) == {"p1": "a", "p6": "b"}


def test_annotators_who_share_no_question_stand_in_groups_of_their_own_and_have_no_skill(tmp_path: Path):
    alone = compared("p9/A", "p9/B", "a", "human:alone")
    run = make_run(tmp_path / "run", votes_on("p1", "a", "a"), votes_on("p2", None, "b", "b"), alone)
    for method in METHODS:
        found = consensus(run, method=method)
        assert found.groups == [["human:x", "human:y", "human:z"], ["human:alone"]]
        skills = {one.annotator: one.skill["overall"] for one in found.skills_compared}
        assert skills.pop("human:alone") is None
        assert None not in skills.values()
        assert labels_of(found)["p9"] == "a"


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_lines_changes_nothing(tmp_path: Path, method: Method):
    rng = random.Random(5)
    cases = [votes_on(f"p{case}", *rng.choices(["a", "b", "tie", None], k=4)) for case in range(30)]
    lines = [one for case in cases for one in case]
    mixed = rng.sample(lines, len(lines))
    there, back = make_run(tmp_path / "one", lines), make_run(tmp_path / "two", mixed)
    assert consensus(there, method=method).as_json() == consensus(back, method=method).as_json()


def test_each_principle_has_a_label_of_its_own(tmp_path: Path):
    answers = [
        one for name in ("human:x", "human:y") for one in compared("p1/A", "p1/B", "a", name, warm="b", safe="tie")
    ]
    found = consensus(make_run(tmp_path / "run", answers, rubric=TWO), method="majority")
    labels = found.compared[0].labels
    assert {name: label.label for name, label in labels.items()} == {"overall": "a", "warm": "b", "safe": "tie"}


def test_ratings_have_a_label_on_the_scale_and_an_overall_score_of_the_labels(tmp_path: Path):
    given = [
        rated({"p1/A": {"warm": score, "safe": 5}}, f"human:{name}")
        for name, score in zip("xyz", (4, 4, 1), strict=True)
    ]
    between = rated({"p1/A": {"warm": 3.5, "safe": None}}, "human:v")
    found = consensus(make_run(tmp_path / "run", *given, between, rubric=TWO), method="majority")
    (one,) = found.rated
    assert one.labels["warm"].votes == {"1": 1, "4": 2}
    assert (one.labels["warm"].label, one.labels["safe"].label, one.score) == (4, 5, 4.5)
    assert found.left_out == {"scores between the steps of the scale": 1}


def test_a_response_without_a_label_for_every_principle_has_no_overall_score(tmp_path: Path):
    given = rated({"p1/A": {"warm": 4, "safe": 5}, "p2/A": {"warm": 4, "safe": None}}, "human:x")
    found = consensus(make_run(tmp_path / "run", given, rubric=TWO), method="majority")
    assert {one.prompt_id: one.score for one in found.rated} == {"p1": 4.5, "p2": None}


def test_votes_are_counted_by_annotator_and_question(tmp_path: Path):
    found = consensus(make_run(tmp_path / "run", votes_on("p1", "a", "b"), votes_on("p2", "a")), method="majority")
    assert {one.annotator: one.votes for one in found.skills_compared} == {
        "human:x": {"overall": 2},
        "human:y": {"overall": 1},
    }


def test_without_answers_it_says_whose_are_missing(tmp_path: Path):
    run = make_run(tmp_path / "run", compared("p1/A", "p1/B", "a", "llm:m"))
    with pytest.raises(RunError, match="no answers by people"):
        consensus(run)
    assert labels_of(consensus(run, who="judges")) == {"p1": "a"}


def test_as_json_reads_back(tmp_path: Path):
    run = make_run(tmp_path / "run", votes_on("p1", "a", "b"), rubric=ONE)
    found = consensus(run)
    assert msgspec.json.decode(found.as_json(), type=Consensus) == found
