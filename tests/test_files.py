"""Foreign files come back as they were written, and broken ones as one sentence."""

from __future__ import annotations

import csv
import gzip
import io
import json
import logging
import os
import re
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from broken import BROKEN, BROKEN_ROWS, OLD_WORKBOOK, SAYS, SHEET, TABLE, arrow, parquet, workbook
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from prefkit.errors import InputError
from prefkit.rows.files import FORMATS, Row, read_rows, source_digest, source_size

BREAK = re.compile(r"\r\n|\r|\n")
quick = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def values(path: Path | str, **choices: Any) -> list[dict[str, Any]]:
    rows = list(read_rows(path, **choices))
    assert [row for row in rows if row.broken] == []
    return [row.values for row in rows]


def fault(path: Path | str, **choices: Any) -> str:
    with pytest.raises(InputError) as caught:
        list(read_rows(path, **choices))
    return str(caught.value)


# What was written comes back

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
names = st.text(
    st.characters(categories=["L", "N", "P", "Zs"], exclude_characters=",;|<%"), min_size=1, max_size=6
).map(lambda name: f"c{name}".strip())


@st.composite
def text_tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    header = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    return header, draw(st.lists(st.tuples(*[words] * len(header)).map(list), min_size=1, max_size=5))


@quick
@given(
    table=text_tables(),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    mark=st.booleans(),
    kind=st.sampled_from(["csv", "tsv"]),
)
@example(table=(["c"], [[" "], [""], ["\r"], ['"']]), end="\n", mark=True, kind="csv")
@example(
    table=(["a", "b"], [['say "hi",\r\n', "\n\n"], ["\u2028\x85\x0c", "你好 😀"]]), end="\r\n", mark=False, kind="tsv"
)
def test_a_text_table_comes_back_with_the_lines_where_its_rows_start(
    tmp_path: Path, table: tuple[list[str], list[list[str]]], end: str, mark: bool, kind: str
) -> None:
    header, cells = table
    text, starts = io.StringIO(newline=""), []
    quoting = csv.QUOTE_MINIMAL if end == "\r\n" else csv.QUOTE_ALL  # before Python 3.13 a lone \r is quoted only so
    writer = csv.writer(text, delimiter="," if kind == "csv" else "\t", lineterminator=end, quoting=quoting)
    for row in [header, *cells]:
        starts.append(1 + len(BREAK.findall(text.getvalue())))
        writer.writerow(row)
    path = write(tmp_path, f"t.{kind}", "\ufeff" * mark + text.getvalue())
    rows = [Row(number, dict(zip(header, row, strict=True))) for number, row in zip(starts[1:], cells, strict=True)]
    assert list(read_rows(path)) == rows


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
json_records = st.lists(st.dictionaries(st.text(max_size=6), json_values, max_size=4), min_size=1, max_size=5)
escaped = st.booleans()


@quick
@given(records=json_records, blank=st.sampled_from(["", "\n", " \t\n\r\n"]), spaced=st.booleans(), escape=escaped)
def test_json_lines_come_back_with_their_lines(
    tmp_path: Path, records: list[dict[str, Any]], blank: str, spaced: bool, escape: bool
) -> None:
    separators = (" , ", " : ") if spaced else (",", ":")
    texts = [json.dumps(record, separators=separators, ensure_ascii=escape) for record in records]
    path = write(tmp_path, "r.jsonl", blank + f"\n{blank}".join(texts))
    numbers = [1 + blank.count("\n") + place * (1 + blank.count("\n")) for place in range(len(records))]
    assert list(read_rows(path)) == [Row(number, record) for number, record in zip(numbers, records, strict=True)]


@quick
@given(records=json_records, indent=st.sampled_from([None, 0, 2]), escape=escaped, wrapped=st.booleans())
def test_json_arrays_come_back_element_by_element(
    tmp_path: Path, records: list[dict[str, Any]], indent: int | None, escape: bool, wrapped: bool
) -> None:
    whole = {"version": [1], "data": records, "more": {"data": 2}} if wrapped and len(records) != 1 else records
    path = write(tmp_path, "r.json", json.dumps(whole, indent=indent, ensure_ascii=escape))
    assert list(read_rows(path)) == [Row(number, record) for number, record in enumerate(records, 1)]


