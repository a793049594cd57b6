"""What is shown of a policy's training: sentences, pictures, the model card."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from prefkit.policies.course import notes
from prefkit.policies.curves import curves
from prefkit.policies.health import Health, health
from prefkit.policies.looking import look, texts
from prefkit.policies.policy_card import policy_card
from prefkit.policies.settings import PolicySettings
from prefkit.policies.training import TrainedPolicy
from prefkit.policies.watching import Look, WinRate
from prefkit.resampling import wilson
from prefkit.rubric_files import load_rubric

PROMPTS = [f"I have been worried about my {thing} for weeks." for thing in (
    "work", "sleep", "mother", "exams", "money", "health", "temper", "brother", "marriage", "future", "weight", "dog",
    "neighbours", "drinking", "loneliness", "move",
)]  # fmt: skip
WORDS = re.findall(
    r"\w+",
    "it sounds as if this has been hard for you and that makes sense to me what would help you feel a little safer "
    "today we could look at one small step together or at what has worked before who else knows about it",
)


def answers(length: int, seed: int = 0) -> list[str]:
    drawn = np.random.default_rng(seed)
    return [" ".join(drawn.choice(WORDS, length)) + "." for _ in PROMPTS]


BASE = answers(40)
LOOPS = ["I am sorry. I am here. " * 30] * 8 + BASE[8:]


@cache
def _health(said: tuple[str, ...], beside: bool) -> Health:
    return health(look(PROMPTS, texts(said)), look(PROMPTS, texts(BASE)) if beside else None)


def seen(
    step: int, said: Sequence[str] = BASE, wins: float | None = None, divergence: float = 0.0, **held_out: float
) -> Look:
    """A look; its health is that of what was said, beside the base's answers."""
    rate = None
    if wins is not None:
        low, high = wilson(wins, 32)
        rate = WinRate(value=wins, low=low, high=high, n=32)
    return Look(
        step=step,
        held_out=held_out,
        health=_health(tuple(said), step > 0),
        divergence=divergence,
        win_rate=rate,
        answers=tuple(said),
    )


def one(found: Sequence[str], pattern: str) -> str:
    """The only sentence with a pattern."""
    fitting = [note for note in found if re.search(pattern, note)]
    assert len(fitting) == 1, found
    return fitting[0]


def none(found: Sequence[str], pattern: str) -> bool:
    return not any(re.search(pattern, note) for note in found)


# --- sentences -------------------------------------------------------------------------------------------------------


def test_rewards_that_look_healthy_over_degenerate_text_are_said_with_both():
    looks = [
        seen(0, accuracy=0.5, margin=0.0),
        seen(20, wins=0.6, accuracy=0.7, margin=1.0),
        seen(40, LOOPS, wins=0.9, accuracy=0.95, margin=8.25),
    ]
    assert not looks[1].health.flagged and looks[2].health.flagged
    said = one(notes([], looks, "dpo"), "^The rewards look healthy and the text does not")
    assert "held-out accuracy is 95.0%, from 50.0%" in said and "margin is 8.25, from 0.00" in said
    assert "win rate against the start is 90.0% [75.0, 96.4]" in said
    assert looks[2].health.why and all(why in said for why in looks[2].health.why)
    assert "1 of 2 looks is flagged (step 40)" in said


def test_degenerate_text_under_bad_rewards_is_no_case_of_healthy_rewards():
    looks = [seen(0, accuracy=0.7, margin=1.0), seen(40, LOOPS, wins=0.2, accuracy=0.6, margin=0.5)]
    found = notes([], looks, "orpo")
    assert none(found, "rewards look healthy")
    said = one(found, "^The text is degenerate at step 40: 50% answers that loop")
    assert "--beta" not in said, "of orpo that is the weight of the odds ratio, which pulls nowhere back"


def test_without_held_out_pairs_healthy_rewards_are_those_of_the_log_up_to_the_look():
    history = [{"step": 1, "loss": 0.7, "accuracy": 0.5}, {"step": 40, "loss": 0.1, "accuracy": 0.98}]
    history += [{"step": 60, "loss": 9.0, "accuracy": 0.1}]
    said = one(notes(history, [seen(0), seen(40, LOOPS)], "dpo"), "rewards look healthy")
    assert "accuracy on the training pairs is 98.0%, from 50.0%" in said


