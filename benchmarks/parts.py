"""A proof in parts, each a command and a process of its own with a JSON of its own; one JSON of all that were run."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.proof import OUT, Check, report

Size = Literal["small", "full"]


@dataclass(frozen=True)
class Part:
    """A command: what it is told at each size, the name of its JSON where that differs, the folder of data that it
    reads."""

    small: tuple[str, ...] = ()
    full: tuple[str, ...] = ()
    written: str = ""
    data: str = ""


def ran(package: str, name: str, part: Part, size: Size) -> list[Check]:
    """The checks of a part."""
    if part.data and not (Path(os.environ.get("PREFKIT_DATA") or "-") / part.data).is_dir():
        return [Check(name, f"left out: PREFKIT_DATA names no folder with {part.data}")]
    written = OUT / f"{part.written or name}.json"
    written.unlink(missing_ok=True)
    print(f"\n{name}", flush=True)
    arguments = part.small if size == "small" else part.full
    code = subprocess.run([sys.executable, "-m", f"{package}.{name}", *arguments], check=False).returncode
    if not written.exists():
        return [Check(name, f"ended with {code} and without a result", ok=False)]
    found = json.loads(written.read_bytes())["checks"]
    return [Check(**{**check, "check": f"{name}: {check['check']}"}) for check in found]


def run_parts(name: str, words: str | None, parts: Mapping[str, Part]) -> int:
    """Run the parts that the command line asks for.

    Args:
        name: of the proof; the parts are modules of ``benchmarks.NAME_parts``.
        words: what ``--help`` says.
        parts: by the name of their module.
    """
    parser = argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--only", choices=tuple(parts), action="append")
    asked = parser.parse_args()
    checks = [
        check for one in asked.only or parts for check in ran(f"benchmarks.{name}_parts", one, parts[one], asked.size)
    ]
    print()
    return report(name, checks)
