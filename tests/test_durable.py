"""Files that survive a crash, one primitive at a time; whole commands under faults are in test_faults."""

from __future__ import annotations

import errno
import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from prefkit.durable import (
    Together,
    append_lines,
    clear_parts,
    explained_disk_errors,
    file_digest,
    make_folders,
    mend_last_line,
    read_lines,
    replacing,
    replacing_folder,
)
from prefkit.errors import RunError

quick = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Broken(Exception):
    """What goes wrong in these tests."""


def contents(folder: Path) -> dict[str, bytes | None]:
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


def breaking_off(*lines: bytes) -> Iterator[bytes]:
    yield from lines
    raise Broken


# Replaced whole or not at all


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new" * 10_000)
        file.flush()
        assert path.read_bytes() == b"old"
    assert contents(tmp_path) == {"file": b"new" * 10_000}


@pytest.mark.parametrize("before", [{}, {"file": b"old"}], ids=["none", "old"])
def test_an_error_while_a_file_is_replaced_leaves_what_was_there(tmp_path, before):
    for name, text in before.items():
        (tmp_path / name).write_bytes(text)
    with pytest.raises(Broken), replacing(tmp_path / "file") as file:
        file.write(b"half")
        raise Broken
    assert contents(tmp_path) == before


def test_a_folder_takes_the_place_of_another_with_all_that_is_in_it(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "of old").write_bytes(b"")
    with replacing_folder(path) as new:
        (new / "deep").mkdir()
        (new / "deep" / "file").write_bytes(b"new")
        assert contents(path) == {"of old": b""}
    assert contents(tmp_path) == {"folder": None, "folder/deep": None, "folder/deep/file": b"new"}


@pytest.mark.parametrize("there", [False, True], ids=["none", "old"])
def test_an_error_while_a_folder_is_replaced_leaves_what_was_there(tmp_path, there):
    path = tmp_path / "folder"
    if there:
        path.mkdir()
        (path / "file").write_bytes(b"old")
    before = contents(tmp_path)
    with pytest.raises(Broken), replacing_folder(path) as new:
        (new / "file").write_bytes(b"half")
        raise Broken
    assert contents(tmp_path) == before


def test_what_a_killed_process_left_does_not_get_into_the_new_folder(tmp_path):
    (tmp_path / "folder.part").mkdir()
    (tmp_path / "folder.part" / "half").write_bytes(b"half")
    with replacing_folder(tmp_path / "folder") as new:
        (new / "file").write_bytes(b"new")
    assert contents(tmp_path) == {"folder": None, "folder/file": b"new"}


# Appended a line at a time


def test_lines_are_appended_and_counted(tmp_path):
    path = tmp_path / "lines"
    assert append_lines(path, [b"one\n", b"two\n"]) == 2
    assert append_lines(path, iter([b"three\n"])) == 1
    assert path.read_bytes() == b"one\ntwo\nthree\n"


def test_an_error_while_appending_takes_back_what_was_appended(tmp_path):
    path = tmp_path / "lines"
    append_lines(path, [b"one\n"])
    with pytest.raises(Broken):
        append_lines(path, breaking_off(b"two\n" * 100_000, b"three\n"))
    assert path.read_bytes() == b"one\n"


def test_an_error_while_appending_to_no_file_leaves_no_file(tmp_path):
    with pytest.raises(Broken):
        append_lines(tmp_path / "lines", breaking_off(b"one\n"))
    assert contents(tmp_path) == {}


# Several files that change as one


def laid_out(folder: Path) -> dict[str, bytes | None]:
    """A folder with one file of each kind, as it is afterwards."""
    (folder / "replaced").write_bytes(b"old")
    (folder / "removed").write_bytes(b"old")
    (folder / "appended").write_bytes(b"one\n")
    (folder / "folder").mkdir()
    (folder / "folder" / "file").write_bytes(b"old")
    return contents(folder)


def change_all(folder: Path, together: Together) -> None:
    with replacing(folder / "replaced", together.put) as file:
        file.write(b"new")
    with replacing_folder(folder / "folder", together.put) as part:
        (part / "file").write_bytes(b"new")
    together.append(folder / "appended", [b"two\n"])
    together.append(folder / "appended", [b"three\n"])
    together.append(folder / "first", [b"one\n"])
    together.remove(folder / "removed")


def test_several_files_change_together(tmp_path):
    before, together = laid_out(tmp_path), Together()
    change_all(tmp_path, together)
    assert {name: contents(tmp_path)[name] for name in ("replaced", "removed", "folder/file")} == {
        name: before[name] for name in ("replaced", "removed", "folder/file")
    }
    together.finish()
    assert contents(tmp_path) == {
        "appended": b"one\ntwo\nthree\n",
        "first": b"one\n",
        "folder": None,
        "folder/file": b"new",
        "replaced": b"new",
    }


def test_several_files_are_undone_together(tmp_path):
    before, together = laid_out(tmp_path), Together()
    change_all(tmp_path, together)
    together.undo()
    assert contents(tmp_path) == before


