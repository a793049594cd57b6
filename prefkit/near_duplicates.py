"""Find texts that say nearly the same in the same words.

Reads   texts
Gives   for each text the first text of its group, or the pairs that hold the groups together

Two texts are near-duplicates when their sets of word pairs (two neighbouring words; two neighbouring characters in
scripts that write no blanks, such as Chinese, Japanese and Thai) have a Jaccard similarity of at least `threshold`.
Case, punctuation, symbols and blanks do not count. A group is a chain: its ends may be less alike than the threshold.
Texts without a single letter or digit are alike, and like nothing else.

MinHash with locality-sensitive hashing proposes pairs (rensa, in Rust: signatures, and which texts share a band at
all); each proposal is then checked on its whole sets, so that no false pair gets in. A true pair is missed with a
chance of at most 1 in 1,000 where it only just reaches the threshold, and far less above it; among thousands of texts
that are all only just unlike, more are missed (docs/screening.md). Word pairs rather than longer runs, because an
edited word breaks two of them and not five: at 0.8, four words of ninety may be replaced. Time and memory grow
linearly: in a bucket a text meets the first one and the nearest, not everybody.

Everything works on 64-bit hashes of words; two different texts are taken for equal with a chance below 1e-7 in a
million texts. No hash is salted and nothing depends on the machine: the same texts give the same groups.

Sources: Broder 1997, doi:10.1109/SEQUEN.1997.666900 (resemblance); Leskovec, Rajaraman & Ullman, Mining of Massive
Datasets, ch. 3 (banding).
"""

from __future__ import annotations

import functools
import math
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rensa import RMinHashDigestMatrix
    from scipy.sparse import csr_array

SHINGLE_WORDS = 2
SIGNATURE_SLOTS = 128
MISSED_AT_MOST = 0.001  # chance to miss a pair whose similarity is exactly the threshold
NEIGHBOURS = 32  # in a bucket of the index, a text meets the bucket's first text and this many that follow it

_BATCH_CHARACTERS = 1 << 18
_BATCH_PAIRS = 1 << 14

_BLANK = np.uint32(0)
_DROPPED = np.uint32(1)  # an apostrophe or an invisible character: what stands around it is one word
_TEXT_END = np.uint32(2)
_ALONE = np.uint32(1 << 30)  # a character of a script without blanks is a word of its own
_REWRITE = np.uint32(1 << 31)  # a mark, or a letter that folds to several: Unicode has to see the text around it
_CODE_POINT = np.uint32(0x1FFFFF)
_SCRIPTS_WITHOUT_BLANKS = ("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")

_STEP = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it has an inverse modulo 2**64
_UNSTEP = np.uint64(pow(int(_STEP), -1, 1 << 64))


def normalised(text: str) -> str:
    """The text's words as they are compared: case folded, Unicode compatibility forms, one blank between words.

    Apostrophes vanish ("don't" is "dont"), all other punctuation and symbols part words, and each character of a
    script without blanks is a word. Equal results make exact duplicates.
    """
    folded = _folded([text])
    starts, ends = _word_bounds(folded)
    characters = (folded & _CODE_POINT).astype("<u4").tobytes().decode("utf-32-le", errors="surrogatepass")
    return " ".join(characters[start:end] for start, end in zip(starts, ends, strict=True))


def jaccard(first: str, second: str) -> float:
    """How alike two texts are: shared word pairs / all word pairs of both, 0 to 1; two texts without words give 1."""
    first_shingles, second_shingles = _shingles(normalised(first).split()), _shingles(normalised(second).split())
    if not first_shingles and not second_shingles:
        return 1.0
    return len(first_shingles & second_shingles) / len(first_shingles | second_shingles)


def near_duplicate_groups(texts: Iterable[str], *, threshold: float = 0.8, seed: int = 0) -> NDArray[np.int64]:
    """Give each text the index of the first text of its group, shape (n_texts,).

    Args:
        texts: read once, in batches; memory is about 1 kB for each text of 90 words beside the texts themselves.
        threshold: Jaccard similarity of word pairs from which on two texts belong together, above 0, at most 1.
        seed: chooses the hash functions of the signatures; it can only change which rare pairs are missed.

    Raises:
        ValueError: the threshold is not in (0, 1].
    """
    pairs, n_texts = _linking_pairs(texts, threshold, seed)
    return first_of_component(pairs, n_texts)


