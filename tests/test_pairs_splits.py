"""Splits by prompt: sizes, seeds, near-duplicates on one side, and the one pair of a test prompt."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from making import build, compared, make_run, pairs_of, rated

from prefkit.errors import RunError
from prefkit.near_duplicates import jaccard
from prefkit.pairs.settings import PairSettings
from prefkit.pairs.splits import SPLITS, split_prompts
from prefkit.run import Run


def sentence(seed: int, words: int = 40) -> list[str]:
    """Words that no other sentence has two of in a row."""
    draw = random.Random(seed)
    return [f"word{draw.randrange(10**6)}" for _ in range(words)]


def unlike(count: int) -> list[str]:
    return [" ".join(sentence(seed)) for seed in range(count)]


def reworded(words: list[str], place: int) -> list[str]:
    return [*words[:place], "otherwise", *words[place + 1 :]]


def sides(texts: list[str], **settings: float) -> list[str]:
    split, _ = split_prompts(texts, PairSettings(**settings))
    return [SPLITS[part] for part in split.tolist()]


# --- sizes and seeds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "validation", "sizes"),
    [
        (0.1, 0.2, {"train": 70, "validation": 20, "test": 10}),
        (7, 3, {"train": 90, "validation": 3, "test": 7}),
        (0.25, 0, {"train": 75, "test": 25}),
        (1, 0.01, {"train": 98, "validation": 1, "test": 1}),
        (0, 0, {"train": 100}),
        (98, 1, {"train": 1, "validation": 1, "test": 98}),
    ],
)
def test_a_size_below_one_is_a_share_of_all_prompts_and_from_one_a_number(test, validation, sizes):
    assert Counter(sides(unlike(100), test_size=test, validation_size=validation)) == sizes


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    texts = unlike(60)
    first, again, other = (sides(texts, test_size=0.5, seed=seed) for seed in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize(
    ("count", "sizes", "words"),
    [
        (1, {}, "--test-size"),
        (4, {}, "--test-size"),
        (4, {"test_size": 4}, "--test-size"),
        (4, {"test_size": 100}, "--test-size"),
        (4, {"test_size": 3, "validation_size": 1}, "--validation-size"),
        (4, {"test_size": 0, "validation_size": 0.1}, "--validation-size"),
    ],
    ids=str,
)
def test_too_few_prompts_are_an_error_that_says_how_many_there_are(count, sizes, words):
    with pytest.raises(RunError, match=f"found {count} prompts with pairs") as caught:
        sides(unlike(count), **sizes)
    assert words in str(caught.value)


def test_a_share_that_makes_no_whole_prompt_says_what_would():
    with pytest.raises(RunError) as caught:
        sides(unlike(4), test_size=0.1)
    assert str(caught.value) == (
        "the test split: found 4 prompts with pairs, in 4 groups of near-duplicates to draw from; expected enough for a"
        " share of 0.1 to be at least one of them and not all.\n"
        "  Ask for another share or number (--test-size), or for none with 0."
    )


def test_one_family_of_near_duplicates_cannot_be_split():
    texts = [" ".join(reworded(sentence(1), place)) for place in range(20)]
    with pytest.raises(RunError, match="found 20 prompts with pairs, in 1 groups of near-duplicates"):
        sides(texts, test_size=5)


# --- near-duplicates -------------------------------------------------------------------------------------------------


def families(count: int) -> list[list[str]]:
    """Three prompts each: one, the same with a word exchanged (37 of 41 word pairs), the same shouted."""
    made = []
    for seed in range(count):
        words = sentence(seed)
        one, other = " ".join(words), " ".join(reworded(words, 20))
        assert jaccard(one, other) == 37 / 41
        made.append([one, other, one.upper() + "!"])
    return made


@pytest.mark.parametrize("seed", range(3))
def test_near_duplicates_stand_on_one_side(seed):
    made = families(40)
    texts = [text for place in range(3) for family in made for text in family[place : place + 1]]
    side = dict(zip(texts, sides(texts, test_size=0.3, validation_size=0.2, seed=seed), strict=True))
    assert {len({side[text] for text in family}) for family in made} == {1}
    assert Counter(side.values()) == {"train": 60, "validation": 24, "test": 36}


def test_the_ends_of_a_chain_stand_on_one_side_though_they_differ():
    """Seven neighbours differ in one word of forty each (0.9), the ends in six apart."""
    chains = []
    for seed in range(12):
        chain = [sentence(seed)]
        for place in range(5, 35, 5):
            chain.append(reworded(chain[-1], place))
        chains.append([" ".join(words) for words in chain])
    assert jaccard(chains[0][0], chains[0][-1]) < 0.6
    side = sides([text for chain in chains for text in chain], test_size=0.5)
    assert all(len(set(side[start : start + 7])) == 1 for start in range(0, len(side), 7))


def test_from_which_similarity_on_prompts_stay_together_is_the_users():
    texts = [text for family in families(40) for text in family[:2]]
    together = [
        sum(a == b for a, b in zip(side[::2], side[1::2], strict=True))
        for side in (sides(texts, test_size=0.5, near_duplicates=threshold) for threshold in (0.9, 0.95))
    ]
    assert together[0] == 40 > together[1]


# --- in a run --------------------------------------------------------------------------------------------------------


def many(folder: Path, strategy: str) -> Run:
    """Thirty prompts; A and C, the best and the worst, are two or more apart, B is between."""
    if strategy == "comparisons":
        judged = [
            compared(f"p{n}/{better}", f"p{n}/{worse}", "a") for n in range(30) for better, worse in ("AB", "BC", "AC")
        ]
        return make_run(folder, *judged)
    return make_run(
        folder,
        rated(
            {f"p{n}/{name}": score for n in range(30) for name, score in zip("ABC", (5, 3 + n % 2 / 2, 1), strict=True)}
        ),
    )


@pytest.mark.parametrize("strategy", ["gap", "best-worst", "all", "top-k", "comparisons"])
def test_no_prompt_stands_on_two_sides(tmp_path, strategy):
    run = many(tmp_path / "run", strategy)
    report = build(run, strategy=strategy, test_size=0.2, validation_size=0.1)
    splits = defaultdict(set)
    for pair in pairs_of(run):
        splits[pair.prompt_id].add(pair.split)
    assert Counter(side for (side,) in splits.values()) == {"train": 21, "validation": 3, "test": 6}
    assert set(report.kept) == {"train", "validation", "test"}


def test_a_test_prompt_has_one_pair_that_of_the_widest_gap(tmp_path):
    run = many(tmp_path / "run", "gap")
    report = build(run, test_size=10)
    of_test = [pair for pair in pairs_of(run) if pair.split == "test"]
    assert len({pair.prompt_id for pair in of_test}) == len(of_test) == 10
    assert {(pair.chosen_policy, pair.rejected_policy, pair.rating_gap) for pair in of_test} == {("A", "C", 4.0)}
    assert report.dropped == {"not the widest pair of its test prompt": 10 * 2}
    assert report.kept["train"] == 20 * 3


def test_a_test_prompt_has_the_widest_gap_that_is_left(tmp_path):
    """A and C say the same in each prompt, so that 5 - 3 is the widest pair that teaches anything."""
    judged = rated({f"p{n}/{name}": score for n in range(10) for name, score in zip("ABC", (5, 3, 1), strict=True)})
    run = make_run(
        tmp_path / "run", judged, texts={f"p{n}/{name}": f"The same to {n}." for n in range(10) for name in "AC"}
    )
    build(run, test_size=5, strategy="all")
    assert [pair.rating_gap for pair in pairs_of(run) if pair.split == "test"] == [2.0] * 5


def test_a_test_prompt_whose_responses_were_compared_keeps_all_pairs(tmp_path):
    run = many(tmp_path / "run", "comparisons")
    report = build(run, strategy="comparisons", test_size=10)
    assert (report.kept, report.dropped) == ({"train": 60, "test": 30}, {})


def test_the_same_words_under_two_keys_stand_on_one_side(tmp_path):
    judged = rated({f"p{n}/{name}": score for n in range(20) for name, score in zip("AB", (5, 1), strict=True)})
    words = {f"p{n}": f"Prompt {n // 2} speaks of {n // 2} sheep" for n in range(20)}
    run = make_run(tmp_path / "run", judged, prompts=words)
    build(run, test_size=0.5)
    split = {pair.prompt_id: pair.split for pair in pairs_of(run)}
    assert all(split[f"p{n}"] == split[f"p{n + 1}"] for n in range(0, 20, 2))


def test_too_few_prompts_leave_no_file_behind(tmp_path, prefkit):
    run = make_run(tmp_path / "run", rated({"p/A": 5, "p/B": 1}))
    outcome = prefkit("build-pairs", run.path)
    assert outcome.code == 1 and "found 1 prompts with pairs" in outcome.err and "--test-size" in outcome.err
    assert not (run.path / "pairs.parquet").exists() and not (run.path / "dataset").exists()
