"""AlpacaEval's files, and the win rate at equal length: what is read, what is fitted, what its interval is worth."""

from __future__ import annotations

import gzip
import json
import math
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import both_orders, compared, make_run
from readme import DOCS, blocks, failures, with_the_sample
from scipy.stats import binomtest

from benchmarks.winrate_parts import alpaca, length_coverage
from benchmarks.winrate_parts.length_coverage import World, scale_of, study, truth
from prefkit.errors import InputError, PrefkitError
from prefkit.evaluation.alpaca_files import (
    Weights,
    read_annotations,
    read_difficulties,
    read_leaderboard,
    read_outputs,
    read_weights,
)
from prefkit.evaluation.intervals import interval
from prefkit.evaluation.length_control import is_extreme, length_controlled, predicted, style_counts
from prefkit.evaluation.length_fit import estimated_difficulties
from prefkit.evaluation.outcomes import UNKNOWN, Outcomes
from prefkit.evaluation.win_rates import win_report

Write = Callable[..., Path]
PAGE = DOCS / "length-control.md"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to(name: str, rows: Any) -> Path:
        path = tmp_path / name
        text = rows if isinstance(rows, str) else json.dumps(rows)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return to


def row(number: int, preference: Any, **more: Any) -> dict[str, Any]:
    found = {
        "instruction": f"question {number}",
        "output_1": "b" * (10 + number),
        "output_2": "m" * 12,
        "generator_1": "base",
        "generator_2": "mine",
        "annotator": "judge",
        "preference": preference,
    }
    return found | more


def made(size: int = 300, seed: int = 3, **choices: Any) -> tuple[Outcomes, dict[str, float], World]:
    world = World(**{"level": 0.15, "tanh": True} | choices)
    outcomes, gamma = study(world, size, scale_of(world), np.random.default_rng(seed))
    return outcomes, gamma, world


def figures(outcomes: Outcomes, **choices: Any) -> tuple[float, float, float]:
    found = length_controlled(outcomes, "policy 0", "baseline", **choices)
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    return found.value, found.low, found.high


# Files


def test_a_preference_of_2_is_a_win_of_output_2_and_1_and_a_half_or_0_a_tie(write: Write) -> None:
    rows = [row(0, 2.0), row(1, 1), row(2, 1.5), row(3, 0), row(4, "1.25")]
    found = read_annotations([write("annotations.json", rows)])
    between = found.outcomes.between("mine", "base")
    assert between.preferred.tolist() == [1.0, 0.0, 0.5, 0.5, 0.25]
    assert (between.length_first.tolist(), between.length_second.tolist()) == ([12] * 5, [10, 11, 12, 13, 14])


def test_a_failed_call_is_dropped_and_counted_and_never_a_loss(write: Write) -> None:
    rows = [row(0, 2.0), row(1, None), row(2, -1), row(3, math.nan), row(4, "")]
    found = read_annotations([write("annotations.json", rows)])
    assert found.outcomes.preferred.tolist() == [1.0]
    assert (found.rows, found.outcomes.left_out) == (5, {"no preference": 3, "the call had failed (-1)": 1})


def test_nan_in_a_column_that_is_not_needed_drops_no_row(write: Write) -> None:
    assert len(read_annotations([write("annotations.json", [row(0, 2.0, price=math.nan)])]).outcomes) == 1


def test_a_packed_file_and_one_in_another_order_say_the_same_of_each_instruction(write: Write) -> None:
    rows = [row(number, 1 + number / 10) for number in range(10)]
    one = read_annotations([write("annotations.json", rows)]).outcomes
    other = read_annotations([write("annotations.json.gz", rows[::-1])]).outcomes
    said = [
        dict(zip((some.prompts[code] for code in some.prompt), some.preferred.tolist(), strict=True))
        for some in (one, other)
    ]
    assert said[0] == said[1]
    assert len(said[0]) == 10


@pytest.mark.parametrize("preference", [7, 0.5, "good", [1]])
def test_a_preference_on_another_scale_is_refused_with_its_row(write: Write, preference: Any) -> None:
    with pytest.raises(InputError, match=r"annotations.json: row 2: preference: found .* a number from 1"):
        read_annotations([write("annotations.json", [row(0, 2.0), row(1, preference)])])


