import os
import random
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from prefkit.near_duplicates import find_near_duplicate_pairs, jaccard, near_duplicate_groups, normalised

TALK = (
    "since spring my sleep has gone bad and every small thing at work weighs on me so that evenings pass without "
    "rest while the house stays quiet friends call less often nobody asks how i feel about moving away from home "
    "again this winter would anything change if we talked to someone together or should one of us wait a bit longer"
)
WORDS = TALK.split()


def written(rng: random.Random, n_words: int = 60) -> list[str]:
    return [rng.choice(WORDS) for _ in range(n_words)]


def edited(words: list[str], rng: random.Random, share: float) -> list[str]:
    """The words with this share of them replaced, left out or doubled, at least one."""
    words = list(words)
    for _ in range(max(1, round(share * len(words)))):
        place = rng.randrange(len(words))
        words[place : place + 1] = rng.choice(([rng.choice(WORDS)], [], [words[place], rng.choice(WORDS)]))
    return words


@pytest.fixture(scope="module")
def planted() -> list[str]:
    """120 texts and, of some, copies with 1 to 10% of the words edited, shuffled."""
    rng = random.Random(4)
    originals = [written(rng) for _ in range(120)]
    copies = [edited(rng.choice(originals), rng, rng.uniform(0.01, 0.1)) for _ in range(80)]
    texts = [" ".join(words) for words in originals + copies]
    rng.shuffle(texts)
    return texts


@pytest.fixture(scope="module")
def likeness(planted) -> dict[tuple[int, int], float]:
    """The Jaccard similarity of every two texts, counted without the module's help."""
    pairs_of = [set(pairwise(words)) for words in (text.split() for text in planted)]
    return {
        (one, other): len(pairs_of[one] & pairs_of[other]) / len(pairs_of[one] | pairs_of[other])
        for other in range(len(planted))
        for one in range(other)
    }


def components(pairs: set[tuple[int, int]], n_texts: int) -> list[int]:
    """Brute force: spread the lowest index along the pairs until nothing changes."""
    first = list(range(n_texts))
    changed = True
    while changed:
        changed = False
        for one, other in pairs:
            lowest = min(first[one], first[other])
            changed |= first[one] != first[other]
            first[one] = first[other] = lowest
    return first


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9])
def test_groups_are_those_of_comparing_every_text_with_every_other(planted, likeness, threshold):
    similar = {pair for pair, value in likeness.items() if value >= threshold}
    assert len(similar) > 15
    groups = near_duplicate_groups(planted, threshold=threshold)
    assert groups.tolist() == components(similar, len(planted))


def test_no_pair_below_the_threshold_is_found(planted, likeness):
    pairs = find_near_duplicate_pairs(planted, threshold=0.7)
    assert len(pairs) > 20
    assert min(likeness[one, other] for one, other in pairs.tolist()) >= 0.7


def test_jaccard_is_the_share_of_word_pairs_in_common(planted, likeness):
    for (one, other), value in list(likeness.items())[::97]:
        assert jaccard(planted[one], planted[other]) == value


def test_the_pairs_hold_the_groups_together(planted):
    pairs = find_near_duplicate_pairs(planted, threshold=0.6)
    assert (pairs[:, 0] < pairs[:, 1]).all()
    groups = near_duplicate_groups(planted, threshold=0.6)
    assert components(set(map(tuple, pairs.tolist())), len(planted)) == groups.tolist()


def test_jaccard_by_hand():
    """I-am, am-so, so-tired against I-am, am-so, so-sad: two shared of four."""
    assert jaccard("I am so tired", "I am so sad") == 0.5


