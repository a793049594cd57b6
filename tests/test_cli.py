"""The command line: quick to answer, an example in every help, errors without a traceback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from prefkit.cli import COMMANDS, cli

HEAVY = ("torch", "transformers", "trl", "datasets", "sklearn", "pyarrow", "pandas", "numpy", "rich", "msgspec", "yaml")


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            for inner, child in command.commands.items():
                yield f"{name} {inner}", child


def test_help_imports_nothing_heavy():
    script = "import sys; from prefkit.cli import main; main(['--help']); print(sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = done.stderr
    assert "Commands:" in done.stdout
    assert [name for name in HEAVY if f"'{name}'" in loaded] == []


@pytest.mark.parametrize(("name", "command"), [pytest.param(*item, id=item[0]) for item in commands()])
def test_every_command_shows_an_example_of_itself(name: str, command: click.Command):
    text = (command.help or "").replace("\b", "")
    assert f"    prefkit {name}" in text


@pytest.mark.parametrize(("name", "command"), [pytest.param(*item, id=item[0]) for item in commands()])
def test_help_of_every_command_prints(prefkit, name: str, command: click.Command):
    outcome = prefkit(*name.split(), "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(f"Usage: prefkit {name}")


def test_a_command_that_does_not_exist_is_a_usage_error(prefkit):
    outcome = prefkit("nonsense")
    assert outcome.code == 2
    assert "No such command 'nonsense'" in outcome.err


def test_what_the_user_can_mend_is_one_message_and_exit_code_1(prefkit, tmp_path):
    outcome = prefkit("status", tmp_path / "nowhere")
    assert outcome.code == 1
    assert outcome.err.startswith("Error: ") and "no run.json" in outcome.err
    assert "Traceback" not in outcome.err


def test_ctrl_c_says_that_the_command_can_go_on(prefkit, monkeypatch, tmp_path):
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("prefkit.rubric_files.load_rubric", interrupted)
    outcome = prefkit("new", tmp_path / "run", "--rubric", "psychocounsel")
    assert outcome.code == 130
    assert "goes on from here" in outcome.err


def test_a_module_can_be_imported_by_itself():
    """Each module, in a fresh process: no cycle, no name that was never imported."""
    script = (
        "import gc, importlib, pkgutil, prefkit; gc.disable();"
        "[importlib.import_module(m.name) for m in pkgutil.walk_packages(prefkit.__path__, 'prefkit.')"
        " if not m.name.endswith('__main__')]"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
