"""Figures of rewards against scikit-learn, arithmetic that can be done by hand, and simulations with a known truth."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from prefkit.errors import PrefkitError
from prefkit.records import Message
from prefkit.resampling import Figure, estimates
from prefkit.training.groups import Group, Pair, Rewards
from prefkit.training.measuring import accuracy, best_of, calibrating, together
from prefkit.training.measuring.accuracy import Counting
from prefkit.training.measuring.evaluating import EvaluationSettings, held_out
from prefkit.training.measuring.figures import Scored, measure
from prefkit.training.measuring.learning_curve import fits, learning_curve
from prefkit.training.measuring.picture import curve_picture, picture
from prefkit.training.measuring.report import Curve, Measured, MeasureSettings, Report, Size, rows
from prefkit.training.measuring.table import Table, margins_of, rewards_of, table_of
from prefkit.training.measuring.words import notes_on_curves

LN2 = math.log(2)
QUICK = MeasureSettings(rounds=200)
ALONE = EvaluationSettings(baselines=False, measure=QUICK)
BESIDE = EvaluationSettings(left_out=False, measure=QUICK)


class Says:
    """A scorer that looks rewards up by the text."""

    heads: tuple[str, ...] = ()

    def __init__(self, rewards: dict[str, float | Sequence[float]], heads: tuple[str, ...] = ()) -> None:
        self._rewards, self.heads = rewards, heads

    def rewards(self, groups: Iterable[Group]) -> Iterator[Rewards]:
        for group in groups:
            yield np.asarray([np.atleast_1d(self._rewards[text]) for text in group.texts], dtype=np.float32)


def group(prompt: str, texts: Sequence[str], pairs: Sequence[Pair], policies: Sequence[str] = ()) -> Group:
    return Group(
        prompt_id=prompt,
        messages=(Message(role="user", content=prompt),),
        response_ids=tuple(f"{prompt}/{place}" for place in range(len(texts))),
        texts=tuple(texts),
        policies=tuple(policies) or ("",) * len(texts),
        pairs=tuple(pairs),
    )


def pair(chosen: int = 0, rejected: int = 1, **more: object) -> Pair:
    return Pair(id=f"{chosen}>{rejected}", chosen=chosen, rejected=rejected, **more)  # type: ignore[arg-type]


def table_and_margins(margins: Sequence[float], preferred: Sequence[float] = ()) -> tuple[Table, np.ndarray]:
    """A pair a prompt, with these margins."""
    labels = preferred or [1.0] * len(margins)
    groups = [group(str(at), ("a", "b"), [pair(preferred=label)]) for at, label in enumerate(labels)]
    return table_of(groups), np.asarray(margins, dtype=np.float64)


def value(sums) -> float:
    return float(sums.figure(sums.values.sum(axis=0)))


def simulated(seed: int, prompts: int, noise: float = 1.0, policies: int = 5) -> tuple[list[Group], dict[str, float]]:
    """All pairs of four responses to each prompt, labels drawn with sigmoid(difference of worth); and the worth."""
    rng = np.random.default_rng(seed)
    groups, worth = [], {}
    for number in range(prompts):
        texts = [f"{number}/{place}" + "x" * int(rng.integers(0, 60)) for place in range(4)]
        values = rng.normal(0, 1.5, 4)
        worth |= dict(zip(texts, (values * noise).tolist(), strict=True))
        names = [f"policy {name}" for name in rng.choice(policies, 4, replace=False)]
        pairs = []
        for one, other in itertools.combinations(range(4), 2):
            won = rng.random() < 1 / (1 + math.exp(values[other] - values[one]))
            better, worse = (one, other) if won else (other, one)
            pairs.append(pair(better, worse, gap=round(abs(values[one] - values[other]), 2)))
        groups.append(group(str(number), texts, pairs, names))
    return groups, worth


# Accuracy


def test_nine_pairs_have_the_accuracy_of_nine_pairs_and_not_of_batches():
    """3 of 9 right is 1/3. Means of batches of eight and one would say (3/8 + 1) / 2 or (2/8 + 1) / 2 = 0.625."""
    table, margin = table_and_margins([1, 1, -1, -1, -1, -1, -1, -1, 1])
    assert value(Counting(table).accuracy(margin)) == pytest.approx(1 / 3)


def test_a_tied_label_is_in_no_accuracy_and_an_undecided_reward_is_half_right():
    """Decided: right, wrong, undecided: (1 + 0 + 1/2) / 3 = 1/2."""
    table, margin = table_and_margins([2, -2, 0, 5], [1, 1, 1, 0.5])
    sums = Counting(table).accuracy(margin)
    assert (value(sums), sums.count) == (0.5, 3)


def test_a_pair_whose_chosen_side_is_less_preferred_is_turned():
    groups = [group("p", ("good", "bad"), [pair(1, 0, preferred=0.2, gap=-1.5, gaps={"warm": -1.0, "safe": None})])]
    table = table_of(groups)
    assert (table.preferred[0], table.gap[0], table.gaps[0, 0]) == (0.8, 1.5, 1.0)
    assert table.margins(rewards_of(Says({"good": 3, "bad": 1}), groups, table, "x")[:, 0]).tolist() == [2]
    assert margins_of([np.asarray([[1.0, 3.0]])], table).tolist() == [2], "margins of pairs as the group has them"


def test_swapping_all_sides_changes_no_figure():
    groups, worth = simulated(1, 40)
    turned = [
        group(
            one.prompt_id,
            one.texts,
            [
                Pair(id=p.id, chosen=p.rejected, rejected=p.chosen, preferred=0.0, gap=-(p.gap or 0.0))
                for p in one.pairs
            ],
            one.policies,
        )
        for one in groups
    ]
    first, second = (held_out({"m": Says(worth)}, some, settings=ALONE) for some in (groups, turned))
    assert first.scorers[0].figures == second.scorers[0].figures


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_the_area_under_the_curve_is_scikit_learns_on_pairs_in_both_orders(margins):
    margin = np.asarray(margins, dtype=np.float64)
    labels = np.r_[np.ones(len(margin)), np.zeros(len(margin))]
    expected = roc_auc_score(labels, np.r_[margin, -margin])
    assert accuracy.auc(margin) == pytest.approx(expected)
    table, _ = table_and_margins(margins)
    assert value(Counting(table).auc(margin)) == pytest.approx(expected), "few values: the bins are exact"


def test_the_area_from_bins_is_close_to_the_exact_one():
    rng = np.random.default_rng(0)
    margin = rng.normal(1, 1, 3000)
    table, _ = table_and_margins(margin.tolist())
    assert value(Counting(table).auc(margin)) == pytest.approx(accuracy.auc(margin), abs=2e-4)


def test_what_only_knows_the_longer_side_is_right_half_the_time_with_length_matched():
    """Longer wins 3 of 4 pairs, all alike in how different they are: as matched, (1 + 0) / 2."""
    texts = ("x" * 30, "x" * 20)
    groups = [group(str(at), texts, [pair(*((0, 1) if at % 4 else (1, 0)))]) for at in range(40)]
    table = table_of(groups)
    margin = np.sign(table.longer).astype(np.float64)
    counting = Counting(table)
    assert (value(counting.accuracy(margin)), value(counting.length_matched(margin))) == (0.75, 0.5)


def test_what_only_knows_the_policy_is_right_half_the_time_with_policies_matched():
    groups = [
        group(str(at), ("aa", "bb"), [pair(*((0, 1) if at % 5 else (1, 0)))], ("strong", "weak")) for at in range(50)
    ]
    groups += [group(f"o{at}", ("aa", "cc"), [pair()], ("strong", "other")) for at in range(10)]
    table = table_of(groups)
    strength = {"strong": 2.0, "weak": 1.0, "other": 0.0}
    rewards = np.asarray([strength[table.policies[one]] for one in table.policy])
    counting = Counting(table)
    assert value(counting.accuracy(table.margins(rewards))) == pytest.approx(50 / 60)
    matched = counting.policy_matched(table.margins(rewards))
    assert (value(matched), matched.count) == (0.5, 50), "strong / other goes one way only, and is in no stratum"


def test_a_stratum_weighs_what_its_rarer_way_has():
    """wren / lark: ten times wren, right, once lark, wrong: 1/2 of weight 1. wren / tern: three times each, all right:
    1 of weight 3. (1/2 + 3) / 4."""
    ways = [("wren", "lark", 1)] * 10 + [("lark", "wren", -1)] + [("wren", "tern", 1), ("tern", "wren", 1)] * 3
    ways += [("wren", "wren", -1)] * 5  # of one policy alone: in no stratum
    groups = [group(str(at), ("a", "b"), [pair()], names) for at, (*names, _) in enumerate(ways)]
    matched = Counting(table_of(groups)).policy_matched(np.asarray([float(way[2]) for way in ways]))
    assert (value(matched), matched.count) == (3.5 / 4, 17)


def test_what_reads_the_text_keeps_its_accuracy_with_policies_matched():
    groups, worth = simulated(2, 300)
    table = table_of(groups)
    margin = table.margins(rewards_of(Says(worth), groups, table, "m")[:, 0])
    counting = Counting(table)
    assert value(counting.policy_matched(margin)) == pytest.approx(value(counting.accuracy(margin)), abs=0.02)


def test_intervals_by_prompt_cover_the_truth_where_pairs_of_a_prompt_stand_together():
    """Simulated: a prompt is easy or hard, for all of its ten pairs; accuracy and Brier of twenty prompts."""
    rng, rounds, hits = np.random.default_rng(3), 150, 0
    for _ in range(rounds):
        right = rng.random((20, 10)) < rng.beta(6, 2, 20)[:, None]
        groups = [group(str(at), ("a", "b"), [pair()] * 10) for at in range(20)]
        counting = Counting(table_of(groups))
        found = estimates({"a": counting.accuracy(np.where(right, 1.0, -1.0).ravel())}, resamples=300, seed=0)["a"]
        hits += found.low <= 0.75 <= found.high
    assert 0.91 <= hits / rounds <= 0.99


# Probabilities


def test_brier_and_log_loss_are_scikit_learns():
    rng = np.random.default_rng(4)
    margin, labels = rng.normal(0, 2, 200), rng.integers(0, 2, 200).astype(float)
    p = calibrating.probability(margin)
    assert calibrating.brier_scores(margin, labels).mean() == pytest.approx(brier_score_loss(labels, p))
    assert calibrating.log_losses(margin, labels).mean() == pytest.approx(log_loss(labels, p))
    table, _ = table_and_margins(margin.tolist())
    sums = calibrating.calibration_sums(Counting(table), margin)
    assert value(sums["brier"]) == pytest.approx(brier_score_loss(np.ones(200), p, labels=[0, 1]))
    assert value(sums["log_loss"]) == pytest.approx(log_loss(np.ones(200), p, labels=[0, 1]))


def test_a_split_vote_is_scored_as_its_votes():
    """Preferred by 3 of 4, probability 1/2: Brier 3/4 * 1/4 + 1/4 * 1/4 = 1/4, log-loss ln 2."""
    margin, preferred = np.zeros(1), np.asarray([0.75])
    assert calibrating.brier_scores(margin, preferred).tolist() == [0.25]
    assert calibrating.log_losses(margin, preferred).tolist() == pytest.approx([LN2])


def test_calibration_error_by_hand():
    """Confidence 0.73 (margin 1) twice, one right: |0.731 - 0.5| on 2 of 3; confidence 0.953 (margin 3), right:
    0.047 on 1 of 3."""
    one, three = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-3))
    by_hand = (abs(one - 0.5) * 2 + (1 - three)) / 3
    margin = np.asarray([1.0, -1.0, 3.0])
    assert calibrating.ece(margin, np.ones(3)) == pytest.approx(by_hand)
    table, _ = table_and_margins(margin.tolist())
    assert value(calibrating.calibration_sums(Counting(table), margin)["ece"]) == pytest.approx(by_hand)
    bins = calibrating.reliability(margin, np.ones(3))
    assert [(b.n, b.right) for b in bins] == [(2, 0.5), (1, 1.0)]
    assert [b.start <= b.confidence <= b.end for b in bins] == [True, True]


def test_calibration_error_is_that_of_bins_written_out():
    rng = np.random.default_rng(5)
    margin = rng.normal(1, 2, 500)
    p = 1 / (1 + np.exp(-np.abs(margin)))
    total = 0.0
    for start in np.arange(0.5, 1.0, 0.05):
        here = (p > start) & (p <= start + 0.05 + 1e-12)
        if here.any():
            total += here.mean() * abs(p[here].mean() - (margin[here] > 0).mean())
    assert calibrating.ece(margin, np.ones(500)) == pytest.approx(total)


def test_labels_drawn_from_the_probabilities_have_the_calibration_error_that_luck_makes():
    rng = np.random.default_rng(6)
    size = np.abs(rng.normal(0, 2, 400))
    found = [
        calibrating.ece(np.where(rng.random(400) < calibrating.probability(size), size, -size), np.ones(400))
        for _ in range(200)
    ]
    assert calibrating.expected_by_luck(size) == pytest.approx(np.mean(found), rel=0.05)


def test_the_temperature_of_rewards_that_are_too_large_is_found():
    """Simulated: labels drawn with sigmoid(margin / 3)."""
    rng = np.random.default_rng(7)
    margin = rng.normal(0, 4, 20_000)
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-margin / 3))).astype(float)
    assert calibrating.fit_temperature(margin, labels) == pytest.approx(3, rel=0.06)


def test_pairs_that_are_all_right_or_say_nothing_have_a_temperature_too():
    assert calibrating.fit_temperature(np.ones(5), np.ones(5)) == pytest.approx(calibrating.LEAST, rel=0.1)
    assert calibrating.fit_temperature(-np.ones(5), np.ones(5)) == pytest.approx(calibrating.MOST, rel=0.1)
    assert calibrating.fit_temperature(np.zeros(5), np.ones(5)) == 1
    with pytest.raises(ValueError, match="no pairs"):
        calibrating.fit_temperature(np.zeros(0), np.zeros(0))


def test_a_pairs_temperature_is_fitted_without_its_prompt():
    rng = np.random.default_rng(8)
    margin, preferred, prompt = rng.normal(1, 1, 60), np.ones(60), np.repeat(np.arange(20), 3)
    before = calibrating.cross_fitted(margin, preferred, prompt)
    changed = margin.copy()
    changed[prompt == 4] *= -50
    after = calibrating.cross_fitted(changed, preferred, prompt)
    assert (before[prompt == 4] == after[prompt == 4]).all()
    assert (before != after).any()


@pytest.mark.parametrize("tie", [{}, {"rao-kupper": 1.7}, {"davidson": 0.6}])
def test_outcomes_are_those_of_the_losses(tie):
    torch = pytest.importorskip("torch")
    from prefkit.training.paired_comparison import outcomes

    margin = np.asarray([-3.0, -0.2, 0.0, 1.4, 40.0])
    ours = np.stack(calibrating.outcomes(margin, tie), axis=1)
    assert ours == pytest.approx(outcomes(torch.tensor(margin), tie).numpy(), abs=1e-9)
    odds = calibrating.log_odds(margin, tie)
    known = slice(0, 4)
    assert calibrating.probability(odds)[known] == pytest.approx((ours[:, 0] / (ours[:, 0] + ours[:, 2]))[known])


# Best of n, ensembles


def test_the_best_of_n_by_hand():
    """Worth 3, 2, 1 and rewards that put 2 first, then 3, then 1. Best of two: {3,2} -> 2, {3,1} -> 3, {2,1} -> 2."""
    worth, rewards = np.asarray([3.0, 2.0, 1.0]), np.asarray([1.0, 2.0, 0.0])
    assert best_of.expected_of(rewards, worth, 2) == pytest.approx(7 / 3)
    assert best_of.expected_of(rewards, worth, 3) == 2
    assert best_of.expected_of(np.zeros(3), worth, 2) == pytest.approx(2), "equal rewards: as if drawn"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5)), min_size=2, max_size=6), st.integers(2, 6))
@settings(max_examples=60, deadline=None)
def test_the_best_of_n_is_the_mean_over_all_choices(both, n):
    rewards, worth = (np.asarray(column, dtype=np.float64) for column in zip(*both, strict=True))
    n = min(n, len(both))
    means = []
    for chosen in itertools.combinations(range(len(both)), n):
        places = np.asarray(chosen)
        highest = places[rewards[places] == rewards[places].max()]
        means.append(worth[highest].mean())
    assert best_of.expected_of(rewards, worth, n) == pytest.approx(np.mean(means))


def test_what_responses_are_worth_comes_back_from_the_gaps_of_their_pairs():
    """Ratings 4, 3, 1.5: gaps of all pairs; the fourth response stands in no pair."""
    pairs = [pair(0, 1, gap=1.0), pair(1, 2, gap=1.5), pair(0, 2, gap=2.5)]
    found, rated = best_of.known(table_of([group("p", "abcd", pairs)]))
    assert rated
    assert (found[0].worth + 17 / 6).tolist() == pytest.approx([4, 3, 1.5])
    apart, _ = best_of.known(table_of([group("p", "abcd", [pair(0, 1, gap=1.0), pair(2, 3, gap=1.0)])]))
    assert apart == [], "two halves that no pair links have no common scale"


def test_rewards_that_order_the_responses_as_their_ratings_do_get_all_that_is_possible():
    ratings = {"a": 4.0, "b": 3.0, "c": 1.5, "d": 1.0}
    pairs = [pair(x, y, gap=ratings["abcd"[x]] - ratings["abcd"[y]]) for x, y in itertools.combinations(range(4), 2)]
    groups = [group(str(at), "abcd", pairs) for at in range(8)]
    found = model_of(held_out({"m": Says(ratings)}, groups, settings=ALONE)).best_of
    assert [best.n for best in found] == [2, 3, 4]
    assert [best.share.value for best in found] == pytest.approx([1, 1, 1])
    assert found[-1].gain.value == pytest.approx(4 - 9.5 / 4), "the best minus the mean"


def test_an_ensemble_speaks_in_log_odds():
    """Rewards of 6 at temperature 3 and of 1 at temperature 1 above the other's: 2 and 1, together 1.5."""
    table = table_of([group("p", "ab", [pair()])])
    models, scales = [np.asarray([6.0, 0.0]), np.asarray([1.0, 0.0])], [3.0, 1.0]
    assert table.margins(together.ensemble(models, scales)).tolist() == pytest.approx([1.5])
    assert together.disagreement(table, models, scales).tolist() == pytest.approx([math.sqrt(0.5)])
    with pytest.raises(ValueError, match="one model"):
        together.disagreement(table, models[:1], scales[:1])


