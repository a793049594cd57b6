"""The blocks of the README and of the pages of docs that start from the sample: what they say is what they do.

python tests/readme.py                  writes the real output under every command of all of them
python tests/readme.py win-rates ...    of these pages of docs only
"""

from __future__ import annotations

import contextlib
import doctest
import io
import math
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
DOCS = README.parent / "docs"
EVALUATING = DOCS / "evaluating.md"
PAGES = ("evaluating", "win-rates", "length-control")
"""Pages whose commands start from the sample, imported."""
BLOCK = re.compile(r"```(console|python)\n(.*?)```", re.DOTALL)
QUIET = ("prefkit demo", "prefkit build-pairs runs/first", "prefkit train-rm")
"""Commands whose output is left out."""
NUMBER = re.compile(r"(\d*\.\d+)")


def blocks(text: str) -> Iterator[re.Match[str]]:
    """The blocks of commands and of Python, in their order."""
    return BLOCK.finditer(text)


def in_shell(command: str, folder: Path) -> str:
    """What a command prints, in a process of its own."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "100"}
    done = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def in_this_process(command: str, folder: Path) -> str:
    """The same without a new process, for commands that load what takes long to load."""
    from prefkit.cli import main

    printed, before, columns = io.StringIO(), Path.cwd(), os.environ.get("COLUMNS")
    os.chdir(folder)
    os.environ["COLUMNS"] = "120"
    try:
        with contextlib.redirect_stdout(printed):
            main(shlex.split(command)[1:])
    finally:
        os.chdir(before)
        os.environ.pop("COLUMNS")
        if columns is not None:
            os.environ["COLUMNS"] = columns
    return printed.getvalue()


def with_the_sample(folder: Path) -> None:
    """Make runs/first, which docs/evaluating.md starts from: the sample, imported."""
    from prefkit.demo import SAMPLE

    in_this_process("prefkit new runs/first --rubric psychocounsel", folder)
    for kind, name in (("prompts", "prompts.csv"), ("responses", "responses.jsonl"), ("judgements", "ratings.csv")):
        in_this_process(f"prefkit import {kind} runs/first {shlex.quote(str(SAMPLE / name))}", folder)


def played(block: str, folder: Path, run: Callable[[str, Path], str] = in_shell) -> str:
    """A console block with the output that its commands give now."""
    lines = []
    for command in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
        printed = run(command, folder)
        lines += [f"$ {command}", *([] if command.startswith(QUIET) else map(str.rstrip, printed.splitlines()))]
    return "\n".join(lines) + "\n"


def differences(found: str, said: str) -> list[str]:
    """Lines that differ: in words at all, in numbers by more than the last digits that another processor may change."""
    pairs = list(zip(found.splitlines(), said.splitlines(), strict=False))
    apart = [f"{one!r} is {other!r}" for one, other in pairs if not _alike(one, other)]
    if len(found.splitlines()) != len(said.splitlines()):
        apart.append(f"{len(found.splitlines())} lines, and {len(said.splitlines())} said")
    return apart


def _alike(found: str, said: str) -> bool:
    one, other = NUMBER.split(" ".join(found.split())), NUMBER.split(" ".join(said.split()))
    if one[::2] != other[::2]:
        return False
    return all(math.isclose(float(x), float(y), abs_tol=0.02) for x, y in zip(one[1::2], other[1::2], strict=True))


def failures(block: str, names: dict[str, object]) -> list[str]:
    """What a Python block gives otherwise than it says; ``names`` go from block to block."""
    test = doctest.DocTestParser().get_doctest(block, names, "README", str(README), 0)
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=said.append, clear_globs=False)
    names.update(test.globs)
    return said


def written_anew(page: Path, run: Callable[[str, Path], str], prepare: Callable[[Path], None] | None = None) -> None:
    """Put the real output into a page."""
    with tempfile.TemporaryDirectory() as folder:
        if prepare:
            prepare(Path(folder))
        text = BLOCK.sub(
            lambda match: (
                f"```console\n{played(match[2], Path(folder), run)}```" if match[1] == "console" else match[0]
            ),
            page.read_text(encoding="utf-8"),
        )
    page.write_text(text, encoding="utf-8")


def main() -> None:
    """Put the real output into the README and the pages, or into those that are named."""
    if not sys.argv[1:]:
        written_anew(README, in_shell)
    for page in sys.argv[1:] or PAGES:
        written_anew(DOCS / f"{page}.md", in_this_process, with_the_sample)


if __name__ == "__main__":
    main()
