"""The sample that ships: whole, as its README says, and not to be won by length, words or author."""

from __future__ import annotations

import csv
import itertools
import json
from collections import Counter

import numpy as np
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from prefkit.demo import SAMPLE
from prefkit.rubric_files import load_rubric

RUBRIC = load_rubric("psychocounsel")


def rows(name: str) -> list[dict[str, str]]:
    with open(SAMPLE / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def texts() -> dict[tuple[str, str], str]:
    lines = (SAMPLE / "responses.jsonl").read_text(encoding="utf-8").splitlines()
    return {(row["prompt"], row["policy"]): row["text"] for row in map(json.loads, lines)}


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, str, str]]:
    """(prompt, better policy, worse policy) for every gap of a point or more, by the reader who read all."""
    totals = {
        (row["prompt"], row["policy"]): sum(int(row[name]) for name in RUBRIC.principle_ids)
        for row in rows("ratings.csv")
        if row["annotator"] == "llm:reader-1"
    }
    found = []
    for prompt in sorted({prompt for prompt, _ in totals}):
        for a, b in itertools.permutations(("coach", "explainer", "listener", "questioner"), 2):
            if totals[prompt, a] - totals[prompt, b] >= 7:
                found.append((prompt, a, b))
    return found


def test_the_sample_is_whole(texts):
    prompts = rows("prompts.csv")
    assert len(prompts) == 48
    assert set(Counter(row["topic"] for row in prompts).values()) == {6}
    assert all(100 <= len(row["text"]) <= 1000 for row in prompts)
    assert Counter(policy for _, policy in texts) == dict.fromkeys(("coach", "explainer", "listener", "questioner"), 48)
    ratings = rows("ratings.csv")
    assert Counter(row["annotator"] for row in ratings) == {"llm:reader-1": 192, "llm:reader-2": 48}
    assert {row[name] for row in ratings for name in RUBRIC.principle_ids} <= set("12345")


def test_each_comparison_is_asked_in_both_orders():
    asked = {(row["prompt"], row["a"], row["b"]) for row in rows("comparisons.csv")}
    assert len(asked) == 40
    assert asked == {(prompt, b, a) for prompt, a, b in asked}


def held_out_accuracy(pairs: list[tuple[str, str, str]], features: dict[tuple[str, str], np.ndarray]) -> float:
    """Accuracy of a linear Bradley-Terry scorer on prompts that it was not fitted on, over five folds."""
    difference = np.asarray([features[p, a] - features[p, b] for p, a, b in pairs])
    folds = GroupKFold(5).split(difference, groups=[prompt for prompt, _, _ in pairs])
    right = 0
    for train, test in folds:
        both = np.concatenate([difference[train], -difference[train]])
        labels = np.repeat([1, 0], len(train))
        scorer = LogisticRegression(fit_intercept=False, max_iter=2000).fit(both, labels)
        right += int((scorer.decision_function(difference[test]) > 0).sum())
    return right / len(pairs)


def test_a_length_only_scorer_fails(pairs, texts):
    lengths = {key: np.asarray([len(text) / 500]) for key, text in texts.items()}
    assert held_out_accuracy(pairs, lengths) < 0.75


def test_a_bag_of_words_scorer_fails(pairs, texts):
    counts: sparse.csr_matrix = TfidfVectorizer(sublinear_tf=True).fit_transform(texts.values())
    assert held_out_accuracy(pairs, dict(zip(texts, counts.toarray(), strict=True))) < 0.75


def test_knowing_the_policy_is_not_enough(pairs, texts):
    names = ("coach", "explainer", "listener", "questioner")
    author = {key: np.asarray([float(key[1] == name) for name in names]) for key in texts}
    assert held_out_accuracy(pairs, author) < 0.75
