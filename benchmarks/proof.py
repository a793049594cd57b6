"""What every proof hands in: a table of checks on the screen, the same as JSON, and an exit code.

Writes  benchmarks/out/NAME.json   {"name", "date", "machine", "versions", "checks": [{"check", "value", "unit", "goal",
                                   "ok"}]}

A check with an empty goal is a figure to be read, which cannot fail.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

OUT = Path(__file__).parent / "out"
PACKAGES = [
    "prefkit",
    "msgspec",
    "numpy",
    "pyarrow",
    "scikit-learn",
    "filelock",
    "pandas",
    "torch",
    "transformers",
    "trl",
]


@dataclass(frozen=True)
class Check:
    """One measured thing: what was measured, in which unit, what was asked for, and whether it holds."""

    check: str
    value: float | str
    unit: str = ""
    goal: str = ""
    ok: bool = True


def report(name: str, checks: list[Check]) -> int:
    """Print the checks as a table, write them to ``benchmarks/out/NAME.json``, and give the exit code: 1 where one
    fails or there are none."""
    rows = [("check", "measured", "goal", "ok"), *map(_row, checks)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    OUT.mkdir(exist_ok=True)
    found = {
        "name": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "checks": [asdict(check) for check in checks],
    }
    path = OUT / f"{name}.json"
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    failed = sum(not check.ok for check in checks)
    print(f"{path.relative_to(OUT.parent.parent)}: {len(checks)} checks, {failed} failed")
    return int(failed > 0 or not checks)


def _row(check: Check) -> tuple[str, str, str, str]:
    value = check.value if isinstance(check.value, str) else f"{check.value:,}"
    verdict = ("yes" if check.ok else "NO") if check.goal or not check.ok else ""
    return check.check, f"{value} {check.unit}".strip(), check.goal, verdict


def machine() -> dict[str, str | float]:
    """Processor, cores, memory, system, and how busy it was."""
    found: dict[str, str | float] = {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.release()}",
    }
    if hasattr(os, "sysconf"):
        found["memory_gb"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    if hasattr(os, "getloadavg"):
        found["load"] = round(os.getloadavg()[0], 2)
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def versions() -> dict[str, str]:
    """Python, and the packages that are installed of those that a figure may depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
