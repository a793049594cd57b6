"""Every command of the README runs and prints what the README says; every Python line gives what stands under it."""

from __future__ import annotations

from pathlib import Path

import pytest
from readme import README, blocks, failures, played


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries that the README's Python lines load
def test_the_readme_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(README.read_text(encoding="utf-8")):
        if block[1] == "console":
            assert played(block[2], tmp_path) == block[2]
        else:
            assert failures(block[2], names) == []