def find_near_duplicate_pairs(texts: Iterable[str], *, threshold: float = 0.8, seed: int = 0) -> NDArray[np.int64]:
    """Find pairs of near-duplicates, as rows (first, second) of indices with first < second, sorted.

    Not every pair is listed, but enough to hold each group together: a division of the texts cuts a group exactly
    where it parts one of these pairs. With another `seed` than the division was made with, other hash functions look
    at the texts, which makes this an independent check.

    Raises:
        ValueError: the threshold is not in (0, 1].
    """
    pairs, _ = _linking_pairs(texts, threshold, seed)
    return np.unique(np.sort(pairs, axis=1), axis=0)


# --- in pieces -------------------------------------------------------------------------------------------------------


def digests(texts: Iterable[str]) -> NDArray[np.uint64]:
    """A digest of each text's words, shape (n_texts,): equal ones make exact duplicates."""
    return _hashed(texts).texts


def bucket_keys(texts: Iterable[str], *, threshold: float, seed: int = 0) -> NDArray[np.uint64]:
    """The buckets that each text falls into, shape (n_texts, n_bands)."""
    band_rows = _rows_per_band(threshold)
    return _buckets(_hashed(texts), band_rows, SIGNATURE_SLOTS // band_rows, seed)


def n_bands(threshold: float) -> int:
    """How many buckets a text falls into."""
    return SIGNATURE_SLOTS // _rows_per_band(threshold)


def sketches(texts: Iterable[str], *, threshold: float) -> NDArray[np.uint64]:
    """Four bits of each slot of the texts' signatures, shape (n_texts, SIGNATURE_SLOTS / 16)."""
    hashed = _hashed(texts)
    n_texts, n_slots = len(hashed.texts), n_bands(threshold) * _rows_per_band(threshold)
    codes = np.zeros((n_texts, SIGNATURE_SLOTS), np.uint8)
    if n_texts:
        slots = np.array(_signatures(hashed, n_slots, 0).to_rows(), np.uint64).reshape(n_texts, n_slots)
        codes[:, :n_slots] = (_mixed(slots) & np.uint64(15)).astype(np.uint8)
    return (codes[:, ::2] | codes[:, 1::2] << 4).view(np.uint64)


def may_be_alike(first: NDArray[np.uint64], second: NDArray[np.uint64], threshold: float) -> NDArray[np.bool_]:
    """Whether texts with these sketches may reach the threshold, row by row; one that does is told no with a chance
    below 1e-12, and most of those that share no more than a bucket are told no."""
    apart = first ^ second
    for step in (1, 2):
        apart |= apart >> np.uint64(step)
    apart &= np.uint64(0x1111111111111111)
    n_slots = n_bands(threshold) * _rows_per_band(threshold)
    return np.bitwise_count(apart).sum(axis=1) <= n_slots - _least_agreement(n_slots, threshold)


@functools.cache
def _least_agreement(n_slots: int, threshold: float) -> int:
    """In how many slots two texts of that similarity agree by four bits, but for a chance of 1e-12."""
    agree = threshold + (1 - threshold) / 16
    chance = 0.0
    for slots in range(n_slots + 1):
        chance += math.comb(n_slots, slots) * agree**slots * (1 - agree) ** (n_slots - slots)
        if chance > 1e-12:
            return slots
    return n_slots


def first_equal(digests: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each digest the place of the first that equals it, shape (n,)."""
    _, firsts, inverse = np.unique(digests, return_index=True, return_inverse=True)
    return firsts[inverse]


def proposed(bucket: NDArray[np.uint64], next_bucket: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
    """The pairs of rows that are to be compared, given in which bucket of a band, and of the next, each row is; first
    some, then others.

    Rows are in the order of the texts; those that are alone in their bucket may be there or not.
    """
    yield _with_first_of_bucket(bucket)
    yield _with_followers(bucket, next_bucket)


def confirmed(texts: Iterable[str], proposals: Iterable[NDArray[np.int64]], threshold: float) -> NDArray[np.int64]:
    """Those of the proposed pairs of texts that reach the threshold, enough of them to link each group.

    Args:
        texts: no two of them the same words.
        proposals: as ``proposed`` gives them for one band after the other.
        threshold: see ``near_duplicate_groups``.
    """
    return _confirmed(_hashed(texts), proposals, threshold)


# --- words -----------------------------------------------------------------------------------------------------------


@functools.cache
def _fold_table() -> NDArray[np.uint32]:
    """What each code point counts as: itself folded, blank or dropped, with flags; shape (0x110000,)."""
    table = np.full(0x110000, _BLANK, np.uint32)
    for code in range(0x110000):
        character = chr(code)
        category = unicodedata.category(character)
        if category[0] in "LMN":
            table[code] = _fold_of(character, category)
        elif category == "Cf" or character in "'\u2018\u2019\uff07":
            table[code] = _DROPPED
    return table


def _fold_of(character: str, category: str) -> np.uint32:
    name = unicodedata.name(character, "")
    if name.startswith("VARIATION SELECTOR") or category == "Me":
        return _DROPPED
    folded = _compatible(character)
    if category[0] == "M" or len(folded) != 1 or unicodedata.category(folded)[0] == "M":
        return np.uint32(ord(character)) | _REWRITE
    if unicodedata.name(folded, name).startswith(_SCRIPTS_WITHOUT_BLANKS):
        return np.uint32(ord(folded)) | _ALONE
    return np.uint32(ord(folded))


def _compatible(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _folded(texts: list[str]) -> NDArray[np.uint32]:
    """All texts as folded code points with flags, one after another, each closed by `_TEXT_END`."""
    table = _fold_table()
    folded, closings = _look_up(texts, table)
    to_rewrite = np.flatnonzero(folded & _REWRITE)
    if to_rewrite.size:
        texts = list(texts)
        for row in np.unique(np.searchsorted(closings, to_rewrite)):
            texts[row] = _compatible(texts[row])
        folded, closings = _look_up(texts, table)
    folded[closings] = _TEXT_END
    return folded[folded != _DROPPED]


def _look_up(texts: list[str], table: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    joined = "\n".join(texts) + "\n"
    codes = np.frombuffer(joined.encode("utf-32-le", errors="surrogatepass"), "<u4")
    closings = np.cumsum([len(text) + 1 for text in texts]) - 1
    return table[codes], closings


def _word_bounds(folded: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where words start, and where they end (exclusive)."""
    in_word = folded > _TEXT_END
    alone = (folded & _ALONE) > 0
    joined = in_word[:-1] & in_word[1:] & ~alone[:-1] & ~alone[1:]  # position i and i + 1 belong to one word
    starts = in_word.copy()
    starts[1:] &= ~joined
    ends = in_word.copy()
    ends[:-1] &= ~joined
    return np.flatnonzero(starts), np.flatnonzero(ends) + 1


def _shingles(words: list[str]) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + SHINGLE_WORDS]) for i in range(min(len(words), max(1, len(words) - SHINGLE_WORDS + 1)))}


