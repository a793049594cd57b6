"""The page's files: a copy of our own, without the fonts that it would fetch from Google.

Importing argilla-server copies its 14 MB page to a temporary folder that it never deletes. Inside `temporary_files`
that folder is made in DIR, which no other process works on, so leftovers of a killed run are known to be ours and go
at the next start. Of the 1,333 files 825 are compressed twins of the others, never served; they are not copied.

The style sheets import two fonts from Google, which would tell Google every annotator's address; the lines are taken
out, and the page falls back on its next choice.

A custom field is a frame of the page's own origin, into whose script the page writes the whole record as it is: a text
with ``</script>`` in it would run there, an annotator's own earlier reason too. The page is made to escape it.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REMOTE_IMPORT = re.compile(r"@import url\(\s*['\"]?https?://[^)]*\)[^;]*;")

RECORD_IN_SCRIPT = re.compile(r'\.replace\("#RECORD_OBJECT#",(\w+)\)\.replace\("#TEMPLATE#",this\.content\)')
ESCAPED_RECORD = (
    r'.replace("#TEMPLATE#",()=>this.content).replace("#RECORD_OBJECT#",()=>\1.replace(/</g,String.raw`\\u003c`))'
)
"""Functions in place of strings, so that ``$&`` in a text means nothing; the template first, as a text may hold its
name."""


@contextlib.contextmanager
def temporary_files(folder: Path) -> Iterator[None]:
    """Temporary files go into this folder, emptied first, while this is open; import the server inside."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    before, copytree = tempfile.tempdir, shutil.copytree

    def without_twins(source: Any, target: Any, *rest: Any, **named: Any) -> Any:
        if rest or named:  # a folder below, to which what is left out is handed on
            return copytree(source, target, *rest, **named)
        return copytree(source, target, ignore=shutil.ignore_patterns("*.br", "*.gz"))

    tempfile.tempdir, shutil.copytree = str(folder), without_twins
    try:
        yield
    finally:
        tempfile.tempdir, shutil.copytree = before, copytree


def served_files(app: Any) -> Path:
    """Where the imported server reads its page from."""
    return Path(next(route for route in app.routes if getattr(route, "name", "") == "static").app.directory)


def make_local(files: Path) -> int:
    """Take out what would be fetched from elsewhere.

    Returns:
        How many remote imports there were: two in Argilla 2.8.
    """
    found = 0
    for sheet in files.rglob("*.css"):
        text, count = REMOTE_IMPORT.subn("", sheet.read_text(encoding="utf-8"))
        if count:
            sheet.write_text(text, encoding="utf-8")
            found += count
    return found


def escape_records(files: Path) -> int:
    """Have custom fields get their record as data that cannot end the script it stands in.

    Returns:
        How many of the page's scripts had to be changed: eight in Argilla 2.8.
    """
    found = 0
    for script in (files / "_nuxt").glob("*.js"):
        text, count = RECORD_IN_SCRIPT.subn(ESCAPED_RECORD, script.read_text(encoding="utf-8"))
        if count:
            script.write_text(text, encoding="utf-8")
            found += 1
    return found
