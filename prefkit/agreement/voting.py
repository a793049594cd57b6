"""What many annotators say together, and how far each of them is to be believed.

Reads   Ballots: who said what about which item, as arrays
Gives   Labels: for each item the probability of each answer, for each annotator a skill

    majority      every vote counts the same
    dawid_skene   each annotator has a matrix of errors: how often which answer is given where which is right
    mace          each annotator knows the answer with some probability, and else answers by a habit

Two responses have no order of their own: which is called the first is arbitrary, and only the page on which an
annotator saw them had a left and a right. So errors and habits are those of sides: one who likes the left side is found
out and weighed by that, which a matrix over responses cannot do. The answers of one annotator count as independent.

Both models are fitted by EM and give crowd-kit's probabilities where sides play no part; a test holds them
together. They are written here since crowd-kit 1.4.2 knows no sides, and its MACE gives other probabilities (by up to
.3) when the same votes come in another order, and begins each restart with the same numbers. It takes 100 times as
long, 6 s to import, nltk and transformers, and keywords that pandas is about to remove.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SMOOTHING = 5.0
"""Votes by which an annotator's matrix of errors is drawn to that of all together."""
ANCHOR = 10.0
"""Votes by which that of all together is drawn to one of annotators who are right in two of three: a few votes for the
left side would else be as well explained by a liking for the left."""
_ITERATIONS = 500
_TOLERANCE = 1e-6
_TINY = 1e-10


@dataclass(frozen=True)
class Ballots:
    """A row for each vote.

    ``item`` and ``annotator`` [n] are indices below ``items`` and ``annotators``; ``said`` [n] is the answer, below
    ``answers``, as the annotator saw it; ``turned`` [n] whether that was the other way round than the item is stored,
    and then the answer ``said`` means ``mirror[said]``.
    """

    item: Ints
    annotator: Ints
    said: Ints
    turned: Bools
    items: int
    annotators: int
    mirror: Ints

    @property
    def answers(self) -> int:
        """How many answers there are."""
        return len(self.mirror)

    @property
    def meant(self) -> Ints:
        """The answers [n], of the item as it is stored."""
        return np.where(self.turned, self.mirror[self.said], self.said)

    def votes(self) -> Floats:
        """How often each answer was given: [items, answers]."""
        flat = np.bincount(self.item * self.answers + self.meant, minlength=self.items * self.answers)
        return flat.reshape(self.items, self.answers).astype(np.float64)

    def as_shown(self, values: Floats) -> Floats:
        """Rows [n, answers] about items as they are stored, put as the annotators saw them; and the other way round."""
        return np.where(self.turned[:, None], values[:, self.mirror], values)


@dataclass(frozen=True)
class Labels:
    """``probability`` [items, answers]; ``skill`` [annotators], from 0 to 1, NaN where nothing can be said."""

    probability: Floats
    skill: Floats


def majority(ballots: Ballots) -> Labels:
    """The share of the votes for each answer; uniform where nobody voted.

    The skill of an annotator is the share of their votes that say what most of the *others* say, where these lead.
    """
    votes = ballots.votes()
    others = votes[ballots.item]
    others[np.arange(len(ballots.item)), ballots.meant] -= 1
    best = others.max(axis=1, initial=0)
    leading = ((others == best[:, None]).sum(axis=1) == 1) & (best > 0)
    right = leading & (others.argmax(axis=1) == ballots.meant)
    return Labels(_shares(votes), _ratio_by(ballots, right, leading))


def dawid_skene(ballots: Ballots, smoothing: float = SMOOTHING) -> Labels:
    """Dawid & Skene's model.

    The skill is the probability of the right answer, over how often each answer is right.

    Args:
        ballots: the votes.
        smoothing: how many votes like those of all annotators together are added to each annotator's; 0 is the model as
            published.

    Source: Dawid & Skene 1979, doi:10.2307/2346806; the shrinking to the mean of annotators, as in Paun et al. 2018,
    doi:10.1162/tacl_a_00040, here with one weight for all.
    """
    truth, answers, who = _shares(ballots.votes()), ballots.answers, ballots.annotators
    cell = ballots.annotator * answers + ballots.said
    errors, prior = np.empty(0), np.empty(0)
    anchor = ANCHOR * np.where(np.eye(answers) > 0, 2 / 3, 1 / 3 / max(answers - 1, 1))  # [said, right]
    for _ in range(_ITERATIONS):
        shown = ballots.as_shown(truth[ballots.item])
        counts = _sums(cell, shown, who * answers).reshape(who, answers, answers)  # [annotator, said, right]
        pooled = counts.sum(axis=0)
        counts = counts + smoothing * (pooled + anchor) / (pooled + anchor).sum(axis=0)
        errors = np.maximum(counts, _TINY)
        errors = errors / errors.sum(axis=1, keepdims=True)
        prior = np.maximum(truth.mean(axis=0), _TINY)
        prior = (prior + prior[ballots.mirror]) / 2
        each = ballots.as_shown(np.log(errors)[ballots.annotator, ballots.said])
        before, truth = truth, _posterior(np.log(prior) + _sums(ballots.item, each, ballots.items))
        if np.abs(truth - before).max(initial=0) < _TOLERANCE:
            break
    return Labels(truth, np.einsum("jcc,c->j", errors, prior / prior.sum()))


