"""Broken foreign files, each under a name: what users hand to `prefkit import` and should hear about in a sentence.

`BROKEN` makes files that cannot be read, `BROKEN_ROWS` files of which the second row cannot; each function writes one
into a folder and returns its path. `SAYS` has what the message must hold: the file's name, the place, what was found.
The rows have the columns id, prompt and topic, so that `prefkit import prompts` gets as far as the fault.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

Make = Callable[[Path], Path]

BROKEN: dict[str, Make] = {}
BROKEN_ROWS: dict[str, Make] = {}
SAYS: dict[str, str] = {}

HEADER = b"id,prompt,topic\n"
ROW = b"1,I sleep badly.,sleep\n"
LINE = b'{"id": 1, "prompt": "I sleep badly.", "topic": "sleep"}\n'
TABLE = HEADER + ROW * 3
LONG = 32 * 2**20


def broken(name: str, file: str, content: bytes | Callable[[], bytes], says: str) -> None:
    """A file that cannot be read; `says` follows the file's name in the message."""
    BROKEN[name], SAYS[name] = _maker(file, content), file + says


def broken_row(name: str, file: str, content: bytes, says: str) -> None:
    """A file with a row that cannot be read."""
    BROKEN_ROWS[name], SAYS[name] = _maker(file, content), file + says


def _maker(file: str, content: bytes | Callable[[], bytes]) -> Make:
    def make(folder: Path) -> Path:
        path = folder / file
        path.write_bytes(content if isinstance(content, bytes) else content())
        return path

    return make


