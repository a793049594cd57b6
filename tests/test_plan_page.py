"""docs/scale.md: what its command prints, its table of throughputs, and its arithmetic."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from readme import DOCS, blocks, differences, in_this_process, played, with_the_sample

from prefkit.planning.throughput import Speed, read_throughput

PAGE = (DOCS / "scale.md").read_text(encoding="utf-8")
UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
ROWS = re.findall(r"^\| (?:generate|judge|score)[^|]*\|[^|]*\|[^|]*\|[^|]*\| [\d,]+ to [\d,]+ \|$", PAGE, re.MULTILINE)


def number(words: str) -> float:
    found = re.fullmatch(r"([\d.,]+)([kMG]?)", words.strip())
    assert found is not None, words
    return float(found[1].replace(",", "")) * UNITS[found[2]]


@pytest.fixture
def speeds(tmp_path: Path) -> dict[str, Speed]:
    table = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert table is not None
    (tmp_path / "throughput.yaml").write_text(table[1])
    return read_throughput(tmp_path, None)


def test_the_page_shows_what_plan_prints(tmp_path: Path):
    with_the_sample(tmp_path)
    (block,) = [block[2] for block in blocks(PAGE) if block[1] == "console"]
    assert differences(played(block, tmp_path, in_this_process), block) == []


def test_published_tokens_written_are_tokens_together_as_the_table_has_them(speeds: dict[str, Speed]):
    rows = re.findall(r"\| ([\d,]+) \| x (\d+)/(\d+) = ([\d,]+) \|", PAGE)
    assert len(rows) == 5
    together = []
    for written, both, out, product in rows:
        assert number(written) * int(both) / int(out) == pytest.approx(number(product), abs=1)
        together.append(number(product))
    ends = [speeds["generate"].total, speeds["judge"].total, speeds["score"].total]
    for value in together:
        assert any(math.isclose(end, value, rel_tol=0.003) for one in ends if one for end in (one.low, one.high))


@pytest.mark.parametrize("row", ROWS)
def test_calls_times_tokens_over_tokens_a_second_are_the_hours_said(row: str, speeds: dict[str, Speed]):
    what, calls, each, tokens, hours = (cell.strip() for cell in row.strip("|").split("|"))
    speed = speeds[re.split(r"[, :]", what)[0]]
    if "=" in calls:
        factors = [number(part) for part in re.findall(r"([\d.]+[kMG]?)", calls.split("=")[0])]
        assert math.prod(factors) == number(calls.split("=")[1])
        total = number(calls.split("=")[1]) * sum(map(number, each.split("+")))
    else:
        fixed, times = re.match(r"(\d+) \+ 4 x (\d+) = (\d+)", each).groups()[:2]  # type: ignore[union-attr]
        total = 10e6 * (int(fixed) + 4 * int(times))
    assert total == pytest.approx(number(tokens), rel=0.01)
    low, high = map(number, hours.split(" to "))
    assert speed.total is not None
    assert total / speed.total.high * speed.gpus / 3600 == pytest.approx(low, rel=0.015)
    assert total / speed.total.low * speed.gpus / 3600 == pytest.approx(high, rel=0.015)


def test_the_arithmetic_is_there():
    assert len(ROWS) == 5
