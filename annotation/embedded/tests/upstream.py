"""Argilla's own search-engine suite, taken from the sdist of argilla-server and run against the engine here.

The suite is not ours and is not committed: it is unpacked into a temporary folder, where its two conftests that open
Elasticsearch are replaced by ours. `test_commons.py` stays as it is but for one mark on fixtures, which never had an
effect and which pytest 9 refuses.
"""

import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).parent
SUITE = "tests/unit/search_engine/test_commons.py"
_WANTED = ("tests/__init__.py", "tests/conftest.py", "tests/database.py", "tests/factories.py", SUITE)
_MARKED_FIXTURE = '@pytest_asyncio.fixture(scope="function")\n@pytest.mark.asyncio\n'

_SETTINGS = """
[pytest]
asyncio_mode = strict
asyncio_default_fixture_loop_scope = session
asyncio_default_test_loop_scope = session
"""
_ROOT_CONFTEST = """
import fakeredis
import redis

redis.from_url = lambda *_, **__: fakeredis.FakeStrictRedis()
"""
_CONFTEST = """
import pytest
import pytest_asyncio
from argilla_embedded.search import Store
from upstream_elasticsearch import Client, Engine


@pytest.fixture
def index(tmp_path):
    return tmp_path / "index.db"


@pytest_asyncio.fixture
async def search_engine(index):
    store = Store(index)
    yield Engine(store)
    store.close()


@pytest.fixture
def opensearch(search_engine, index):
    return Client(index)
"""


@dataclass(frozen=True)
class Result:
    """What became of one case: passed, failed, error or skipped, and why."""

    outcome: str
    message: str = ""


def downloaded(folder: Path) -> Path:
    """The archive, fetched by pip into `folder`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", ":all:", "--dest", str(folder), "argilla-server==2.8.0"]
    subprocess.run(command, check=True, timeout=300)
    return next(folder.glob("argilla_server-*.tar.gz"))


def prepare(archive: Path, folder: Path) -> None:
    """Unpack the suite into `folder` and put our conftests beside it."""
    with tarfile.open(archive) as opened:
        root = opened.getnames()[0].split("/")[0]
        for name in _WANTED:
            content = opened.extractfile(f"{root}/{name}")
            assert content is not None
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.read())
    suite = folder / SUITE
    text = suite.read_text()
    assert text.count(_MARKED_FIXTURE) == 3
    suite.write_text(text.replace(_MARKED_FIXTURE, '@pytest_asyncio.fixture(scope="function")\n'))
    for package in ("tests/unit", "tests/unit/search_engine"):
        (folder / package / "__init__.py").touch()
    (folder / "pytest.ini").write_text(_SETTINGS)
    (folder / "conftest.py").write_text(_ROOT_CONFTEST)
    (folder / "tests/unit/search_engine/conftest.py").write_text(_CONFTEST)


def run(folder: Path, *options: str, seconds: int = 600) -> Mapping[str, Result]:
    """Run the suite; name of case to what became of it."""
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", SUITE, "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *options]
    home = folder / "home"
    environment = {
        **os.environ,
        "ARGILLA_HOME_PATH": str(home),
        "ARGILLA_SEARCH_ENGINE": "elasticsearch",  # the suite skips itself under any other name; the fixture decides
        "ARGILLA_ENABLE_TELEMETRY": "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]),
    }
    options = {"cwd": folder, "env": environment, "timeout": seconds}
    finished = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert report.exists(), finished.stdout[-4000:] + finished.stderr[-4000:]
    return {case.attrib["name"]: _result(case) for case in ElementTree.parse(report).iter("testcase")}


def _result(case: ElementTree.Element) -> Result:
    for outcome in ("failure", "error", "skipped"):
        found = case.find(outcome)
        if found is not None:
            return Result(outcome, found.attrib.get("message", ""))
    return Result("passed")