def test_a_chain_of_small_edits_is_one_group_though_its_ends_differ():
    words = [f"word{number}" for number in range(60)]
    first = " ".join(words)
    second = " ".join(["x", *words[1:20], "y", *words[21:]])
    third = " ".join(["x", *words[1:20], "y", *words[21:40], "z", *words[41:55], "w", *words[56:]])
    assert jaccard(first, second) > 0.85 < jaccard(second, third)
    assert jaccard(first, third) < 0.85
    assert near_duplicate_groups([first, second, third], threshold=0.85).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "other",
    [
        "I CAN'T SLEEP AT NIGHT",
        "  I can’t sleep\n\nat night...",
        "I cant sleep - at night!",
        "I can\u2019t sle\u00adep at night \U0001f62d",
        "Ｉ ｃａｎ't sleep at night",
    ],
)
def test_case_blanks_and_punctuation_make_no_difference(other):
    groups = near_duplicate_groups(["Something else entirely here", "I can't sleep at night", other], threshold=1.0)
    assert groups.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't  STOP—me!", "dont stop me"),
        ("Straße", "strasse"),
        ("e\u0301te\u0301", "été"),
        ("我很难过。 OK?", "我 很 难 过 ok"),
        ("ｶﾞｷﾞ", "ガ ギ"),
        ("ไม่", "ไ ม ่"),
        ("हिन्दी में", "हिन्दी में"),
        ("snake_case 3.5", "snake case 3 5"),
        ("\ud83d broken", "broken"),
        ("...", ""),
    ],
)
def test_normalised_gives_the_words_that_are_compared(text, words):
    assert normalised(text) == words


def test_chinese_and_japanese_without_blanks_are_compared_by_their_characters():
    chinese = "我最近总是睡不着，工作压力很大，回到家里也不想和任何人说话，不知道该怎么办才好。"
    japanese = "最近眠れなくて、仕事のことばかり考えてしまい、家族と話す気にもなれません。"
    texts = [
        chinese,
        japanese,
        chinese.replace("很大", "好大"),
        japanese.replace("最近", "このごろ"),
        "我很想念我的母亲。",
    ]
    assert near_duplicate_groups(texts, threshold=0.75).tolist() == [0, 1, 0, 1, 4]


def test_texts_of_one_word_are_compared_too():
    assert near_duplicate_groups(["sad", "so", "sad so"]).tolist() == [0, 1, 2]
    assert near_duplicate_groups(["help", "sad", "Help!", "so sad", "sad so", "So sad."]).tolist() == [0, 1, 0, 3, 4, 3]


def test_texts_without_words_group_with_each_other_only():
    assert near_duplicate_groups(["", "sad", "?!", "😀", "   "]).tolist() == [0, 1, 0, 0, 0]


def test_no_text_and_one_text_are_no_error():
    assert near_duplicate_groups([]).shape == (0,)
    assert find_near_duplicate_pairs(["alone"]).shape == (0, 2)
    assert near_duplicate_groups(["alone"]).tolist() == [0]


def test_a_generator_is_read_in_batches_and_twins_are_found_across_them():
    rng = random.Random(8)
    texts = [" ".join(written(rng, 400)) for _ in range(1200)]  # 2 MB, several batches
    texts[1190] = " ".join(edited(texts[10].split(), rng, 0.02))
    texts[1191] = texts[20].upper()
    groups = near_duplicate_groups(text for text in texts)
    assert groups[1190] == 10 and groups[1191] == 20
    assert len(np.unique(groups)) == 1198


def test_a_crowd_of_copies_becomes_one_group():
    rng = random.Random(3)
    template = [f"word{number}" for number in range(80)]
    crowd = []
    for _ in range(1500):
        copy = list(template)
        copy[rng.randrange(80)] = rng.choice(WORDS)
        crowd.append(" ".join(copy))
    assert set(near_duplicate_groups(crowd).tolist()) == {0}


def test_the_order_of_the_texts_changes_no_group(planted):
    groups = near_duplicate_groups(planted)
    order = random.Random(1).sample(range(len(planted)), len(planted))
    shuffled = near_duplicate_groups([planted[index] for index in order])
    together = {frozenset(np.flatnonzero(groups == group).tolist()) for group in groups}
    assert together == {frozenset(np.array(order)[shuffled == group].tolist()) for group in shuffled}


def test_another_seed_finds_the_same_groups(planted):
    assert near_duplicate_groups(planted, seed=11).tolist() == near_duplicate_groups(planted).tolist()


def test_pythons_salted_hash_has_no_part_in_it(planted):
    code = (
        "import sys; from prefkit.near_duplicates import find_near_duplicate_pairs as find; "
        "print(find(sys.stdin.read().split('\\n'), threshold=0.5).tolist())"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            input="\n".join(planted),
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": salt},
        ).stdout
        for salt in ("1", "2")
    }
    assert len(answers) == 1 and len(answers.pop()) > 100


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.01])
def test_a_threshold_that_is_no_similarity_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        near_duplicate_groups(["a"], threshold=threshold)
