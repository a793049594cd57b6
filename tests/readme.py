"""The README's blocks: what they say is what they do.

python tests/readme.py      writes the real output under every command of the README
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"```(console|python)\n(.*?)```", re.DOTALL)
QUIET = "prefkit demo"
"""A command whose output the README leaves out."""


def blocks(text: str) -> Iterator[re.Match[str]]:
    """The blocks of commands and of Python, in their order."""
    return BLOCK.finditer(text)


def played(block: str, folder: Path) -> str:
    """A console block with the output that its commands give now."""
    lines = []
    for command in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "100"}
        done = subprocess.run(
            command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=True
        )
        lines += [f"$ {command}", *([] if command.startswith(QUIET) else done.stdout.splitlines())]
    return "\n".join(lines) + "\n"


def failures(block: str, names: dict[str, object]) -> list[str]:
    """What a Python block gives otherwise than it says; ``names`` go from block to block."""
    test = doctest.DocTestParser().get_doctest(block, names, "README", str(README), 0)
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=said.append, clear_globs=False)
    names.update(test.globs)
    return said


def main() -> None:
    """Put the real output into the README."""
    with tempfile.TemporaryDirectory() as folder:
        text = BLOCK.sub(
            lambda match: f"```console\n{played(match[2], Path(folder))}```" if match[1] == "console" else match[0],
            README.read_text(encoding="utf-8"),
        )
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