def test_disagreement_finds_errors_where_it_is_larger_on_them():
    assert together.errors_found(np.asarray([3.0, 1.0, 2.0]), np.asarray([0.0, 1.0, 0.0])) == 1
    assert together.errors_found(np.asarray([3.0, 1.0]), np.ones(2)) is None


# Reports


def model_of(report: Report) -> Measured:
    return next(one for one in report.scorers if one.kind == "model")


def test_a_report_has_the_figures_of_its_parts_for_a_perfect_scorer_that_is_too_sure():
    groups, worth = simulated(9, 120, noise=4)
    report = held_out({"m": Says(worth)}, groups, settings=ALONE)
    found = model_of(report)
    assert report.counts == {"pairs": 720, "ties": 0, "prompts": 120, "responses": 480, "unread": 0, "policies": 5}
    table = table_of(groups)
    margin = table.margins(rewards_of(Says(worth), groups, table, "m")[:, 0])
    assert found.figures["accuracy"].value == pytest.approx((margin > 0).mean())
    assert found.figures["auc"].value == pytest.approx(accuracy.auc(margin))
    assert found.figures["accuracy"].low < (margin > 0).mean() < found.figures["accuracy"].high
    assert [row.accuracy.n for row in found.by["gap"]] and sum(row.accuracy.n for row in found.by["gap"]) == 720
    assert sum(row.accuracy.n for row in found.by["length"]) == 720
    assert sum(row.accuracy.n for row in found.by["policies"]) == 720
    assert found.best_of[-1].n == 4
    assert found.figures["ece"].value > 3 * found.figures["ece_by_luck"].value, "rewards four times too large"


