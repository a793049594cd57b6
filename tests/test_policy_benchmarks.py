"""The proofs of ``benchmarks/policy``: the small size runs through, and what a comparison with trl says."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import policy
from benchmarks.policy_parts.beside_trl import BETA, alike, compared, without_second_end

END = 2

pytestmark = [
    # trl and peft call transformers by old names
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:You are importing from 'trl.experimental':UserWarning"),
]


def test_prefkit_learns_by_dpo_and_orpo_what_trl_does() -> None:
    checks = policy.trl("small")
    assert [check.check.split(",")[0] for check in checks] == ["dpo", "dpo", "orpo", "orpo"]
    assert [check.check for check in checks if not check.ok] == []


@pytest.mark.parametrize("method", ["dpo", "orpo"])
def test_another_loss_than_trls_is_seen(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    from prefkit.policies import losses

    plain = losses.PolicyLossSettings
    monkeypatch.setattr(
        losses, "PolicyLossSettings", lambda **choices: plain(**{**choices, "beta": 2 * BETA[choices["method"]]})
    )
    monkeypatch.setattr("benchmarks.policy_parts.beside_trl.METHODS", (method,))
    assert not all(check.ok for check in policy.trl("small"))


def found(seconds: float, memory: int, losses: tuple[float, ...] = (0.5, 0.4), said: float = -2.0) -> dict[str, Any]:
    return {"seconds": seconds, "memory": memory, "losses": list(losses), "log_probs": [said]}


def test_the_ratio_is_over_trls_fastest_and_memory_beside_its_leanest() -> None:
    ratio, memory = compared("dpo", found(10.0, 900), [found(20.0, 1200), found(16.0, 1000)], goal=1.6)
    assert (ratio.value, ratio.ok) == (1.6, True)
    assert (memory.value, memory.ok) == (0.9, True)
    slower, larger = compared("dpo", found(10.0, 1100), [found(15.0, 1200), found(30.0, 1000)], goal=1.6)
    assert (slower.ok, larger.ok) == (False, False)


def test_a_loss_or_a_log_probability_that_is_off_fails() -> None:
    one = found(1.0, 1)
    assert [check.ok for check in alike("dpo", one, found(1.0, 1, losses=(0.5, 0.402)))] == [False, True]
    assert [check.ok for check in alike("dpo", one, found(1.0, 1, said=-2.002))] == [True, False]
    with pytest.raises(ValueError, match="zip"):
        alike("dpo", one, found(1.0, 1, losses=(0.5,)))


def test_the_end_that_trl_adds_behind_a_line_break_is_taken_off_and_the_templates_own_is_not() -> None:
    row = {"prompt_input_ids": [7, END]}
    for side, ids in (("chosen", [7, END, 8, END, 9, END]), ("rejected", [7, END, 8, END])):
        row |= {f"{side}_input_ids": ids, f"{side}_attention_mask": [1] * len(ids), f"{side}_labels": ids}
    cut = without_second_end(row, END)
    assert cut["chosen_input_ids"] == cut["chosen_labels"] == [7, END, 8, END, 9]
    assert len(cut["chosen_attention_mask"]) == 5
    assert cut["rejected_input_ids"] == [7, END, 8, END]
