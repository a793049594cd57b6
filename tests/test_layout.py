"""The picture in the package's docstring, and the direction of imports, held against the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import prefkit

ROOT = Path(prefkit.__file__).parent
STAGES = {
    "importing",
    "prompts",
    "generating",
    "judging",
    "annotation",
    "agreement",
    "pairs",
    "training",
    "policies",
    "evaluation",
    "planning",
}
BENEATH = ("models", "rows")
READS = {"policies": {"training"}, "planning": {"generating", "judging", "training"}}


def test_the_docstring_draws_every_module_and_no_other():
    drawn = set(re.findall(r"\w+(?:\.py|/)", (prefkit.__doc__ or "").split("Imports go")[0])) - {
        "dataset/",
        "principles/",
    }
    there = {path.name for path in ROOT.glob("*.py")} - {"__init__.py", "__main__.py"}
    there |= {f"{path.parent.name}/" for path in ROOT.glob("*/__init__.py")}
    assert drawn == there


@pytest.mark.parametrize(
    "folder",
    [
        "training",
        "policies",
        "training/serving",
        "training/measuring",
        "rows",
        "evaluation",
        "evaluation/report",
        "planning",
        "cluster",
    ],
)
def test_a_folder_is_drawn_in_its_own_docstring(folder: str):
    drawn = re.findall(r"\w+(?:\.py|/)", (ROOT / folder / "__init__.py").read_text())
    there = [path.name for path in (ROOT / folder).glob("*.py") if path.name != "__init__.py"]
    assert sorted(drawn) == sorted(there + [f"{path.parent.name}/" for path in (ROOT / folder).glob("*/__init__.py")])


def imported_by(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    found = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return found | {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}


def test_stage_folders_do_not_import_each_other():
    for stage in STAGES:
        for path in (ROOT / stage).rglob("*.py"):
            others = {f"prefkit.{other}" for other in STAGES - {stage} - READS.get(stage, set())}
            others |= {"prefkit.cluster", "prefkit.cli"}
            assert not {name for name in imported_by(path) if name.startswith(tuple(others))}, path


def test_what_lies_beneath_the_stages_imports_no_stage():
    above = tuple(f"prefkit.{stage}" for stage in (*STAGES, "cluster", "cli"))
    folders = [path for folder in BENEATH for path in (ROOT / folder).rglob("*.py")]
    for path in [*ROOT.glob("*.py"), *folders]:
        if path.name != "__main__.py":
            assert not {name for name in imported_by(path) if name.startswith(above)}, path


def test_every_folder_is_a_stage_or_lies_beneath_them():
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders == STAGES | set(BENEATH) | {"cluster", "cli"}
