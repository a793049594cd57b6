"""Every command of the README and of docs/evaluating.md prints what stands there; so does the README's Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from readme import EVALUATING, README, blocks, differences, failures, in_this_process, played, with_the_sample


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries that the README's Python lines load
def test_the_readme_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(README.read_text(encoding="utf-8")):
        if block[1] == "console":
            assert played(block[2], tmp_path) == block[2]
        else:
            assert failures(block[2], names) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch and transformers
def test_the_tables_of_evaluating_are_those_that_the_commands_print(tmp_path: Path):
    with_the_sample(tmp_path)
    for block in blocks(EVALUATING.read_text(encoding="utf-8")):
        if block[1] == "console":
            assert differences(played(block[2], tmp_path, in_this_process), block[2]) == []


def test_a_page_may_differ_in_the_last_digits_alone():
    said = "frozen   100.0 [78.5, 100.0]   .174"
    assert differences("frozen  100.0 [78.5, 100.0]  .182", said) == []
    assert len(differences("frozen  100.0 [79.5, 100.0]  .174", said)) == 1
    assert len(differences("frosen  100.0 [78.5, 100.0]  .174", said)) == 1
    assert differences(f"{said}\nmore", said) == ["2 lines, and 1 said"]