def test_a_base_that_is_flagged_itself_is_said():
    found = notes([], [seen(0, LOOPS, accuracy=0.5), seen(10, accuracy=0.6)], "dpo")
    assert "50% answers that loop" in one(found, "^The base itself is flagged")
    assert none(notes([], [seen(0, accuracy=0.5), seen(10, accuracy=0.6)], "dpo"), "base itself")


def fallen(chosen: float, rejected: float) -> list[Look]:
    return [
        seen(0, accuracy=0.5, chosen=-250.0, rejected=-260.0),
        seen(30, wins=0.9, accuracy=0.8, chosen=-250.0 - chosen, rejected=-260.0 - rejected),
    ]


def test_both_log_probabilities_falling_is_said_with_what_to_do():
    said = one(notes([], fallen(31.5, 70), "dpo"), "likelihood displacement")
    assert "from -250.0 to -281.5 nats" in said and "from -260.0 to -330.0 (step 30)" in said
    assert "arXiv:2410.08847" in said and "--learning-rate" in said and "--sft 1" in said
    assert "--sft 1" not in one(notes([], fallen(31.5, 70), "orpo"), "likelihood displacement")


@pytest.mark.parametrize(("chosen", "rejected"), [(-5.0, 70.0), (0.4, 70.0), (5.0, -1.0)])
def test_a_chosen_side_that_holds_or_a_rejected_one_that_rises_is_no_displacement(chosen, rejected):
    assert none(notes([], fallen(chosen, rejected), "dpo"), "log-probabilities fall")


def test_the_log_tells_of_both_falling_against_the_reference_where_nothing_was_held_out():
    fell = [{"step": step, "loss": 0.3, "chosen_ratio": -2.0 * step, "rejected_ratio": -3.0 * step} for step in (1, 9)]
    assert "a chosen response by 10.0 nats, a rejected one by 15.0" in one(notes(fell, [], "dpo"), "displacement")
    still = [{"step": 1, "loss": 0.3, "chosen_ratio": -0.5, "rejected_ratio": -9.0}]
    assert none(notes(still, [], "dpo"), "displacement")
    noisy = [{"step": step, "loss": 0.3, "chosen": -200.0 - step, "rejected": -200.0 - step} for step in (1, 90)]
    assert none(notes(noisy, [], "simpo"), "displacement"), "these are of other pairs at each step"


def test_the_log_probabilities_of_the_weights_that_were_kept_are_beside_those_of_the_end():
    looks = [*fallen(2.0, 9.0), seen(60, wins=0.6, accuracy=0.8, chosen=-300.0, rejected=-400.0)]
    assert "(step 60; -252.0 and -269.0 at step 30)" in one(notes([], looks, "dpo"), "log-probabilities fall")


@pytest.mark.parametrize(
    ("wins", "says"),
    [
        (0.45, "^Nothing improved: the win rate .* at best 45.0%"),
        (0.6, "^Not clearly better .* win rate of 60.0% .* holds 50%"),
        (0.9, ""),
    ],
)  # fmt: skip
def test_what_a_win_rate_says_of_the_start(wins, says):
    found = notes([], [seen(0), seen(10, wins=wins), seen(20, wins=wins - 0.1)], "dpo")
    assert one(found, says) if says else none(found, "improved|clearly")


@pytest.mark.parametrize(("accuracy", "improved"), [(0.6, False), (0.59, False), (0.61, True)])
def test_a_held_out_accuracy_that_is_not_above_the_start_improved_nothing(accuracy, improved):
    found = notes([], [seen(0, accuracy=0.6), seen(10, accuracy=accuracy)], "orpo")
    assert none(found, "Nothing improved") if improved else one(found, "^Nothing improved: .*60.0% at the start")


def test_a_flagged_look_is_no_improvement():
    found = notes([], [seen(0, accuracy=0.6), seen(10, accuracy=0.55), seen(20, LOOPS, accuracy=0.99)], "dpo")
    assert "at best 55.0% (at step 10)" in one(found, "Nothing improved")


