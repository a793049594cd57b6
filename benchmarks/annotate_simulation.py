"""Simulations of annotators: do better labels and better questions come of what prefkit does with their answers?

    python -m benchmarks.annotate_simulation --size small|full

Two simulations; no person answered anything here.

**Consensus.** Annotators of known skill compare pairs, of which 10% are ties. Each says what is right with the
probability of their skill, and else one of the other two answers; one with a liking for the left side says "left" with
that probability before looking. Left and right are drawn for each of them. Accuracy is that of the label (an item on
which k answers lead counts 1/k), and what is compared is the difference of two methods on the same votes, with a 95%
interval over seeds (Student's t).

**What to ask next.** Real responses from the data set chatpsychiatrist (needs PREFKIT_DATA): 229 questions, five
policies; the hidden truth is which response has the higher mean rating. Of 60% of the questions pairs are labelled, 20
at a time, chosen by prefkit's own ``selection`` at random or where the reward model is least sure, one pair a question
at a time; the other questions test. The reward model is small and fitted anew each time: a logistic regression on
differences of 20 components of TF-IDF and the logarithm of length. Both strategies begin with the same 20 pairs. Labels
come from a simulated annotator: one who is always right, one who is wrong in 15% of all pairs, and one who is the more
often wrong the closer two responses are (P(right) = logistic(2 * gap), gap in points of 1 to 5; wrong in about a
quarter). The number of labels by which uncertain reaches the accuracy that random has with all of them is read off the
mean curves. It is asked for where the annotator is right; the others are figures to be read.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.proof import Check, report
from prefkit.agreement.voting import Ballots, Labels, dawid_skene, mace, majority
from prefkit.annotation.selecting import SelectSettings, chosen_pairs
from prefkit.records import Message, Prompt, Response
from prefkit.rubric import Principle, Rubric
from prefkit.run import Run

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
SEEDS = {"small": (20, 3), "full": (100, 20)}
"""Of the consensus, and of the choice of questions."""
MIRROR = np.asarray([2, 1, 0])
LEFT, TIE = 0, 1
TIES = 0.1
BATCH, MOST = 20, 240
COMPONENTS, PENALTY = 20, 0.1
LABELS = ("true labels", "15% of labels wrong", "labels wrong where it is close")
PRINCIPLES = ("empathy", "relevance", "clarity", "safety", "exploration", "autonomy", "staging")
CHANCE = 1 / 3


@dataclass(frozen=True)
class Annotator:
    """P(right answer), and P(says "left" unseen)."""

    skill: float
    left: float = 0.0


@dataclass(frozen=True)
class Mix:
    """Annotators who judge together, how many votes an item gets, and whether Dawid-Skene is asked to do better."""

    name: str
    annotators: Sequence[Annotator]
    votes: int
    items: int
    better: bool = True


EXPERT = (Annotator(0.95), *[Annotator(0.5)] * 4)
LEFTISH = (*[Annotator(0.8)] * 3, *[Annotator(0.9, left=0.6)] * 2)
SPAMMED = (*[Annotator(0.85)] * 2, *[Annotator(CHANCE)] * 3)
MIXED = (
    Annotator(0.95),
    Annotator(0.85),
    Annotator(0.75),
    Annotator(0.6),
    Annotator(0.9, left=0.5),
    Annotator(CHANCE),
)
MIXES = (
    Mix("an expert (.95) and four of .5", EXPERT, 5, 200),
    Mix("three of .8, two biased to the left", LEFTISH, 5, 200),
    Mix("two of .85, three who guess", SPAMMED, 5, 200),
    Mix("six unlike, two votes an item", MIXED, 2, 200),
    Mix("five alike (.75)", [Annotator(0.75)] * 5, 5, 200, better=False),
    Mix("an expert (.95) and four of .5", EXPERT, 5, 40, better=False),
    Mix("six unlike, two votes an item", MIXED, 2, 40, better=False),
    Mix("five alike (.75)", [Annotator(0.75)] * 5, 5, 40, better=False),
)


def main() -> int:
    """Run both simulations of a size and say how they went."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SEEDS, default="full")
    voters, askers = SEEDS[parser.parse_args().size]
    checks = [check for mix in MIXES for check in consensus(mix, voters)]
    data = Path(os.environ.get("PREFKIT_DATA") or "-") / "chatpsychiatrist"
    if data.is_dir():
        checks += asking(Answers.read(data), askers)
    else:
        print("PREFKIT_DATA names no folder with the real data sets: what to ask next is left out")
    return report("annotate-simulation", checks)