def test_what_is_put_and_then_removed_is_not_there_and_what_is_put_twice_is_the_second(tmp_path):
    before, together = laid_out(tmp_path), Together()
    for text in (b"first", b"second"):
        with replacing(tmp_path / "replaced", together.put) as file:
            file.write(text)
    with replacing(tmp_path / "removed", together.put) as file:
        file.write(b"new")
    together.remove(tmp_path / "removed")
    together.remove(tmp_path / "never there")
    together.finish()
    assert contents(tmp_path) == {**{name: before[name] for name in before if name != "removed"}, "replaced": b"second"}


# After a crash


def test_what_a_killed_process_left_unfinished_is_cleared_and_nothing_else(tmp_path):
    (tmp_path / "deep" / "dataset.part").mkdir(parents=True)
    (tmp_path / "deep" / "dataset.part" / "half.parquet").write_bytes(b"half")
    (tmp_path / "deep" / "file.part").write_bytes(b"half")
    (tmp_path / "deep" / "part").write_bytes(b"mine")
    (tmp_path / "new-lines.part").write_bytes(b"half")
    clear_parts(tmp_path)
    assert contents(tmp_path) == {"deep": None, "deep/part": b"mine"}


def test_a_folder_that_was_moved_aside_goes_back_if_nothing_took_its_place(tmp_path):
    """Killed between the two renames by which a folder is replaced."""
    for name in ("dataset.part", "dataset.old.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(name.encode())
    clear_parts(tmp_path)
    assert contents(tmp_path) == {"dataset": None, "dataset/file": b"dataset.old.part"}


def test_a_folder_that_was_moved_aside_is_cleared_once_another_has_its_place(tmp_path):
    for name in ("dataset", "dataset.old.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(name.encode())
    clear_parts(tmp_path)
    assert contents(tmp_path) == {"dataset": None, "dataset/file": b"dataset"}


records = st.dictionaries(st.text(max_size=5), st.text() | st.integers() | st.none() | st.lists(st.text()), max_size=4)


@st.composite
def torn_files(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """Whole lines of JSON objects, and a line of which all or a part was written."""
    lines = [json.dumps(record).encode() for record in draw(st.lists(records, max_size=4))]
    last = json.dumps(draw(records), ensure_ascii=False).encode()
    return lines, last[: draw(st.integers(0, len(last)))]


@quick
@given(torn_files())
@example(([b'{"a": 1}'], b'{"a": 1}'))
@example(([], b'{"a": "' + b"x" * 200_000))
@example(([b'{"a": "' + b"x" * 200_000 + b'"}'], b"{"))
@example(([], b"[" * 100_000))
def test_a_torn_line_is_not_read_and_is_removed_but_one_that_only_lacks_its_newline_is_whole(tmp_path, torn):
    lines, last = torn
    path = tmp_path / "lines"
    path.write_bytes(b"".join(line + b"\n" for line in lines) + last)
    whole = [*lines, last] if last.endswith(b"}") and is_json(last) else lines
    assert [line.removesuffix(b"\n") for _, line in read_lines(path)] == whole
    assert mend_last_line(path) == (0 if len(whole) > len(lines) else len(last))
    assert path.read_bytes() == b"".join(line + b"\n" for line in whole)
    assert mend_last_line(path) == 0
    assert [number for number, _ in read_lines(path)] == list(range(1, len(whole) + 1))


def is_json(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def test_a_file_that_is_not_there_needs_no_mending(tmp_path):
    assert mend_last_line(tmp_path / "lines") == 0
    assert contents(tmp_path) == {}


def test_mending_a_whole_file_does_not_touch_it(tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(b"{}\n")
    os.utime(path, ns=(1, 1))
    mend_last_line(path)
    assert path.stat().st_mtime_ns == 1


# Messages


@pytest.mark.parametrize(
    ("number", "found"),
    [
        (errno.ENOSPC, "no space left on the disk"),
        (errno.EDQUOT, "no space left on the disk"),
        (errno.EFBIG, "no space left on the disk"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "read-only file system"),
        (errno.ENOTDIR, "not a directory"),
        (errno.ENAMETOOLONG, "file name too long"),
        (errno.EIO, "input/output error"),
    ],
)
def test_what_the_system_says_of_a_disk_becomes_a_message(tmp_path, number, found):
    with pytest.raises(RunError, match=found), explained_disk_errors(tmp_path):
        raise OSError(number, os.strerror(number))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a system without /proc")
def test_a_place_where_no_folder_can_be_made_becomes_a_message():
    with pytest.raises(RunError, match="a place where no folder can be made"):
        make_folders(Path("/proc/none/run"))


def test_another_error_of_the_system_is_not_hidden(tmp_path):
    with pytest.raises(FileNotFoundError), explained_disk_errors(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")


def test_the_memory_of_a_reader_does_not_grow_with_the_file(tmp_path):
    def peak(n_lines: int) -> int:
        path = tmp_path / "lines"
        path.write_bytes(b'{"text": "%s"}\n' % (b"x" * 1000) * n_lines)
        tracemalloc.start()
        try:
            assert sum(1 for _ in read_lines(path)) == n_lines
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)
    assert peak(20_000) < peak(200) + 50_000


def test_the_digest_of_a_file_is_of_its_bytes(tmp_path):
    """b2sum --length 128 of nothing."""
    (tmp_path / "file").write_bytes(b"")
    assert file_digest(tmp_path / "file") == "cae66941d9efbd404e4d88758ea67670"
