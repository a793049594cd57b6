"""Rankings of many policies, Elo, and blind studies of two."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from prefkit.cli import cli
from prefkit.errors import PrefkitError
from prefkit.evaluation.boards import BoardSettings, boards
from prefkit.evaluation.elo import elo
from prefkit.evaluation.outcomes import KINDS, UNKNOWN, Outcomes
from prefkit.evaluation.rankings import POINTS, RankingSettings, compare, rank, votes_needed
from prefkit.evaluation.strengths import Board, Cells
from prefkit.evaluation.studies import benjamini_hochberg, holm, sign_test, signed_rank, studies, study

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
    cells = Cells(3, np.array([0, 0, 1]), np.array([1, 2, 2]), np.zeros(3), "davidson", 0.5)
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
    found = boards(votes(tmp_path / "votes.csv"), BoardSettings(ranking=QUICK), lambda *_: lambda _more: None)
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


def test_a_file_without_the_columns_is_refused_with_their_names(tmp_path: Path):
    path = tmp_path / "other.csv"
    path.write_text("left,right\n1,2\n")
    with pytest.raises(PrefkitError, match="expected columns such as model_a, model_b, winner"):
        boards(path, BoardSettings(), lambda *_: lambda _more: None)