def test_rows_without_texts_take_them_from_the_outputs_by_instruction(write: Write) -> None:
    rows = [row(number, 2.0, output_1=None, output_2=None) for number in range(3)]
    answers = [
        {"instruction": f"question {number}", "generator": name, "output": name[0] * (number + 1)}
        for name in ("mine", "base")
        for number in (2, 0)
    ]
    paths = [write("outputs.json", answers)]
    found = read_annotations([write("annotations.json", rows)], outputs=paths)
    assert (found.texts_first, found.texts_second) == (("m", None, "mmm"), ("b", None, "bbb"))
    assert found.outcomes.length_first.tolist() == [1, UNKNOWN, 3]
    assert len(found.outcomes) == 3  # who was preferred is known all the same
    answers.append(answers[0] | {"output": "another"})
    with pytest.raises(InputError, match="a second answer of mine"):
        read_outputs([write("outputs.json", answers)])


def test_a_file_without_one_preference_says_why(write: Write) -> None:
    with pytest.raises(InputError, match=r"2 rows, none with a preference; 2: the call had failed"):
        read_annotations([write("annotations.json", [row(0, -1), row(1, -1)])])


def test_a_file_of_another_shape_is_refused(write: Write) -> None:
    with pytest.raises(InputError, match="JSON of another shape"):
        read_annotations([write("annotations.json", {"instruction": "x"})])
    with pytest.raises(InputError, match="text that is not JSON"):
        read_annotations([write("annotations.json", "[{")])
    with pytest.raises(InputError, match="no column `preference`"):
        read_annotations([write("annotations.json", [{"instruction": "x"}])])


def test_a_file_of_a_model_never_seen_is_read_whatever_stands_beside(write: Write) -> None:
    """Rows in another order, some twice, one missing, more columns, and the model in output_1 of some."""
    rows = [row(number, preference, more={"x": [1]}) for number, preference in enumerate([2.0, 1.0, 1.5, 1.25, 2.0])]
    turned = row(4, 1.0, generator_1="mine", generator_2="base", output_1="m" * 12, output_2="b" * 14)
    path = write("annotations.json", [turned, rows[3], rows[1], rows[0], rows[1], rows[0]])
    (found,) = win_report(read_annotations([path], policies=["mine"]).outcomes, "mine", "base").overall.values()
    assert (found.rate, found.prompts, found.comparisons) == (0.5625, 4, 4)
    assert (found.wins, found.losses, found.ties) == (2, 2, 0)


def test_a_preference_that_rounding_put_outside_the_scale_is_at_its_end(write: Write) -> None:
    rows = [row(0, 2.0000000004), row(1, 0.9999999996)]
    assert read_annotations([write("annotations.json", rows)]).outcomes.preferred.tolist() == [1.0, 0.0]


def test_each_file_may_be_given_its_models_name(write: Write) -> None:
    paths = [write("one.json", [row(0, 2.0)]), write("two.json", [row(0, 1.0)])]
    outcomes = read_annotations(paths, policies=["a", "b"]).outcomes
    assert outcomes.policies == ("a", "b", "base")
    assert [outcomes.between(name, "base").preferred.tolist() for name in ("a", "b")] == [[1.0], [0.0]]
    with pytest.raises(ValueError, match="each of the 2 files"):
        read_annotations(paths, policies=["a"])


def test_difficulties_are_joined_by_instruction(write: Write) -> None:
    path = write("difficulties.csv", "instruction,difficulty\nquestion 1,-1.5\nquestion 0,2\n")
    assert read_difficulties(path) == {"question 1": -1.5, "question 0": 2.0}


def test_row_numbers_are_joined_to_no_other_set_of_instructions(write: Write) -> None:
    path = write("difficulties.csv", "index,difficulty\n0,-1.5\n1,2\n")
    with pytest.raises(InputError, match="beside 2 instructions that are not of it"):
        read_difficulties(path, ["question 0", "question 1"])