def test_accuracy_by_gap_is_that_of_the_pairs_of_that_gap():
    groups = [group(str(at), ("a", "b"), [pair(gap=0.25 * (at % 4 + 1))]) for at in range(40)]
    table = table_of(groups)
    margin = np.where(table.gap > 0.6, 1.0, -1.0)
    report = measure(table, [Scored(name="m", kind="baseline", margins=margin)], QUICK)
    figures = report.scorers[0].figures
    assert figures["accuracy"].value == 0.5
    assert figures["accuracy_gap_0.5"].value == pytest.approx(2 / 3)
    assert (figures["accuracy_gap_1"].value, figures["accuracy_gap_1"].n) == (1, 10)


def test_a_principle_is_judged_by_its_own_better_side_and_by_its_own_head():
    """The rejected side is the safer one: the overall reward goes against safety, the head of safety with it."""
    groups = [group(str(at), ("good", "bad"), [pair(gap=1.0, gaps={"warm": 2.0, "safe": -1.0})]) for at in range(5)]
    scorer = Says({"good": [1.0, 1.0, 0.0], "bad": [0.0, 0.0, 3.0]}, heads=("warm", "safe"))
    rows_ = {row.name: row for row in model_of(held_out({"m": scorer}, groups, settings=ALONE)).by["principle"]}
    assert (rows_["warm"].accuracy.value, rows_["safe"].accuracy.value) == (1, 0)
    assert (rows_["warm"].head.value, rows_["safe"].head.value) == (1, 1)


