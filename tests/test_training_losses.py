from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from prefkit.errors import PrefkitError  # noqa: E402
from prefkit.rubric import Principle, Rubric  # noqa: E402
from prefkit.training import heads, losses  # noqa: E402
from prefkit.training.groups import Group, Pair  # noqa: E402
from prefkit.training.losses import LossSettings, RewardLoss  # noqa: E402
from prefkit.training.paired_comparison import (  # noqa: E402
    bradley_terry,
    davidson,
    hinge,
    outcomes,
    rao_kupper,
    tie_start,
)
from prefkit.training.policy_effects import PolicyEffects  # noqa: E402


@dataclass(frozen=True)
class Row:
    """Pairs among R responses, as a packed row has them."""

    chosen: torch.Tensor
    rejected: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor
    gap: torch.Tensor
    principle_targets: torch.Tensor
    lengths: torch.Tensor
    policies: tuple[str, ...] = ()

    def some(self, pairs) -> Row:
        names = ("chosen", "rejected", "target", "weight", "gap", "principle_targets")
        return replace(self, **{name: getattr(self, name)[pairs] for name in names})


def row(
    pairs, *, target=None, weight=None, gap=None, principles=None, lengths=None, responses=None, policies=()
) -> Row:
    chosen, rejected = torch.as_tensor(pairs).reshape(-1, 2).T.long()
    count = len(chosen)
    responses = responses or (int(max(chosen.max(), rejected.max())) + 1 if count else 1)

    def floats(values, otherwise):
        return torch.full((count,), otherwise) if values is None else torch.as_tensor(values, dtype=torch.float32)

    return Row(
        chosen=chosen,
        rejected=rejected,
        target=floats(target, 1.0),
        weight=floats(weight, 1.0),
        gap=floats(gap, math.nan),
        principle_targets=torch.zeros(count, 0) if principles is None else torch.tensor(principles),
        lengths=torch.ones(responses) if lengths is None else torch.as_tensor(lengths, dtype=torch.float32),
        policies=tuple(policies),
    )


def rewards(*values):
    return torch.tensor(values, dtype=torch.float32).reshape(len(values), -1).requires_grad_()


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


# --- the losses of pairs, by hand


def test_bradley_terry_by_hand():
    """d = 0: ln 2. d = 2, sure: ln(1 + e^-2). d = 1, three of four say so: 3/4 ln(1 + e^-1) + 1/4 ln(1 + e)."""
    found = bradley_terry(double(0, 2, 1), double(1, 1, 0.75))
    soft = 0.75 * math.log(1 + math.exp(-1)) + 0.25 * math.log(1 + math.e)
    assert found.tolist() == pytest.approx([math.log(2), math.log(1 + math.exp(-2)), soft])


def test_a_soft_label_asks_for_its_own_log_odds_and_no_more():
    """p = 0.8 is content at d = ln 4."""
    difference = double(math.log(4)).requires_grad_()
    bradley_terry(difference, double(0.8)).sum().backward()
    assert difference.grad.item() == pytest.approx(0, abs=1e-12)


def test_hinge_by_hand():
    """A lead of 1.5 is enough for margin 1, one of 0.25 lacks 0.75; a tie at 3 costs half of 0 and half of 4."""
    found = hinge(double(1.5, 0.25, 3), double(1, 1, 0.5), 1.0)
    assert found.tolist() == [0, 0.75, 2]


FOUR_TO_ONE = math.log(4)
"""The difference of rewards of worths pi = 4 and pi = 1."""


def test_rao_kupper_by_hand():
    """pi = 4 and 1, theta = 2: 4 / (4 + 2), 1 / (1 + 8), and (2^2 - 1) 4 / (6 * 9) = 2/9 for the tie."""
    won, lost, tie = 4 / 6, 1 / 9, 2 / 9
    assert won + lost + tie == pytest.approx(1)
    found = rao_kupper(
        double(FOUR_TO_ONE, FOUR_TO_ONE, FOUR_TO_ONE), double(1, 0, 0.5), double(0, 0, 1), double(math.log(2))[0]
    )
    assert found.tolist() == pytest.approx([-math.log(won), -math.log(lost), -math.log(tie)])


def test_davidson_by_hand():
    """pi = 4 and 1, nu = 1.5: 4 : 1.5 sqrt(4) : 1 = 4/8, 3/8, 1/8."""
    found = davidson(
        double(FOUR_TO_ONE, FOUR_TO_ONE, FOUR_TO_ONE), double(1, 0.5, 0), double(0, 1, 0), double(math.log(1.5))[0]
    )
    assert found.tolist() == pytest.approx([-math.log(4 / 8), -math.log(3 / 8), -math.log(1 / 8)])