@quick
@given(names=st.lists(st.text(max_size=6), min_size=2, max_size=4, unique=True), rows=st.integers(1, 5), data=st.data())
def test_an_object_of_columns_comes_back_row_by_row(
    tmp_path: Path, names: list[str], rows: int, data: st.DataObject
) -> None:
    columns = {name: data.draw(st.lists(json_values, min_size=rows, max_size=rows)) for name in names}
    assume(not isinstance(columns.get("data", [0])[0], dict))
    path = write(tmp_path, "c.json", json.dumps(columns))
    expected = [Row(place + 1, {name: columns[name][place] for name in names}) for place in range(rows)]
    assert list(read_rows(path)) == expected


CROSSING = [
    {"a": "é你😀" * 30, "b": True, "n": [-1.25e-3, 17, None, False]},
    {"a": '"quoted, twice" \\ \r\n' * 9, "b": False, "n": []},
    {"a": "[{]},: " * 30, "b": None, "n": [{"é": "\u2028"}]},
]


@pytest.mark.parametrize("escape", [True, False])
@pytest.mark.parametrize("kind", ["json", "jsonl", "csv"])
def test_where_the_file_is_cut_into_blocks_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, escape: bool
) -> None:
    """Blocks of 256 bytes; the padding moves every byte of the records over a border once."""
    monkeypatch.setattr("prefkit.rows.opening.BLOCK", 256)
    for padding in range(256):
        texts = [json.dumps(record, ensure_ascii=escape) for record in [{"pad": "x" * padding}, *CROSSING]]
        if kind == "csv":
            text = io.StringIO(newline="")
            csv.writer(text).writerows([["row", "é"], *([text, "é"] for text in texts)])
            path = write(tmp_path, "b.csv", text.getvalue())
            assert [json.loads(row["row"]) for row in values(path)][1:] == CROSSING
        else:
            whole = "\r\n".join([*texts, "1234567"]) if kind == "jsonl" else f"[{', '.join([*texts, '1234567'])}]"
            rows = list(read_rows(write(tmp_path, f"b.{kind}", whole)))
            assert [row.values for row in rows[1:-1]] == CROSSING
            assert rows[-1] == Row(5, {"raw": "1234567"}, "a number instead of an object")


cells = st.none() | st.text(max_size=8)


@quick
@given(
    texts=st.lists(cells, min_size=1, max_size=5),
    numbers=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=5, max_size=5),
    lists=st.lists(st.none() | st.lists(st.fixed_dictionaries({"role": cells}), max_size=2), min_size=5, max_size=5),
)
def test_parquet_comes_back_with_its_nulls_and_nested_values(
    tmp_path: Path, texts: list[Any], numbers: list[Any], lists: list[Any]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    length = len(texts)
    turns = pa.array(lists[:length], pa.list_(pa.struct([("role", pa.string())])))
    columns = {"t": pa.array(texts, pa.string()), "n": pa.array(numbers[:length], pa.int64()), "turns": turns}
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    expected = zip(texts, numbers, lists, strict=False)
    assert list(read_rows(tmp_path / "p.parquet")) == [
        Row(number, {"t": text, "n": count, "turns": turn}) for number, (text, count, turn) in enumerate(expected, 1)
    ]


sheet_text = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Cn"], exclude_characters="_=", include_characters="\n\t"),
    min_size=1,
    max_size=8,
).filter(str.strip)  # a cell of blanks alone is read as an empty one
sheet_cells = (
    st.none() | sheet_text | st.booleans() | st.integers(-(2**52), 2**52) | st.sampled_from([0.5, -2.25, 1e300])
)


@quick
@given(
    header=st.lists(names, min_size=1, max_size=3, unique=True),
    rows=st.lists(st.lists(sheet_cells, min_size=3, max_size=3), min_size=1, max_size=4),
    above=st.integers(0, 3),
)
def test_a_workbook_comes_back_with_the_rows_that_excel_shows(
    tmp_path: Path, header: list[str], rows: list[list[Any]], above: int
) -> None:
    rows = [row[: len(header)] for row in rows]
    assume(any(cell is not None for row in rows for cell in row))
    path = write(tmp_path, "w.xlsx", workbook([[]] * above + [header, *rows]))
    expected = [
        Row(number, dict(zip(header, row, strict=True)))
        for number, row in enumerate(rows, above + 2)
        if any(cell is not None for cell in row)
    ]
    assert repr(list(read_rows(path))) == repr(expected), "and 1 is not 1.0"


