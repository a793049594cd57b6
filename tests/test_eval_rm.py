"""``prefkit eval-rm`` on a run and on files, with a tiny reward model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_model

from prefkit import demo
from prefkit.cli import main
from prefkit.training.examples import read_groups
from prefkit.training.frozen_training import train_frozen
from prefkit.training.measuring import evaluating, scorers
from prefkit.training.measuring.report import MeasureSettings

SAMPLE = Path(demo.__file__).parent / "sample"
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


@pytest.fixture(scope="module")
def run(work) -> Path:
    """A run of the sample, with training pairs and two frozen reward models: one of the run's pairs, one of others."""
    folder = work / "run"
    main(["new", str(folder), "--rubric", "psychocounsel"])
    for kind, name in (("prompts", "prompts.csv"), ("responses", "responses.jsonl"), ("judgements", "ratings.csv")):
        main(["import", kind, str(folder), str(SAMPLE / name)])
    main(["build-pairs", str(folder), "--strategy", "all", "--min-gap", "0.5", "--test-size", "0.4"])
    base = str(work / "base")
    train_frozen(read_groups(folder, "train"), folder / "reward-models" / "frozen", base=base, layer=1)
    return folder


def test_a_learning_curve_is_in_the_tables_the_notes_the_json_and_the_picture(run, capsys):
    main(["eval-rm", str(run), "--rm", "frozen", "--learning-curve", "--no-left-out", "--rounds", "100"])
    out, err = capsys.readouterr()
    names = ["frozen", "length only", "bag of words", "policy identity"]
    assert f"learning curves of {', '.join(names)}: 21 fits each" in err
    report = json.loads((run / "reward-models" / "frozen" / "evaluation.json").read_text())
    assert [curve["name"] for curve in report["curves"]] == names
    measured = {one["name"]: one["figures"] for one in report["scorers"]}
    for curve in report["curves"]:
        sizes = curve["sizes"]
        assert [len(size["draws"]["accuracy"]) for size in sizes] == [5, 5, 5, 5, 1]
        assert sizes[-1]["pairs"] == training_pairs(run)
        for name in ("accuracy", "accuracy_gap_0.5", "accuracy_gap_1"):
            whole, itself = sizes[-1]["figures"][name], measured[curve["name"]][name]
            assert whole["value"] == pytest.approx(itself["value"]), "all training pairs: the scorer of the report"
            assert (whole["low"], whole["high"]) == pytest.approx((itself["low"], itself["high"]))
    tables = out[out.index("learning curve: accuracy, %") :]
    assert tables.split("\n")[1].split() == ["share", "prompts", "pairs", *" ".join(names).split()]
    last = next(line for line in tables.split("\n") if line.startswith("100%"))
    whole = report["curves"][0]["sizes"][-1]
    figure = whole["figures"]["accuracy"]
    assert last.split()[:3] == ["100%", str(whole["prompts"]), str(whole["pairs"]).removesuffix(".0")]
    assert f"{100 * figure['value']:.1f} [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]" in last
    assert "single draws of training prompts, lowest to highest" in tables
    assert "frozen: from " in out and "training pairs (70% to 100% of the prompts) accuracy changes by" in out
    assert "bag of words: from" not in out, "what more pairs do for baselines is in the table alone"
    drawn = (run / "reward-models" / "frozen" / "evaluation.svg").read_text()
    assert "Would more pairs help?" in drawn and f"policy identity, {training_pairs(run)} pairs" in drawn


def training_pairs(run: Path) -> int:
    return sum(len(group.pairs) for group in read_groups(run, "train"))


def test_a_gap_that_leaves_pairs_out_has_a_learning_curve_of_its_own(run, capsys):
    gaps = sorted(round(pair.gap, 3) for group in read_groups(run, "test") for pair in group.pairs)
    least = gaps[-3]
    wide = sum(gap >= least for gap in gaps)
    main(["eval-rm", str(run), "--rm", "frozen", "--learning-curve", "--no-left-out", "--no-baselines", "--rounds",
          "100", "--gap", "0.5", "--gap", str(least)])  # fmt: skip
    titles = [line.rstrip() for line in capsys.readouterr().out.split("\n") if line.startswith("learning curve: ")]
    assert gaps[0] >= 0.5 and wide < len(gaps)
    assert titles[:2] == [
        f"learning curve: accuracy, %, {len(gaps)} held-out pairs",
        f"learning curve: gap >= {least:g}, %, {wide} held-out pairs",
    ]
    assert len(titles) == 3, "at 0.5 it would be the same pairs as all; the third is that of single draws"


def test_a_model_of_other_pairs_is_told_from_its_head_fitted_anew(run, work, capsys):
    main(["eval-rm", str(run), "--rm", str(work / "small"), "--learning-curve", "--no-left-out", "--no-baselines",
          "--rounds", "100", "--out", str(work / "out")])  # fmt: skip
    report = json.loads((work / "out" / "evaluation.json").read_text())
    itself = report["scorers"][0]["figures"]["accuracy"]["value"]
    anew = report["curves"][0]["sizes"][-1]["figures"]["accuracy"]["value"]
    assert f"small: fitted anew on all training pairs it has {anew:.1%}, itself {itself:.1%}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("test.jsonl", [], "found no run with training pairs; expected training and held-out pairs"),
        ("bench.jsonl", [], "found no run with training pairs"),
        ("run", ["--split", "train"], "found the training pairs themselves"),
    ],
)
def test_a_learning_curve_without_training_pairs_is_one_message(run, work, capsys, source, options, message):
    written(work / "bench.jsonl", [{"id": "1", "subset": "donotanswer", **row} for row in rows(4)])
    with pytest.raises(SystemExit) as stopped:
        main(["eval-rm", str(work / source), "--rm", str(work / "small"), "--learning-curve", *options])
    assert stopped.value.code == 1
    assert message in capsys.readouterr().err


