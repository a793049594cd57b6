"""Words and the query language: what FTS5 finds is what the query means."""

import sqlite3

import pytest
from search_server import server

server()

from argilla_embedded.search.language import (  # noqa: E402 - the package needs the server's settings
    EVERY_RECORD,
    All,
    Any,
    Fuzzy,
    Not,
    Phrase,
    Query,
    match_expression,
    parse,
)
from argilla_embedded.search.words import groups, indexed  # noqa: E402

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import strategies as st  # noqa: E402


def found(text: str, query: str) -> bool:
    """Whether FTS5 finds `query` in `text`, both cut into words here; similar words are taken for the same."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE texts USING fts5(field, everything, content = '', tokenize = 'ascii')")
    connection.execute("INSERT INTO texts (rowid, field, everything) VALUES (1, ?, ?)", (indexed(text), EVERY_RECORD))
    expression = match_expression(parse(query), similar=lambda word, _: [word])
    return bool(connection.execute("SELECT 1 FROM texts WHERE texts MATCH ?", (expression,)).fetchone())


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("我想预约心理咨询，因为最近睡不好。", "心理咨询"),
        ("我想预约心理咨询，因为最近睡不好。", "理咨"),
        ("カウンセリングを受けたいです", "カウンセ"),
        ("ฉันอยากปรึกษานักจิตวิทยา", "จิตวิทยา"),
        ("상담을 받고 싶어요", "상담"),
        ("iPhone手机坏了", "手机"),
        ("Le café est fermé", "CAFE"),
        ("naïve Ångström Łódź straße", "naive angstrom lodz STRASSE"),
        ("لا أعرف ما العَمَل", "العمل"),
        ("I don’t know", "don't"),
        ("It cost 1,000.50 euros", "1,000.50"),
        ("so happy 😀👍🏽 today", "😀"),
        ("so happy 😀👍🏽 today", "happy today"),
        ("before\x00after", "after"),
        ("half a \ud83d surrogate", "surrogate"),
        ("client's well-being", "client well-being"),
        ("zero\u200bwidth and soft\u00adhyphen", "zerowidth softhyphen"),
    ],
)
def test_a_text_is_found_by_its_words_in_any_script(text: str, query: str) -> None:
    assert found(text, query)


@pytest.mark.parametrize(
    ("text", "query"),
    [("心理的咨询", "心理咨询"), ("donkey", "don't"), ("I don know that t", "don't"), ("happy", "😀"), ("text", "...")],
)
def test_what_only_looks_alike_is_not_found(text: str, query: str) -> None:
    assert not found(text, query)


A, B, C, D = (Phrase((word,)) for word in "abcd")


@pytest.mark.parametrize(
    ("query", "meaning"),
    [
        ("a b", All((A, B))),
        ("a | b", Any((A, B))),
        ("a | b + c", All((Any((A, B)), C))),
        ("a + b | c d", All((Any((All((A, B)), C)), D))),
        ("a (b | c)", All((A, Any((B, C))))),
        ("-a", Not(A)),
        ("--a", A),
        ("- a", A),
        ("a -b", All((A, Not(B)))),
        ("a-b", All((A, B))),
        ('"a b"', Phrase(("a", "b"))),
        ('"a b"~3', Phrase(("a", "b"), slop=3)),
        ('"a b"~x', Phrase(("a", "b"))),
        ("a*", Phrase(("a",), begins=True)),
        ("a\\*", A),
        ("abc~", Fuzzy("abc", 2)),
        ("abc~1", Fuzzy("abc", 1)),
        ("abc~9", Fuzzy("abc", 2)),
        ("abc~0", Phrase(("abc",))),
        ("+ | a", A),
        ('a "b', All((A, B))),
        ("(a (b", All((A, B))),
        ("a) b", All((A, B))),
        ("() a", A),
        ("\\(a\\)", A),
        ("...", None),
        ("", None),
        ('""', None),
    ],
)
def test_a_query_means_what_lucenes_simple_query_parser_makes_of_it(query: str, meaning: Query | None) -> None:
    assert parse(query) == meaning


TEXTS = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=6).map(" ".join)
PHRASES = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=3)
LEAVES = st.one_of(PHRASES.map(lambda words: Phrase(tuple(words))), st.sampled_from("abcd").map(lambda w: Phrase((w,))))
QUERIES = st.recursive(
    LEAVES,
    lambda parts: st.one_of(
        parts.map(Not),
        st.lists(parts, min_size=2, max_size=3).map(lambda queries: All(tuple(queries))),
        st.lists(parts, min_size=2, max_size=3).map(lambda queries: Any(tuple(queries))),
    ),
    max_leaves=8,
)


def holds(query: Query, words: list[str]) -> bool:
    """The meaning of a query, worked out word by word."""
    if isinstance(query, Not):
        return not holds(query.query, words)
    if isinstance(query, All):
        return all(holds(part, words) for part in query.queries)
    if isinstance(query, Any):
        return any(holds(part, words) for part in query.queries)
    assert isinstance(query, Phrase)
    length = len(query.words)
    return any(tuple(words[at : at + length]) == query.words for at in range(len(words) - length + 1))


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(text=TEXTS, query=QUERIES)
def test_fts5_finds_exactly_the_texts_for_which_a_query_holds(text: str, query: Query) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE texts USING fts5(field, everything, content = '', tokenize = 'ascii')")
    connection.execute("INSERT INTO texts (rowid, field, everything) VALUES (1, ?, ?)", (indexed(text), EVERY_RECORD))
    expression = match_expression(query, similar=lambda word, _: [word])
    matched = connection.execute("SELECT 1 FROM texts WHERE texts MATCH ?", (expression,)).fetchone()
    assert bool(matched) == holds(query, text.split())


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(
    query=st.one_of(
        st.text(max_size=60),
        st.text(st.sampled_from('ab"()|+-*~\\ 1:{}^,.\x00é咨询😀'), max_size=60),
        st.binary(max_size=30).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    )
)
def test_no_text_is_an_error(query: str) -> None:
    found("a b c", query)


@pytest.mark.parametrize(
    "query",
    [
        "(" * 5_000 + "a" + ")" * 5_000,
        "a | b + " * 1_000,
        "-(" * 300 + "a" + ")" * 300,
        "-(a | b + c" * 300 + ")" * 300,
        "-(" * 12 + "a | b + " * 400 + ")" * 12,
        "-a " * 5_000,
        "word " * 5_000,
        '"' * 999,
    ],
)
def test_neither_depth_nor_length_is_an_error(query: str) -> None:
    found("a b c", query)


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(st.text(max_size=80))
def test_every_word_of_a_text_finds_the_text(text: str) -> None:
    for group in groups(text)[:5]:
        assert found(text, '"' + " ".join(group) + '"')


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(st.one_of(st.text(max_size=80), st.text(st.sampled_from("a'1.,: 咨询ไท상\x01\x00😀"), max_size=700)))
def test_what_is_indexed_is_the_words_of_the_groups(text: str) -> None:
    assert indexed(text).split() == [word for group in groups(text) for word in group]


def test_words_are_what_fts5_takes_as_they_are() -> None:
    text = "".join(map(chr, [*range(0, 0xD800, 7), *range(0xE000, 0x30000, 97)]))
    words = [word for group in groups(text) for word in group]
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE texts USING fts5(field, tokenize = 'ascii')")
    connection.execute("CREATE VIRTUAL TABLE words USING fts5vocab(texts, 'instance')")
    connection.execute("INSERT INTO texts VALUES (?)", (indexed(text),))
    assert [row[0] for row in connection.execute('SELECT term FROM words ORDER BY "offset"')] == words