def test_several_models_are_also_measured_together_with_their_disagreement():
    groups, worth = simulated(10, 100)
    rng = np.random.default_rng(0)
    models = {
        f"m{number}": Says({text: reward + rng.normal(0, 2) for text, reward in worth.items()}) for number in range(4)
    }
    report = held_out(models, groups, settings=ALONE)
    by_name = {one.name: one.figures for one in report.scorers}
    single = [by_name[name]["accuracy"].value for name in models]
    assert by_name["all together"]["accuracy"].value > max(single)
    ensemble = next(one for one in report.scorers if one.kind == "ensemble")
    assert [row.name for row in ensemble.by["disagreement"]] == ["least quarter", "second", "third", "most"]
    assert ensemble.figures["errors_found"].value is not None


def test_tied_labels_are_closer_in_reward_where_the_rewards_know_them():
    table, margin = table_and_margins([3, 2, -2, 0.1, -0.2], [1, 1, 1, 0.5, 0.5])
    report = measure(table, [Scored(name="m", kind="baseline", margins=margin, tie={"davidson": 1.0})], QUICK)
    figures = report.scorers[0].figures
    assert figures["ties"].value == 1
    assert figures["accuracy"].n == 3
    assert figures["three_way_accuracy"].value == pytest.approx(2 / 5), "the ties' likeliest outcome is a win"