def test_trained_models_alone_have_no_learning_curve(run, work, capsys):
    tiny_classifier_folder(work)
    with pytest.raises(SystemExit):
        main(["eval-rm", str(run), "--rm", str(work / "trained"), "--learning-curve", "--no-baselines"])
    assert "trained models alone" in capsys.readouterr().err
    main(["eval-rm", str(run), "--rm", str(work / "trained"), "--learning-curve", "--no-left-out", "--rounds", "100"])
    said = capsys.readouterr().out
    assert "- trained: no learning curve, as each size would be a training of its own." in said
    assert "- bag of words: from " in said, "there is no frozen model to speak of"


def tiny_classifier_folder(work: Path) -> None:
    from tiny import tiny_classifier
    from transformers import AutoTokenizer

    from prefkit.training.reward_info import RewardInfo
    from prefkit.training.reward_model import save_reward_model

    if not (work / "trained").exists():
        model, tokenizer = tiny_classifier(work / "base"), AutoTokenizer.from_pretrained(work / "base")
        info = RewardInfo(kind="trained", base="tiny", template=None, max_tokens=512)
        save_reward_model(model, tokenizer, work / "trained", info)


def test_what_is_left_out_of_a_file_is_counted_and_said(work, capsys, tmp_path):
    some = rows(24)
    some += [{**some[0], "rejected": some[0]["chosen"]}, {**some[1], "chosen": " "}, {**some[2], "chosen": 7}]
    main(["eval-rm", str(written(tmp_path / "some.jsonl", some)), "--rm", str(work / "small"), "--no-baselines",
          "--rounds", "100", "--out", str(tmp_path)])  # fmt: skip
    said = capsys.readouterr().out
    count = len(rows(24))
    assert f"some.jsonl: {count} pairs of" in said
    assert "  1 rows left out: chosen and rejected are the same text\n" in said
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert sum(found["left_out"].values()) == 3
    assert all(f"  {number} {reason}\n" in said for reason, number in found["left_out"].items())


def test_pairs_that_a_frozen_model_cannot_read_are_counted_and_the_rest_is_measured(work, capsys, tmp_path):
    some = rows(24)
    longest = "so " * 300  # of 512 tokens, a token a byte
    some[3], some[8] = {**some[3], "chosen": longest}, {**some[8], "rejected": f"{longest}no"}
    base, short = str(work / "base"), tmp_path / "short"
    train_frozen(read_groups(work / "train.jsonl"), short, base=base, layer=1, max_tokens=512)
    main(["eval-rm", str(written(tmp_path / "some.jsonl", some)), "--rm", str(short), "--rm", str(work / "other"),
          "--rounds", "100", "--out", str(tmp_path)])  # fmt: skip
    said = capsys.readouterr().out
    count = len(some)
    assert f"some.jsonl: {count - 2} pairs of" in said and ", 2 more pairs not read" in said
    assert f"2 of {count} pairs hold a response that a model cannot read (2 by short, 2 by other)" in said
    assert "  short: 2 responses over 512 tokens, left out\n" in said
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert {one["figures"]["accuracy"]["n"] for one in report["scorers"]} == {count - 2}, "baselines on the same pairs"
    assert {one["name"]: one["unread"] for one in report["scorers"]}["short"] == 2
    assert report["counts"]["responses"] == 2 * (count - 2)


def test_policies_left_out_says_on_how_many_pairs_where_it_is_not_all(work, capsys):
    (work / "small" / "training.json").write_text(json.dumps({"policies": ["wren", "lark"]}))
    main(["eval-rm", str(work / "test.jsonl"), "--rm", str(work / "small"), "--rounds", "100"])
    said = capsys.readouterr().out
    (work / "small" / "training.json").unlink()
    names = [{row["chosen_model"], row["rejected_model"]} for row in rows(48)]
    number = sum(pair == {"tern", "rook"} for pair in names)
    assert f"Policies left out: small on {number} of {len(names)} pairs, those of two policies that it was not" in said


def test_a_model_of_pairs_without_names_saw_nobody_knows_whom(work):
    from prefkit.training.measuring.figures import Scored
    from prefkit.training.measuring.table import table_of

    table = table_of(read_groups(work / "test.jsonl"))
    scored = Scored(name="m", kind="model", rewards=np.zeros((len(table.length), 1)))
    (work / "small" / "training.json").write_text(json.dumps({"policies": ["", "wren"]}))
    margins = scorers._unseen(work / "small", scored, table)
    (work / "small" / "training.json").unlink()
    assert margins is None


def test_policies_that_a_trained_model_never_saw_are_its_left_out_figure(work):
    from prefkit.training.measuring.figures import Scored
    from prefkit.training.measuring.table import rewards_of, table_of
    from prefkit.training.reward_model import RewardModel

    groups = list(read_groups(work / "test.jsonl"))
    table = table_of(groups)
    scored = Scored(name="m", kind="model", rewards=rewards_of(RewardModel.load(work / "small"), groups, table, "m"))
    (work / "small" / "training.json").write_text(json.dumps({"policies": ["wren", "lark"]}))
    margins = scorers._unseen(work / "small", scored, table)
    (work / "small" / "training.json").unlink()
    new = [{table.policies[table.policy[side]] for side in sides} == {"tern", "rook"}
           for sides in zip(table.chosen, table.rejected, strict=True)]  # fmt: skip
    assert margins is not None and any(new)
    assert np.isfinite(margins).tolist() == new