def test_soft_labels_with_ties_are_an_expectation_over_the_three_outcomes():
    """Won 0.5, tied 0.2, lost 0.3: the target is 0.5 + 0.2 / 2 = 0.6."""
    found = davidson(double(FOUR_TO_ONE), double(0.6), double(0.2), double(math.log(1.5))[0])
    assert found.item() == pytest.approx(-(0.5 * math.log(4 / 8) + 0.2 * math.log(3 / 8) + 0.3 * math.log(1 / 8)))


@pytest.mark.parametrize("tie", [{"rao-kupper": 1.7}, {"davidson": 0.6}, {}])
def test_outcomes_sum_to_one_and_favour_the_higher_reward(tie):
    found = outcomes(double(-1, 0, 2), tie)
    assert found.sum(dim=1).tolist() == pytest.approx([1, 1, 1])
    assert found[1, 0] == pytest.approx(found[1, 2].item())
    assert found[2, 0] > found[2, 2]


def test_outcomes_of_worths_four_and_one():
    assert outcomes(double(FOUR_TO_ONE), {"davidson": 1.5})[0].tolist() == pytest.approx([4 / 8, 3 / 8, 1 / 8])
    assert outcomes(double(FOUR_TO_ONE), {"rao-kupper": 2})[0].tolist() == pytest.approx([6 / 9, 2 / 9, 1 / 9])
    assert outcomes(double(FOUR_TO_ONE), {})[0].tolist() == pytest.approx([4 / 5, 0, 1 / 5])


def test_without_ties_both_models_are_bradley_terry():
    difference, target, none = double(-3, 0.5, 2), double(1, 0.7, 1), double(0, 0, 0)
    plain = bradley_terry(difference, target).tolist()
    assert rao_kupper(difference, target, none, double(1e-9)[0]).tolist() == pytest.approx(plain)
    assert davidson(difference, target, none, double(-40)[0]).tolist() == pytest.approx(plain)


def test_gradients_are_those_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    difference = (3 * torch.randn(6, generator=generator, dtype=torch.float64)).requires_grad_()
    target = double(1, 0.5, 0.8, 0, 0.5, 0.6)
    tied = double(0, 1, 0.2, 0, 0.4, 0)
    eta, log_nu = double(0.7)[0].requires_grad_(), double(-0.4)[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda d: bradley_terry(d, target), difference)
    assert torch.autograd.gradcheck(lambda d: hinge(d, target), difference)
    assert torch.autograd.gradcheck(lambda d, t: rao_kupper(d, target, tied, t), (difference, eta))
    assert torch.autograd.gradcheck(lambda d, t: davidson(d, target, tied, t), (difference, log_nu))


@pytest.mark.parametrize("kind", ["bradley-terry", "rao-kupper", "davidson", "hinge"])
@pytest.mark.parametrize("lead", [1e4, -1e4])
def test_huge_differences_give_finite_losses_and_gradients(kind, lead):
    values = rewards(lead, 0)
    part = RewardLoss(LossSettings(kind=kind), tie_share=0.3)(values, row([[0, 1], [0, 1]], target=[1, 0.5]))
    part.loss.backward()
    assert math.isfinite(part.loss.item())
    assert torch.isfinite(values.grad).all() and torch.isfinite(part.statistics).all()


# --- sums over rows


def test_a_loss_is_a_sum_over_pairs_by_weight():
    """Leads 1 and 3, weights 2 and 0.5."""
    part = RewardLoss(LossSettings())(rewards(3, 2, 0), row([[0, 1], [0, 2]], weight=[2, 0.5]))
    by_hand = 2 * math.log(1 + math.exp(-1)) + 0.5 * math.log(1 + math.exp(-3))
    assert (part.loss.item(), part.weight.item()) == (pytest.approx(by_hand), 2.5)


EVERYTHING = LossSettings(
    kind="davidson", label_smoothing=0.05, centring=0.02, length_penalty=0.5, combine=(0.6, 0.4), learn_combine=True
)


def everything(kind="davidson") -> RewardLoss:
    """With all that is learned beside a model."""
    return RewardLoss(replace(EVERYTHING, kind=kind), tie_share=0.3, effects=PolicyEffects(("A", "B", "C")))