# --- hashes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Hashed:
    """Texts as 64-bit hashes; the shingles of text i are `shingles[offsets[i]:offsets[i + 1]]`, repeats included."""

    texts: NDArray[np.uint64]  # of the whole word sequence, shape (n_texts,)
    shingles: NDArray[np.uint64]
    offsets: NDArray[np.int64]  # shape (n_texts + 1,)

    def rows(self, rows: NDArray[np.int64]) -> _Hashed:
        """Only these texts; `rows` ascend."""
        counts = np.diff(self.offsets)
        wanted = np.zeros(len(counts), np.bool_)
        wanted[rows] = True
        return _Hashed(self.texts[rows], self.shingles[np.repeat(wanted, counts)], _offsets(counts[rows]))


def _hashed(texts: Iterable[str]) -> _Hashed:
    batches = [_hashed_batch(batch) for batch in _batches(texts)]
    if not batches:
        return _Hashed(np.empty(0, np.uint64), np.empty(0, np.uint64), _offsets(np.empty(0, np.int64)))
    return _Hashed(
        np.concatenate([batch.texts for batch in batches]),
        np.concatenate([batch.shingles for batch in batches]),
        _offsets(np.concatenate([np.diff(batch.offsets) for batch in batches])),
    )


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text) + 1
        if characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _hashed_batch(texts: list[str]) -> _Hashed:
    folded = _folded(texts)
    starts, ends = _word_bounds(folded)
    words = _word_hashes(folded, starts, ends)
    text_of_word = np.searchsorted(np.flatnonzero(folded == _TEXT_END), starts)
    n_words = np.bincount(text_of_word, minlength=len(texts))
    first_word = _offsets(n_words)

    place = np.arange(len(words)) - first_word[text_of_word]
    placed = np.concatenate([[np.uint64(0)], np.cumsum(_mixed(words + place.astype(np.uint64) * _STEP))])
    whole = placed[first_word[1:]] - placed[first_word[:-1]]

    n_shingles = np.where(n_words > 0, np.maximum(1, n_words - SHINGLE_WORDS + 1), 0)
    offsets = _offsets(n_shingles)
    text_of_shingle = np.repeat(np.arange(len(texts)), n_shingles)
    first = first_word[text_of_shingle] + np.arange(len(text_of_shingle)) - offsets[text_of_shingle]
    padded = np.append(words, np.uint64(0))
    shingles = np.zeros(len(first), np.uint64)
    for step in range(SHINGLE_WORDS):
        in_text = first + step < first_word[text_of_shingle + 1]
        shingles = shingles * _STEP + padded[np.where(in_text, first + step, len(words))]
    return _Hashed(whole, _mixed(shingles), offsets)