def test_correlation_with_length_is_numpys_over_all_and_within_prompts():
    groups, worth = simulated(11, 50)
    table = table_of(groups)
    rewards = rewards_of(Says(worth), groups, table, "m")[:, 0]
    length = table.length.astype(float)
    counting = Counting(table)
    assert value(counting.correlation(rewards, length)) == pytest.approx(np.corrcoef(rewards, length)[0, 1])
    apart = [array.reshape(50, 4) - array.reshape(50, 4).mean(axis=1, keepdims=True) for array in (rewards, length)]
    expected = np.corrcoef(*(array.ravel() for array in apart))[0, 1]
    assert value(counting.within_prompts(rewards, length)) == pytest.approx(expected)


def test_a_pair_that_a_model_cannot_read_is_in_nobodys_figures_and_is_counted():
    groups = [group(str(at), (f"a{at}", f"b{at}"), [pair()]) for at in range(5)]
    rewards = {text: float(text[0] == "a") for one in groups for text in one.texts}
    report = held_out({"m": Says(rewards | {"b3": math.nan}), "n": Says(rewards)}, groups, settings=ALONE)
    assert (report.counts["pairs"], report.counts["unread"]) == (4, 1)
    assert all(one.figures["accuracy"].n == 4 for one in report.scorers)
    assert any("cannot read" in note for note in report.notes)