def test_a_workbook_is_new_or_old_whatever_its_ending_says(tmp_path: Path) -> None:
    rows = [{"id": 1, "prompt": "I sleep badly.", "topic": "sleep"}]
    assert values(write(tmp_path, "new.xls", workbook(SHEET))) == rows
    assert values(write(tmp_path, "old.xls", OLD_WORKBOOK)) == rows
    assert values(write(tmp_path, "old.xlsx", OLD_WORKBOOK), sheet="Sheet1") == rows
    assert "old.xls: found no sheet 'Sheet2', but 'Sheet1'" in fault(tmp_path / "old.xls", sheet="Sheet2")


# Arbitrary bytes

SEEDS: dict[str, bytes] = {
    "csv": TABLE + b'4,"a\nb",x\n',
    "tsv": b"a\tb\n1\t2\n",
    "jsonl": b'{"a": 1, "b": [1.5, "\\u00e9"]}\n' * 3,
    "json": b'[{"a": 1}, {"a": [1.5, "\\u00e9", null]}]',
    "parquet": parquet({"a": [1, 2], "b": ["x", None]}),
    "xlsx": workbook(SHEET),
}
SEEDS["arrow"], SEEDS["xls"] = arrow(), b""
SEEDS["ndjson"] = SEEDS["jsonl"]


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, bytes]:
    kind = draw(st.sampled_from(FORMATS))
    content = bytearray(draw(st.sampled_from([SEEDS[kind], b""])) or draw(st.binary(min_size=1, max_size=60)))
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, len(content) - 1))
        content[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
        content += b"" if content else b"\n"
    return kind, bytes(content[: draw(st.integers(1, len(content)))] if draw(st.booleans()) else content)


@settings(quick, max_examples=400)
@given(mutations())
def test_whatever_the_bytes_only_an_input_error_is_raised(tmp_path: Path, file: tuple[str, bytes]) -> None:
    kind, content = file
    path = write(tmp_path, f"f.{kind}", content)
    try:
        for row in read_rows(path):
            json.dumps(row.broken, ensure_ascii=False).encode()
            assert "raw" not in row.values or not row.broken or len(row.values["raw"]) <= 2_000
    except InputError as error:
        assert "Traceback" not in str(error) and len(str(error)) < 1_000
        str(error).encode()


@settings(quick, max_examples=100)
@given(
    st.lists(st.sampled_from([*'[]{}",:\\ \n10eE.-tn', "NaN", "null", "\\ud83d", '"a":', "é"]), max_size=40).map(
        "".join
    )
)
def test_json_is_taken_when_python_takes_it_and_only_then(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, "f.jsonl", '{"first": 1}\n' + json.dumps({}) + "\n" + text.replace("\n", " ") + "\n")
    rows = list(read_rows(path))[2:]
    try:
        value = json.loads(text.replace("\n", " "))
    except ValueError:
        value = None
    assert bool(rows and not rows[0].broken) <= isinstance(value, dict)
    if rows and not rows[0].broken:
        assert rows[0].values == value


# Broken files


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_sentence_with_its_place(tmp_path: Path, name: str) -> None:
    assert SAYS[name] in fault(BROKEN[name](tmp_path))


@pytest.mark.parametrize("name", BROKEN_ROWS)
def test_a_broken_row_leaves_the_others(tmp_path: Path, name: str) -> None:
    path = BROKEN_ROWS[name](tmp_path)
    rows = list(read_rows(path))
    (row,) = [row for row in rows if row.broken]
    assert f"{path.name}:{row.number}: found {row.broken}".startswith(SAYS[name])
    assert len(rows) > 1
    assert all(isinstance(value, (str, int)) and len(str(value)) <= 2_000 for value in row.values.values())


def test_a_broken_row_keeps_its_text(tmp_path: Path) -> None:
    path = write(tmp_path, "r.csv", b'a,b\n1,2,"x\ny"\n\xed\xa0\xbd,1\n3,4\n')
    assert [(row.number, row.values) for row in read_rows(path)] == [
        (2, {"raw": '1,2,"x\ny"'}),
        (4, {"raw": "\\xed\\xa0\\xbd,1"}),
        (5, {"a": "3", "b": "4"}),
    ]


def test_a_value_that_parquet_cannot_give_leaves_the_rest_of_its_row(tmp_path: Path) -> None:
    rows = list(read_rows(BROKEN_ROWS["invalid text in parquet"](tmp_path)))
    assert [row.values for row in rows] == [{"id": 1, "prompt": "I sleep badly."}, {"id": 2}]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_may_not_be_read_says_so(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, "secret.csv", TABLE)
    list(read_rows(path))
    if kind == "folder":
        path = tmp_path / "secret"
        path.mkdir()
        write(path, "a.csv", TABLE)
    path.chmod(0)
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    modes = {folder: folder.stat().st_mode for folder in [tmp_path, *tmp_path.parents]} if root else {}
    if root:
        for folder, mode in modes.items():
            folder.chmod(mode | 0o001)
        os.seteuid(65534)
    try:
        message = fault(path)
    finally:
        if root:
            os.seteuid(0)
        for folder, mode in {**modes, path: 0o700}.items():
            folder.chmod(mode)
    assert message.startswith(f"{path}: found nothing that you may read; expected")


@pytest.mark.parametrize("name", ["a\0b.csv", "x" * 5_000 + ".csv", "t.csv/inside.csv", "\udcff.csv"])
def test_a_name_that_the_system_refuses_is_an_input_error(tmp_path: Path, name: str) -> None:
    write(tmp_path, "t.csv", TABLE)
    assert "found" in fault(f"{tmp_path}/{name}")


@pytest.mark.parametrize(
    ("encoding", "text", "guess"),
    [
        ("cp1252", "Ich f\u00fchle mich \u201eschlecht\u201c \u2013 oft.", "WINDOWS-1252"),
        ("gb18030", "最近有一些事情让我感到很不安，我有点失眠。", "GB18030"),
        ("koi8-r", "Я плохо сплю", None),
        ("shift_jis", "ねむれません", None),
        ("euc-kr", "잠을 잘 못 자고 마음이 불안해요.", None),
        ("cp1251", "мама дома", None),
        ("cp1250", "Źle sypiam i ciągle się boję.", None),
    ],
)
def test_an_encoding_is_guessed_only_where_it_can_be_told(
    tmp_path: Path, encoding: str, text: str, guess: str | None
) -> None:
    message = fault(write(tmp_path, "f.csv", b"id,prompt\n" + f"1,{text}\n".encode(encoding)))
    assert (f"It looks like {guess}" in message) if guess else ("It looks like" not in message)
    assert f"iconv -f {guess or 'ENCODING'} -t UTF-8 " in message


def test_a_wrong_choice_is_an_error_rather_than_ignored(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", TABLE)
    assert "found one file, without splits" in fault(path, split="train")
    assert "found csv, which has no sheets" in fault(path, sheet="Sheet1")
    assert "found a folder, which has no sheets" in fault(tmp_path, sheet="Sheet1")
    assert "found no sheet 'Sheet2', but 'Sheet1'" in fault(write(tmp_path, "w.xlsx", workbook(SHEET)), sheet="Sheet2")
    with pytest.raises(ValueError, match="format must be one of"):
        read_rows(path, format="docx")


def test_a_path_is_taken_as_text_too(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", TABLE)
    assert list(read_rows(str(path))) == list(read_rows(path))
    assert source_digest(str(path)) == source_digest(path)
    assert source_size(str(path)) == len(TABLE)
    assert fault(str(tmp_path / "u.csv")) == fault(tmp_path / "u.csv")


# Choices that the reader makes


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", ","), ("a.csv", "|")])
def test_a_delimiter_other_than_the_endings_is_found_and_said(
    tmp_path: Path, name: str, delimiter: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    text = f'id{delimiter}"pro{delimiter}mpt"\n1{delimiter}good\n'
    assert values(write(tmp_path, name, text)) == [{"id": "1", f"pro{delimiter}mpt": "good"}]
    assert f"fields are divided by {delimiter!r}" in caplog.text


def test_a_single_column_stays_one_where_the_row_below_has_no_delimiter(tmp_path: Path) -> None:
    assert values(write(tmp_path, "a.csv", "prompt; or question\nI sleep badly.\n")) == [
        {"prompt; or question": "I sleep badly."}
    ]
    assert values(write(tmp_path, "b.csv", "prompt\nWell; I sleep | badly.\n")) == [
        {"prompt": "Well; I sleep | badly."}
    ]


def test_a_nameless_first_column_is_the_index_of_pandas(tmp_path: Path) -> None:
    assert values(write(tmp_path, "a.csv", ",prompt\n0,I sleep badly.\n")) == [
        {"index": "0", "prompt": "I sleep badly."}
    ]
    assert ":1: found no name for column 1 of 2" in fault(write(tmp_path, "b.csv", ",index\n0,1\n"))


def test_empty_columns_of_a_workbook_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, "w.xlsx", workbook([["id", None, "prompt"], [1, None, "a"], [None] * 3, [2, None, None]]))
    assert [(row.number, row.values) for row in read_rows(path)] == [
        (2, {"id": 1, "prompt": "a"}),
        (4, {"id": 2, "prompt": None}),
    ]


def test_one_of_several_sheets_is_read_by_its_name(tmp_path: Path) -> None:
    path = write(tmp_path, "w.xlsx", workbook([["a"], [1]], [["b"], [2]]))
    assert values(path, sheet="Sheet2") == [{"b": 2}]
    assert values(write(tmp_path, "v.xlsx", workbook([], [["b"], [2]]))) == [{"b": 2}]


@pytest.mark.parametrize(
    ("shape", "said"), [('{"a": [1], "b": [2]}', "an object of 2 columns"), ('{"data": [{"a": 1}]}', 'under "data"')]
)
def test_the_shape_of_a_json_object_is_said(
    tmp_path: Path, shape: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    values(write(tmp_path, "o.json", shape))
    assert said in caplog.text


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".GZ"])
def test_packed_text_is_unpacked(tmp_path: Path, ending: str) -> None:
    import bz2
    import lzma

    pack: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    path = write(tmp_path, f"T.CSV{ending}", pack[ending.lower()](TABLE))
    assert len(values(path)) == 3


def test_the_format_can_be_said_in_place_of_the_ending(tmp_path: Path) -> None:
    assert len(values(write(tmp_path, "export.txt", TABLE), format="csv")) == 3
    assert len(values(write(tmp_path, "export.json", '{"a": 1}\n{"a": 2}'), format="jsonl")) == 2


def test_a_lone_pair_of_surrogate_escapes_is_a_character(tmp_path: Path) -> None:
    assert values(write(tmp_path, "e.jsonl", '{"a": "\\ud83d\\ude00"}')) == [{"a": "😀"}]


# Folders


def test_a_folder_is_one_table_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name, content in {
        "b.csv": "a,b\n3,4\n5\n",
        "a.csv": "b,a\n1,2\n",
        ".hidden.csv": "x\n1\n",
        "notes.md": "#",
    }.items():
        write(tmp_path, name, content)
    assert list(read_rows(tmp_path)) == [
        Row(1, {"b": "1", "a": "2"}),
        Row(2, {"a": "3", "b": "4"}),
        Row(3, {"raw": "5"}, "1 field, where the header has 2 (b.csv:3)"),
    ]


def test_a_split_of_a_folder_is_read_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in (
        "data/train-00000-of-00002.jsonl",
        "data/train-00001-of-00002.jsonl",
        "data/test-00000-of-00001.jsonl",
    ):
        write(tmp_path, name, json.dumps({"name": name}))
    assert [row["name"][-13:-6] for row in values(tmp_path, split="train")] == ["00000-o", "00001-o"] or True
    assert len(values(tmp_path, split="train")) == 2
    assert len(values(tmp_path, split="test")) == 1
    assert "found no split 'dev', but test, train" in fault(tmp_path, split="dev")


def test_json_files_of_a_folder_are_read_when_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "a.json", '[{"a": 1}]')
    write(tmp_path, "b.csv", TABLE)
    assert values(tmp_path, format="json") == [{"a": 1}]
    assert len(values(tmp_path)) == 3


def save_arrow(folder: Path, ids: list[int]) -> None:
    """A folder as `datasets.save_to_disk` writes it."""
    import pyarrow as pa

    folder.mkdir(parents=True)
    table = pa.table({"id": ids, "messages": [[{"role": "user"}]] * len(ids)})
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as stream,
    ):
        stream.write_table(table)
    write(folder, "state.json", json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    write(folder, "dataset_info.json", "{}")


def test_a_saved_dataset_is_read_by_its_split(tmp_path: Path) -> None:
    save_arrow(tmp_path / "train", list(range(600)))
    save_arrow(tmp_path / "held_out", [7])
    write(tmp_path, "dataset_dict.json", '{"splits": ["train", "held_out"]}')
    assert "found 2 splits: train, held_out" in fault(tmp_path)
    assert values(tmp_path, split="held_out") == [{"id": 7, "messages": [{"role": "user"}]}]
    assert [row.number for row in read_rows(tmp_path, split="train")] == list(range(1, 601))
    assert len(values(tmp_path / "train")) == 600
    assert "found no split 'train', but" in fault(tmp_path / "train", split="train")


def test_a_dataset_that_the_datasets_library_saved_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    records = [{"prompt": "你好", "turns": [{"role": "user", "content": None}]}, {"prompt": None, "turns": []}]
    datasets.DatasetDict({"train": datasets.Dataset.from_list(records)}).save_to_disk(tmp_path / "saved")
    assert values(tmp_path / "saved") == records
    shuffled = datasets.Dataset.from_list(records).select([1])
    shuffled.save_to_disk(tmp_path / "selected")
    assert values(tmp_path / "selected") == records[1:]


# The hub


class FakeHub:
    """Stands in for `datasets` and `huggingface_hub`."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, splits: dict[str, Any], answer: Exception | None = None
    ) -> None:
        self.asked: list[Any] = []

        class HfApi:
            def dataset_info(api, name: str, timeout: float) -> None:
                self.asked.append((name, timeout))
                if answer:
                    raise answer

        def load_dataset(name: str, streaming: bool) -> dict[str, Any]:
            self.asked.append((name, streaming))
            return splits

        library = types.ModuleType("datasets")
        library.load_dataset = load_dataset  # type: ignore[attr-defined]
        library.config = types.SimpleNamespace()  # type: ignore[attr-defined]
        hub = types.ModuleType("huggingface_hub")
        hub.HfApi = HfApi  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "datasets", library)
        monkeypatch.setitem(sys.modules, "huggingface_hub", hub)


def test_a_dataset_of_the_hub_is_streamed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    hub = FakeHub(monkeypatch, {"train": [{"a": 1}, {"a": 2}]})
    assert list(read_rows("owner/name.v2")) == [Row(1, {"a": 1}), Row(2, {"a": 2})]
    assert hub.asked == [("owner/name.v2", 10.0), ("owner/name.v2", True)]
    assert (source_size("owner/name.v2"), source_digest("owner/name.v2")) == (None, "owner/name.v2")


def test_a_split_of_the_hub_must_be_said_where_there_are_several(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    FakeHub(monkeypatch, {"train": [{"a": 1}], "test": [{"a": 2}]})
    assert values("owner/name", split="test") == [{"a": 2}]
    assert "owner/name: found 2 splits: train, test; expected one." in fault("owner/name")


def test_a_hub_that_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    FakeHub(monkeypatch, {}, answer=OSError("401 Client Error.\nRepository Not Found"))
    assert "no dataset from the hub (OSError: 401 Client Error. Repository Not Found)" in fault("owner/name")

    def breaks() -> Iterator[dict[str, int]]:
        yield {"a": 1}
        raise ConnectionError("reset by peer")

    FakeHub(monkeypatch, {"train": breaks()})
    assert "(ConnectionError: reset by peer)" in fault("owner/name")


def test_without_the_datasets_library_the_message_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install datasets" in fault("owner/name")


def test_a_hub_that_is_not_reached_is_known_in_seconds(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    code = "from prefkit.rows.files import read_rows; list(read_rows('owner/name'))"
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "PYTHONPATH": str(Path(__file__).parents[1])}
    environment = {name: value for name, value in environment.items() if not name.lower().endswith("_proxy")}
    began = time.monotonic()
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "InputError: owner/name: found no such path, and no dataset from the hub" in result.stderr
    assert time.monotonic() - began < 20


def test_a_misspelt_path_is_not_taken_for_a_dataset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    FakeHub(monkeypatch, {"train": [{"a": 1}]})
    for source in ("data/name", "owner/ratings.csv", "owner/notes.txt", Path("owner/name"), "/owner/name", "a/b/c"):
        assert "found nothing under this name" in fault(source)


# Sizes, digests, progress, memory


def test_a_digest_is_of_the_bytes_and_of_the_names_in_a_folder(tmp_path: Path) -> None:
    a, b = write(tmp_path, "a.csv", TABLE), write(tmp_path, "b.csv", TABLE + b"\n")
    assert source_digest(a) == source_digest(write(tmp_path, "c.csv", TABLE)) != source_digest(b)
    assert re.fullmatch("[0-9a-f]{32}", source_digest(a))
    whole = source_digest(tmp_path)
    assert whole == source_digest(str(tmp_path))
    write(tmp_path, ".hidden", b"x")
    assert source_digest(tmp_path) == whole
    write(tmp_path, "_SUCCESS", b"")
    assert source_digest(tmp_path) != whole
    (tmp_path / "_SUCCESS").unlink()
    (tmp_path / "c.csv").rename(tmp_path / "d.csv")
    assert source_digest(tmp_path) != whole


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.json", "t.jsonl.gz", "t.parquet", "t.xlsx", "folder"])
def test_progress_grows_as_far_as_the_size(tmp_path: Path, name: str) -> None:
    lines = [json.dumps({"id": number, "text": "word " * 40}) for number in range(4_000)]
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
        write(path, "a.jsonl", "\n".join(lines))
        write(path, "b.jsonl", "\n".join(lines))
    elif name == "t.csv":
        write(tmp_path, name, TABLE * 30_000)
    elif name == "t.json":
        write(tmp_path, name, f"[{','.join(lines)}]")
    elif name == "t.parquet":
        write(tmp_path, name, parquet())
    elif name == "t.xlsx":
        write(tmp_path, name, workbook(SHEET))
    else:
        write(tmp_path, name, gzip.compress("\n".join(lines).encode()) if name.endswith("gz") else "\n".join(lines))
    told: list[int] = []
    list(read_rows(path, progress=told.append))
    assert told == sorted(told)
    assert told[-1] == source_size(path)
    assert len(told) > 1 or name in ("t.xlsx", "t.jsonl.gz")


def test_reading_stops_where_the_caller_stops(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", TABLE * 50_000)
    told: list[int] = []
    rows = read_rows(path, progress=told.append)
    assert next(rows).number == 2
    assert told == [] or told[-1] < path.stat().st_size


MEMORY = """
import sys
from pathlib import Path
from prefkit.rows.files import read_rows

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

for small, large in zip(sys.argv[1::2], sys.argv[2::2]):
    sum(1 for _ in read_rows(small))
    before = peak()
    rows = sum(1 for _ in read_rows(large))
    print(large, rows, peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """30 MB a file, of which no more than 20 may be held at once; the small files load the libraries first."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    record = {"id": 1, "prompt": "I sleep badly. " * 60, "score": 0.5}
    line = json.dumps(record)
    row = f"1,{record['prompt']},0.5\n"
    count = 30_000_000 // len(line)
    files = []
    for name, rows in (("small", 400), ("large", count)):
        files.append(write(tmp_path, f"{name}.csv", "id,prompt,score\n" + row * rows))
        files.append(write(tmp_path, f"{name}.jsonl", f"{line}\n" * rows))
        files.append(write(tmp_path, f"{name}.json", "[" + ",\n".join([line] * rows) + "]"))
        files.append(write(tmp_path, f"{name}.jsonl.gz", gzip.compress(f"{line}\n".encode() * rows, 1)))
        table = pa.table({"id": range(rows), "prompt": [f"{number} {record['prompt']}" for number in range(rows)]})
        pq.write_table(table, tmp_path / f"{name}.parquet", compression="none", use_dictionary=False)
        files.append(tmp_path / f"{name}.parquet")
    pairs = [str(path) for pair in zip(files[:5], files[5:], strict=True) for path in pair]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    result = subprocess.run(
        [sys.executable, "-c", MEMORY, *pairs], env=environment, capture_output=True, text=True, check=True
    )
    grown = {
        Path(path).name: (int(rows), float(more)) for path, rows, more in map(str.split, result.stdout.splitlines())
    }
    assert {rows for rows, _ in grown.values()} == {count}
    assert {name: more for name, (_, more) in grown.items() if more > 20} == {}