def consensus(mix: Mix, seeds: int) -> list[Check]:
    """The accuracies of labels on simulated votes, and their differences from the majority's."""
    right: dict[str, list[float]] = {}
    for seed in range(seeds):
        truth, ballots = vote(mix, np.random.default_rng(seed))
        methods = {
            "majority": majority(ballots),
            "Dawid-Skene": dawid_skene(ballots),
            "Dawid-Skene without sides": dawid_skene(without_sides(ballots)),
            "MACE": mace(ballots, seed, restarts=2),
        }
        for name, labels in methods.items():
            right.setdefault(name, []).append(accuracy(labels, truth))
    head = f"simulated votes, {mix.name}, {mix.items} items"
    found = [Check(f"{head}: majority", _percent(right["majority"]), "%")]
    for name in list(right)[1:]:
        mean, low, high = interval(np.subtract(right[name], right["majority"]))
        asked = mix.better and name == "Dawid-Skene"
        said = f"{_percent(right[name])} ({100 * mean:+.1f}, {100 * low:+.1f} to {100 * high:+.1f})"
        goal = "better than majority: interval above 0" if asked else ""
        found.append(Check(f"{head}: {name} (difference, 95%)", said, "%", goal, bool(low > 0 or not asked)))
    return found


def vote(mix: Mix, rng: np.random.Generator) -> tuple[Ints, Ballots]:
    """What is right about each item, and what was said."""
    truth = rng.choice(3, mix.items, p=[(1 - TIES) / 2, TIES, (1 - TIES) / 2])
    many = len(mix.annotators)
    who = np.argsort(rng.random((mix.items, many)), axis=1)[:, : mix.votes].ravel()
    item = np.repeat(np.arange(mix.items), mix.votes)
    turned = rng.random(len(item)) < 0.5
    shown = np.where(turned, MIRROR[truth[item]], truth[item])
    skill, left = (np.asarray([getattr(one, name) for one in mix.annotators])[who] for name in ("skill", "left"))
    other = (shown + rng.integers(1, 3, len(item))) % 3
    said = np.where(rng.random(len(item)) < skill, shown, other)
    said = np.where(rng.random(len(item)) < left, LEFT, said)
    return truth, Ballots(item, who, said, turned, mix.items, many, MIRROR)


def without_sides(ballots: Ballots) -> Ballots:
    """The same votes for a model that knows no left and right."""
    nowhere = np.zeros(len(ballots.item), dtype=bool)
    return Ballots(
        ballots.item, ballots.annotator, ballots.meant, nowhere, ballots.items, ballots.annotators, np.arange(3)
    )


def accuracy(labels: Labels, truth: Ints) -> float:
    """The share of right labels; one of k that lead together counts 1/k."""
    leads = labels.probability > labels.probability.max(axis=1, keepdims=True) - 1e-9
    return float((leads[np.arange(len(truth)), truth] / leads.sum(axis=1)).mean())


def interval(values: npt.ArrayLike) -> tuple[float, float, float]:
    """The mean with its 95% interval (Student's t)."""
    from scipy.stats import t

    found = np.asarray(values, dtype=np.float64)
    reach = float(t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found)))
    mean = float(found.mean())
    return mean, mean - reach, mean + reach


def _percent(values: npt.ArrayLike) -> str:
    return f"{100 * float(np.mean(values)):.1f}"


@dataclass(frozen=True)
class Answers:
    """The real responses: ``text``, ``question``, ``policy``, the hidden ``score`` [n], and ``features`` [n, k]."""

    text: list[str]
    question: Ints
    policy: list[str]
    score: Floats
    features: Floats

    @classmethod
    def read(cls, folder: Path) -> Answers:
        """Read them, and fit the features to the words of all (no label is used)."""
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.preprocessing import StandardScaler

        text: dict[tuple[int, str], str] = {}
        for file in sorted((folder / "model_answer").iterdir()):
            for line in file.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                text[row["question_id"], file.stem] = row["choices"][0]["turns"][0]
        with (folder / "ratings.csv").open(encoding="utf-8", newline="") as rows:
            score = {
                (int(row["question_id"]), row["model"]): float(np.mean([float(row[name]) for name in PRINCIPLES]))
                for row in csv.DictReader(rows)
            }
        keys = sorted(text)
        words = [text[key] for key in keys]
        counted = TfidfVectorizer(sublinear_tf=True, min_df=2, ngram_range=(1, 2)).fit_transform(words)
        parts = TruncatedSVD(COMPONENTS, random_state=0).fit_transform(counted)
        length = np.log1p([len(one) for one in words])[:, None]
        return cls(
            words,
            np.asarray([key[0] for key in keys]),
            [key[1] for key in keys],
            np.asarray([score[key] for key in keys]),
            StandardScaler().fit_transform(np.hstack([parts, length])),
        )

    def pairs(self, questions: Ints) -> list[tuple[int, int]]:
        """Every two responses to one of these questions."""
        return [
            pair
            for question in questions.tolist()
            for pair in itertools.combinations(np.flatnonzero(self.question == question).tolist(), 2)
        ]

    def equal(self, questions: Ints) -> list[tuple[int, int]]:
        """Those of equal score, which cannot be labelled."""
        return [pair for pair in self.pairs(questions) if abs(self.score[pair[0]] - self.score[pair[1]]) < 1e-9]


def asking(answers: Answers, seeds: int) -> list[Check]:
    """The curves of both strategies, with true and with simulated labels."""
    checks = []
    for labels in LABELS:
        curves: dict[str, list[list[float]]] = {"random": [], "uncertain": []}
        for seed in range(seeds):
            for strategy, found in curves.items():
                found.append(curve(answers, strategy, labels, seed))
        checks += _compared({name: np.asarray(found) for name, found in curves.items()}, labels)
    return checks


