"""Rankings of many policies, Elo, and blind studies of two."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
from making import best_of, both_orders, compared, make_run, rated

from prefkit.cli import cli
from prefkit.errors import PrefkitError
from prefkit.evaluation.board_shifts import compare
from prefkit.evaluation.board_styles import NO_TEXT, Features, alike, relative
from prefkit.evaluation.boards import BoardSettings, boards
from prefkit.evaluation.elo import elo
from prefkit.evaluation.outcomes import KINDS, UNKNOWN, Outcomes, balanced, run_outcomes
from prefkit.evaluation.rankings import RankingSettings, rank
from prefkit.evaluation.separations import POINTS, votes_needed
from prefkit.evaluation.strengths import Board, Cells
from prefkit.evaluation.studies import benjamini_hochberg, holm, sign_test, signed_rank, studies, study
from prefkit.evaluation.styles import Texts

QUICK = RankingSettings(rounds=200)


def outcomes(
    rows: list[tuple[int, int, int, float]], names: str = "abcdefgh", shown: list[bool] | None = None
) -> Outcomes:
    """Rows of prompt, first policy, second policy, share of the first."""
    prompt, first, second, share = (np.asarray(column) for column in zip(*rows, strict=True))
    unknown = np.full(len(rows), UNKNOWN)
    return Outcomes(
        prompt=prompt,
        judge=np.zeros(len(rows), np.int64),
        first=first,
        second=second,
        preferred=share.astype(np.float64),
        shown_first=None if shown is None else np.asarray(shown),
        length_first=unknown,
        length_second=unknown,
        topic=unknown,
        pair=np.arange(len(rows)),
        kind=np.full(len(rows), KINDS.index("comparison")),
        prompts=tuple(f"p{code}" for code in range(int(prompt.max()) + 1)),
        judges=("human:x",),
        policies=tuple(names),
        topics=(),
    )


def planted(strengths: list[float], prompts: int, seed: int = 0, slot: float = 0.0, nu: float = 0.0) -> Outcomes:
    """Four comparisons a prompt by Davidson's model with these strengths; ``slot`` helps who is shown first."""
    rng = np.random.default_rng(seed)
    n = 4 * prompts
    first = rng.integers(0, len(strengths), n)
    second = (first + 1 + rng.integers(0, len(strengths) - 1, n)) % len(strengths)
    shown = rng.random(n) < 0.5
    d = np.asarray(strengths)[first] - np.asarray(strengths)[second] + slot * np.where(shown, 1, -1)
    weights = np.stack([np.exp(d / 2), np.full(n, nu), np.exp(-d / 2)])
    drawn = rng.random(n) * weights.sum(axis=0)
    share = np.where(drawn < weights[0], 1.0, np.where(drawn < weights[0] + weights[1], 0.5, 0.0))
    rows = list(zip((np.arange(n) // 4).tolist(), first.tolist(), second.tolist(), share.tolist(), strict=True))
    return outcomes(rows, "abcdefgh"[: len(strengths)], shown.tolist())


def test_two_policies_differ_by_the_log_odds_of_their_wins():
    """Thirty wins to ten: ln 3, in points 400 log10 3."""
    rows = [(prompt, 0, 1, float(prompt % 4 != 0)) for prompt in range(40)]
    best, worst = rank(outcomes(rows, "ab"), RankingSettings(prior=0, rounds=100)).policies
    assert (best.policy, worst.policy) == ("a", "b")
    assert best.rating - worst.rating == pytest.approx(400 * math.log10(3), abs=1e-6)
    assert (best.wins, best.ties, best.losses) == (30, 0, 10)


@pytest.mark.parametrize("ties", ["half", "rao-kupper", "davidson"])
def test_slopes_are_those_of_the_reward_models_losses(ties: str):
    """Value, gradient and curvature of a cell, against the loss of the same model in torch and its derivatives."""
    torch = pytest.importorskip("torch")
    from prefkit.evaluation.strengths import slopes
    from prefkit.training import paired_comparison as losses

    won, tied, lost, at, tie = 5.0, 3.0, 2.0, 0.4, 0.7
    total, target = won + tied + lost, torch.tensor([0.65], dtype=torch.float64)  # (5 + 3/2) / 10

    def likelihood(parameters):
        d, a = parameters[:1], parameters[1]
        share = torch.tensor([tied / total], dtype=torch.float64)
        if ties == "half":
            return -total * losses.bradley_terry(d, target).sum()
        of = losses.rao_kupper if ties == "rao-kupper" else losses.davidson
        return -total * of(d, target, share, a).sum()

    point = torch.tensor([at, tie], dtype=torch.float64)
    gradient = torch.autograd.functional.jacobian(likelihood, point)
    curvature = -torch.autograd.functional.hessian(likelihood, point)
    found = slopes(ties, np.asarray([[[won], [tied], [lost]]]), np.full((1, 1), at), np.full((1, 1), tie))
    assert found.value[0, 0] == pytest.approx(float(likelihood(point)))
    assert [found.d[0, 0], found.a[0, 0]] == pytest.approx(gradient.tolist())
    assert [found.dd[0, 0], found.da[0, 0], found.aa[0, 0]] == pytest.approx(
        [float(curvature[0, 0]), float(curvature[0, 1]), float(curvature[1, 1])]
    )


@pytest.mark.parametrize(
    "settings", [RankingSettings(rounds=200, intervals=kind) for kind in ("bootstrap", "sandwich")]
)
def test_planted_strengths_lie_within_their_intervals(settings: RankingSettings):
    strengths = [1.0, 0.5, 0.0, -0.5, -1.0]
    found = rank(planted(strengths, 300), settings)
    for one, strength in zip(found.policies, strengths, strict=True):
        assert one.low < 1000 + POINTS * strength < one.high
        assert one.high - one.low < 100


def test_davidsons_ties_and_the_first_slot_are_recovered():
    """Among decided comparisons the slot adds 0.5 to the log-odds; equals tie as ln nu = -0.5 says."""
    settings = RankingSettings(ties="davidson", first_slot=True, rounds=200)
    found = rank(planted([0.6, 0.0, -0.6], 800, slot=0.5, nu=math.exp(-0.5)), settings)
    assert found.first_slot.low < 0.5 < found.first_slot.high
    assert found.first_slot.low > 0.2
    assert found.tie.low < -0.5 < found.tie.high


def test_sandwich_and_bootstrap_agree_on_standard_errors():
    board = planted([0.5, 0.0, -0.5], 300)
    drawn, sandwich = (
        rank(board, RankingSettings(rounds=1000, intervals=kind)).separations[0].error
        for kind in ("bootstrap", "sandwich")
    )
    assert drawn == pytest.approx(sandwich, rel=0.1)


def test_a_verdict_copied_four_times_on_its_prompt_makes_no_interval_shorter():
    rng = np.random.default_rng(1)
    rows = [(prompt, 0, 1, float(rng.random() < 0.7)) for prompt in range(60)]
    once, copied = rank(outcomes(rows, "ab"), QUICK), rank(outcomes(rows * 4, "ab"), QUICK)
    widths = [board.policies[0].high - board.policies[0].low for board in (once, copied)]
    assert widths[1] == pytest.approx(widths[0], rel=0.05)


def test_a_board_in_parts_is_refused_and_its_parts_are_named():
    rows = [(prompt, one, one + 1, float(prompt % 2)) for prompt in range(10) for one in (0, 2)]
    with pytest.raises(PrefkitError, match="2 parts that were never compared with each other: a, b; c, d"):
        rank(outcomes(rows, "abcd"), QUICK)


def test_an_undefeated_policy_has_no_upper_end_and_is_not_told_apart_by_three_wins():
    rows = [(prompt, 0, 1, 1.0) for prompt in range(3)]
    rows += [(prompt, 1, 2, float(prompt % 2)) for prompt in range(3, 33)]
    found = rank(outcomes(rows, "abc"), QUICK)
    best = found.policies[0]
    assert (best.policy, best.high, best.worst_rank) == ("a", None, 3)
    assert any("a never lost against the others" in note for note in found.notes)
    assert found.rounds.one_sided > 0
    with pytest.raises(PrefkitError, match="never lost against the others: a"):
        rank(outcomes(rows, "abc"), RankingSettings(prior=0))


def test_draws_in_which_the_board_falls_apart_are_left_out_and_counted():
    """c hangs on one prompt of thirty, which a draw misses in a third of the cases: too many for an interval."""
    rows = [(prompt, 0, 1, float(prompt % 2)) for prompt in range(29)] + [(29, 1, 2, 0.5)]
    found = rank(outcomes(rows, "abc"), RankingSettings(rounds=300))
    assert 0.25 < found.rounds.fell_apart / 300 < 0.5
    assert {one.low for one in found.policies} == {None}
    assert any("no intervals" in note for note in found.notes)


def test_one_prompt_gives_ratings_and_no_interval():
    found = rank(outcomes([(0, 0, 1, 1.0), (0, 0, 1, 0.0), (0, 0, 1, 1.0)], "ab"), QUICK)
    assert [(one.low, one.high, one.best_rank, one.worst_rank) for one in found.policies] == [(None, None, 1, 2)] * 2
    assert any("one prompt" in note for note in found.notes)


def test_equal_policies_are_seldom_told_apart_anywhere_on_the_board():
    """Of 25 boards of eight equal policies a few are wrong about one of their 28 pairs: 5% are expected, 40% without
    the correction."""
    wrong = sum(
        any(one.separated for one in rank(planted([0.0] * 8, 60, seed), RankingSettings(rounds=100)).separations)
        for seed in range(25)
    )
    assert wrong <= 4


def test_rank_ranges_hold_the_rank_and_close_where_policies_are_far_apart():
    found = rank(planted([2.0, 0.0, 0.0, -2.0], 300), QUICK)
    assert [(one.best_rank, one.worst_rank) for one in found.policies] == [(1, 1), (2, 3), (2, 3), (4, 4)]


def test_votes_needed_are_enough_for_the_power_that_they_promise():
    lead = 0.5
    votes = votes_needed(lead)
    p = 1 / (1 + math.exp(-lead))
    wins = np.random.default_rng(0).binomial(votes, p, 4000)
    error = np.sqrt(1 / wins + 1 / (votes - wins))
    assert np.mean(np.abs(np.log(wins / (votes - wins))) / error > 1.96) == pytest.approx(0.8, abs=0.03)
    assert votes_needed(0.0) is None


def test_ties_lower_the_votes_that_a_lead_takes_as_they_lower_its_spread():
    """Davidson's ties, counted as half a win: the test of the mean with the spread of wins, ties and losses."""
    weights = np.exp([0.25, -0.2, -0.25])
    won, tied, lost = weights / weights.sum()
    mean = won + tied / 2
    votes = votes_needed(math.log(mean / (1 - mean)), tie_share=tied)
    counts = np.random.default_rng(0).multinomial(votes, [won, tied, lost], 4000)
    means = (counts[:, 0] + counts[:, 1] / 2) / votes
    spread = np.sqrt(((counts[:, 0] + counts[:, 1] / 4) / votes - means**2) / votes)
    assert np.mean(np.abs(means - 0.5) / spread > 1.96) == pytest.approx(0.8, abs=0.03)
    assert votes < 0.8 * votes_needed(math.log(mean / (1 - mean)))


def styled(prompts: int, seed: int) -> tuple[Outcomes, Features]:
    """Policy a is as good as c but writes longer answers with more lists; a usual difference in length adds 0.5."""
    rng = np.random.default_rng(seed)
    n = 4 * prompts
    first = rng.integers(0, 3, n)
    second = (first + 1 + rng.integers(0, 2, n)) % 3
    sides = []
    for policy in (first, second):
        length = np.exp(rng.normal(6 + 0.5 * (policy == 0), 0.5)).round()
        lists = rng.poisson(np.where(policy == 0, 4.0, 1.0))
        sides.append(np.column_stack([length, np.zeros(n), lists, rng.poisson(1.0, n)]))
    features = relative(*sides, ["length", "headers", "lists", "bold"])
    d = np.asarray([0.0, 0.4, 0.0])[first] - np.asarray([0.0, 0.4, 0.0])[second]
    won = rng.random(n) < 1 / (1 + np.exp(-d - features.values @ [0.5, 0.2, 0.0]))
    rows = zip((np.arange(n) // 4).tolist(), first.tolist(), second.tolist(), won.astype(float).tolist(), strict=True)
    return outcomes(list(rows), "abc"), features


def test_a_feature_is_the_relative_difference_in_units_of_its_root_mean_square():
    """Lengths 300 and 100, 10 and 30, 200 and 200: 0.5, -0.5, 0, whose root mean square is sqrt(1/6)."""
    one, other = (np.asarray([[size, 0, 0, 2] for size in sizes], float) for sizes in ((300, 10, 200), (100, 30, 200)))
    found = relative(one, other, ["length", "headers", "bold"])
    assert (found.names, found.left_out) == (("length",), ("headers", "bold"))
    assert found.values[:, 0] == pytest.approx(np.array([0.5, -0.5, 0]) * math.sqrt(6))


STYLED = RankingSettings(control=("length", "style"), intervals="sandwich", rounds=200)


def test_a_policy_that_only_writes_longer_is_first_without_the_control_and_not_with_it():
    board, features = styled(300, 0)
    plain, alike = rank(board, QUICK), rank(board, STYLED, features=features)
    assert plain.policies[0].policy == "a"
    assert alike.policies[0].policy == "b"
    assert alike.separations[0].separated
    assert any("no two answers differ in headers" in note for note in alike.notes)


def test_intervals_with_the_control_hold_the_planted_strengths_and_effects():
    """Forty boards: 95% of 120 ratings and of 120 effects, and chance."""
    held = {"ratings": 0, "effects": 0}
    truth = dict(zip("abc", 1000 + POINTS * (np.array([0.0, 0.4, 0.0]) - 0.4 / 3), strict=True))
    for seed in range(40):
        board, features = styled(60, seed)
        found = rank(board, STYLED, features=features)
        held["ratings"] += sum(one.low < truth[one.policy] < one.high for one in found.policies)
        effects = zip(found.style.items(), [("length", 0.5), ("lists", 0.2), ("bold", 0.0)], strict=True)
        for (name, term), (named, effect) in effects:
            assert name == named
            held["effects"] += term.low < effect < term.high
    assert 106 <= held["ratings"] < 120
    assert 106 <= held["effects"] < 120


def test_the_control_is_the_logistic_regression_of_another_library():
    """Without a prior on strengths, beside statsmodels with the same columns: estimates, and errors by prompt."""
    api = pytest.importorskip("statsmodels.api")
    board, features = styled(100, 3)
    found = rank(board, replace(STYLED, prior=0), features=features)
    sides = np.zeros((len(board), 3))
    sides[np.arange(len(board)), board.first] = 1
    sides[np.arange(len(board)), board.second] = -1
    x = np.column_stack([sides[:, 1:] - 0, features.values])
    model = api.GLM(board.preferred, x, family=api.families.Binomial())
    theirs = model.fit(cov_type="cluster", cov_kwds={"groups": board.prompt})
    ours = {one.policy: one.rating / POINTS for one in found.policies}
    assert [ours["b"] - ours["a"], ours["c"] - ours["a"]] == pytest.approx(theirs.params[:2], abs=2e-2)
    assert [term.value for term in found.style.values()] == pytest.approx(theirs.params[2:], abs=1e-2)
    errors = [(term.high - term.low) / 2 / 1.984 for term in found.style.values()]
    assert errors == pytest.approx(theirs.bse[2:], rel=0.02)


def test_bootstrap_and_sandwich_agree_on_the_effects_of_style():
    board, features = styled(150, 1)
    drawn, sandwich = (
        rank(board, replace(STYLED, intervals=kind, rounds=400), features=features).style["length"]
        for kind in ("bootstrap", "sandwich")
    )
    assert drawn.value == sandwich.value
    assert drawn.high - drawn.low == pytest.approx(sandwich.high - sandwich.low, rel=0.15)


def test_a_controlled_board_is_the_same_whichever_policy_of_a_row_is_named_first():
    board, features = styled(50, 2)
    rows = list(zip(board.prompt, board.second, board.first, 1 - board.preferred, strict=True))
    turned = rank(outcomes(rows, "abc"), STYLED, features=replace(features, values=-features.values))
    straight = rank(board, STYLED, features=features)
    assert (turned.policies, turned.style) == (straight.policies, straight.style)


def test_a_length_that_the_policies_decide_is_refused():
    rows = [(prompt, 0, 1, float(prompt % 2)) for prompt in range(20)]
    features = relative(np.full((20, 4), 200.0), np.full((20, 4), 100.0), ["length"])
    with pytest.raises(PrefkitError, match="differences in length that the two policies"):
        rank(outcomes(rows, "ab"), replace(STYLED, control=("length",)), features=features)


def test_a_board_of_ties_has_equal_ratings_and_no_interval():
    for ties in ("half", "rao-kupper", "davidson"):
        found = rank(outcomes([(prompt, 0, 1, 0.5) for prompt in range(30)], "ab"), replace(QUICK, ties=ties))
        assert [(one.rating, one.low, one.high) for one in found.policies] == [(1000, None, None)] * 2
        assert found.tie is None
        assert not found.separations[0].separated
        assert any("every comparison is a tie" in note for note in found.notes)


def test_nothing_to_compare_is_refused():
    board = outcomes([(0, 0, 1, 1.0)], "ab")
    for empty in (board[np.empty(0, np.int64)], board[np.zeros(1, bool)]):
        with pytest.raises(PrefkitError, match="0 comparisons of two policies"):
            rank(empty, QUICK)


def test_a_slot_that_always_wins_is_refused_and_not_called_infinite():
    rows = [(prompt, 0, 1, float(prompt % 2)) for prompt in range(20)]
    shown = [prompt % 2 == 1 for prompt in range(20)]
    with pytest.raises(PrefkitError, match="a slot that always wins or loses"):
        rank(outcomes(rows, "ab", shown), RankingSettings(first_slot=True, rounds=100))


def test_a_tie_parameter_at_its_bound_leaves_the_strengths_at_the_top():
    """A draw without a tie: the strengths are those of the model without ties."""
    wins = np.array([[[8.0, 5.0, 9.0], [0.0, 0.0, 0.0], [4.0, 5.0, 1.0]]])
    pairs = np.array([0, 0, 1]), np.array([1, 2, 2])
    found = []
    for ties in ("half", "rao-kupper", "davidson"):
        board = Board(Cells(3, *pairs, np.empty((3, 0)), np.empty(0), ties, 0.5))
        fitted = board.fit(
            wins, np.zeros(board.cells.size) + (ties != "half") * np.array([0, 0, 0, 1])[: board.cells.size]
        )
        found.append(fitted[0, :3] - fitted[0, :3].mean())
    assert found[1] == pytest.approx(found[0], abs=2e-3)
    assert found[2] == pytest.approx(found[0], abs=2e-3)


def test_the_first_slot_is_refused_where_nothing_was_shown_or_the_policies_decide_it():
    rows = [(prompt, 0, 1, float(prompt % 2)) for prompt in range(10)]
    settings = RankingSettings(first_slot=True)
    with pytest.raises(PrefkitError, match="nothing that was shown in an order"):
        rank(outcomes(rows, "ab"), settings)
    with pytest.raises(PrefkitError, match="an order that the two policies always decide"):
        rank(outcomes(rows, "ab", [True] * 10), settings)


def test_a_board_is_the_same_whichever_policy_of_a_row_is_named_first():
    board = planted([0.5, 0.0, -0.5], 100, nu=0.5)
    rows = list(zip(board.prompt, board.second, board.first, 1 - board.preferred, strict=True))
    turned = rank(outcomes(rows, "abc"), QUICK)
    assert turned.policies == rank(board, QUICK).policies


def test_newton_finds_the_top_from_far_away():
    cells = Cells(3, np.array([0, 0, 1]), np.array([1, 2, 2]), np.empty((3, 0)), np.empty(0), "davidson", 0.5)
    board = Board(cells)
    tallies = np.array([[[900.0, 999.0, 40.0], [1.0, 0.0, 3.0], [2.0, 1.0, 1.0]]])
    near, far = board.fit(tallies, board.start(tallies))[0], board.fit(tallies, np.array([-6.0, 0.0, 6.0, 3.0]))[0]
    assert near == pytest.approx(far, abs=1e-6)
    assert np.abs(board.terms(tallies, near[None]).gradient).max() < 1e-6


def test_two_rankings_are_compared_policy_by_policy():
    one, other = rank(planted([1.0, 0.0, -1.0], 200), QUICK), rank(planted([-1.0, 0.0, 1.0], 200, 1), QUICK)
    found = compare(one, other)
    assert found.tau == -1
    first = found.shifts[0]
    assert (first.policy, first.rank, first.other_rank) == ("a", 1, 3)
    assert first.high < 0


def test_elo_hangs_on_the_order_of_the_rows():
    board = planted([0.1, 0.0, -0.1], 100)
    found = elo(board, shuffles=50)
    assert all(one.lowest < one.mean < one.highest for one in found.ratings)
    assert max(one.highest - one.lowest for one in found.ratings) > 20
    assert np.mean([one.as_given for one in found.ratings]) == pytest.approx(1000)


def test_one_comparison_moves_elo_by_half_a_step():
    first, second = elo(outcomes([(0, 0, 1, 1.0)], "ab"), step=16, shuffles=1).ratings
    assert (first.as_given, second.as_given) == (1008, 992)


def test_signed_ranks_are_exact_with_and_without_ties():
    """1 to 6 all positive: 2 of 2**6 sign patterns are as far; beside scipy where no ranks tie."""
    from scipy.stats import wilcoxon

    assert signed_rank([1, 2, 3, 4, 5, 6]) == pytest.approx(2 / 64)
    assert signed_rank([1, 1, 1, 1, 0]) == pytest.approx(2 / 16)
    gap = np.random.default_rng(0).normal(0.4, 1, 30)
    assert signed_rank(gap) == pytest.approx(wilcoxon(gap, method="exact").pvalue)
    assert signed_rank([0, 0]) is None


def test_the_sign_test_leaves_out_ties():
    assert sign_test(9, 1) == pytest.approx(22 / 1024)
    assert sign_test(0, 0) is None


def test_corrections_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert benjamini_hochberg([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])


def test_a_study_averages_raters_by_prompt_and_leaves_out_missing_scores():
    """Prompts 0 to 6 differ by 2; prompt 7 has one score only."""
    first = [8, 6, 7, 7, 7, 7, 7, 7, math.nan]
    second = [6, 4, 5, 5, 5, 5, 5, 5, 9]
    found = study(first, second, [0, 0, 1, 2, 3, 4, 5, 6, 7])
    assert (found.prompts, found.left_out, found.wins, found.losses) == (7, 1, 7, 0)
    assert found.difference.value == 2
    assert found.wilcoxon == pytest.approx(2 / 2**7)
    assert found.rank_biserial == 1


def test_a_study_with_five_prompts_says_that_nothing_could_be_significant():
    assert "could be significant" in study([9] * 5, [1] * 5).notes[0]


def test_several_questions_are_corrected_together():
    rng = np.random.default_rng(2)
    base = rng.integers(3, 8, 40).astype(float)
    found = studies({"warmth": base + 1, "clarity": base + rng.choice([-1, 1], 40)}, {"warmth": base, "clarity": base})
    warmth, clarity = found
    assert warmth.holm == pytest.approx(2 * warmth.wilcoxon)
    assert clarity.holm == pytest.approx(clarity.wilcoxon)
    assert warmth.holm < 0.05 < clarity.holm


def votes(path: Path) -> Path:
    lines = ["model_a,model_b,winner,question_id"]
    for number in range(30):
        lines += [
            f"x,y,{'model_a' if number % 3 else 'tie'},q{number}",
            f"y,z,{'y' if number % 2 else 'model_b'},q{number}",
        ]
    path.write_text("\n".join([*lines, "x,z,?,q1"]) + "\n")
    return path


def test_a_file_of_votes_is_ranked_and_rows_without_a_winner_are_counted(tmp_path: Path):
    found = boards(votes(tmp_path / "votes.csv"), BoardSettings(ranking=QUICK), silent)
    best = found.overall.policies[0]
    assert (best.policy, best.wins, best.ties, best.prompts) == ("x", 20, 10, 30)
    assert found.overall.left_out == {"rows that name no winner": 1}


def test_the_command_prints_the_board_and_writes_its_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "board.json"
    cli.main(
        [
            "leaderboard",
            str(votes(tmp_path / "votes.csv")),
            "--ties",
            "rao-kupper",
            "--elo",
            "--rounds",
            "100",
            "--out",
            str(out),
        ],
        standalone_mode=False,
    )
    printed = capsys.readouterr().out
    assert "60 comparisons on 30 prompts" in printed
    assert "1 rows that name no winner" in printed
    written = json.loads(out.read_bytes())
    assert written["overall"]["policies"][0]["policy"] == "x"
    assert written["overall"]["tie"]["value"] > 0


def answers(path: Path, texts: bool = True) -> Path:
    """x and y are equals, x writes twice as much in half of its answers, and the longer answer is mostly preferred."""
    rows = []
    for number in range(60):
        longer, won = number % 2 == 0, number % 5 != 0
        row = {"model_a": "x", "model_b": "y", "winner": "model_a" if longer == won else "model_b", "prompt_id": number}
        if texts:
            row |= {"response_a": "so " * (40 if longer else 20 + number % 3), "response_b": "so " * (21 + number % 7)}
        rows.append(json.dumps(row))
    path.write_text("\n".join(rows) + "\n")
    return path


def test_the_command_ranks_answers_alike_in_length(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "board.json"
    arguments = [
        str(answers(tmp_path / "votes.jsonl")),
        "--control",
        "length,style",
        "--rounds",
        "100",
        "--out",
        str(out),
    ]
    cli.main(["leaderboard", *arguments], standalone_mode=False)
    printed = capsys.readouterr().out
    assert "ranked with length and style alike" in printed
    assert "the longer answer, by a usual difference" in printed
    assert "no two answers differ in headers, lists, bold" in printed
    written = json.loads(out.read_bytes())
    assert written["overall"]["style"]["length"]["low"] > 0
    assert {one["policy"] for one in written["controlled"]["shifts"]} == {"x", "y"}


def test_a_control_without_texts_is_refused_and_says_where_they_go(tmp_path: Path):
    settings = BoardSettings(ranking=replace(QUICK, control=("length",)))
    with pytest.raises(PrefkitError, match=r"60 comparisons without the texts of both answers(.|\n)*response_a"):
        boards(answers(tmp_path / "votes.jsonl", texts=False), settings, silent)


def test_an_unknown_control_is_refused(tmp_path: Path):
    with pytest.raises(click.BadParameter, match="'width' is neither length nor style"):
        cli.main(["leaderboard", str(votes(tmp_path / "votes.csv")), "--control", "width"], standalone_mode=False)


def silent(*_: object) -> Callable[[int], None]:
    return lambda _more: None


def test_a_runs_texts_are_found_and_an_answer_without_one_is_left_out_and_counted(tmp_path: Path):
    """A judge in both orders is one row; A writes three bold words in odd prompts, B one in every."""
    asked = [both_orders(f"p{n}/{'AB'[n % 3 == 0]}", f"p{n}/{'BA'[n % 3 == 0]}") for n in range(40)]
    texts: dict[str, str | None] = {f"p{n}/A": "**so** " * 3 if n % 2 else "so so " for n in range(40)}
    texts |= {f"p{n}/B": "**so** and so" for n in range(40)} | {"p7/B": None}
    run = make_run(tmp_path / "run", *asked, texts=texts)
    settings = BoardSettings(ranking=replace(QUICK, control=("style",), intervals="sandwich"))
    found = boards(run.path, settings, silent)
    assert (found.overall.comparisons, found.overall.prompts) == (39, 39)
    assert found.overall.left_out == {NO_TEXT: 1}
    assert list(found.overall.style) == ["bold"]
    assert found.plain is not None
    assert found.plain.comparisons == 39
    texts_of_run = Texts((one.prompt_id, one.policy, one.text) for one in run.responses())
    _, features = alike(balanced(run_outcomes(run)), texts_of_run, ["style"])
    relative_to_least = features.values[:, 0] / np.abs(features.values).max()
    assert sorted(set(relative_to_least.round(9))) == [-1.0, 0.5]  # (0 - 1) / 1 and (3 - 1) / 4


def test_each_judge_is_put_beside_people_and_choices_and_ratings_are_ranked_too(tmp_path: Path):
    run = make_run(
        tmp_path / "run",
        *(compared(f"p{n}/A", f"p{n}/B", "a" if n % 4 else "b") for n in range(30)),
        *(best_of([f"p{n}/A", f"p{n}/B", f"p{n}/C"], n % 3) for n in range(30, 60)),
        *(rated({f"p{n}/A": 2 + n % 2, f"p{n}/B": 3, f"p{n}/C": 2 + n % 3}) for n in range(60)),
    )
    found = boards(run.path, BoardSettings(by="judge", ranking=QUICK), silent)
    assert found.reference == "human:one"
    assert list(found.by) == ["human:one", "llm:one"]
    people = found.by["human:one"]
    assert people.comparisons == 30 + 2 * 30
    assert people.policies[0].policy == "A"
    assert found.by["llm:one"].comparisons == 3 * 60
    shifts = {one.policy: one for one in found.compared["llm:one"].shifts}
    assert shifts["A"].high < 0


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["x,y,x", "v,w,v"], "2 parts that were never compared with each other: v, w; x, y"),
        (["x,x,x"], "0 comparisons with a winner, 1 rows of a policy with itself"),
        (["x,y,?", ",y,x"], "0 comparisons with a winner, 1 rows that name no winner, 1 rows that name no policy"),
        ([], "found no rows"),
    ],
)
def test_a_file_that_ranks_nobody_is_refused_with_what_is_in_it(tmp_path: Path, lines: list[str], says: str):
    path = tmp_path / "votes.csv"
    path.write_text("\n".join(["model_a,model_b,winner", *lines]) + "\n")
    with pytest.raises(PrefkitError, match=says):
        boards(path, BoardSettings(ranking=QUICK), silent)


def test_rows_without_a_judge_are_each_counted_and_a_judges_two_orders_are_one(tmp_path: Path):
    rows = ["x,y,x,q1,j", "y,x,y,q1,j", "x,y,x,q2,j", "y,x,x,q2,j", "x,y,y,q3,j"]
    for judge, wins, ties in ((True, 1, 1), (False, 3, 0)):
        path = tmp_path / f"{judge}.csv"
        lines = ["model_a,model_b,winner,prompt,judge", *rows]
        path.write_text("\n".join(lines if judge else [line.rpartition(",")[0] for line in lines]) + "\n")
        found = boards(path, BoardSettings(ranking=QUICK), silent).overall
        best = next(one for one in found.policies if one.policy == "x")
        assert (best.wins, best.ties) == (wins, ties)


def test_a_file_without_the_columns_is_refused_with_their_names(tmp_path: Path):
    path = tmp_path / "other.csv"
    path.write_text("left,right\n1,2\n")
    with pytest.raises(PrefkitError, match="expected columns such as model_a, model_b, winner"):
        boards(path, BoardSettings(), silent)
