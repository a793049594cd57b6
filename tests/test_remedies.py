"""What reward models say to their users names only options that these commands have, or says whose they are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import click
import pytest

import prefkit
from prefkit.cli import cli

ROOT = Path(prefkit.__file__).parent
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]")
OWNER = re.compile(r"prefkit [a-z]+(?:-[a-z]+)*|pip install")
REWARD_COMMANDS = ("train-rm", "eval-rm", "score", "serve-rm")


def options(name: str) -> set[str]:
    """The options of a command, or of all that a group holds."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, name
    inner = command.commands.values() if isinstance(command, click.Group) else (command,)
    return {
        option for one in inner for parameter in one.params for option in (*parameter.opts, *parameter.secondary_opts)
    }


class Said(ast.NodeVisitor):
    """The texts of a module but docstrings and the reasons of rows that are left out, with {} for a gap."""

    def __init__(self, path: Path) -> None:
        self.texts: list[str] = []
        self.visit(ast.parse(path.read_text()))

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if getattr(node.func, "id", "") != "Unfit":
            self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self.texts.append("".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values))

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.texts.append(node.value)


def strays(text: str, ours: set[str]) -> list[str]:
    """The options in a text that are neither ours nor of the command that was named last before them."""
    found = []
    for option in OPTION.finditer(text):
        owners = OWNER.findall(text[: option.start()])
        if owners and owners[-1] == "pip install":
            continue
        if option[0] not in ours | (options(owners[-1].removeprefix("prefkit ")) if owners else set()):
            found.append(f"{option[0]} in {text!r}")
    return found


@pytest.mark.parametrize(("folder", "commands"), [("training", REWARD_COMMANDS), ("rows", ())])
def test_an_option_that_is_named_is_one_of_these_commands_or_stands_behind_its_own(folder, commands):
    """Files are read for commands of any kind, so there every option needs the name of its command."""
    ours = {option for name in commands for option in options(name)}
    texts = [text for path in (ROOT / folder).rglob("*.py") for text in Said(path).texts]
    assert any(map(OPTION.search, texts))
    assert [stray for text in texts for stray in strays(text, ours)] == []


def test_a_held_out_file_without_an_ending_is_not_told_of_an_option_of_another_command(prefkit, tmp_path):
    pair = '{"prompt": "Hm?", "chosen": "Yes.", "rejected": "No."}\n'
    for name in ("pairs.jsonl", "test"):
        (tmp_path / name).write_text(pair * 2)
    outcome = prefkit("train-rm", tmp_path / "pairs.jsonl", "--held-out", tmp_path / "test", "--frozen")
    assert (outcome.code, "a name without an ending" in outcome.err) == (1, True)
    assert "Give it an ending such as .csv or .jsonl; `prefkit import` also takes --format csv." in outcome.err