def curve(answers: Answers, strategy: str, labels: str, seed: int) -> list[float]:
    """The reward model's accuracy on the test questions after each batch of labels."""
    rng = np.random.default_rng(seed)
    questions = rng.permutation(np.unique(answers.question))
    pool, test = np.split(questions, [round(0.6 * len(questions))])
    tested = set(answers.pairs(test)) - set(answers.equal(test))
    left, right = np.asarray([pair for pair in sorted(tested) if answers.text[pair[0]] != answers.text[pair[1]]]).T
    truth = answers.score[left] > answers.score[right]
    lines: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder) / "run", answers, pool)
        rewards = Path(folder) / "rewards.jsonl"
        asked: list[tuple[int, int]] = []
        equal = answers.equal(pool)
        said: list[bool] = []
        model = np.zeros(answers.features.shape[1])
        while len(asked) < MOST:
            first = not asked
            settings = SelectSettings(
                count=BATCH,
                seed=seed * 1000 + len(asked),
                strategy="uncertain" if strategy == "uncertain" and not first else "random",
                rewards=None if first else rewards,
            )
            taken = [(str(one), str(other)) for one, other in (*asked, *equal)]
            batch = [
                (int(one), int(other)) for one, other in (case.responses for case in chosen_pairs(run, settings, taken))
            ]
            asked += batch
            said += [answer(answers, one, other, labels, rng) for one, other in batch]
            model = fitted(answers.features, asked, said)
            reward = answers.features @ model
            rewards.write_text(
                "".join(f'{{"response_id": "{row}", "reward": {one}}}\n' for row, one in enumerate(reward))
            )
            lines.append(float(((reward[left] > reward[right]) == truth).mean()))
    return lines


def make_run(folder: Path, answers: Answers, questions: Ints) -> Run:
    """A run of these questions; a response's id is its row."""
    principle = Principle(id="good", title="Good", statement="It is good.")
    run = Run.create(folder, Rubric(id="one", version=1, title="One", unit="response", principles=(principle,)))
    asked = (Message(role="user", content="?"),)
    run.replace(Prompt, (Prompt(id=f"q{one}", messages=asked) for one in questions.tolist()))
    rows = np.flatnonzero(np.isin(answers.question, questions)).tolist()
    run.replace(
        Response,
        (
            Response(
                id=str(row),
                prompt_id=f"q{answers.question[row]}",
                policy=answers.policy[row],
                text=answers.text[row],
            )
            for row in rows
        ),
    )
    return run


def answer(answers: Answers, one: int, other: int, labels: str, rng: np.random.Generator) -> bool:
    """Whether the first is said to be better: the truth, or a simulated annotator's word."""
    gap = float(answers.score[one] - answers.score[other])
    if labels == LABELS[0]:
        return gap > 0
    if labels == LABELS[1]:
        return (gap > 0) == (rng.random() < 0.85)
    return bool(rng.random() < 1 / (1 + np.exp(-2 * gap)))


def fitted(features: Floats, asked: Sequence[tuple[int, int]], said: Sequence[bool]) -> Floats:
    """The weights of a Bradley-Terry model on features, each pair told both ways round."""
    from sklearn.linear_model import LogisticRegression

    rows = np.asarray(asked)
    gaps = features[rows[:, 0]] - features[rows[:, 1]]
    won = np.asarray(said)
    model = LogisticRegression(C=PENALTY, fit_intercept=False, max_iter=500)
    weights: Floats = model.fit(np.vstack([gaps, -gaps]), np.concatenate([won, ~won])).coef_[0]
    return weights


def _compared(curves: dict[str, Floats], kind: str) -> list[Check]:
    labels = np.arange(1, curves["random"].shape[1] + 1) * BATCH
    head, asked = f"simulated asking, {kind}", kind == LABELS[0]
    checks = []
    for at in range(0, len(labels), 2):
        one, other = curves["uncertain"][:, at], curves["random"][:, at]
        mean, low, high = interval(one - other)
        said = f"{_percent(one)} - {_percent(other)} = {100 * mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        checks.append(Check(f"{head}: accuracy with {labels[at]}, uncertain - random", said, "%"))
    area, low, high = interval((curves["uncertain"] - curves["random"]).mean(axis=1))
    said = f"{100 * area:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"
    goal = "interval above 0" if asked else ""
    checks.append(Check(f"{head}: mean difference over the curve", said, "points", goal, bool(low > 0 or not asked)))
    target = float(curves["random"].mean(axis=0)[-1])
    reached = np.flatnonzero(curves["uncertain"].mean(axis=0) >= target)
    needed = int(labels[reached[0]]) if len(reached) else None
    said = f"{needed} of {labels[-1]}" if needed else f"not with {labels[-1]}"
    ok = not asked or (needed is not None and needed < labels[-1])
    goal = "fewer" if asked else ""
    checks.append(Check(f"{head}: labels by which uncertain reaches random's {100 * target:.1f}%", said, "", goal, ok))
    return checks


if __name__ == "__main__":
    raise SystemExit(main())