def test_a_leaderboard_and_weights_are_read_by_model(write: Write) -> None:
    head = ",win_rate,standard_error,n_wins,n_wins_base,n_draws,n_total,discrete_win_rate,mode,avg_length"
    text = f"{head},length_controlled_winrate,lc_standard_error\nm,50.5,1.5,5,4,1,10,55,community,300,51.5,\n"
    line = read_leaderboard(write("leaderboard.csv", text))["m"]
    assert (line.win_rate, line.wins, line.draws, line.total, line.length_controlled) == (50.5, 5, 1, 10, 51.5)
    assert line.length_controlled_error is None
    text = ",np.tanh(std_delta_len),instruction_difficulty,not_gamed_baseline.astype(float)\nm,-1,0.5,2\n"
    assert read_weights(write("weights.csv", text)) == {"m": Weights(-1.0, 0.5, 2.0)}
    with pytest.raises(InputError, match="nothing"):
        read_weights(write("weights.csv", "model,weight\nm,1\n"))


# The rate from weights


def test_the_rate_from_weights_by_hand() -> None:
    """sigmoid(ln 3 + 1 ln 3) = 9/10 and sigmoid(ln 3 - ln 3) = 1/2: their mean is 0.7."""
    assert predicted(Weights(-5.0, 1.0, math.log(3)), [math.log(3), -math.log(3)]) == pytest.approx(0.7)


def test_a_policy_beside_itself_has_a_rate_of_one_half() -> None:
    weights = Weights(-1.0, 0.7, 1.3)
    assert predicted(weights, {"x": 2.0, "y": -0.4}, weights) == 0.5
    with pytest.raises(ValueError, match="no difficulties"):
        predicted(weights, [])


@pytest.mark.parametrize(
    ("raw", "controlled", "warned"),
    [
        (0.2, 0.11, False),
        (0.2, 0.09, True),
        (0.2, 0.39, False),
        (0.2, 0.41, True),
        (0.8, 0.59, True),
        (0.8, 0.61, False),
    ],
)
def test_the_warning_is_alpacaevals(raw: float, controlled: float, warned: bool) -> None:
    """From 0.2: below min(0.15, 0.10) or above max(0.40, 0.30)."""
    assert is_extreme(raw, controlled) == warned


# Fits


@pytest.mark.parametrize("method", ["glm", "alpaca", "simple"])
def test_control_takes_out_what_the_judge_gives_for_length(method: str) -> None:
    outcomes, gamma, world = made(1000, seed=4, tanh=method != "simple", longer=0.6)
    value, low, high = figures(outcomes, method=method, **({} if method == "simple" else {"difficulty": gamma}))
    assert low < truth(world) < high
    assert value == pytest.approx(truth(world), abs=0.03)
    assert outcomes.preferred.mean() > high  # the policy writes more, and is paid for it


@pytest.mark.parametrize("method", ["glm", "simple"])
def test_the_other_way_round_the_rate_is_what_is_left_to_1(method: Any) -> None:
    outcomes, gamma, _ = made()
    there = length_controlled(outcomes, "policy 0", "baseline", method=method, difficulty=gamma)
    minus = {name: -value for name, value in gamma.items()}
    back = length_controlled(outcomes, "baseline", "policy 0", method=method, difficulty=minus)
    assert there.value is not None
    assert back.value == pytest.approx(1 - there.value, abs=1e-7)
    assert back.low == pytest.approx(1 - (there.high or 0), abs=1e-7)
    assert back.raw == pytest.approx(1 - there.raw)
    assert back.coefficients[1].value == pytest.approx(there.coefficients[1].value)


def test_shuffled_rows_and_renumbered_prompts_give_the_same() -> None:
    outcomes, gamma, _ = made()
    order = np.random.default_rng(0).permutation(len(outcomes))
    renamed = replace(outcomes[order], prompt=np.arange(len(order)), prompts=tuple(outcomes.prompts[i] for i in order))
    one, other = (figures(some, method="glm", difficulty=gamma) for some in (outcomes, renamed))
    assert one == pytest.approx(other, abs=1e-9)


