"""What the tests share: the command line in this process, a way to the real data, and nothing from the network."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.pop("COLUMNS", None)  # workers of pytest-xdist have 80, and tables would be cut to that


NEEDED = "PREFKIT_NEED_BROWSER"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where CI says that a browser and a server are there, no test of the annotators' page may be skipped."""
    report = yield
    if report.skipped and item.path.name.startswith("test_annotation") and os.environ.get(NEEDED):
        report.outcome = "failed"
        report.longrepr = f"skipped, which {NEEDED} does not allow: {report.longrepr}"
    return report


LIBRARY = 300
"""Modules by which a process grows where a test loaded a large library."""
_searched = 0
"""Modules that were there when what they hold was put out of the search for garbage."""


def pytest_runtest_logfinish() -> None:
    """What a library holds is no garbage; each training has all of it searched, which takes longer than its steps."""
    global _searched
    if len(sys.modules) > _searched + LIBRARY:
        gc.collect()
        gc.freeze()
        _searched = len(sys.modules)


@pytest.fixture(scope="session")
def annotation_environment() -> Path:
    """An environment that Argilla runs in: that of PREFKIT_ANNOTATION_ENV, else the one that `make test` makes."""
    folder = Path(os.environ.get("PREFKIT_ANNOTATION_ENV") or Path(__file__).parent.parent / ".venv-annotation")
    if not (folder / "bin" / "python").exists():
        pytest.skip(f"no environment for Argilla in {folder}: make .venv-annotation/made")
    return folder


@dataclass(frozen=True)
class Outcome:
    """What a command did: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def prefkit(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command of prefkit in this process; a traceback fails the test by itself."""
    from prefkit.cli import main

    def call(*arguments: object) -> Outcome:
        capfd.readouterr()
        try:
            main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return call


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data that PREFKIT_DATA names; tests that need it are skipped without it."""
    folder = Path(os.environ.get("PREFKIT_DATA") or "-")
    if not (folder / "chatpsychiatrist").is_dir():
        pytest.skip("PREFKIT_DATA names no folder with the real data sets")
    return folder
