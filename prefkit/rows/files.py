"""Rows of foreign files, whatever their format.

Reads   a file, a folder of data files, a folder that `datasets.save_to_disk` wrote, or a dataset on the hub
Gives   Rows, one after the other; memory does not grow with the file (but for workbooks and JSON objects of columns)

The format is the ending's, with .gz, .bz2 or .xz behind it for text. A folder's files are read in the order of their
names as one table, of one format and one split. A name like owner/name that is no path here is a dataset on the hub,
and streamed.

Whatever is wrong with a whole file is an InputError that names the place; what is wrong with one row is a Row that
says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from prefkit.errors import InputError
from prefkit.rows.delimited import read_delimited
from prefkit.rows.json_rows import read_json, read_json_lines
from prefkit.rows.opening import UNPACK, Progress, Row, check_file, file_status, one_line, open_file, unreadable
from prefkit.rows.tables import read_arrow, read_parquet
from prefkit.rows.workbooks import read_workbook

__all__ = ["FORMATS", "Row", "read_rows", "source_digest", "source_size"]

ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".xlsx": "xlsx",
    ".xls": "xlsx",
}
FORMATS = tuple(ending[1:] for ending in ENDINGS)
_TEXT = ("csv", "tsv", "jsonl", "json")
_IN_FOLDERS = ("csv", "tsv", "jsonl", "parquet")  # .json beside data is mostly about the data
_SPLITS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "eval": "test",
}
HUB_TIMEOUT = 10.0  # seconds


def read_rows(
    source: str | Path,
    *,
    format: str | None = None,
    sheet: str | None = None,
    split: str | None = None,
    progress: Progress | None = None,
) -> Iterator[Row]:
    """The rows of a foreign file, folder or dataset.

    Args:
        source: a path, or a dataset's name on the hub.
        format: one of `FORMATS`, in place of the ending; in a folder, the files to read.
        sheet: a workbook's sheet, where several hold cells.
        split: a folder's or a dataset's split, where there are several.
        progress: called now and then with the bytes read so far, as `source_size` counts them; 0 where not known.

    Raises:
        InputError: at once where there is nothing to read; from the iterator where the file proves broken.
        ValueError: the format is not one of `FORMATS`.
    """
    if format is not None and format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}; got {format!r}")
    path = Path(source)
    if is_hub_name(source) and format is None:
        kind, rows = "a dataset", _hub_rows(str(source), split, progress)
    elif _is_folder(path):
        files = _data_files(path, ENDINGS.get(f".{format}"), split)
        kind, rows = "a folder", _folder_rows(files, source_size(path) or 0, progress)
    else:
        check_file(path)
        kind = ENDINGS.get(f".{format}") or _format(path)
        rows = _file_rows(path, kind, sheet, progress)
        if split is not None:
            raise InputError(path, "one file, without splits", "a folder or a dataset, for a split", "Leave it out.")
    if sheet is not None and kind != "xlsx":
        raise InputError(source, f"{kind}, which has no sheets", "a workbook, for a sheet", "Leave it out.")
    return _some(source, rows)


def source_size(source: str | Path) -> int | None:
    """The bytes of a file, or of all files in a folder; None for a dataset on the hub."""
    if is_hub_name(source):
        return None
    path = Path(source)
    return sum(file.stat().st_size for file in (_files(path) if _is_folder(path) else [path]) if file.is_file())


def source_digest(source: str | Path) -> str:
    """BLAKE2b-128 in hex of a file's bytes, or of a folder's file names and digests; a hub dataset's name as it is."""
    if is_hub_name(source):
        return str(source)
    path = Path(source)
    if not _is_folder(path):
        check_file(path)
        return _digest(path)
    names = (f"{file.relative_to(path).as_posix()}\0{_digest(file)}\n" for file in _files(path) if file.is_file())
    return hashlib.blake2b("".join(names).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _digest(path: Path) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()  # type: ignore[arg-type]


def is_hub_name(source: str | Path) -> bool:
    """Whether a source is a dataset on the hub: owner/name, neither a path that is here nor a file's name."""
    if not isinstance(source, str) or not re.fullmatch(r"[\w-][\w.-]*/[\w.-]*[\w-]", source, re.ASCII):
        return False
    path = Path(source)
    return not os.path.exists(path.parent) and not re.fullmatch(r"\.(?!v\d)[A-Za-z]\w{1,7}", path.suffix)


def _format(path: Path) -> str:
    """The format that a file's ending names."""
    endings = [ending.lower() for ending in path.suffixes]
    packed = bool(endings) and endings[-1] in UNPACK
    inner = endings[-2:-1] if packed else endings[-1:]
    found = ENDINGS.get(inner[0]) if inner else None
    if found is None:
        ending = "".join(endings[-2:] if packed else endings[-1:])
        known = f"{', '.join(ENDINGS)}, the text ones also with {', '.join(UNPACK)}"
        archive = ending in (".zip", ".zst", ".7z", ".tar")
        told = "Give it an ending such as .csv or .jsonl; `prefkit import` also takes --format csv."
        remedy = "Unpack it first." if archive else told
        raise InputError(path, f"the ending {ending!r}" if ending else "a name without an ending", known, remedy)
    if packed and found not in _TEXT:
        raise InputError(path, f"a packed {found} file", "one that is not packed", "Unpack it first.")
    return found


def _file_rows(path: Path, format: str, sheet: str | None, progress: Progress | None) -> Iterator[Row]:
    if format == "xlsx":
        return read_workbook(path, sheet, progress)
    if format in ("csv", "tsv"):
        return read_delimited(path, "," if format == "csv" else "\t", progress)
    readers: dict[str, Callable[[Path, Progress | None], Iterator[Row]]] = {
        "jsonl": read_json_lines,
        "json": read_json,
        "parquet": read_parquet,
        "arrow": read_arrow,
    }
    return readers[format](path, progress)


def _some(source: str | Path, rows: Iterator[Row]) -> Iterator[Row]:
    """The rows, of which there must be one."""
    first = next(rows, None)
    if first is None:
        raise InputError(source, "no rows", "at least one row", "Is this the file you meant?")
    yield first
    yield from rows


def _is_folder(path: Path) -> bool:
    """Whether a path is a folder; one that may not be read is an InputError."""
    if not stat.S_ISDIR(file_status(path).st_mode):
        return False
    try:
        os.listdir(os.path.join(path, "."))
    except PermissionError:
        raise unreadable(path) from None
    return True


def _files(folder: Path) -> list[Path]:
    """All files in a folder and below, but hidden ones, in the order of their names."""
    inside = ((path.relative_to(folder).parts, path) for path in folder.rglob("*") if not path.is_dir())
    return [path for parts, path in sorted(inside) if not any(part.startswith(".") for part in parts)]


def _data_files(folder: Path, format: str | None, split: str | None) -> list[tuple[Path, str]]:
    """The files of a folder that hold its rows, with their format."""
    if (folder / "dataset_dict.json").is_file() and format in (None, "arrow"):
        return _saved(folder / _one_split(folder, _described(folder / "dataset_dict.json", "splits"), split))
    if (folder / "state.json").is_file() and format in (None, "arrow"):
        return _saved(folder / _one_split(folder, [""], split))
    wanted = (format,) if format else _IN_FOLDERS
    files = [(file, found) for file in _files(folder) if (found := _data_format(file)) in wanted]
    if not files:
        expected = f"files of {', '.join(wanted)} in it"
        raise InputError(folder, "a folder without data files", expected, "Name a file.")
    formats = sorted({found for _, found in files})
    if len(formats) > 1:
        shown = f"a folder with {' and '.join(formats)} files"
        raise InputError(
            folder, shown, "one format", f"Name one file; `prefkit import` also takes --format {formats[0]}."
        )
    by_split: dict[str, list[tuple[Path, str]]] = {}
    for file, found in files:
        by_split.setdefault(_split_of(file.relative_to(folder)), []).append((file, found))
    return by_split[_one_split(folder, list(by_split), split)] if split or len(by_split) > 1 else files


def _saved(folder: Path) -> list[tuple[Path, str]]:
    """The files of a folder that `datasets.save_to_disk` wrote for one split."""
    parts = _described(folder / "state.json", "_data_files")
    return [(folder / str(part.get("filename")), "arrow") for part in parts if isinstance(part, dict)]


def _described(path: Path, key: str) -> list[Any]:
    """A list from one of the descriptions that `datasets.save_to_disk` writes beside its data."""
    try:
        value = json.loads(path.read_bytes())[key]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        value = None
    if not isinstance(value, list) or not value:
        raise InputError(path, f"no list {key!r}", "what save_to_disk writes", "Save the dataset again.")
    return value


def _data_format(path: Path) -> str:
    try:
        return _format(path)
    except InputError:
        return ""


def _split_of(path: Path) -> str:
    """The split that a file's name or folder names, as the hub understands them; "" for none."""
    words = (word for part in reversed(path.parts) for word in re.split(r"[^A-Za-z0-9]+", part.lower()))
    return next((_SPLITS[word] for word in words if word in _SPLITS), "")


def _one_split(source: object, splits: Sequence[Any], wanted: str | None) -> str:
    """The split to read, which must be said where there are several."""
    names = [str(name) for name in splits]
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted in names:
        return str(wanted)
    shown = ", ".join(name or "files without a split" for name in names)
    if wanted is None:
        remedy = f"Name the files of one; `prefkit import` also takes --split {next(filter(None, names), 'train')}."
        raise InputError(source, f"{len(names)} splits: {shown}", "one", remedy)
    raise InputError(source, f"no split {wanted!r}, but {shown}", "one of its splits", "Look at its spelling.")


def _folder_rows(files: list[tuple[Path, str]], size: int, progress: Progress | None) -> Iterator[Row]:
    """The rows of several files as one table; they are numbered through, and tables must have the same columns."""
    number, before = 0, 0
    columns: list[str] | None = None
    for path, format in files:
        told = (lambda done, before=before: progress(before + done)) if progress else None
        whole = check_file(path)
        fresh = format in ("csv", "tsv", "parquet", "arrow")
        for row in _file_rows(path, format, None, told):
            number += 1
            if fresh and not row.broken:
                columns, fresh = columns or list(row.values), False
                if set(columns) != set(row.values):
                    raise _other_columns(path, files[0][0], list(row.values), columns)
            broken = f"{row.broken} ({path.name}:{row.number})" if row.broken else None
            yield Row(number, row.values, broken)
        before += whole
    if progress:
        progress(size)


def _other_columns(path: Path, first: Path, found: list[str], expected: list[str]) -> InputError:
    new = [name for name in found if name not in expected]
    lacking = [name for name in expected if name not in found]
    differing = f"the column {new[0]!r}" if new else f"no column {lacking[0]!r}"
    remedy = "Import the files one by one, or put tables of one kind into the folder."
    return InputError(path, differing, f"the columns of {first.name}", remedy)


def _hub_rows(name: str, split: str | None, progress: Progress | None) -> Iterator[Row]:
    """The rows of a dataset on the hub, streamed; a hub that does not answer is known after one short question."""
    try:
        import datasets
        from huggingface_hub import HfApi
    except ImportError:
        remedy = "If it is a path, look at its spelling; otherwise: pip install datasets"
        raise InputError(name, "no such path, and no `datasets` to read the hub with", "a path", remedy) from None
    try:
        HfApi().dataset_info(name, timeout=HUB_TIMEOUT)
        datasets.config.STREAMING_OPEN_MAX_RETRIES = datasets.config.STREAMING_READ_MAX_RETRIES = 3
        splits = datasets.load_dataset(name, streaming=True)
        rows = iter(splits[_one_split(name, list(splits), split)])
    except InputError:
        raise
    except Exception as fault:  # noqa: BLE001
        raise _no_dataset(name, fault) from None
    if progress:
        progress(0)
    number = 0
    while True:
        try:
            values = next(rows, None)
        except Exception as fault:  # noqa: BLE001
            raise _no_dataset(name, fault) from None
        if values is None:
            return
        number += 1
        yield Row(number, dict(values))


def _no_dataset(name: str, fault: Exception) -> InputError:
    """What a hub's answer comes to; its client and `datasets` raise errors of many kinds, with no parent in common."""
    return InputError(
        name,
        f"no such path, and no dataset from the hub ({type(fault).__name__}: {one_line(fault)})",
        "a path, or a dataset that the hub gives you",
        "Look at the spelling; at the network; for a private one: hf auth login. Or download it and import the folder.",
    )