def test_the_interval_is_as_wide_as_a_bootstrap_over_prompts_says() -> None:
    outcomes, gamma, _ = made(judges=2)
    found = length_controlled(outcomes, "policy 0", "baseline", method="glm", difficulty=gamma)
    rng, size = np.random.default_rng(1), len(outcomes.prompts)
    again = []
    for _ in range(300):
        drawn = rng.integers(0, size, size)
        rows = np.concatenate([drawn, drawn + size])  # the two judges' rows
        some = replace(outcomes[rows], prompt=np.tile(np.arange(size), 2))
        known = {outcomes.prompts[number]: gamma[outcomes.prompts[code]] for number, code in enumerate(drawn)}
        again.append(length_controlled(some, "policy 0", "baseline", method="glm", difficulty=known).value)
    assert found.standard_error == pytest.approx(float(np.std(np.array(again, dtype=float))), rel=0.12)


def test_rows_that_repeat_a_prompts_add_no_certainty() -> None:
    outcomes, _, _ = made()
    twice = outcomes[np.tile(np.arange(len(outcomes)), 2)]
    once, again = (length_controlled(some, "policy 0", "baseline") for some in (outcomes, twice))
    assert again.standard_error == pytest.approx(once.standard_error, rel=0.02)
    assert (again.n, again.prompts) == (2 * once.n, once.prompts)


