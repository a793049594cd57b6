"""``prefkit eval-rm`` on a run and on files, with a tiny reward model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_model

from prefkit.cli import main
from prefkit.training.examples import read_groups
from prefkit.training.frozen import train_frozen
from prefkit.training.measuring import evaluating
from prefkit.training.measuring.report import MeasureSettings

POLICIES = ("wren", "lark", "tern", "rook")
QUICK = evaluating.EvaluationSettings(measure=MeasureSettings(rounds=100))


def rows(count: int) -> list[dict[str, object]]:
    """Preferences of pairs of policies: the kind answer is preferred, mostly that of the first policies."""
    found: list[dict[str, object]] = []
    for number in range(count):
        one, other = POLICIES[number % 4], POLICIES[(number + 1 + number // 4) % 4]
        if one == other:
            continue
        better, worse = (one, other) if number % 5 else (other, one)
        found.append(
            {
                "prompt": f"Question {number}: what now?",
                "chosen": f"{better} asks kindly what happened {'then ' * (number % 7)}in {number}.",
                "rejected": f"{worse} says to get over it {'now ' * (number % 3)}in {number}.",
                "chosen_model": better,
                "rejected_model": worse,
                "rating_gap": 0.5 + number % 3,
            }
        )
    return found


def written(path: Path, some: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in some))
    return path


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder with a file of pairs, and a frozen reward model made of them."""
    import os

    folder = tmp_path_factory.mktemp("eval")
    os.environ["PREFKIT_CACHE"] = str(folder / "cache")
    base = tiny_model(folder / "base")
    groups = read_groups(written(folder / "train.jsonl", rows(32)))
    train_frozen(groups, folder / "small", base=str(base), layer=1, max_tokens=512)
    train_frozen(groups, folder / "other", base=str(base), layer=1, pooling="last", max_tokens=512)
    written(folder / "test.jsonl", rows(48))
    yield folder
    del os.environ["PREFKIT_CACHE"]


def test_a_file_is_measured_beside_baselines_fitted_on_itself(work, capsys, tmp_path):
    main(["eval-rm", str(work / "test.jsonl"), "--rm", str(work / "small"), "--rounds", "100", "--no-left-out",
          "--out", str(tmp_path / "out")])  # fmt: skip
    said = capsys.readouterr().out
    assert "small" in said and "policy identity" in said and "five folds by prompt" in said
    report = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    by_name = {one["name"]: one["figures"] for one in report["scorers"]}
    assert by_name["small"]["accuracy"]["value"] > 0.9
    assert set(by_name) == {"small", "length only", "bag of words", "policy identity"}
    assert (tmp_path / "out" / "evaluation.svg").read_text().startswith("<svg")
    assert "Policies left out: not measured for small" in said


def test_baselines_are_shown_without_the_policies_of_the_pairs_they_score(work):
    groups = list(read_groups(work / "test.jsonl"))
    training = [group for group in groups if int(group.messages[-1].content[9:11].rstrip(":")) > 23]
    report = evaluating.held_out({}, [group for group in groups if group not in training], training, QUICK)
    figures = {one.name: one.figures for one in report.scorers}
    assert figures["policy identity"]["left_out"].value == 0.5, "nothing is known of a policy that was not seen"
    assert figures["bag of words"]["left_out"].value > 0.9, "the words are the same whoever says them"


def test_two_models_are_shown_together_and_by_their_disagreement(work, capsys):
    main(["eval-rm", str(work / "test.jsonl"), "--rm", str(work / "small"), "--rm", str(work / "other"),
          "--no-baselines", "--rounds", "100", "--by", "disagreement"])  # fmt: skip
    said = capsys.readouterr().out
    assert "all together" in said and "least quarter" in said


def test_the_same_command_gives_the_same_bytes(work, tmp_path):
    for name in ("one", "two"):
        main(["eval-rm", str(work / "test.jsonl"), "--rm", str(work / "small"), "--rounds", "100", "--no-baselines",
              "--out", str(tmp_path / name)])  # fmt: skip
    for name in ("evaluation.json", "evaluation.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_benchmark_file_is_scored_by_its_own_rules(work, capsys, tmp_path):
    bench = [{"id": str(number), "subset": "donotanswer", **row} for number, row in enumerate(rows(12))]
    main(["eval-rm", str(written(tmp_path / "bench.jsonl", bench)), "--rm", str(work / "small"), "--rounds", "100",
          "--out", str(tmp_path)])  # fmt: skip
    said = capsys.readouterr().out
    assert "RewardBench 1" in said and "No overall score: 22 subsets are not in the file" in said
    assert json.loads((tmp_path / "rewardbench.json").read_text())["small"]["sections"]["Safety"] == 100


@pytest.mark.parametrize(
    ("source", "rm", "message"),
    [
        ("test.jsonl", "base", "found no reward.json; expected a reward model"),
        ("empty.jsonl", "small", "expected"),
        ("absent", "small", "expected"),
    ],
)
def test_what_cannot_be_measured_is_one_message(work, capsys, source, rm, message):
    (work / "empty.jsonl").write_text("")
    with pytest.raises(SystemExit) as stopped:
        main(["eval-rm", str(work / source), "--rm", str(work / rm)])
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("Error: ") and message in said and "Traceback" not in said


def test_policies_that_a_trained_model_never_saw_are_its_left_out_figure(work):
    from prefkit.training.measuring.report import Scored
    from prefkit.training.measuring.table import rewards_of, table_of
    from prefkit.training.reward_model import RewardModel

    groups = list(read_groups(work / "test.jsonl"))
    table = table_of(groups)
    scored = Scored(name="m", kind="model", rewards=rewards_of(RewardModel.load(work / "small"), groups, table, "m"))
    (work / "small" / "training.json").write_text(json.dumps({"policies": ["wren", "lark"]}))
    margins = evaluating._unseen(work / "small", scored, table)
    (work / "small" / "training.json").unlink()
    new = [{table.policies[table.policy[side]] for side in sides} == {"tern", "rook"}
           for sides in zip(table.chosen, table.rejected, strict=True)]  # fmt: skip
    assert margins is not None and any(new)
    assert np.isfinite(margins).tolist() == new