def test_where_nothing_measures_that_is_said():
    assert one(notes([], [seen(0), seen(10)], "dpo"), "^Nothing tells whether it improved")
    assert one(notes([], [seen(0, nll=2.0, loss=2.0), seen(10, nll=2.1, loss=2.1)], "sft"), "costs 2.100 nats")
    assert none(notes([], [seen(0, nll=2.0, loss=2.0), seen(10, nll=1.9, loss=1.9)], "sft"), "improved")


def test_the_look_that_was_kept_is_said_where_it_is_not_the_last():
    looks = [seen(0, accuracy=0.5), seen(10, wins=0.8), seen(20, wins=0.6), seen(30, LOOPS, wins=0.95)]
    said = one(notes([], looks, "dpo", kept=10), "^Kept")
    assert said == (
        "Kept are the weights of step 10, with a win rate of 80.0% [63.3, 90.3]. The last step, 30, has a win rate of "
        "95.0% [81.6, 98.8] and degenerate text."
    )
    assert one(notes([], looks, "dpo"), "^Kept are the weights of step 10"), "the best that is not flagged"
    assert none(notes([], looks[:2], "dpo", kept=10), "[Kk]ept")
    assert "the weights of the start." in one(notes([], looks, "dpo", kept=0), "^Kept")


def test_looks_that_are_alike_but_for_the_loss_are_told_apart_by_it():
    looks = [seen(0, accuracy=0.5), seen(10, accuracy=0.8, loss=0.4), seen(20, accuracy=0.8, loss=0.6)]
    said = one(notes([], looks, "dpo", kept=10), "^Kept")
    assert "80.0% and a held-out loss of 0.4." in said and "80.0% and a held-out loss of 0.6." in said


def test_kept_weights_whose_text_is_flagged_are_warned_of():
    looks = [seen(0, accuracy=0.5), seen(10, accuracy=0.8), seen(20, LOOPS, accuracy=0.9)]
    found = notes([], looks, "dpo", kept=20)
    assert "no look after the start" not in one(found, "kept are flagged .step 20")
    assert "no look after the start is without" in one(notes([], [looks[0], looks[2]], "dpo"), "kept are flagged")


def test_longer_and_shorter_answers_are_said_with_the_ratio_and_the_win_rate():
    longer = one(notes([], [seen(0), seen(10, answers(55, 1), wins=0.9)], "dpo"), "^Answers became longer")
    assert "55 words on average at step 10, 40 at the start (1.38 times" in longer and "90.0% [75.0, 96.4]" in longer
    assert "--length-alpha" in longer
    assert "--length-alpha" not in one(notes([], [seen(0), seen(10, answers(55, 1))], "simpo"), "became longer")
    shorter = one(notes([], [seen(0), seen(10, answers(30, 1))], "dpo"), "^Answers became shorter")
    assert "(0.75 times" in shorter and "length." not in shorter
    assert none(notes([], [seen(0), seen(10, answers(44, 1))], "dpo"), "Answers became"), "a tenth is no matter"


def test_a_ratio_of_lengths_that_may_be_luck_is_not_spoken_of():
    uneven = [text if place else " ".join(WORDS * 20) for place, text in enumerate(BASE)]
    drift = (found := seen(10, uneven)).health.drifts["words"]
    assert drift.ratio and drift.low and drift.ratio > 1.2 and drift.low < 1
    assert none(notes([], [seen(0), found], "dpo"), "Answers became")


def test_a_policy_far_from_its_start_is_said():
    far = [seen(0), seen(10, wins=0.9, divergence=43.1)]
    assert "arXiv:2210.10760" in one(notes([], far, "dpo"), "43.1 nats an answer")
    assert "arXiv" not in one(notes([], far, "sft"), "43.1 nats an answer"), (
        "imitation has no rewards to go too far for"
    )
    assert none(notes([], [seen(0), seen(10, wins=0.9, divergence=6.0)], "dpo"), "Far from")


def test_a_sound_training_is_not_talked_down():
    looks = [seen(0, accuracy=0.5, chosen=-250, rejected=-260)]
    looks += [seen(10, answers(42, 3), wins=0.8, divergence=3.0, accuracy=0.8, chosen=-249, rejected=-270)]
    assert notes([], looks, "dpo", kept=10) == ()
    assert notes([], [], "dpo") == ()


# --- the picture -----------------------------------------------------------------------------------------------------