def _word_hashes(folded: NDArray[np.uint32], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash each word as a polynomial in its characters, from one running sum over all of them."""
    powers = np.full(len(folded), _STEP, np.uint64)
    np.multiply.accumulate(powers, out=powers)
    inverse_powers = np.full(len(folded), _UNSTEP, np.uint64)
    np.multiply.accumulate(inverse_powers, out=inverse_powers)
    running = np.concatenate([[np.uint64(0)], np.cumsum((folded & _CODE_POINT) * powers)])
    return _mixed((running[ends] - running[starts]) * inverse_powers[starts])


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread each value over all 64 bits (the finaliser of MurmurHash3, public domain)."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ (values >> np.uint64(33))


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


# --- pairs -----------------------------------------------------------------------------------------------------------


def _check(threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1; got {threshold}")


def _linking_pairs(texts: Iterable[str], threshold: float, seed: int) -> tuple[NDArray[np.int64], int]:
    _check(threshold)
    hashed = _hashed(texts)
    n_texts = len(hashed.texts)
    first = first_equal(hashed.texts)
    repeats = np.flatnonzero(first != np.arange(n_texts))
    equal_pairs = np.stack([first[repeats], repeats], axis=1)

    distinct = np.flatnonzero(first == np.arange(n_texts))
    if len(distinct) < n_texts:
        hashed = hashed.rows(distinct)
    return np.concatenate([equal_pairs, distinct[_similar_pairs(hashed, threshold, seed)]]), n_texts


def _similar_pairs(hashed: _Hashed, threshold: float, seed: int) -> NDArray[np.int64]:
    """Pairs of rows at or above the threshold, enough to link each component; shape (n_pairs, 2)."""
    band_rows = _rows_per_band(threshold)
    candidates, bands = _banded(hashed, band_rows, SIGNATURE_SLOTS // band_rows, seed)
    if not len(candidates):
        return np.empty((0, 2), np.int64)
    neighbours = zip(bands, np.roll(bands, -1, axis=0), strict=True)
    proposals = (pairs for bucket, next_bucket in neighbours for pairs in proposed(bucket, next_bucket))
    return candidates[_confirmed(hashed.rows(candidates), proposals, threshold)]


def _confirmed(hashed: _Hashed, proposals: Iterable[NDArray[np.int64]], threshold: float) -> NDArray[np.int64]:
    """Those of the proposed pairs of rows that are alike and not yet linked by earlier ones; shape (n_pairs, 2)."""
    found = [np.empty((0, 2), np.int64)]
    shingles = _shingle_sets(hashed)
    component = np.arange(len(hashed.texts))
    for pairs in proposals:
        apart = pairs[component[pairs[:, 0]] != component[pairs[:, 1]]]
        similar = apart[_jaccards(shingles, apart) >= threshold]
        if len(similar):
            component = first_of_component(component[similar], len(component))[component]
            found.append(similar)
    return np.concatenate(found)


def _rows_per_band(threshold: float) -> int:
    """The most signature slots a band may have: more make fewer false proposals, but miss more pairs."""
    return max(
        rows
        for rows in range(1, 17)
        if rows == 1 or (1 - threshold**rows) ** (SIGNATURE_SLOTS // rows) <= MISSED_AT_MOST
    )


def _banded(hashed: _Hashed, band_rows: int, n_bands: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """The texts that share a band with another one, and their bucket in each band, shape (n_bands, n_candidates)."""
    from rensa import RMinHashLSH

    n_slots = band_rows * n_bands
    if len(hashed.texts) < 2:
        return np.empty(0, np.int64), np.empty((n_bands, 0), np.uint64)
    signatures = _signatures(hashed, n_slots, seed)
    index = RMinHashLSH(threshold=0.5, num_perm=n_slots, num_bands=n_bands)  # its threshold is not asked for here
    candidates = np.flatnonzero(index.query_duplicate_flags_matrix_one_shot(signatures))
    del signatures
    return candidates, _buckets(hashed.rows(candidates), band_rows, n_bands, seed).T


def _buckets(hashed: _Hashed, band_rows: int, n_bands: int, seed: int) -> NDArray[np.uint64]:
    """The bucket of each text in each band, shape (n_texts, n_bands)."""
    n_texts = len(hashed.texts)
    buckets = np.empty((n_texts, n_bands), np.uint64)
    for start in range(0, n_texts, _BATCH_PAIRS):
        some = hashed.rows(np.arange(start, min(start + _BATCH_PAIRS, n_texts)))
        signatures = _signatures(some, band_rows * n_bands, seed)
        slots = np.array(signatures.to_rows(), np.uint64).reshape(-1, n_bands, band_rows)
        keys = np.zeros(slots.shape[:2], np.uint64)
        for row in range(band_rows):
            keys = _mixed(keys * _STEP + slots[:, :, row])
        buckets[start : start + len(keys)] = keys
    return buckets


def _signatures(hashed: _Hashed, n_slots: int, seed: int) -> RMinHashDigestMatrix:
    from rensa import RMinHash

    return RMinHash.digest_matrix_from_flat_token_hashes(
        hashed.shingles, hashed.offsets.astype(np.uint64), n_slots, seed
    )


def _with_first_of_bucket(bucket: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Pair each row with the first row of its bucket."""
    order = np.argsort(bucket, kind="stable")
    opens = np.flatnonzero(np.diff(bucket[order], prepend=bucket[order[:1]] + np.uint64(1)))
    first = np.repeat(order[opens], np.diff(opens, append=len(order)))
    return np.stack([first, order], axis=1)[first != order]


def _with_followers(bucket: NDArray[np.uint64], next_bucket: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Pair each row with `NEIGHBOURS` others of its bucket, first those that share the next band's bucket too."""
    order = np.lexsort((next_bucket, bucket))
    keys = bucket[order]
    pairs = [np.empty((0, 2), np.int64)]
    for step in range(1, NEIGHBOURS + 1):
        same = np.flatnonzero(keys[:-step] == keys[step:])
        pairs.append(np.stack([order[same], order[same + step]], axis=1))
    return np.concatenate(pairs)


def _shingle_sets(hashed: _Hashed) -> csr_array:
    """One row a text, a 1 in the column of each of its shingles; a column is a hash, so most of them are empty."""
    from scipy.sparse import csr_array

    columns = (hashed.shingles >> np.uint64(1)).astype(np.int64)
    ones = np.ones(len(columns), np.int32)
    sets = csr_array((ones, columns, hashed.offsets), shape=(len(hashed.texts), (1 << 63) - 1))
    sets.sum_duplicates()
    sets.data[:] = 1
    return sets


def _jaccards(sets: csr_array, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Shared shingles / all shingles of both, for each pair of rows."""
    sizes = np.diff(sets.indptr)
    shared = np.zeros(len(pairs))
    for start in range(0, len(pairs), _BATCH_PAIRS):
        some = pairs[start : start + _BATCH_PAIRS]
        shared[start : start + len(some)] = sets[some[:, 0]].multiply(sets[some[:, 1]]).sum(axis=1)
    return shared / (sizes[pairs].sum(axis=1) - shared)


def first_of_component(pairs: NDArray[np.int64], n_items: int) -> NDArray[np.int64]:
    """For each item the lowest item that the pairs link it to, itself where none do; shape (n_items,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(n_items, n_items))
    n_components, labels = connected_components(links, directed=False)
    first = np.full(n_components, n_items, np.int64)
    np.minimum.at(first, labels, np.arange(n_items))
    return first[labels]