def parquet(columns: dict[str, list[object]] | None = None) -> bytes:
    """A Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    table = pa.table(columns or {"id": list(range(900)), "prompt": ["I sleep badly."] * 900, "topic": ["sleep"] * 900})
    pq.write_table(table, buffer, compression="none", use_dictionary=False)
    return buffer.getvalue()


def workbook(*sheets: list[list[object]]) -> bytes:
    """An .xlsx file; each sheet is its rows."""
    import openpyxl

    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets, 1):
        sheet = book.create_sheet(f"Sheet{number}")
        for row in rows:
            sheet.append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def arrow() -> bytes:
    """An Arrow stream, as `datasets.save_to_disk` writes it."""
    import pyarrow as pa

    buffer = io.BytesIO()
    batch = pa.record_batch({"id": [1, 2, 3], "prompt": ["ab", "cd", "ef"]})
    with pa.ipc.new_stream(buffer, batch.schema) as stream:
        stream.write_batch(batch)
    return buffer.getvalue()


SHEET: list[list[object]] = [["id", "prompt", "topic"], [1, "I sleep badly.", "sleep"]]

# An .xls with the same rows, which no library that we install writes.
OLD_WORKBOOK = zlib.decompress(
    base64.b85decode(
        "c-"
        "rk)O=uHA6#izDG(WUyQd6N7N+?*h7NL01OS@Ij;=xk&popMJvtVdUmY7RDXtm}j2%Z!#g<iZ=z4(J3^yWdR=s^&LM30^Xg&x|h@4"
        "f7nw0da37M1yy`R2`=c{^`s-"
        "puUon}v8~_F;DwYcLESYEBp}4LU_B>=k05ddFeW%R`hLjeiQ^5KUxD0MFW92YC*8zN;|s!2gmM_)O^xY>XB1R&o<@P<%)!_F;%v;"
        "Vx;S=n}6wgeQcz2;Y~M&xJ=sb3=HD+E&zQESO{c``su$W%Np26nx*uV)H>XgXqL7j^ZmfRlRKh2a4HL?(eMV@wZ|QG;gC;-"
        "YTYY6(nc^=kUWx0^hxr`XZ_Io2yqK{o-"
        "nU@HhHfh98)Qb4~)hOab}PS6_rD&RbS#a0&Zpsv(KOGn=8+X%`C@>=J281v@(t1&$;y<}Axjrc;^R)E=skVubf<S=+HyYr9QizLh"
        "wGc9G)}`7zqPm+pOgdo(?6o)yis?C14ee>*!02UppGjH6Ox2(!oiBJUQyCU@N?a<_1T9)R+`@lIDbJR@zcOKl(ZvsduW+|eNKB)R"
        "<c*pr^}7jqZM^P|;EiTU^DEPCk_%8)%@GZ;_<>dtM(Q`5_pyF+{u?)qi72pKWgcgH>2+Odp?h;iY1iAP7Rlni&Q*jlZzzHCH97nf"
        "1y_DZaMD<!t(Q5-fp@JNPkq~UChKtn@ALqkJDLqlWZq1^X)eoytgpBnrI8+8BcEK{oK-z5Jnj-"
        "x<Vi9SpZAy0V`Q%%LsRs@uHFSSk^?|&iVB=ugzB+}x?WYh6W-+8L>dDd+h`*TaE+5T(I__@LT{{(!z%BK"
    )
)


def _damaged(content: bytes, start: int, length: int = 40) -> bytes:
    start %= len(content)
    return content[:start] + bytes(255 - byte for byte in content[start : start + length]) + content[start + length :]


def _damaged_sheet() -> bytes:
    content = workbook(SHEET * 900)
    return _damaged(content, content.index(b"xl/worksheets/sheet1.xml") + 60)


def _zip(names: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as parts:
        for name, content in names.items():
            parts.writestr(name, content)
    return buffer.getvalue()


def _far_corner() -> bytes:
    import openpyxl

    book = openpyxl.Workbook()
    book.active["A1"], book.active["A2"], book.active["XFD1000000"] = "prompt", "I sleep badly.", "stray"
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def _invalid_text_in_parquet() -> bytes:
    return parquet({"id": [1, 2], "prompt": ["I sleep badly.", "MARK"]}).replace(b"MARK", b"\xff\xfe\xfd\xfc")


# A file as such

BROKEN["missing"] = lambda folder: folder / "nowhere.csv"
SAYS["missing"] = "nowhere.csv: found nothing under this name"


def _misspelt(folder: Path) -> Path:
    (folder / "ratings.csv").write_bytes(TABLE)
    return folder / "rating.csv"


BROKEN["misspelt"] = _misspelt
SAYS["misspelt"] = "ratings.csv?"


def _dangling(folder: Path) -> Path:
    path = folder / "link.csv"
    path.symlink_to(folder / "gone.csv")
    return path


BROKEN["dangling link"] = _dangling
SAYS["dangling link"] = "gone.csv, which does not exist"


def _pipe(folder: Path) -> Path:
    path = folder / "pipe.csv"
    os.mkfifo(path)
    return path


if hasattr(os, "mkfifo"):
    BROKEN["named pipe"] = _pipe
    SAYS["named pipe"] = "pipe.csv: found a pipe or a device"

broken("empty csv", "empty.csv", b"", ": found an empty file (0 bytes)")
broken("empty jsonl", "empty.jsonl", b"", ": found an empty file (0 bytes)")
broken("empty json", "empty.json", b"", ": found an empty file (0 bytes)")
broken("empty parquet", "empty.parquet", b"", ": found an empty file (0 bytes)")
broken("empty workbook file", "empty.xlsx", b"", ": found an empty file (0 bytes)")
broken("nothing packed", "nothing.jsonl.gz", gzip.compress(b""), ": found no rows")
broken("blank lines", "blank.csv", b"\n\r\n  \n", ": found only blank lines")
broken("header alone", "header.csv", HEADER, ": found no rows")
broken("blank json", "blank.json", b" \n\n", ": found no rows")
broken("empty array", "none.json", b"[]", ": found no rows")
broken("parquet without rows", "none.parquet", lambda: parquet({"id": [], "prompt": []}), ": found no rows")
broken("unknown ending", "prompts.txt", TABLE, ": found the ending '.txt'")
broken("no ending", "prompts", TABLE, ": found a name without an ending")
broken("zip ending", "prompts.zip", lambda: _zip({"prompts.csv": TABLE}), ": found the ending '.zip'")
broken("packed parquet", "prompts.parquet.gz", lambda: gzip.compress(parquet()), ": found a packed parquet file")

# Folders


def _folder(name: str, files: dict[str, bytes], says: str) -> None:
    def make(folder: Path) -> Path:
        for file, content in files.items():
            path = folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (folder / name).mkdir(exist_ok=True)
        return folder / name

    BROKEN[f"folder {name}"], SAYS[f"folder {name}"] = make, name + says


_folder("hollow", {}, ": found a folder without data files")
_folder("only-notes", {"README.md": b"# Notes\n", ".hidden.csv": TABLE}, ": found a folder without data files")
_folder("folder.csv", {}, ": found a folder without data files")
_folder("two-formats", {"a.csv": TABLE, "b.jsonl": LINE}, ": found a folder with csv and jsonl files")
_folder("two-splits", {"train.jsonl": LINE, "test.jsonl": LINE}, ": found 2 splits: test, train")
_folder("two-tables", {"a.csv": TABLE, "b.csv": b"id,score\n1,2\n"}, "/b.csv: found the column 'score'")
_folder("one-empty", {"a.csv": TABLE, "b.csv": b""}, "/b.csv: found an empty file (0 bytes)")
_folder("bad-state", {"state.json": b"{", "data.arrow": b"x"}, "/state.json: found no list '_data_files'")
_folder(
    "bad-arrow",
    {"state.json": json.dumps({"_data_files": [{"filename": "data.arrow"}]}).encode(), "data.arrow": b"\xff" * 90},
    "/data.arrow: found Arrow data that cannot be read",
)
_folder(
    "damaged-arrow",
    {
        "state.json": json.dumps({"_data_files": [{"filename": "data.arrow"}]}).encode(),
        "data.arrow": arrow().replace(struct.pack("<4i", 0, 2, 4, 6), struct.pack("<4i", 0, 2, 2**30, 6)),
    },
    "/data.arrow: found table data that cannot be read",
)
_folder(
    "lost-arrow",
    {"state.json": json.dumps({"_data_files": [{"filename": "data.arrow"}]}).encode()},
    "/data.arrow: found nothing under this name",
)

# Encodings

_LATIN = TABLE + "4,Je suis désolée.,\n".encode("latin-1")
_CHINESE = TABLE + "4,最近有一些事情让我感到很不安,睡眠\n".encode("gb18030")
broken("windows-1252 csv", "french.csv", _LATIN, ":5: found byte 0xE9, which is not UTF-8 (byte 12 of the line)")
broken("gb18030 csv", "chinese.csv", _CHINESE, ":5: found byte 0xD7, which is not UTF-8 (byte 3 of the line)")
broken("latin-1 jsonl", "french.jsonl", LINE + '{"id": "é"}\n'.encode("latin-1"), ":2: found byte 0xE9")
broken("latin-1 json", "french.json", b'[{"id": 1},\n{"id": "' + b"\xe9t\xe9" + b'"}]', ":2: found byte 0xE9")
broken(
    "cut character",
    "cut.json",
    '[{"id": "é'.encode()[:-1],
    ":1: found byte 0xC3, which is not UTF-8 (byte 10 of the file)",
)
broken("utf-16 csv", "wide.csv", TABLE.decode().encode("utf-16"), ": found UTF-16 text")
broken("utf-16 jsonl", "wide.jsonl", b"\xfe\xff" + LINE.decode().encode("utf-16-be"), ": found UTF-16 text")
broken("utf-16 json", "wide.json", '[{"id": 1}]'.encode("utf-16"), ": found UTF-16 text")
broken("utf-32 csv", "wider.csv", TABLE.decode().encode("utf-32"), ": found UTF-32 text")
broken("utf-16 unmarked", "unmarked.csv", TABLE.decode().encode("utf-16-le"), ":1: found NUL bytes, as UTF-16")
broken("NUL in csv", "nul.csv", TABLE + b"4,\0,x\n", ":5: found a NUL byte")
broken("NUL in jsonl", "nul.jsonl", LINE + b'{"id": "\0"}\n', ":2: found a NUL byte")
broken("NUL in json", "nul.json", b'[{"id": 1},\n{"id": "\0"}]', ":2: found a NUL byte")

# Packing

_NOISE = b"".join(b'{"id": %d, "prompt": "%d"}\n' % (number, number**9) for number in range(20_000))
broken("not gzip", "plain.csv.gz", TABLE, ": found plain text")
broken("html as gzip", "page.csv.gz", b"<!DOCTYPE html><html></html>", ": found an HTML page")
broken("cut gzip", "cut.jsonl.gz", lambda: gzip.compress(_NOISE)[:-2000], ": found packed data that breaks off after")
broken(
    "damaged gzip", "bad.jsonl.gz", lambda: _damaged(gzip.compress(_NOISE), -8, 4), ": found .gz data that is damaged"
)
broken("cut bzip2", "cut.jsonl.bz2", lambda: bz2.compress(_NOISE)[:-2000], ": found packed data that breaks off after")
broken("not bzip2", "plain.jsonl.bz2", LINE, ": found plain text")
broken(
    "cut xz",
    "cut.jsonl.xz",
    lambda: lzma.compress(_NOISE, preset=0)[:-2000],
    ": found packed data that breaks off after",
)
broken("not xz", "plain.jsonl.xz", LINE, ": found plain text")
broken("gzip named csv", "packed.csv", gzip.compress(TABLE), ": found gzip data")
broken("bzip2 named jsonl", "packed.jsonl", bz2.compress(LINE), ": found bzip2 data")
broken("zstd named jsonl", "zstd.jsonl", b"\x28\xb5\x2f\xfd" + bytes(range(1, 40)), ": found Zstandard data")

# Something else than the ending says

broken("html as json", "page.json", b"\n<html><body>Sign in</body></html>", ": found an HTML page")
broken("html as jsonl", "page.jsonl", b"<!doctype html>\n<p>404</p>", ": found an HTML page")
broken("html as csv", "page.csv", b"\xef\xbb\xbf<HTML><table></table>", ": found an HTML page")
broken("xml as csv", "sheet.csv", b"<?xml version='1.0'?><Workbook/>", ": found XML")
broken("html as xlsx", "page.xlsx", b"<html><table><tr><td>id</td></tr></table></html>", ": found an HTML page")
broken("csv as xlsx", "table.xlsx", TABLE, ": found plain text")
broken("csv as xls", "table.xls", TABLE, ": found plain text")
broken("xlsx as csv", "book.csv", lambda: workbook(SHEET), ": found a zip archive, as .xlsx is one")
broken("parquet as csv", "table.csv", parquet, ": found a Parquet file")
broken("csv as parquet", "table.parquet", TABLE, ": found plain text")
broken("pdf as csv", "paper.csv", b"%PDF-1.7\n%\xe2\xe3", ": found a PDF")
broken("sqlite as json", "data.json", b"SQLite format 3\0" + bytes(100), ": found an SQLite database")
broken(
    "git lfs pointer",
    "pointer.csv",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    ": found a Git LFS pointer",
)
broken("jsonl as json", "lines.json", LINE + LINE, ":2: found a second JSON value")
broken("json as jsonl", "array.jsonl", b"[" + LINE + b"]", ":1: found a JSON array")
broken("one-line json as jsonl", "array1.jsonl", b'[{"id": 1}, {"id": 2}]\n', ":1: found a JSON array")
broken("pretty json as jsonl", "pretty.jsonl", b'{\n  "id": 1\n}\n', ":1: found an object over several lines")

# CSV

broken("doubled column", "twice.csv", b"id,prompt,id\n1,a,2\n", ":1: found the column 'id' twice")
broken("blank column", "blank-column.csv", b"id,,topic\n1,a,b\n", ":1: found no name for column 2 of 3")
broken("comma behind the header", "comma.csv", b"id,prompt,\n1,a,\n", ":1: found no name for column 3 of 3")
broken("no header", "rows.csv", b"\n1,5,2.5\n2,4,3.5\n", ":2: found only numbers in the header (1, 5, 2.5)")
broken("open quote", "open.csv", TABLE + b'4,"I sleep\n5,badly,x\n', ":5: found a quote in this row that is still open")
broken(
    "open quote in header", "open-header.csv", b'id,"prompt\n1,a\n', ":1: found a quote in this row that is still open"
)
broken("header with a stray quote", "stray.csv", b'id,"pro"mpt\n1,a\n', ":1: found a quote inside a quoted field")
broken(
    "open quote in a large file",
    "swallowed.csv",
    lambda: TABLE + b'4,"I sleep\n' + (ROW * 100_000) * (LONG // (len(ROW) * 100_000) + 1),
    ":5: found a field of more than 33,554,432 characters",
)
broken("long line in csv", "long.csv", lambda: TABLE + b"x" * (LONG + 9), ":5: found a line of 33,554,441 bytes")
broken(
    "long line in jsonl",
    "long.jsonl",
    lambda: LINE + b"x" * LONG + b"y\n" + LINE,
    ":2: found a line of 33,554,434 bytes",
)

# JSON

_GOOD = b'[{"id": 1, "prompt": "I sleep badly."},\n'
broken("cut json", "short.json", _GOOD + b'{"id": 2, "prompt": "I sl', ":2: found the end of the file inside element 2")
broken("cut json between elements", "between.json", _GOOD, ":2: found the end of the file inside element 2")
broken(
    "missing comma", "commas.json", _GOOD + b'{"id": 2 "prompt": 3}]', ":2: found text that is not JSON (Expecting ','"
)
broken("missing comma between elements", "comma.json", b'[{"id": 1}\n{"id": 2}]', ":2: found '{'; expected ','")
broken("comma at the end", "trailing.json", _GOOD + b"]", ":2: found a comma before ']'")
broken("python literals", "python.json", b"[{'id': 1}]", ":1: found text that is not JSON (Expecting property name")
broken(
    "new line in a string",
    "newline.json",
    b'[{"id": "a\nb"}]',
    ":1: found text that is not JSON (Invalid control character",
)
broken("text behind the array", "behind.json", b'[{"id": 1}]\n;', ":2: found ';' behind the last value")
broken("deep json", "deep.json", b'[{"id": ' + b"[" * 100_000, ":1: found values nested too deep, in element 1")
broken(
    "long number",
    "digits.json",
    b'[{"id": ' + b"1" * 5000 + b"}]",
    ":1: found a whole number of more than 4,300 digits",
)
broken(
    "long element",
    "element.json",
    lambda: _GOOD + b'{"id": "' + b"x" * LONG + b"xx" * 2**18,
    ":2: found more than 33,554,432",
)
broken("single object", "object.json", LINE, ": found a single object (id, prompt, topic)")
broken("single value", "value.json", b"42", ": found a single value, a number")
broken("bare word", "word.json", b"prompts", ":1: found text that is not JSON (Expecting value")
broken("array of strings", "strings.json", b'["I sleep badly."]', ":1: found an array that begins with a string")
broken("array of arrays", "arrays.json", b"[[1, 2], [3, 4]]", ":1: found an array that begins with an array")
broken(
    "uneven columns",
    "uneven.json",
    b'{"id": [1, 2], "prompt": ["a"]}',
    ": found 2 values under 'id' and 1 under 'prompt'",
)
broken("object of objects", "nested.json", b'{"id": {"0": 1}, "prompt": {"0": "a"}}', ": found an object of objects")
broken(
    "one array of objects",
    "turns.json",
    b'{"messages": [{"role": "user"}]}',
    ": found an object with one array of objects",
)
broken("doubled column in json", "keys.json", b'{"id": [1],\n"id": [2]}', ":2: found the key 'id' twice")
broken("number as a key", "key.json", b"{1: [1]}", ":1: found a number as a key")
broken("NaN in a column", "nan.json", b'{"id": [1, NaN]}', ":1: found NaN, which is not a JSON number, under 'id'")
broken(
    "rows and columns", "both.json", b'{"data": [{"id": 1}], "prompt": ["a"]}', """: found 1 objects under "data" and"""
)

# Tables

broken("cut parquet", "cut.parquet", lambda: parquet()[:-100], ": found Parquet data that cannot be read")
broken("parquet without its end", "half.parquet", lambda: parquet()[:600], ": found Parquet data that cannot be read")
broken("damaged parquet", "bad.parquet", lambda: _damaged(parquet(), 20), ": found table data that cannot be read")
broken("cut workbook", "cut.xlsx", lambda: workbook(SHEET)[:-300], ": found workbook data that cannot be read")
broken("damaged workbook", "bad.xlsx", _damaged_sheet, ": found workbook data that cannot be read")
broken(
    "zip as workbook",
    "docx.xlsx",
    lambda: _zip({"word/document.xml": b"<a/>"}),
    ": found a zip archive without a workbook",
)
broken(
    "workbook with a password",
    "locked.xlsx",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1016) + "EncryptedPackage".encode("utf-16-le") + bytes(1000),
    ": found a workbook with a password",
)
broken(
    "old office file",
    "word.xls",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000),
    ": found workbook data that cannot",
)
broken("cut old workbook", "cut.xls", OLD_WORKBOOK[:4600], ": found workbook data that cannot be read")
broken("two sheets", "sheets.xlsx", lambda: workbook(SHEET, SHEET), ": found 2 sheets with cells: 'Sheet1', 'Sheet2'")
broken("workbook without cells", "hollow.xlsx", lambda: workbook([]), ": found no cells")
broken("workbook with a header alone", "header.xlsx", lambda: workbook(SHEET[:1]), ": found no rows")
broken(
    "doubled column in a workbook",
    "twice.xlsx",
    lambda: workbook([["id", "id"], [1, 2]]),
    ":Sheet1:1: found the column 'id' twice",
)
broken(
    "title above the header",
    "title.xlsx",
    lambda: workbook([["A survey"], ["id", "prompt"], [1, "a"]]),
    ":Sheet1:1: found no name for column 2 of 2",
)
broken("stray cell", "far.xlsx", _far_corner, ": found cells as far as row 1,000,000 and column 16,384")

# Rows

broken_row("few fields", "few.csv", HEADER + ROW + b"2,a\n" + ROW, ":3: found 2 fields, where the header has 3")
broken_row(
    "many fields", "many.csv", HEADER + ROW + b"2,Well, yes,a\n" + ROW, ":3: found 4 fields, where the header has 3"
)
broken_row("one field", "one.tsv", b"id\tprompt\n1\ta\n2 b\n", ":3: found 1 field, where the header has 2")
broken_row(
    "stray quote", "quote.csv", HEADER + ROW + b'2,"a "b" c",x\n' + ROW, ":3: found a quote inside a quoted field"
)
broken_row(
    "few fields over two lines",
    "wrap.csv",
    HEADER + b'1,"I\nsleep",x\n2,"a\nb"\n',
    ":4: found 2 fields, where the header has 3",
)
broken_row(
    "surrogate bytes",
    "half.csv",
    HEADER + ROW + b"2,\xed\xa0\xbd,x\n" + ROW,
    ":3: found half a character (a lone surrogate)",
)
for _name, _file, _line, _says in (
    ("not json", "bad.jsonl", b"{'id': 2}", "text that is not JSON (Expecting property name"),
    ("cut line", "cut.jsonl", b'{"id": 2, "pro', "text that is not JSON (Unterminated string"),
    ("two objects", "two.jsonl", b'{"id": 2} {"id": 3}', "text that is not JSON (Extra data"),
    ("array line", "array.jsonl", b"[1, 2]", "an array instead of an object"),
    ("string line", "string.jsonl", b'"I sleep badly."', "a string instead of an object"),
    ("null line", "null.jsonl", b"null", "null instead of an object"),
    ("doubled key", "twice.jsonl", b'{"id": 2, "id": 3}', "the key 'id' twice in one object"),
    ("doubled key inside", "inner.jsonl", b'{"id": {"a": ":", "a" : ":"}}', "the key 'a' twice in one object"),
    (
        "doubled key, escaped colons",
        "colon.jsonl",
        b'{"a": 1, "a": 2, "b": "\\u003a"}',
        "the key 'a' twice in one object",
    ),
    ("NaN", "nan.jsonl", b'{"id": NaN}', "NaN, which is not a JSON number"),
    ("Infinity", "infinity.jsonl", b'{"id": [-Infinity]}', "-Infinity, which is not a JSON number"),
    ("large number", "large.jsonl", b'{"id": 1e999}', "the number 1e999, which is beyond 64 bits"),
    ("long digits", "digits.jsonl", b'{"id": ' + b"1" * 5000 + b"}", "a whole number of more than 4,300 digits"),
    ("surrogate escape", "half.jsonl", b'{"id": "\\ud83d!"}', "half a character (a lone surrogate)"),
    ("second half escape", "second.jsonl", b'{"id": "\\ude00"}', "half a character (a lone surrogate)"),
    ("surrogate bytes in json", "bytes.jsonl", b'{"id": "\xed\xa0\xbd"}', "half a character (a lone surrogate)"),
    ("deep line", "deep.jsonl", b'{"id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "values nested too deep"),
):
    broken_row(_name, _file, LINE + _line + b"\n" + LINE, ":2: found " + _says)
for _name, _file, _line, _says in (
    ("string element", "string.json", b'"I sleep badly."', "a string instead of an object"),
    ("doubled key in an element", "twice.json", b'{"id": 2, "id": 3}', "the key 'id' twice in one object"),
    ("NaN in an element", "not.json", b'{"id": NaN}', "NaN, which is not a JSON number"),
    ("large number in an element", "large.json", b'{"id": -1e999}', "the number -1e999, which is beyond 64 bits"),
    ("surrogate in an element", "half.json", b'{"id": "\\ud83d"}', "half a character (a lone surrogate)"),
):
    broken_row(_name, _file, _GOOD + _line + b"]", ":2: found " + _says)
BROKEN_ROWS["invalid text in parquet"] = _maker("text.parquet", _invalid_text_in_parquet)
SAYS["invalid text in parquet"] = "text.parquet:2: found a value under 'prompt' that cannot be read"