def test_rewards_that_are_no_numbers_and_pairs_that_are_not_there_are_errors():
    groups = [group("p", ("a", "b"), [pair()])]
    with pytest.raises(PrefkitError, match="no number among 2 rewards"):
        held_out({"m": Says({"a": math.nan, "b": math.inf})}, groups, settings=ALONE)
    with pytest.raises(PrefkitError, match="no pair"):
        table_of([group("p", ("a", "b"), [])])


def test_notes_say_that_a_model_is_no_better_than_knowing_who_wrote_it():
    groups = [
        group(str(at), (f"a{at} well", f"b{at} badly"), [pair(*((0, 1) if at % 8 else (1, 0)))], ("strong", "weak"))
        for at in range(80)
    ]
    knows_policy = Says({text: float("well" in text) for one in groups for text in one.texts})
    report = held_out({"m": knows_policy}, groups[:40], groups[40:], BESIDE)
    notes = " ".join(report.notes)
    assert "m: not clearly above policy identity" in notes
    assert "50.0% where each of two policies wins as often" in notes
    baseline = next(one for one in report.scorers if one.name == "policy identity")
    assert baseline.figures["accuracy"].value == model_of(report).figures["accuracy"].value
    assert model_of(report).ahead["policy identity"].value == 0


def test_rows_of_a_report_are_words_for_a_model_card():
    groups, worth = simulated(12, 40)
    found = rows(held_out({"m": Says(worth)}, groups[:30], groups[30:], BESIDE))
    assert [row[""] for row in found] == ["m", "length only", "bag of words", "policy identity"]
    assert all(set(row) == set(found[0]) for row in found)


