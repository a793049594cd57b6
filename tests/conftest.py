"""What the tests share: the command line in this process, a way to the real data, and nothing from the network."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


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
