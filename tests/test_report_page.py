"""The report's page in a real Chromium: texts are texts, everything is reached by keys, nothing is fetched.

Accessibility is checked by axe-core where PREFKIT_AXE names its axe.min.js (``npm install axe-core``); nothing is
fetched for it either.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from making import rated
from test_report import NASTY, ReportSettings, gather, nasty_run, simple_run, write_report

SCHEMES = ("light", "dark")
TABBABLE = "a[href], button, summary, input, select, [tabindex='0']"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run whose every name and text is out to break it."""
    folder = tmp_path_factory.mktemp("report")
    return write_report(gather(nasty_run(folder / "run"), ReportSettings(rounds=100, examples=500)), folder / "out")[0]


class Opened:
    """A page, and all that it said or asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page = self.context.new_page()
        self.noise: list[str] = []
        self.asked: set[str] = set()
        self.page.on("console", lambda message: self.noise.append(message.text))
        self.page.on("pageerror", lambda error: self.noise.append(str(error)))
        self.page.on("request", lambda request: self.asked.add(request.url))
        self.page.goto(path.as_uri())

    def number(self, words: str) -> int:
        """How many elements there are."""
        return int(self.page.locator(words).count())


@pytest.fixture
def opened(browser: Any, nasty: Path) -> Iterator[Opened]:
    found = Opened(browser, nasty)
    yield found
    found.context.close()


def test_every_text_shows_as_text_and_nothing_runs_or_is_fetched(opened: Opened, nasty: Path):
    page = opened.page
    while page.locator("#more").is_visible():
        page.locator("#more").click()
    shown = page.locator(".text").all_text_contents()
    for words in NASTY:
        assert any(words in text for text in shown)
    assert page.evaluate("window.ran") is None
    assert opened.number("#examples-list img, #examples-list script, #examples-list b") == 0
    assert (opened.noise, opened.asked) == ([], {nasty.as_uri()})


def test_search_and_filters_leave_what_fits(browser: Any, tmp_path: Path):
    texts = {"p3/A": "The heron stood (still)."}
    scores = [(5, 2), (2, 5), (3, 3), (5, 1)]
    run = simple_run(tmp_path / "run", scores, texts=texts, topic={"p0": "grief", "p1": "grief", "p2": "work"})
    records = [*run.judgements(), *rated({"p0/A": 1, "p0/B": 4}, "llm:two")]
    from prefkit.records import Judgement

    run.replace(Judgement, (one if one.rubric != "the rubric in use" else _under(one, run) for one in records))
    opened = Opened(browser, write_report(gather(run, ReportSettings(rounds=100)), tmp_path / "out")[0])
    page, found = opened.page, opened.page.locator("#found")
    assert found.text_content() == "4 examples"
    page.locator("#filter-search").fill("HERON (still")
    assert found.text_content() == "1 of 4 examples"
    assert page.locator("#examples-list mark").all_text_contents() == ["heron", "(still"]
    page.locator("#clear").click()
    page.locator("#filter-topic").select_option(label="grief")
    assert found.text_content() == "2 of 4 examples"
    page.locator("#filter-split").check()
    assert found.text_content() == "1 of 4 examples"
    page.locator("#clear").click()
    page.locator("#filter-winner").select_option(label="B")
    assert found.text_content() == "1 of 4 examples"
    page.locator("#filter-winner").select_option(label="a tie")
    assert found.text_content() == "2 of 4 examples"
    page.locator("#clear").click()
    page.locator("#filter-principle").select_option(label="Good")
    assert found.text_content() == "2 of 4 examples"
    opened.context.close()


def _under(judgement: Any, run: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(judgement, rubric=run.info.rubric)


def test_the_tab_key_reaches_everything_and_enter_opens_it(opened: Opened):
    page = opened.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.evaluate("document.activeElement.blur()")
    wanted = page.evaluate(f"[...document.querySelectorAll(`{TABBABLE}`)].filter(one => one.checkVisibility()).length")
    page.evaluate("window.reached = new Set(); addEventListener('focusin', event => reached.add(event.target))")
    page.locator(".skip").focus()
    for _ in range(wanted + 5):
        page.keyboard.press("Tab")
    assert page.evaluate("reached.size") >= wanted
    summary = page.locator("summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("details").first.get_attribute("open") is not None


def test_the_page_follows_the_system_and_the_button_turns_it(browser: Any, nasty: Path):
    papers = {}
    for scheme in SCHEMES:
        opened = Opened(browser, nasty, color_scheme=scheme)
        papers[scheme] = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        opened.page.locator("#theme").click()
        papers[f"{scheme}, turned"] = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        opened.page.reload()
        assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == papers[f"{scheme}, turned"]
        opened.context.close()
    assert papers["light"] == papers["dark, turned"] != papers["dark"] == papers["light, turned"]


def test_a_narrow_page_scrolls_down_only(browser: Any, nasty: Path):
    opened = Opened(browser, nasty, viewport={"width": 390, "height": 800})
    page = opened.page
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    opened.context.close()


def test_without_a_script_the_figures_are_there(browser: Any, nasty: Path):
    opened = Opened(browser, nasty, java_script_enabled=False)
    assert opened.number(".forest .row") > 10
    assert opened.page.locator("noscript").is_visible()
    opened.context.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_axe_finds_no_fault(browser: Any, nasty: Path, scheme: str, width: int):
    axe = Path(os.environ.get("PREFKIT_AXE") or "-")
    if not axe.is_file():
        pytest.skip("PREFKIT_AXE names no axe.min.js. npm install axe-core")
    opened = Opened(browser, nasty, color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)
    opened.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    opened.page.add_script_tag(content=axe.read_text(encoding="utf-8"))
    found = opened.page.evaluate("axe.run(document)")["violations"]
    opened.context.close()
    assert [(one["id"], one["impact"], one["nodes"][0]["html"]) for one in found] == []