def test_pictures_are_whole_svg_with_every_scorer_in_words():
    import xml.etree.ElementTree as ET

    groups, worth = simulated(13, 60)
    report = held_out({"m <&> n": Says(worth), "second": Says(worth)}, groups[:40], groups[40:], BESIDE)
    drawn = picture(report)
    root = ET.fromstring(drawn)
    words = " ".join(root.itertext())
    assert "m <&> n" in words and "second" in words and "all together" in words
    inside(root)


class Learns:
    """Fits a scorer to groups: the worth of responses, with the more noise the fewer prompts it saw."""

    def __init__(self, worth: dict[str, float], noise: float = 20) -> None:
        self.worth, self.noise = worth, noise
        self.seen: list[set[str]] = []
        self.made: list[Says] = []

    def __call__(self, groups: Sequence[Group]) -> Says:
        noise = np.random.default_rng(len(self.made)).normal(0, self.noise / len(groups), len(self.worth))
        self.seen.append({one.prompt_id for one in groups})
        self.made.append(
            Says({text: value + off for (text, value), off in zip(self.worth.items(), noise, strict=True)})
        )
        return self.made[-1]


def test_a_learning_curve_grows_on_prompts_that_lie_in_each_other():
    groups, worth = simulated(14, 60)
    fit, fitted, shares = Learns(worth, 60), list[int](), (0.1, 0.5, 1.0)
    curve = learning_curve(
        fit, groups[:40], groups[40:], shares=shares, repeats=2, settings=QUICK, fitted=fitted.append
    )
    found = [(size.share, size.prompts, size.pairs) for size in curve.sizes]
    assert found == [(0.1, 4, 24), (0.5, 20, 120), (1, 40, 240)]
    assert [len(size.draws["accuracy"]) for size in curve.sizes] == [2, 2, 1], "all prompts are one draw"
    assert sum(fitted) == len(fit.seen) == fits(shares, 2) == 5
    assert fit.seen[0] < fit.seen[2] < fit.seen[4] and fit.seen[1] < fit.seen[3] and fit.seen[0] != fit.seen[1]
    values = [size.figures["accuracy"].value for size in curve.sizes]
    assert values[0] < values[1] < values[2]


def test_a_size_is_the_mean_of_its_draws_and_a_gain_the_difference_of_means():
    groups, worth = simulated(15, 80)
    held = groups[40:]
    fit = Learns(worth, 60)
    curve = learning_curve(fit, groups[:40], held, shares=(0.2, 0.7, 1.0), repeats=3, settings=QUICK)
    table = table_of(held)
    right = [(table.margins(rewards_of(one, held, table, "m")[:, 0]) > 0) for one in fit.made]
    wide = table.gap >= 1
    for size, some in zip(curve.sizes, (right[:3], right[3:6], right[6:]), strict=True):
        assert size.draws["accuracy"] == pytest.approx([one.mean() for one in some])
        assert size.figures["accuracy"].value == pytest.approx(np.mean(some))
        assert size.figures["accuracy"].n == 240
        assert size.figures["accuracy_gap_1"].value == pytest.approx(np.mean([one[wide].mean() for one in some]))
        assert size.figures["accuracy_gap_1"].n == wide.sum()
    first, middle, last = curve.sizes
    assert first.gain is None
    assert middle.gain.value == pytest.approx(np.mean(right[3:6]) - np.mean(right[:3]))
    assert last.gain.value == pytest.approx(right[6].mean() - np.mean(right[3:6]))
    assert last.gain.low < last.gain.value < last.gain.high
    assert middle.gains == pytest.approx([right[3 + draw].mean() - right[draw].mean() for draw in range(3)])
    assert last.gains == pytest.approx([right[6].mean() - right[3 + draw].mean() for draw in range(3)])


