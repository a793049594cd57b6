"""Every command of the README and of docs/evaluating.md prints what stands there; so does the README's Python. The
demo, with which the README begins and which takes a minute, is gone through once for all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Outcome
from readme import EVALUATING, README, blocks, differences, failures, in_shell, in_this_process, played, with_the_sample

DEMO = "prefkit demo first"


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where the demo was gone through, and what it printed."""
    folder = tmp_path_factory.mktemp("begun")
    return folder, in_shell(DEMO, folder)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries that the README's Python lines load
def test_the_readme_is_true(begun: tuple[Path, str], monkeypatch: pytest.MonkeyPatch):
    folder, printed = begun
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    for block in blocks(README.read_text(encoding="utf-8")):
        if block[1] == "console":
            assert played(block[2], folder, lambda one, at: printed if one == DEMO else in_shell(one, at)) == block[2]
        else:
            assert failures(block[2], names) == []


def test_the_demo_goes_the_whole_way_and_a_second_time(begun: tuple[Path, str], prefkit: Callable[..., Outcome]):
    demo, printed = begun[0] / "first", begun[1]
    assert "selected: " in printed and "pairs.parquet: " in printed
    built = (demo / "run" / "pairs.parquet").read_bytes()
    again = prefkit("demo", demo)
    assert again.code == 0 and "is there from before" in again.out
    assert (demo / "run" / "pairs.parquet").read_bytes() == built
    assert "example.org" not in (demo / "run" / "prompts.jsonl").read_text(encoding="utf-8")


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