def mace(ballots: Ballots, seed: int = 0, restarts: int = 10) -> Labels:
    """Multi-Annotator Competence Estimation, with variational Bayes and its authors' priors.

    The skill is the probability that an annotator knows, rather than answers by habit.

    Args:
        ballots: the votes.
        seed: of the random beginnings.
        restarts: how many there are; the likeliest result is taken.

    Source: Hovy et al. 2013, aclanthology.org/N13-1132.
    """
    best, found = -np.inf, Labels(_shares(ballots.votes()), np.full(ballots.annotators, np.nan))
    for restart in range(restarts):
        rng = np.random.default_rng([seed, restart])
        likelihood, labels = _mace_once(ballots, rng)
        if likelihood > best + 1e-9:
            best, found = likelihood, labels
    return found


def _mace_once(ballots: Ballots, rng: np.random.Generator) -> tuple[float, Labels]:
    from scipy.special import digamma

    who, answers = ballots.annotators, ballots.answers
    knows = rng.uniform(1, 1.5, (who, 2))  # [annotator, (habit, knows)]
    habit = rng.uniform(1, 1.5, (who, answers))
    knows, habit = knows / knows.sum(axis=1, keepdims=True), habit / habit.sum(axis=1, keepdims=True)
    cell = ballots.annotator * answers + ballots.said
    rows = np.arange(len(ballots.item))
    likelihood, truth = -np.inf, np.zeros((ballots.items, answers))
    for _ in range(_ITERATIONS):
        by_habit = knows[ballots.annotator, 0] * habit[ballots.annotator, ballots.said]
        by_knowing = knows[ballots.annotator, 1]
        each = np.repeat(by_habit[:, None], answers, axis=1)
        each[rows, ballots.said] += by_knowing
        logs = _sums(ballots.item, ballots.as_shown(np.log(np.maximum(each, _TINY**3))), ballots.items)
        before, truth = truth, _posterior(logs)
        likelihood = float(np.logaddexp.reduce(logs - np.log(answers), axis=1).sum())
        right = truth[ballots.item, ballots.meant]
        knew = right * by_knowing / (by_knowing + by_habit)
        counts = np.column_stack([np.bincount(ballots.annotator, part, who) for part in (1 - knew, knew)]) + 0.5
        habits = np.bincount(cell, 1 - knew, who * answers).reshape(who, answers) + 10.0
        knows = np.exp(digamma(counts) - digamma(counts.sum(axis=1, keepdims=True)))
        habit = np.exp(digamma(habits) - digamma(habits.sum(axis=1, keepdims=True)))
        if np.abs(truth - before).max(initial=0) < _TOLERANCE:
            break
    return likelihood, Labels(truth, knows[:, 1] / knows.sum(axis=1))


def _sums(group: Ints, values: Floats, size: int) -> Floats:
    """The sums [size, columns] of the rows of each group."""
    return np.column_stack([np.bincount(group, column, size) for column in values.T])


def _shares(votes: Floats) -> Floats:
    total = votes.sum(axis=1, keepdims=True)
    return np.where(total > 0, votes / np.maximum(total, 1), 1 / votes.shape[1])


def _posterior(logs: Floats) -> Floats:
    odds = np.exp(logs - logs.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def _ratio_by(ballots: Ballots, part: Bools, whole: Bools) -> Floats:
    over, under = (np.bincount(ballots.annotator, one, ballots.annotators) for one in (part, whole))
    return np.divide(over, under, out=np.full(ballots.annotators, np.nan), where=under > 0)