HISTORY: list[dict[str, float]] = [
    {"step": step, "loss": 0.7 - step / 100, "accuracy": 0.5 + step / 100, "margin": step / 10, "chosen": -200.0 - step,
     "rejected": -210.0 - 2 * step}
    for step in range(2, 41, 2)
]  # fmt: skip
LOOKS = [
    seen(0, accuracy=0.5, loss=0.69, margin=0.0, chosen=-250.0, rejected=-260.0),
    seen(
        20, answers(50, 2), wins=0.7, divergence=4.0, accuracy=0.7, loss=0.6, margin=1.5, chosen=-251.0, rejected=-280.0
    ),
    seen(40, LOOPS, wins=0.9, divergence=30.0, accuracy=0.8, loss=0.3, margin=4.0, chosen=-280.0, rejected=-340.0),
]  # fmt: skip
PANELS = [
    "loss", "accuracy", "log p of a response, nats", "margin", "KL from the start, nats an answer", "words an answer",
    "win rate against the start", "unfit answers",
]  # fmt: skip


def read(drawn: str) -> tuple[list[str], list[str]]:
    """The words of a picture, and what its marks say."""
    root: Any = ET.fromstring(drawn)
    width, height = float(root.get("width")), float(root.get("height"))
    for element in root.iter():
        for name, most in (("x", width), ("x1", width), ("x2", width), ("y", height), ("y1", height), ("y2", height)):
            assert element.get(name) is None or 0 <= float(element.get(name)) <= most, "it stands outside"
    space = "{http://www.w3.org/2000/svg}"
    return [each.text for each in root.iter(f"{space}text")], [each.text for each in root.iter(f"{space}title")]


def test_the_picture_is_one_file_with_every_panel_and_every_look():
    drawn = curves(HISTORY, LOOKS, 20)
    words, marks = read(drawn)
    assert [word for word in words if word in PANELS] == PANELS
    assert not re.search(r"(href|src=|url\(|@import|<script|<style)", drawn)
    assert "win rate against the start, win rate, step 20: 70% [53%, 83%]" in marks
    assert "accuracy, held out, step 40: 80%" in marks
    assert "log p of a response, nats, chosen, step 40: -280" in marks
    assert any(mark.startswith("unfit answers, unfit, step 40: 50% [") for mark in marks)
    assert any(mark.startswith("words an answer, words, step 0: 40") for mark in marks)


def test_flagged_looks_and_the_kept_step_are_marked_in_every_panel():
    sound = LOOKS[:2]
    flag, kept = 'stroke-width="1.2" stroke-dasharray', 'stroke-width="7"'
    with_flag = curves(HISTORY, LOOKS, 20)
    assert with_flag.count(flag) == len(PANELS) + 1, "one is in the words above"
    assert with_flag.count(kept) == len(PANELS) + 1
    assert flag not in curves(HISTORY, sound) and kept not in curves(HISTORY, sound)
    assert "flagged" not in curves(HISTORY, sound)


def test_what_nothing_is_known_of_has_no_panel():
    words, _ = read(curves(HISTORY, []))
    assert [word for word in words if word in PANELS] == PANELS[:4]
    assert "Nothing was noted." in read(curves([], []))[0]
    words, _ = read(curves([{"step": 1, "loss": 2.0, "nll": 2.0}], [seen(0, loss=2.1), seen(1, loss=2.0)]))
    assert [word for word in words if word in PANELS] == ["loss", *PANELS[4:6], "unfit answers"]


def test_a_loss_that_is_no_number_is_left_out_of_the_line():
    history = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": float("nan")}, {"step": 3, "loss": 0.5}]
    drawn = curves(history, [])
    read(drawn)
    assert "nan" not in drawn and drawn.count("<polyline") == 1


def test_held_out_pairs_of_the_log_are_drawn_where_no_look_says_them():
    assert "accuracy, held out, step 7: 61.0%" in read(curves([{"step": 7, "eval_accuracy": 0.61}], []))[1]


# --- the card --------------------------------------------------------------------------------------------------------