def test_a_draw_that_nothing_can_be_fitted_on_is_counted_and_an_unread_pair_is_in_no_size():
    groups, worth = simulated(16, 40)
    fit = Learns(worth | {groups[39].texts[0]: math.nan})

    def picky(some: Sequence[Group]) -> Says:
        if len(some) < 3:
            raise PrefkitError("here", "too few", "more", "Give more.")
        return fit(some)

    curve = learning_curve(picky, groups[:20], groups[20:], shares=(0.1, 0.5, 1.0), repeats=2, settings=QUICK)
    assert curve.unfitted == {"too few": 2}
    assert [size.share for size in curve.sizes] == [0.5, 1]
    assert curve.unread == 3, "the pairs of one of four responses"
    assert all(size.figures["accuracy"].n == 117 for size in curve.sizes)
    with pytest.raises(PrefkitError, match="too few"):
        learning_curve(picky, groups[:2], groups[20:], settings=QUICK)
    with pytest.raises(PrefkitError, match="no training pairs"):
        learning_curve(fit, [], groups[20:], settings=QUICK)


def curve_of(gain: Figure | None, gains: Sequence[float]) -> Curve:
    sizes = [
        Size(0.7, 140, 752.4, {}, {}),
        Size(1.0, 200, 1074.0, {}, {}, gain, list(gains)),
    ]
    return Curve("frozen", sizes)


@pytest.mark.parametrize(
    ("gain", "gains", "verdict"),
    [
        (Figure(0.02, 0.01, 0.03, 400, 90), [0.01, 0.03], "would probably still help"),
        (Figure(0.02, 0.01, 0.03, 400, 90), [-0.01, 0.05], "may still help"),
        (Figure(0.001, -0.006, 0.008, 400, 90), [0.0, 0.002], "would bring little"),
        (Figure(0.01, -0.02, 0.04, 400, 90), [0.0, 0.02], "both within the interval"),
        (Figure(0.02, 0.01, 0.03, 40, 12), [0.01, 0.03], "12 held-out prompts cannot tell"),
        (Figure(0.0, None, None, 400, 90), [0.0], "90 held-out prompts cannot tell"),
    ],
)
def test_the_notes_say_whether_more_pairs_would_help(gain, gains, verdict):
    groups, worth = simulated(17, 40)
    report = held_out({"trained": Says(worth)}, groups, settings=ALONE)
    (of_curve, of_trained) = notes_on_curves(replace(report, curves=[curve_of(gain, gains)]))
    assert of_curve.startswith(
        "frozen: from 752 to 1,074 training pairs (70% to 100% of the prompts) accuracy changes by "
    )
    assert f"{100 * gain.value:+.1f} points" in of_curve and verdict in of_curve
    assert of_trained.startswith("trained: no learning curve")


def test_a_learning_curve_is_drawn_alone_and_below_a_report():
    import xml.etree.ElementTree as ET

    groups, worth = simulated(18, 60)
    settings_ = replace(BESIDE, curve=True)
    report = held_out({"m": Says(worth)}, groups[40:], groups[:40], settings_)
    assert [curve.name for curve in report.curves] == ["length only", "bag of words", "policy identity"]
    for name, drawn in (("alone", curve_picture(report.curves)), ("below", picture(report))):
        root = ET.fromstring(drawn)
        words = " ".join(root.itertext())
        assert "training pairs (logarithmic)" in words and "policy identity, 240 pairs" in words, name
        assert drawn.count('r="1.6"') == 3 * 4 * 5, "four sizes of five draws each, for three scorers"
        inside(root)
    assert "Would more pairs help?" not in picture(replace(report, curves=[]))
    with pytest.raises(ValueError, match="accuracy_gap_9"):
        curve_picture(report.curves, "accuracy_gap_9")


def inside(root) -> None:
    """Nothing stands outside of the picture."""
    width, height = float(root.get("width")), float(root.get("height"))
    for element in root.iter():
        for name in ("x", "x1", "x2", "cx"):
            assert element.get(name) is None or 0 <= float(element.get(name)) <= width
        for name in ("y", "y1", "y2", "cy"):
            assert element.get(name) is None or 0 <= float(element.get(name)) <= height