def test_the_l1_fit_is_scikit_learns() -> None:
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import GroupKFold

    outcomes, gamma, _ = made(200)
    ours = length_controlled(outcomes, "policy 0", "baseline", method="alpaca", difficulty=gamma)
    shorter = (outcomes.length_second - outcomes.length_first).astype(float)
    known = np.array(list(gamma.values()))
    x = np.column_stack([np.tanh(shorter / shorter.std(ddof=1)), known, np.ones(200)])
    group, won = np.tile(np.arange(200), 2), outcomes.preferred
    folds = list(GroupKFold(5).split(group, groups=group))
    model = LogisticRegressionCV(
        cv=folds, l1_ratios=(1.0,), solver="liblinear", fit_intercept=False, scoring="neg_log_loss", random_state=123
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of its attributes, in the next release
        model.fit(np.tile(x, (2, 1)), np.repeat([1, 0], 200), sample_weight=np.concatenate([won, 1 - won]))
    _, psi, level = np.ravel(model.coef_)
    theirs = 1 / (1 + np.exp(-(level + psi * known)))
    assert ours.value == pytest.approx(float(theirs.mean()), abs=5e-4)
    assert ours.spread == pytest.approx(float(theirs.std(ddof=1)) / 200**0.5, rel=0.01)


def test_gamed_baselines_tie_the_slopes_down_and_are_not_counted() -> None:
    outcomes, gamma, _ = made(60, others=True)
    gamed = ("policy 1", "policy 2")
    plain = length_controlled(outcomes, "policy 0", "baseline", method="alpaca", difficulty=gamma)
    tied = length_controlled(outcomes, "policy 0", "baseline", method="alpaca", difficulty=gamma, gamed=gamed)
    assert (tied.n, tied.raw) == (plain.n, plain.raw)
    assert tied.coefficients[1].error < plain.coefficients[1].error


def test_difficulty_is_estimated_from_the_other_policies_alone() -> None:
    outcomes, gamma, _ = made(400, others=True)
    others = [name for name in outcomes.policies if name not in ("policy 0", "baseline")]
    found = estimated_difficulties(outcomes, others, "baseline")
    assert np.corrcoef(found, list(gamma.values()))[0, 1] > 0.6
    turned = replace(outcomes, preferred=np.where(outcomes.first == 0, 1 - outcomes.preferred, outcomes.preferred))
    assert estimated_difficulties(turned, others, "baseline") == pytest.approx(found)
    joint = length_controlled(outcomes, "policy 0", "baseline", method="glm")
    assert joint.difficulty == "estimated"
    assert joint.coefficients[2].value > 3 * joint.coefficients[2].error


def test_with_no_other_policy_difficulty_is_left_out_and_said_to_be() -> None:
    outcomes, _, _ = made()
    found = length_controlled(outcomes, "policy 0", "baseline", method="glm")
    assert (found.difficulty, len(found.coefficients)) == ("none", 2)
    assert "difficulty is left out" in found.notes[0]


def test_prompts_without_difficulty_and_answers_without_text_are_counted() -> None:
    outcomes, gamma, _ = made()
    lengths = outcomes.length_first.copy()
    lengths[:7] = UNKNOWN
    some = {name: gamma[name] for name in list(gamma)[:250]}
    found = length_controlled(
        replace(outcomes, length_first=lengths), "policy 0", "baseline", method="glm", difficulty=some
    )
    assert found.left_out == {"no text of an answer": 7, "no difficulty for the prompt": 50}
    assert (found.n, found.prompts) == (243, 243)
    with pytest.raises(PrefkitError, match=r"no comparison of policy 0 with baseline .*300 left out: no difficulty"):
        length_controlled(outcomes, "policy 0", "baseline", method="glm", difficulty={"elsewhere": 1.0})


def test_style_that_wins_is_told_from_a_better_policy() -> None:
    rng = np.random.default_rng(5)
    outcomes, _, _ = made(1500)
    lists = rng.poisson([[4.0], [1.0]], (2, 1500)).astype(float)
    even = np.zeros((2, 1500, 4))
    even[:, :, 0] = outcomes.length_first, outcomes.length_second
    even[:, :, 2] = lists
    relative = np.divide(lists[0] - lists[1], lists.sum(axis=0), out=np.zeros(1500), where=lists.sum(axis=0) > 0)
    won = (rng.random(1500) < 1 / (1 + np.exp(-2 * relative))) * 1.0
    styled = replace(outcomes, preferred=won)
    _, low, high = figures(styled, method="style", styles=(even[0], even[1]))
    assert low < 0.5 < high
    assert won.mean() > 0.6
    back = length_controlled(styled, "baseline", "policy 0", method="style", styles=(even[0], even[1]))
    assert (back.low, back.high) == pytest.approx((1 - high, 1 - low), abs=1e-7)
    assert back.coefficients[3].name == "more lists"
    assert back.coefficients[3].value > 3 * back.coefficients[3].error
    with pytest.raises(ValueError, match="styles belong"):
        length_controlled(outcomes, "policy 0", "baseline", method="style")


def test_style_is_counted_in_markdown_outside_code() -> None:
    text = "# Title\n\n- one\n  * two\n3. three\n**bold** and __this__\n```\n# code\n- not a list\n```\n"
    assert style_counts([text, "plain - text # here"]).tolist() == [[len(text), 1, 3, 2], [19, 0, 0, 0]]


# Where there is little to tell


def test_few_prompts_give_no_rate_and_say_so() -> None:
    outcomes, _, _ = made(19)
    found = length_controlled(outcomes, "policy 0", "baseline")
    assert (found.value, found.low, found.prompts) == (None, None, 19)
    assert "19 prompts are too few" in found.notes[0]


@pytest.mark.parametrize("won", [0.0, 1.0])
def test_where_every_comparison_goes_one_way_the_interval_is_clopper_and_pearsons(won: float) -> None:
    outcomes, _, _ = made(60)
    found = length_controlled(replace(outcomes, preferred=np.full(60, won)), "policy 0", "baseline")
    assert found.value == won
    assert found.low is not None
    assert found.high is not None
    assert (found.low, found.high) == pytest.approx(tuple(binomtest(int(60 * won), 60).proportion_ci()))


def test_ties_alone_leave_as_much_open_as_they_do_without_control() -> None:
    outcomes, _, _ = made(60)
    ties = np.full(60, 0.5)
    value, low, high = figures(replace(outcomes, preferred=ties))
    assert (value, low, high) == pytest.approx((0.5, *map(float, interval(ties))))
    ties[0] = 1.0
    _, low, high = figures(replace(outcomes, preferred=ties))
    assert low < float(interval(np.full(60, 0.5))[0])


def test_a_prompt_with_many_judges_counts_as_much_as_one_with_one() -> None:
    outcomes, _, _ = made(40, judges=2)
    more = outcomes[np.concatenate([np.arange(80), np.full(50, 7)])]
    rates = win_report(outcomes, "policy 0", "baseline").overall["all judges"]
    found, again = (length_controlled(some, "policy 0", "baseline") for some in (outcomes, more))
    assert found.raw == pytest.approx(rates.rate)
    assert (again.raw, again.value) == pytest.approx((found.raw, found.value))
    assert (found.n, again.n) == (80, 130)


def test_a_judge_that_only_counts_characters_still_gives_a_number() -> None:
    outcomes, _, _ = made(60)
    longest = (outcomes.length_first > outcomes.length_second) * 1.0
    value, low, high = figures(replace(outcomes, preferred=longest))
    assert 0.2 < low < value < high < 0.8


def test_answers_longer_by_the_same_everywhere_are_refused() -> None:
    outcomes, _, _ = made(60)
    shifted = replace(outcomes, length_first=outcomes.length_second + 40)
    with pytest.raises(PrefkitError, match="all longer than those of baseline by 40 characters"):
        length_controlled(shifted, "policy 0", "baseline")


def test_answers_twice_as_long_everywhere_are_refused() -> None:
    outcomes, _, _ = made(60)
    doubled = replace(outcomes, length_first=2 * outcomes.length_second)
    with pytest.raises(PrefkitError, match="differ in length or style by nearly the same everywhere"):
        length_controlled(doubled, "policy 0", "baseline")


def test_hardly_any_answers_of_similar_length_are_pointed_out() -> None:
    outcomes, _, _ = made()
    far = replace(outcomes, length_first=outcomes.length_first * 10)
    found = length_controlled(far, "policy 0", "baseline")
    assert found.similar_n < 30
    assert "goes beyond what was seen" in found.notes[0]
    near = length_controlled(outcomes, "policy 0", "baseline")
    close = np.maximum(outcomes.length_first, outcomes.length_second) <= 1.2 * np.minimum(
        outcomes.length_first, outcomes.length_second
    )
    assert (near.similar_n, near.similar) == (close.sum(), pytest.approx(outcomes.preferred[close].mean()))
    assert near.notes == ()


def test_an_unknown_policy_is_named() -> None:
    with pytest.raises(PrefkitError, match="'nobody'"):
        length_controlled(made()[0], "nobody", "baseline")


def as_file(outcomes: Outcomes, **more: Any) -> list[dict[str, Any]]:
    """AlpacaEval's rows of outcomes of ``policy 0`` with the baseline."""
    said = zip(
        outcomes.first.tolist(),
        outcomes.prompt.tolist(),
        outcomes.preferred.tolist(),
        outcomes.length_first.tolist(),
        outcomes.length_second.tolist(),
        strict=True,
    )
    return [
        row(number, 1 + preferred, output_1="b" * other, output_2="m" * one, generator_2=f"policy {policy}", **more)
        for policy, number, preferred, one, other in said
    ]


@pytest.mark.parametrize("method", ["simple", "alpaca"])
def test_win_rate_gives_the_rate_at_equal_length_beside_the_others(prefkit: Any, write: Write, method: Any) -> None:
    outcomes, _, _ = made(60, others=True)
    options = ("--policy", "policy 0", "--baseline", "base", "--length-control", method)
    done = prefkit("win-rate", write("annotations.json", as_file(outcomes)), *options)
    value, low, high = figures(outcomes, method=method)
    raw = outcomes.between("policy 0", "baseline").preferred.mean()
    rates = f"{100 * value:.0f}% [{100 * low:.0f}, {100 * high:.0f}]; as judged {100 * raw:.0f}%"
    assert f"If both had written answers of the same length: {rates} of the same comparisons" in done.out
    assert f"{method} control, 60 comparisons on 60 prompts" in done.out
    assert ("difficulty estimated from other policies" in done.out) == (method == "alpaca")


def test_difficulties_come_from_a_file_by_instruction_or_are_left_out(prefkit: Any, write: Write) -> None:
    outcomes, gamma, _ = made(60)
    annotations = write("annotations.json", as_file(outcomes)[::-1])
    lines = [f"question {number},{gamma[str(number)]}" for number in range(50)]
    given = write("difficulties.csv", "instruction,difficulty\n" + "\n".join(lines) + "\n")
    options = ("win-rate", annotations, "--length-control")
    done = prefkit(*options, "alpaca", "--difficulty", given)
    assert "alpaca control, 50 comparisons on 50 prompts, with the difficulties of prompts that were given" in done.out
    assert "left out: 10 no difficulty for the prompt" in done.out
    out = annotations.with_name("figures.json")
    prefkit(*options, "alpaca", "--difficulty", given, "--out", out)
    found = json.loads(out.read_text())["length_controlled"]
    some = {str(number): gamma[str(number)] for number in range(50)}
    assert (found["value"], found["low"], found["high"]) == pytest.approx(
        figures(outcomes, method="alpaca", difficulty=some), abs=2e-3
    )
    assert "alpaca control, 60 comparisons on 60 prompts\n" in prefkit(*options, "alpaca", "--difficulty", "none").out
    assert prefkit(*options, "simple", "--difficulty", "none").code == 2


def test_style_is_controlled_for_from_the_texts_of_a_file(prefkit: Any, write: Write) -> None:
    rng = np.random.default_rng(2)
    rows = []
    for number in range(200):
        items = rng.poisson([1.0, 4.0])
        won = rng.random() < 1 / (1 + math.exp(-2 * (items[1] - items[0]) / max(1, items.sum())))
        texts = ["\n".join(["word " * int(rng.integers(20, 60)), *["- one"] * count]) for count in items]
        rows.append(row(number, 1.0 + won, output_1=texts[0], output_2=texts[1]))
    done = prefkit("win-rate", write("annotations.json", rows), "--length-control", "style")
    (line,) = [line for line in done.out.splitlines() if line.startswith("If both")]
    alike, judged = (float(found) for found in re.findall(r"(\d+)%", line))
    assert alike < 60 < judged


def test_people_and_models_are_not_fitted_together(prefkit: Any, tmp_path: Path) -> None:
    texts = {f"p{p}/{who}": "w" * (10 + 7 * p % 30 + (3 * p % 11) * (who == "A")) for p in range(40) for who in "AB"}
    by_people = [one for p in range(40) for one in compared(f"p{p}/A", f"p{p}/B", "b" if p % 4 else "a")]
    by_model = [one for p in range(40) for one in both_orders(*(f"p{p}/{who}" for who in ("AB" if p % 5 else "BA")))]
    run = make_run(tmp_path / "run", by_people, by_model, texts=texts)
    done = prefkit("win-rate", run.path, "--policy", "A", "--baseline", "B", "--length-control", "simple")
    assert "as judged 80% of the same comparisons" in done.out
    assert "simple control, 40 comparisons on 40 prompts" in done.out


# The proofs


@pytest.mark.parametrize("fit", ["glm", "simple"])
def test_intervals_hold_the_truth_where_alpacaevals_do_not(fit: str) -> None:
    world = World(-1.8, fit != "simple")
    ours, theirs, apart = length_coverage.cell(fit, world, 200, 80, 40, compared=1)
    assert ours.share() >= 0.88
    assert theirs.share() < 0.8
    assert apart < 1e-4


def test_alpacaevals_published_figures_come_out_again(real_data: Path) -> None:
    folder = real_data / "alpaca-eval"
    if not folder.is_dir():
        pytest.skip("PREFKIT_DATA holds no alpaca-eval")
    published = read_leaderboard(folder / "leaderboard.csv")
    files = sorted(folder.glob("*/annotations.json"))
    models = [path.parent.name for path in files]
    annotated = read_annotations(files, policies=models)
    difficulties = read_difficulties(folder / "instruction_difficulty_est.csv", annotated.outcomes.prompts)
    checks = alpaca.as_published(annotated, published, models) + alpaca.from_weights(folder, published, difficulties)
    assert len(checks) == 14
    assert [check.check for check in checks if not check.ok] == []
    some = annotated.outcomes.prompts[700:100:-1]
    joined = read_difficulties(folder / "instruction_difficulty_est.csv", ["another", *some])
    assert joined == {name: difficulties[name] for name in some}


def test_the_page_for_users_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_the_sample(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    found = [failures(block[2], names) for block in blocks(PAGE.read_text(encoding="utf-8"))]
    assert found == [[]]
