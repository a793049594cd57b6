"""Runs that are not a folder of JSONL on this machine: found among a command's arguments, and brought here for it.

``prefkit judge s3://bucket/run`` becomes ``prefkit judge FOLDER``, a working copy that is brought up to date before the
command and taken back behind it; what the command prints names the run as it was named.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from prefkit.working_copy import WorkingCopy

PARTS = "parts.json"
_AS_GIVEN = ("convert", "demo")
"""Commands that do for themselves what is done here."""
_LIGHT = (
    *("new", "status", "import", "scrub", "screen", "spending", "build-pairs", "pairs", "audit", "validate-judge"),
    *("annotate", "agree", "reparse", "win-rate", "leaderboard", "report", "plan"),
)
"""Commands that need no weights of models."""


class Elsewhere:
    """The runs of a command that are elsewhere.

    Args:
        arguments: of the command line.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._given = list(arguments)
        self._names: dict[str, str] = {}
        self._command = next((word for word in arguments if not word.startswith("-")), "")

    @contextlib.contextmanager
    def brought_here(self) -> Iterator[list[str]]:
        """The arguments with folders of this machine; afterwards what changed in them is taken back.

        Raises:
            RunError: a place does not answer, or holds no run.
        """
        roots = [] if self._command in _AS_GIVEN or "--help" in self._given else self._roots()
        if not roots:
            yield self._given
            return
        copies: dict[str, WorkingCopy] = {}
        for root in roots:
            if root not in copies:
                copies[root] = self._pulled(root)
        arguments = [_replaced(word, {root: str(copy.folder) for root, copy in copies.items()}) for word in self._given]
        out, err = (_Naming(stream, self.named) for stream in (sys.stdout, sys.stderr))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield from self._until_the_end(arguments, list(copies.values()))

    def _until_the_end(self, arguments: list[str], copies: list[WorkingCopy]) -> Iterator[list[str]]:
        from prefkit.errors import RunError

        try:
            yield arguments
        except BaseException:
            for copy in copies:
                with contextlib.suppress(RunError):
                    _take_back(copy)
            raise
        for copy in copies:
            _take_back(copy)

    def named(self, text: str) -> str:
        """A text with runs named as the user named them."""
        for folder, name in self._names.items():
            text = text.replace(folder, name)
        return text

    def _roots(self) -> list[str]:
        """The runs elsewhere that the arguments name."""
        found = []
        for word in self._given:
            value = word.partition("=")[2] if word.startswith("--") else word
            if root := self._root(value):
                found.append(root)
        return found

    def _root(self, value: str) -> str | None:
        if "://" not in value:
            return _root_of_parts(value)
        from prefkit.errors import RunError
        from prefkit.store import Store, is_url

        if not is_url(value):
            return None
        if self._command == "new":
            return value
        for place in _places(value):
            if Store(place).read("run.json") is not None:
                return place
        if self._command == "import" and value != self._imported_into():
            return None  # a file, which the command looks at itself
        raise RunError(value, "no run.json", "a run", f"Make one: prefkit new {value} --rubric psychocounsel")

    def _imported_into(self) -> str:
        """The run of ``prefkit import KIND RUN FILE``."""
        return next(iter([word for word in self._given if not word.startswith("-")][2:]), "")

    def _pulled(self, root: str) -> WorkingCopy:
        from filelock import FileLock

        from prefkit.durable import make_folders
        from prefkit.store import Store
        from prefkit.working_copy import WorkingCopy, working_folder

        folder = working_folder(root if "://" in root else str(Path(root).absolute()))
        self._names[str(folder)] = root
        make_folders(folder.parent)
        with FileLock(f"{folder}.lock"):  # processes of one training come here at the same time
            copy = WorkingCopy(folder, Store(root if "://" in root else str(Path(root).absolute())))
            on_ray = any(word in ("ray", "--engine=ray") for word in self._given)
            copy.pull(records=not on_ray, weights=self._command not in _LIGHT)
        return copy


def _root_of_parts(value: str) -> str | None:
    """The folder, among those of a path, whose run keeps its records in parts."""
    if not value or value.startswith("-"):
        return None
    for place in _places(value):
        if os.path.isfile(os.path.join(place, PARTS)):
            return place
    return None


def _places(value: str) -> Iterator[str]:
    """A path and the folders above it, without a name behind a colon."""
    scheme, mark, path = value.rpartition("://")
    while path.strip("/"):
        yield f"{scheme}{mark}{path}"
        folder, slash, last = path.rpartition("/")
        path = f"{folder}{slash}{last.rpartition(':')[0]}" if ":" in last else folder


def _replaced(word: str, folders: dict[str, str]) -> str:
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    for root, folder in folders.items():
        if value == root or value.startswith((f"{root}/", f"{root}:")):
            return f"{option}{equals}{folder}{value[len(root) :]}"
    return word


def _take_back(copy: WorkingCopy) -> None:
    """Of several processes of one training the first does it."""
    from prefkit.working_copy import WorkingCopy

    if os.environ.get("RANK", "0") == "0":
        WorkingCopy(copy.folder, copy.store).push(records=False)


class _Naming:
    """A stream in which runs are named as the user named them."""

    def __init__(self, stream: TextIO, named: Any) -> None:
        self._stream, self._named = stream, named

    def write(self, text: str) -> int:
        self._stream.write(self._named(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