def made_up_pairs(responses: int, count: int, *, seed: int = 0) -> Row:
    random = np.random.default_rng(seed)
    pairs = [random.choice(responses, 2, replace=False) for _ in range(count)]
    principles = random.choice([0, 0.5, 1, math.nan], (count, 2)).astype(np.float32)
    return row(
        np.array(pairs),
        target=random.choice([0.5, 0.7, 1], count),
        weight=random.uniform(0.5, 2, count),
        gap=random.uniform(0, 2, count),
        principles=principles,
        lengths=random.integers(5, 200, responses),
        policies=random.choice(["A", "B", "C", ""], responses),
    )


def test_how_a_step_is_cut_into_rows_does_not_matter():
    torch.manual_seed(0)
    values, pairs = torch.randn(9, 2, requires_grad=True), made_up_pairs(9, 40)

    def learned(cuts):
        loss = everything()
        found = []
        for _ in range(3):
            parts = [loss(values, pairs.some(list(cut))) for cut in cuts]
            total = sum(part.loss for part in parts)
            found.append((total.item(), torch.autograd.grad(total, values)[0]))
            loss.finish_step(sum(part.statistics for part in parts))
        return found, loss.figures(), loss.combine, loss.effects.of

    whole, figures, combine, effects = learned([range(40)])
    cut, figures_cut, combine_cut, effects_cut = learned([range(3), range(3, 30), range(30, 40)])
    for (one, gradient), (other, gradient_cut) in zip(whole, cut, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
        assert torch.allclose(gradient, gradient_cut, atol=1e-5)
    assert figures == pytest.approx(figures_cut)
    assert combine == pytest.approx(combine_cut)
    assert effects == pytest.approx(effects_cut) and min(map(abs, effects.values())) > 0.01


@pytest.mark.parametrize("filler", ["no pairs", "no weight"])
def test_a_filler_row_adds_nothing_and_can_be_differentiated(filler):
    values = torch.randn(4, 2, requires_grad=True)
    pairs = made_up_pairs(4, 6)
    pairs = pairs.some([]) if filler == "no pairs" else replace(pairs, weight=torch.zeros(6))
    loss = everything()
    before = loss.state()
    part = loss(values, pairs)
    part.loss.backward()
    loss.finish_step(part.statistics)
    assert (part.loss.item(), part.weight.item(), values.grad.abs().max().item()) == (0, 0, 0)
    assert loss.state() == before


def test_rewards_in_half_precision_are_subtracted_in_single():
    """2 and 1/512 are numbers of bf16, their difference is not: it would be rounded to 2."""
    values = torch.tensor([[2.0], [2**-9]], dtype=torch.bfloat16)
    part = RewardLoss(LossSettings())(values, row([[0, 1]]))
    assert part.loss.dtype == torch.float32
    assert part.loss.item() == pytest.approx(math.log(1 + math.exp(2**-9 - 2)), rel=1e-6)


@pytest.mark.parametrize("kind", ["bradley-terry", "rao-kupper", "davidson", "hinge"])
def test_autocast_rounds_nothing_of_a_loss(kind):
    torch.manual_seed(0)
    values, pairs = torch.randn(9, 2), made_up_pairs(9, 40)
    plain, cast = everything(kind), everything(kind)
    for _ in range(2):
        expected = plain(values, pairs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = cast(values, pairs)
        assert found.loss == expected.loss and torch.equal(found.statistics, expected.statistics)
        plain.finish_step(expected.statistics)
        cast.finish_step(found.statistics)


def test_a_model_with_another_number_of_outputs_is_refused():
    with pytest.raises(ValueError, match=r"\[responses, 2\]; got \(4, 1\)"):
        RewardLoss(EVERYTHING)(torch.zeros(4, 1), made_up_pairs(4, 3))


# --- what is added to a loss


def test_label_smoothing_by_hand():
    """d = 1, one label in ten is wrong: 0.9 ln(1 + e^-1) + 0.1 ln(1 + e); a tie stays a tie."""
    loss = RewardLoss(LossSettings(label_smoothing=0.1))
    sure = loss(rewards(1, 0), row([[0, 1]])).loss.item()
    assert sure == pytest.approx(0.9 * math.log(1 + math.exp(-1)) + 0.1 * math.log(1 + math.e))
    tied = row([[0, 1]], target=[0.5])
    assert loss(rewards(1, 0), tied).loss.item() == RewardLoss(LossSettings())(rewards(1, 0), tied).loss.item()


def test_a_margin_by_gap_only_on_request_and_only_where_a_gap_is_known():
    """0.5 log-odds a point: a gap of 2 asks for 1 more, so a lead of 1 is none; without a gap, or below 0, nothing."""
    pairs = row([[0, 1]] * 3, gap=[2, math.nan, -1])
    plain = math.log(1 + math.exp(-1))
    asked = RewardLoss(LossSettings(gap_margin=0.5))(rewards(1, 0), pairs).loss.item()
    assert asked == pytest.approx(math.log(2) + 2 * plain)
    assert RewardLoss(LossSettings())(rewards(1, 0), pairs).loss.item() == pytest.approx(3 * plain)
    hinge = RewardLoss(LossSettings(kind="hinge", gap_margin=0.5))(rewards(1, 0), pairs).loss.item()
    assert hinge == 1  # margin 1 + 0.5 * 2 less the lead of 1; the others lead by their margin of 1


def test_centring_by_hand():
    """(1 + 2)^2 * 0.01 for a pair of rewards 1 and 2, and it pulls the two alike."""
    values = rewards(1, 2)
    part = RewardLoss(LossSettings(centring=0.01))(values, row([[0, 1]]))
    assert part.loss.item() == pytest.approx(math.log(1 + math.e) + 0.09)
    part.loss.backward()
    slope = 1 / (1 + math.exp(-1))  # of the Bradley-Terry loss at d = -1
    assert values.grad.flatten().tolist() == pytest.approx([-slope + 0.06, slope + 0.06])


def test_the_length_penalty_has_the_gradient_of_the_squared_covariance():
    """Against autograd through c^2 / ((v + 1) u) of the same pairs, v held, whose moments the loss was shown before."""
    torch.manual_seed(1)
    values, pairs = torch.randn(12, 1, requires_grad=True), made_up_pairs(12, 30, seed=1)
    plain, punishing = RewardLoss(LossSettings()), RewardLoss(LossSettings(length_penalty=2.0))
    punishing.finish_step(punishing(values, pairs).statistics)

    difference = (values[pairs.chosen] - values[pairs.rejected])[:, 0]
    longer = pairs.lengths[pairs.chosen] - pairs.lengths[pairs.rejected]
    share = pairs.weight / pairs.weight.sum()
    c, v, u = (share * difference * longer).sum(), (share * difference**2).sum(), (share * longer**2).sum()
    assert punishing.length_correlation == pytest.approx((c / torch.sqrt(v * u)).item(), rel=1e-5)

    part = punishing(values, pairs)
    added = part.loss - plain(values, pairs).loss
    penalty = 2.0 * part.weight * c**2 / ((v.detach() + 1) * u)
    (expected,) = torch.autograd.grad(penalty, values, retain_graph=True)
    (found,) = torch.autograd.grad(added, values)
    assert added.item() == pytest.approx(penalty.item(), rel=1e-4)
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_first_step_knows_no_correlation_and_punishes_none():
    values, pairs = torch.randn(6, 1), made_up_pairs(6, 10)
    punishing = RewardLoss(LossSettings(length_penalty=5.0))
    assert punishing.length_correlation == 0
    assert punishing(values, pairs).loss == RewardLoss(LossSettings())(values, pairs).loss


def test_responses_of_one_length_have_no_correlation_with_it():
    loss = RewardLoss(LossSettings(length_penalty=5.0))
    pairs = row([[0, 1], [1, 2]], lengths=[7, 7, 7])
    loss.finish_step(loss(rewards(1, 0, 2), pairs).statistics)
    assert loss.length_correlation == 0
    assert math.isfinite(loss(rewards(1, 0, 2), pairs).loss.item())


# --- heads


def test_heads_by_hand():
    """Weights 0.75 and 0.25. Leads by head 2 and -4: overall 0.5. Only the first principle is known, twice as a win."""
    settings = LossSettings(combine=(0.75, 0.25), principles=0.5)
    values = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    pairs = row([[0, 1], [0, 1]], principles=[[1.0, math.nan], [math.nan, math.nan]])
    overall, first = math.log(1 + math.exp(-0.5)), math.log(1 + math.exp(-2))
    assert RewardLoss(settings)(values, pairs).loss.item() == pytest.approx(2 * overall + 0.5 * first)
    both = row([[0, 1]], principles=[[1.0, 0.5]])
    second = 0.5 * math.log(1 + math.exp(4)) + 0.5 * math.log(1 + math.exp(-4))
    assert RewardLoss(settings)(values, both).loss.item() == pytest.approx(overall + 0.5 * (first + second) / 2)


def test_what_nobody_said_of_a_principle_moves_no_head():
    values = torch.randn(2, 2, requires_grad=True)
    pairs = row([[0, 1]], principles=[[1.0, math.nan]])
    RewardLoss(LossSettings(combine=(1.0, 0.0)))(values, pairs).loss.backward()
    assert values.grad[:, 1].tolist() == [0, 0]
    assert torch.isfinite(values.grad).all()


RUBRIC = Rubric(
    id="care",
    version=1,
    title="Care",
    unit="response",
    principles=tuple(
        Principle(id=name, title=name, statement=name, weight=weight) for name, weight in (("warm", 3), ("safe", 1))
    ),
)


def test_the_rubrics_weights_combine_heads():
    assert heads.rubric_combine(replace_aggregate("mean"), ("warm", "safe")) == (0.5, 0.5)
    assert heads.rubric_combine(replace_aggregate("weighted-mean"), ("safe", "warm")) == (0.25, 0.75)
    assert heads.rubric_combine(replace_aggregate("weighted-mean"), ("safe",)) == (1.0,)


def replace_aggregate(aggregate):
    return Rubric(id="care", version=1, title="", unit="response", principles=RUBRIC.principles, aggregate=aggregate)


def test_a_head_that_is_no_principle_is_named():
    with pytest.raises(PrefkitError, match="no principle 'kind'"):
        heads.rubric_combine(RUBRIC, ("kind",))


def test_a_reward_explains_itself():
    """Weights 0.5 and 2, leads of 3 and 0.15 by head: 1.5 and 0.3 log-odds."""
    leads = heads.contributions(("warm", "safe"), (0.5, 2.0), [3.0, 0.15], [0.0, 0.0])
    assert leads == pytest.approx({"warm": 1.5, "safe": 0.3})
    assert list(heads.contributions(("warm", "safe"), (0.5, 2.0), [0.2, 1], [0, 3])) == ["safe", "warm"]
    assert heads.explanation(leads) == "+1.80 = warm +1.50, safe +0.30"
    table = heads.with_overall([[3.0, 0.15], [0.0, 0.0]], (0.5, 2.0))
    assert table[0, 0] - table[1, 0] == pytest.approx(sum(leads.values()))
    assert table[:, 1:].tolist() == [pytest.approx([3.0, 0.15]), [0, 0]]


def test_a_model_of_one_output_is_its_own_overall_reward():
    assert heads.with_overall([[1.5], [2.0]], ()).tolist() == [[1.5], [2.0]]
    assert heads.overall(torch.tensor([[1.5], [2.0]]), None).tolist() == [1.5, 2.0]


# --- what is learned beside the model


def test_the_tie_parameter_begins_where_equal_rewards_tie_as_often_as_the_pairs():
    for kind, share in itertools.product(("rao-kupper", "davidson"), (0.05, 0.3, 0.7)):
        start = RewardLoss(LossSettings(kind=kind), tie_share=share).tie
        assert outcomes(double(0), start)[0, 1].item() == pytest.approx(share)


@pytest.mark.parametrize(("kind", "model"), [("rao-kupper", rao_kupper), ("davidson", davidson)])
def test_a_step_moves_the_tie_parameter_by_gradient_over_information(kind, model):
    """Gradient by autograd, information as the expectation of the squared gradient over the three outcomes."""
    settings, share = LossSettings(kind=kind), 0.2
    values, pairs = torch.randn(8, 1), made_up_pairs(8, 50)
    loss = RewardLoss(settings, tie_share=share)
    start = tie_start(kind, share)
    difference = (values[pairs.chosen] - values[pairs.rejected])[:, 0].double()
    weight, target, tied = pairs.weight.double(), pairs.target.double(), (pairs.target == 0.5).double()

    def slopes(target, tied):
        parameter = torch.full_like(difference, start).requires_grad_()
        found = [model(d, t, q, p) for d, t, q, p in zip(difference, target, tied, parameter, strict=True)]
        return torch.autograd.grad(torch.stack(found).sum(), parameter)[0]

    ones, zeros = torch.ones_like(target), torch.zeros_like(target)
    probability = outcomes(difference, loss.tie)
    squares = torch.stack([slopes(ones, zeros), slopes(ones / 2, ones), slopes(zeros, zeros)], dim=1) ** 2
    information = (weight * (probability * squares).sum(dim=1)).sum()
    prior = losses.TIE_PRIOR * information / weight.sum()
    expected = start - (weight * slopes(target, tied)).sum() / (information + prior)

    loss.finish_step(loss(values, pairs).statistics)
    assert math.log(loss.tie[kind]) == pytest.approx(expected.item(), rel=1e-5)


def test_learned_numbers_come_back_exactly_from_json():
    loss, again = everything(), RewardLoss(EVERYTHING, effects=PolicyEffects(("A", "B", "C")))
    values, pairs = torch.randn(9, 2), made_up_pairs(9, 40)
    loss.finish_step(1000 * loss(values, pairs).statistics)  # so many that what is forgotten depends on how many
    again.load(json.loads(json.dumps(loss.state())))
    assert again.state() == loss.state()
    for one in (loss, again):
        one.finish_step(one(values, pairs).statistics)
    assert (again.tie, again.combine, again.length_correlation) == (loss.tie, loss.combine, loss.length_correlation)


def test_a_step_moves_the_weights_of_heads_by_gradient_over_information():
    """Sixty pairs with leads of 1 and -1 by head, or -1 and 1: by the weights 0.6 and 0.4, d = 0.2 and -0.2.

    Gradient by the first weight, 30 (s(0.2) - 1) - 30 (s(-0.2) - 1), and as much less by the second; information 60
    s(0.2) s(-0.2) [[1, -1], [-1, 1]]; the starting weights count as 50 pairs of a quarter, 12.5. In a second step what
    the first said is worth e^-0.06 of it, and the start pulls for what was forgotten.
    """
    pairs = row([[0, 1], [1, 0]] * 30, principles=[[1.0, 1.0]] * 60)
    loss = RewardLoss(LossSettings(combine=(0.6, 0.4), learn_combine=True))
    loss.finish_step(loss(torch.eye(2), pairs).statistics)
    s = 1 / (1 + math.exp(-0.2))
    moved = 30 * (2 * s - 1) / (120 * s * (1 - s) + 12.5)
    assert loss.combine == pytest.approx((0.6 - moved, 0.4 + moved), rel=1e-6)

    loss.finish_step(loss(torch.eye(2), pairs).statistics)
    t, kept = 1 / (1 + math.exp(-(0.2 - 2 * moved))), math.exp(-0.06)
    gradient = 30 * (2 * t - 1) - (1 - kept) * 12.5 * moved
    moved += gradient / (120 * (kept * s * (1 - s) + t * (1 - t)) + 12.5)
    assert loss.combine == pytest.approx((0.6 - moved, 0.4 + moved), rel=1e-6)


def test_a_step_moves_the_effects_of_policies_by_gradient_over_information():
    """A beats B in thirty pairs of equal rewards, and nobody knows who wrote the third response that A loses to.

    By the effects of A and B: gradient (-15, 15) for the first thirty, (0.5, 0) for the last; information a quarter of
    30 [[1, -1], [-1, 1]] and of [[1, 0], [0, 0]]; 0 counts as a pair of a quarter. In a second step A leads by the
    difference of the two effects, and what the first said is worth e^-0.031 of it.
    """
    pairs = row([[0, 1]] * 30 + [[2, 0]], policies=("A", "B", ""))
    loss = RewardLoss(LossSettings(), effects=PolicyEffects(("A", "B")))
    part = loss(torch.zeros(3, 1), pairs)
    assert part.loss.item() == pytest.approx(31 * math.log(2), rel=1e-6)
    loss.finish_step(part.statistics)
    first, prior = np.array([[7.75, -7.5], [-7.5, 7.5]]), np.eye(2) / 4  # 30/4 + 1/4 and 30/4
    a, b = np.linalg.solve(first + prior, [14.5, -15])
    assert loss.effects.of == pytest.approx({"A": a, "B": b})

    part = loss(torch.zeros(3, 1), pairs)
    assert part.loss.item() == pytest.approx(30 * math.log(1 + math.exp(b - a)) + math.log(1 + math.exp(a)), rel=1e-5)
    loss.finish_step(part.statistics)
    kept, lost, last = math.exp(-0.031), 1 / (1 + math.exp(a - b)), 1 / (1 + math.exp(-a))
    gradient = np.array([-30 * lost + last, 30 * lost]) + (1 - kept) / 4 * np.array([a, b])
    between, alone = 30 * lost * (1 - lost), last * (1 - last)
    information = kept * first + np.array([[between + alone, -between], [-between, between]])
    found = np.array([a, b]) - np.linalg.solve(information + prior, gradient)
    assert loss.effects.of == pytest.approx({"A": found[0], "B": found[1]}, rel=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"label_smoothing": 0.5},
        {"label_smoothing": -0.1},
        {"centring": -1.0},
        {"length_penalty": math.nan},
        {"kind": "davidson", "gap_margin": 0.5},
        {"learn_combine": True},
        {"combine": (1.0,), "learn_combine": True, "principles": 0.0},
        {"combine": (math.inf,)},
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError):
        LossSettings(**wrong)


# --- simulated: what made the pairs is found again


def drawn(true, tie, count, *, seed=0) -> Row:
    """Pairs of responses with known rewards, the outcome drawn by the model of ties."""
    random = np.random.default_rng(seed)
    first = random.integers(0, len(true), count)
    second = (first + random.integers(1, len(true), count)) % len(true)
    probability = outcomes(true[first] - true[second], tie).numpy()
    outcome = (random.random((count, 1)) > probability.cumsum(axis=1)).sum(axis=1).clip(max=2)
    swapped = outcome == 2
    pairs = np.where(swapped[:, None], np.column_stack([second, first]), np.column_stack([first, second]))
    return row(pairs, target=np.where(outcome == 1, 0.5, 1.0), responses=len(true))


def fitted(settings, pairs, responses, *, epochs=8, batch=200, decay=0.6):
    """Rewards as free parameters, learned in small steps as a model is."""
    share = float((pairs.target == 0.5).float().mean())
    loss = RewardLoss(settings, tie_share=share)
    values = torch.zeros(responses, max(1, len(settings.combine)), requires_grad=True)
    optimizer = torch.optim.Adam([values], lr=0.1)
    random = np.random.default_rng(1)
    for _ in range(epochs):
        for some in np.array_split(random.permutation(len(pairs.chosen)), len(pairs.chosen) // batch):
            part = loss(values, pairs.some(some))
            optimizer.zero_grad()
            (part.loss / part.weight).backward()
            optimizer.step()
            loss.finish_step(part.statistics)
        optimizer.param_groups[0]["lr"] *= decay
    found = values.detach()
    return found - found.mean(dim=0), loss


TRUE = torch.linspace(-2, 2, 12, dtype=torch.float64)


def slope(found):
    """Of the found rewards on the true ones: 1 when their scale is right."""
    return (found.double() @ TRUE / (TRUE @ TRUE)).item()


@pytest.mark.parametrize(
    ("kind", "tie"),
    [
        ("bradley-terry", {}),
        ("rao-kupper", {"rao-kupper": 2.0}),
        ("rao-kupper", {"rao-kupper": 1.2}),
        ("davidson", {"davidson": 1.5}),
        ("davidson", {"davidson": 0.3}),
    ],
)
def test_rewards_and_tie_parameter_that_made_the_pairs_are_found_again(kind, tie):
    """6,000 pairs of 12 responses: a reward's standard error is about 0.07, the parameter's about 3%."""
    found, loss = fitted(LossSettings(kind=kind), drawn(TRUE, tie, 6000), len(TRUE), epochs=6)
    assert (found[:, 0] - TRUE).abs().max() < 0.25
    assert slope(found[:, 0]) == pytest.approx(1, abs=0.06)
    for name, value in tie.items():
        assert loss.tie[name] == pytest.approx(value, rel=0.12)


def test_ties_as_half_wins_shrink_rewards_and_a_model_of_ties_does_not():
    pairs = drawn(TRUE, {"davidson": 1.5}, 6000)
    assert slope(fitted(LossSettings(), pairs, len(TRUE))[0][:, 0]) < 0.75
    assert slope(fitted(LossSettings(kind="davidson"), pairs, len(TRUE))[0][:, 0]) > 0.94


def test_hinge_finds_the_order():
    found, _ = fitted(LossSettings(kind="hinge"), drawn(TRUE, {}, 6000), len(TRUE))
    assert np.corrcoef(found[:, 0].argsort(), np.arange(12))[0, 1] > 0.97


def test_without_a_tie_the_tie_parameter_falls_to_none():
    _, loss = fitted(LossSettings(kind="rao-kupper"), drawn(TRUE, {}, 4000), len(TRUE), epochs=2)
    assert loss.tie["rao-kupper"] < 1.01


def test_soft_labels_give_the_rewards_of_many_hard_ones():
    """Each pair's target is the true probability: no noise is left, and the rewards come out to the second decimal."""
    pairs = [[one, other] for one in range(12) for other in range(one)]
    target = torch.sigmoid(TRUE[[one for one, _ in pairs]] - TRUE[[other for _, other in pairs]])
    found, _ = fitted(LossSettings(), row(pairs, target=target), len(TRUE), epochs=200, batch=66, decay=0.98)
    assert (found[:, 0] - TRUE).abs().max() < 0.02


def test_learned_weights_combine_heads_as_the_annotators_did():
    """Three principles, of which the overall label follows 1.5 times the first and half of the second."""
    generator = torch.Generator().manual_seed(3)
    true = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    pairs = drawn(true @ double(1.5, 0.5, 0), {}, 6000)
    difference = true[pairs.chosen] - true[pairs.rejected]
    said = torch.bernoulli(difference.sigmoid(), generator=generator).float()
    pairs = replace(pairs, principle_targets=said)
    settings = LossSettings(combine=(1 / 3, 1 / 3, 1 / 3), learn_combine=True, principles=3.0)
    _, loss = fitted(settings, pairs, 40, epochs=6)
    assert loss.combine == pytest.approx((1.5, 0.5, 0.0), abs=0.2)


def test_the_penalty_takes_length_out_of_a_reward_that_learned_it():
    """Annotators follow quality and, as much, length; the two are independent. A linear reward learns both weights."""
    generator = torch.Generator().manual_seed(5)
    quality, length = torch.randn(2, 400, generator=generator, dtype=torch.float64)
    pairs = replace(drawn(quality + length, {}, 3200), lengths=(100 + 30 * length).float())
    features = torch.stack([quality, length], dim=1).float()

    def learned(penalty):
        loss = RewardLoss(LossSettings(length_penalty=penalty))
        weights = torch.zeros(2, 1, requires_grad=True)
        optimizer = torch.optim.Adam([weights], lr=0.01)
        for some in np.array_split(np.random.default_rng(0).permutation(3200), 400):
            part = loss(features @ weights, pairs.some(some))  # eight pairs: far too few for a correlation of their own
            optimizer.zero_grad()
            (part.loss / part.weight).backward()
            optimizer.step()
            loss.finish_step(part.statistics)
        return weights.detach()[:, 0].tolist(), loss.length_correlation

    (of_quality, of_length), correlation = learned(0.0)
    assert of_length > 0.8 and correlation > 0.6
    (still_quality, no_length), correlation = learned(3.0)
    assert abs(no_length) < 0.25 and abs(correlation) < 0.2
    assert still_quality > 0.75 * of_quality


def test_effects_begin_where_the_outcomes_alone_put_them():
    """A wins three quarters of 400 pairs with B, and both of two with C, which nobody else met: ln 3 for A over B, and
    for C where 2 s(c - a) = -c / 4, as 0 counts as a pair."""
    pairs = [(0, 1, 0.75, 400), (0, 2, 1.0, 2)]
    group = Group(
        prompt_id="1", messages=(), response_ids=("", "", ""), texts=("", "", ""), policies=("A", "B", "C"),
        pairs=tuple(Pair(id="", chosen=a, rejected=b, preferred=p, weight=w) for a, b, p, w in pairs),
    )  # fmt: skip
    found = PolicyEffects(("A", "B", "C"), [group]).of
    assert found["A"] - found["B"] == pytest.approx(math.log(3), abs=0.01)
    assert 2 / (1 + math.exp(found["A"] - found["C"])) == pytest.approx(-found["C"] / 4, abs=1e-9)


def test_what_tells_policies_apart_is_left_to_their_effects():
    """A's responses have a mark that B's lack, and mostly win; within a policy and between them quality counts."""
    generator = torch.Generator().manual_seed(7)
    mark = torch.arange(400, dtype=torch.float64) % 2
    quality = torch.randn(400, generator=generator, dtype=torch.float64)
    pairs = drawn(quality + 2 * mark, {}, 1600)
    pairs = replace(pairs, policies=tuple("AB"[int(one)] for one in 1 - mark))
    features = torch.stack([quality, mark], dim=1).float()

    def learned(policies):
        loss = RewardLoss(LossSettings(), effects=PolicyEffects(policies))
        weights = torch.zeros(2, 1, requires_grad=True)
        optimizer = torch.optim.Adam([weights], lr=0.03)
        for some in np.array_split(np.random.default_rng(0).permutation(1600), 100):
            part = loss(features @ weights, pairs.some(some))
            optimizer.zero_grad()
            (part.loss / part.weight).backward()
            optimizer.step()
            loss.finish_step(part.statistics)
        return *weights.detach()[:, 0].tolist(), loss.effects.of

    of_quality, of_mark, _ = learned(())
    assert of_quality > 0.7 and of_mark > 1.2
    of_quality, of_mark, effects = learned(("A", "B"))
    assert of_quality > 0.7 and abs(of_mark) < 0.5
    assert effects["A"] - effects["B"] > 1.2