def report(tmp_path: Path, kept: int = 20, **changes: Any) -> TrainedPolicy:
    made = TrainedPolicy(
        folder=tmp_path / "tuned", counts={"training pairs": 12345, "held-out prompts": 9, "cut": 0},
        looks=tuple(LOOKS), kept=kept, steps=40, resumed=0, seconds=1.0, pairs_per_second=1.0, tokens_per_second=1.0,
        notes=notes(HISTORY, LOOKS, "dpo", kept),
    )  # fmt: skip
    return replace(made, **changes)


def head(card: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return found


DPO = PolicySettings(base="smollm2", learning_rate=3e-6, lora=16).resolved()


def test_the_card_has_the_head_that_the_hub_reads(tmp_path):
    found = head(policy_card(report(tmp_path), DPO, rubric=load_rubric("psychocounsel")))
    assert found["license"] == "unknown" and found["pipeline_tag"] == "text-generation"
    assert found["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert found["tags"] == ["prefkit", "conversational", "dpo", "psychocounsel"]
    assert head(policy_card(report(tmp_path), DPO, licence="mit", languages=["en"]))["license"] == "mit"
    assert "base_model" not in head(policy_card(report(tmp_path), replace(DPO, base="/home/anna/secret/base")))


def test_the_card_shows_the_start_beside_what_was_kept_and_the_end(tmp_path):
    card = policy_card(report(tmp_path), DPO, reward_model="/home/anna/secret/judge")
    assert "|  | start | step 20 (kept) | step 40 (last) |" in card
    assert "| held-out pairs put right | 50.0% | 70.0% | 80.0% |" in card
    assert "| win rate against the start |  | 70.0% [52.7, 83.0] | 90.0% [75.0, 96.4] |" in card
    assert (
        "| words an answer | 40 | 50 | " in card and "| KL from the start, nats an answer | 0.0 | 4.0 | 30.0 |" in card
    )
    assert re.search(r"\| unfit answers \| 0.0% \[0.0, 19.4\] \| .* \| 50.0% \[28.0, 72.0\] \|", card)
    assert "| text |  |  | flagged as degenerate |" in card and "nats a token of a chosen response" not in card
    assert "16 held-out prompts" in card and "`judge` is the reward model" in card and "anna" not in card
    assert "| training pairs | 12,345 |" in card and "cut" not in card
    assert all(note in card for note in notes(HISTORY, LOOKS, "dpo", 20))
    assert "(curves.svg)" in card and "Not for clinical use" in card and "apply_chat_template" in card


def test_the_card_says_which_weights_it_is_about(tmp_path):
    card = policy_card(report(tmp_path), DPO)
    assert "in 40 steps" in card and "The weights are those of step 20." in card
    card = policy_card(report(tmp_path, kept=40), DPO)
    assert "|  | start | step 40 (kept) |\n" in card and "The weights are those of" not in card
    assert "|  | start (kept) | step 40 (last) |" in policy_card(report(tmp_path, kept=0), DPO)
    bare = policy_card(report(tmp_path, looks=(), notes=(), counts={}), DPO)
    assert "Nothing: look at its answers" in bare and "## Data" not in bare
    assert "prompts that it was trained on" in policy_card(report(tmp_path, counts={"training pairs": 3}), DPO)


def test_the_card_lists_the_settings_that_had_a_say(tmp_path):
    card = policy_card(report(tmp_path), DPO)
    assert "| beta | 0.1 |" in card and "| learning rate | 3e-06 |" in card and "| lora | 16 |" in card
    assert not re.search(r"\| (gamma|sft|length alpha|quantize|imitate|freeze layers|max steps) \|", card)
    card = policy_card(report(tmp_path), PolicySettings(base="smollm2", method="sft").resolved())
    assert "| imitate | best |" in card and "| beta |" not in card and "| seed | 0 |" in card


def test_the_card_follows_the_stages_to_the_first_base(tmp_path):
    before = tmp_path / "tuned-sft"
    before.mkdir()
    (before / "training.json").write_text(json.dumps({"settings": {"base": "smollm2", "method": "sft"}}))
    card = policy_card(report(tmp_path), replace(DPO, base=str(before)))
    assert "made from `tuned-sft` (supervised training on preferred responses), itself made from `smollm2`" in card
    assert head(card)["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    (before / "training.json").write_text("{cut")
    assert "base_model" not in head(policy_card(report(tmp_path), replace(DPO, base=str(before))))
