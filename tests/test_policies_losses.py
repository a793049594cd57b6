"""Log-probabilities in packed rows, and the losses of policies, beside plain transformers and trl."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import DECODERS, tiny_model

from prefkit.policies.logprobs import LogProbs, enable_packing, log_probs
from prefkit.policies.losses import PolicyLoss, PolicyLossSettings, log_odds
from prefkit.training.groups import Group, Pair, TokenGroup
from prefkit.training.packing import PackedRow, pack

pytestmark = [
    # trl and peft call transformers by old names
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:You are importing from 'trl.experimental':UserWarning"),
]


def group(name: str, prompt: int, lengths: tuple[int, ...], pairs: tuple[tuple[int, int], ...] = ()) -> TokenGroup:
    draw = np.random.default_rng(sum(map(ord, name)))
    ids = [draw.integers(4, 250, length, dtype=np.int32) for length in (prompt, *lengths)]
    names = tuple(f"{name}{place}" for place in range(len(lengths)))
    told = tuple(Pair(id=f"{name}:{one}>{other}", chosen=one, rejected=other) for one, other in pairs)
    of = Group(prompt_id=name, messages=(), response_ids=names, texts=names, policies=names, pairs=told)
    return TokenGroup(of, ids[0], tuple(ids[1:]))


GROUPS = (
    group("a", 25, (6, 31), ((0, 1),)),
    group("b", 3, (30, 4, 11), ((0, 1), (0, 2), (2, 1))),
    group("c", 14, (1, 9), ((1, 0),)),
)


def language_model(folder: Path, kind: Any = "llama", **options: Any) -> Any:
    import transformers

    if not (folder / "config.json").exists():
        tiny_model(folder, kind, **options)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def plainly(model: Any, row: PackedRow) -> torch.Tensor:
    """The log-probability of each token of the responses, a text at a time, by transformers alone."""
    parts = []
    for text, size in zip(row.texts, row.lengths.tolist(), strict=True):
        ids = row.input_ids[:, text]
        logits = model(input_ids=ids).logits[0].float().log_softmax(-1)
        parts.append(logits[-size - 1 : -1].gather(1, ids[0, -size:, None])[:, 0])
    return torch.cat(parts)


def close(found: torch.Tensor, expected: torch.Tensor, off: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, atol=off * float(expected.detach().abs().max() + 1e-6), rtol=off)


@pytest.mark.parametrize("kind", DECODERS)
def test_log_probabilities_and_gradients_are_those_of_the_texts_one_by_one(tmp_path: Path, kind: Any) -> None:
    plain = language_model(tmp_path, kind)
    model = copy.deepcopy(plain)
    assert enable_packing(model) is None
    row = pack(GROUPS)
    found, expected = log_probs(model, row, 0).tokens, plainly(plain, row)
    close(found, expected)
    weights = torch.linspace(-1, 2, len(found))
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    mine = dict(model.named_parameters())
    for name, one in plain.named_parameters():
        close(mine[name].grad, one.grad, 3e-5)


def test_logits_that_are_made_again_give_the_same_gradients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefkit.policies import logprobs

    model = language_model(tmp_path)
    enable_packing(model)
    row, gradients = pack(GROUPS), []
    for kept in (logprobs.KEPT, 4096):
        monkeypatch.setattr(logprobs, "KEPT", kept)
        monkeypatch.setattr(logprobs, "PIECE", 8192)
        model.zero_grad()
        log_probs(model, row, 0).sums().square().sum().backward()
        gradients.append([one.grad.clone() for one in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        close(other, one)


def test_a_second_backward_pass_through_spent_logits_is_refused(tmp_path: Path) -> None:
    model = language_model(tmp_path)
    enable_packing(model)
    said = log_probs(model, pack(GROUPS), 0).tokens.sum()
    said.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="spent"):
        said.backward()


def test_a_model_that_cannot_pack_reads_padded_rows(tmp_path: Path) -> None:
    model = language_model(tmp_path)
    enable_packing(model)
    row = pack(GROUPS)
    packed = log_probs(model, row, 0).tokens
    model.packing_refused = "made up"
    close(log_probs(model, row, 0).tokens, packed)


def test_collisions_are_the_probability_of_drawing_a_token_twice(tmp_path: Path) -> None:
    model = language_model(tmp_path)
    enable_packing(model)
    row = pack(GROUPS[:1])
    found = log_probs(model, row, 0, collisions=True).collisions
    assert found is not None
    text, size = row.texts[1], int(row.lengths[1])
    probabilities = model(input_ids=row.input_ids[:, text]).logits[0, -size - 1 : -1].softmax(-1)
    close(found[-size:].exp(), probabilities.square().sum(-1))


def numbers(row: PackedRow, policy: list[float], reference: list[float] | None = None, **settings: Any) -> float:
    """The loss of a row whose responses have these log-probabilities, all in their first token."""

    def said(sums: list[float]) -> LogProbs:
        parts = [torch.tensor([one, *[0.0] * (size - 1)]) for one, size in zip(sums, row.lengths.tolist(), strict=True)]
        return LogProbs(torch.cat(parts), row.lengths)

    loss = PolicyLoss(PolicyLossSettings(**settings))
    return float(loss(said(policy), said(reference) if reference else None, row).loss)


ONE = pack(GROUPS[:1])
"""One pair, of 6 and of 31 tokens."""


def test_dpo_by_hand() -> None:
    lead = 0.1 * ((-6.0 + 7.0) - (-31.0 + 30.0))
    assert numbers(ONE, [-6.0, -31.0], [-7.0, -30.0], method="dpo") == pytest.approx(math.log1p(math.exp(-lead)))


def test_a_label_that_half_of_the_annotators_share_pulls_to_both_sides() -> None:
    half = replace(ONE, target=torch.tensor([0.5]))
    even = numbers(half, [-6.0, -31.0], [-6.0, -31.0], method="dpo")
    assert even == pytest.approx(math.log(2))
    for other in ([-5.0, -31.0], [-7.0, -31.0]):
        assert numbers(half, other, [-6.0, -31.0], method="dpo") > even


def test_orpo_by_hand() -> None:
    chosen, rejected = math.exp(-1.0), math.exp(-2.0)
    ratio = math.log(chosen / (1 - chosen)) - math.log(rejected / (1 - rejected))
    expected = 1.0 + 0.2 * math.log1p(math.exp(-ratio))
    assert numbers(ONE, [-6.0, -62.0], method="orpo", beta=0.2) == pytest.approx(expected)


def test_simpo_by_hand() -> None:
    lead = 2.0 * (-1.0 + 2.0) - 0.5
    found = numbers(ONE, [-6.0, -62.0], method="simpo", beta=2.0, gamma=0.5)
    assert found == pytest.approx(math.log1p(math.exp(-lead)))


def test_ipo_by_hand() -> None:
    lead = (-6.0 + 7.0) / 6 - (-31.0 + 30.0) / 31
    found = numbers(ONE, [-6.0, -31.0], [-7.0, -30.0], method="ipo", beta=0.1)
    assert found == pytest.approx((lead - 5.0) ** 2)


def test_sft_counts_tokens() -> None:
    assert numbers(ONE, [-6.0, -31.0], method="sft") == pytest.approx(37.0)


def test_what_only_fills_a_gap_says_nothing() -> None:
    filler = ONE.without_weight()
    assert numbers(filler, [-6.0, -31.0], [-7.0, -30.0], method="dpo") == 0
    assert numbers(filler, [-6.0, -31.0], method="sft") == 0


def test_length_desensitised_dpo_counts_the_longer_rest_less() -> None:
    tokens = torch.cat((torch.full((6,), -1.0), torch.full((31,), -1.0)))
    policy, reference = LogProbs(tokens, ONE.lengths), LogProbs(2 * tokens, ONE.lengths)
    margins = [
        float(PolicyLoss(PolicyLossSettings(method="dpo", length_alpha=alpha)).margins(policy, reference, ONE)[0])
        for alpha in (1.0, 0.5, 0.0)
    ]
    assert margins == pytest.approx([0.1 * (6 - 31), 0.1 * (6 - 6 - 0.5 * 25), 0.0])


def test_log_odds_of_a_sure_thing_are_finite() -> None:
    assert bool(torch.isfinite(log_odds(torch.tensor([0.0, -1e-9, -50.0]))).all())


@pytest.mark.parametrize(
    "settings", [{"beta": 0.0}, {"label_smoothing": 0.5}, {"length_alpha": 2.0}, {"method": "orpo", "weighted": True}]
)
def test_a_setting_out_of_its_range_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|dpo"):
        PolicyLossSettings(**{"method": "dpo", **settings})


# --- beside trl ------------------------------------------------------------------------------------------------------


def conversations() -> list[dict[str, Any]]:
    """Pairs as trl wants them, with texts of unlike length."""
    texts = [("I hear how heavy this is for you.", "Cheer up."), ("Fine.", "What would you like to keep? Tell me.")]
    return [
        {
            "prompt": [{"role": "user", "content": f"Client {number}?"}],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }
        for number, (chosen, rejected) in enumerate(texts)
    ]


def as_row(rows: list[dict[str, Any]], tokenizer: Any) -> PackedRow:
    """The same pairs as prefkit reads them."""
    from prefkit.records import Message
    from prefkit.training.tokens import GroupTokenizer

    groups = [
        Group(
            prompt_id=str(number),
            messages=(Message(role="user", content=row["prompt"][0]["content"]),),
            response_ids=("c", "r"),
            texts=(row["chosen"][0]["content"], row["rejected"][0]["content"]),
            policies=("one", "other"),
            pairs=(Pair(id=str(number), chosen=0, rejected=1),),
        )
        for number, row in enumerate(rows)
    ]
    return pack(list(GroupTokenizer(tokenizer).tokenized(groups)))


def trl_arguments(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder), "bf16": False, "gradient_checkpointing": False, "report_to": "none", "use_cpu": True,
        "per_device_train_batch_size": 2, "max_length": 512, "disable_tqdm": True, "dataloader_pin_memory": False,
    }  # fmt: skip


def moved(model: Any) -> Any:
    """The model with its weights moved a little, so that it differs from its reference."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for one in model.parameters():
            one += 0.02 * torch.randn(one.shape, generator=draw)
    return model


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"loss_type": ["sigmoid"]}, {"method": "dpo"}),
        ({"loss_type": ["sigmoid"], "ld_alpha": 0.4}, {"method": "dpo", "length_alpha": 0.4}),
        ({"loss_type": ["sigmoid"], "use_weighting": True}, {"method": "dpo", "weighted": True}),
        ({"loss_type": ["ipo"]}, {"method": "ipo"}),
    ],
)
def test_dpo_and_its_variants_are_those_of_trl(tmp_path: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    start = language_model(tmp_path / "base")
    tokenizer, rows = AutoTokenizer.from_pretrained(tmp_path / "base"), conversations()
    policy, plain = copy.deepcopy(start), copy.deepcopy(start)
    arguments = DPOConfig(**trl_arguments(tmp_path / "trl"), beta=0.1, **theirs)
    trainer = DPOTrainer(
        plain, ref_model=copy.deepcopy(start), args=arguments, train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )  # fmt: skip
    moved(policy)
    plain.load_state_dict(policy.state_dict())
    batch = next(iter(trainer.get_train_dataloader()))
    expected = trainer.compute_loss(plain, batch)
    expected.backward()
    enable_packing(policy)
    enable_packing(start)
    row = as_row(rows, tokenizer)
    settings = PolicyLossSettings(beta=0.1, **ours)
    with torch.no_grad():
        reference = log_probs(start, row, 0)
    loss = PolicyLoss(settings)(log_probs(policy, row, 0, collisions=settings.weighted), reference, row).loss / 2
    loss.backward()
    close(loss, expected.detach())
    mine = dict(policy.named_parameters())
    for name, one in plain.named_parameters():
        close(mine[name].grad, one.grad, 1e-4)


def test_kto_is_that_of_trl_at_the_same_divergence(tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import KTOConfig, KTOTrainer

    start = language_model(tmp_path / "base")
    tokenizer, rows = AutoTokenizer.from_pretrained(tmp_path / "base"), conversations()
    policy, plain = copy.deepcopy(start), copy.deepcopy(start)
    singles = [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for row in rows
        for side in ("chosen", "rejected")
    ]
    arguments = KTOConfig(
        **trl_arguments(tmp_path / "trl") | {"per_device_train_batch_size": 4}, beta=0.1,
        train_sampling_strategy="sequential",
    )  # fmt: skip
    trainer = KTOTrainer(
        plain, ref_model=copy.deepcopy(start), args=arguments, train_dataset=Dataset.from_list(singles),
        processing_class=tokenizer,
    )  # fmt: skip
    moved(policy)
    plain.load_state_dict(policy.state_dict())
    plain.train()
    expected = trainer.compute_loss(plain, next(iter(trainer.get_train_dataloader())))
    expected.backward()
    (divergence,) = trainer._metrics["train"]["kl"]
    enable_packing(policy)
    enable_packing(start)
    row = as_row(rows[:2], tokenizer)
    with torch.no_grad():
        reference = log_probs(start, row, 0)
    loss = PolicyLoss(PolicyLossSettings(method="kto", beta=0.1))(
        log_probs(policy, row, 0), reference, row, divergence=divergence
    )
    (loss.loss / 2).backward()
    close(loss.loss / 2, expected.detach())
    mine = dict(policy.named_parameters())
    for name, one in plain.named_parameters():
        close(mine[name].grad, one.grad, 1e-4)


@pytest.mark.parametrize(("divergence", "expected"), [(0.0, 0.5 * (0.4378 + 0.4013)), (2.0, 0.5 * (0.4875 + 0.3543))])
def test_kto_by_hand(divergence: float, expected: float) -> None:
    """beta 0.1, log-ratios 2.5 of the chosen and -4 of the rejected response."""
    row = pack([group("h", 3, (1, 1), ((0, 1),))])
    policy = LogProbs(torch.tensor([-1.0, -6.0]), torch.tensor([1, 1]))
    reference = LogProbs(torch.tensor([-3.5, -2.0]), torch.tensor([1, 1]))
    loss = PolicyLoss(PolicyLossSettings(method="kto", beta=0.1))(policy, reference, row, divergence=divergence).loss
    assert float(loss) == pytest.approx(expected, abs=1e-4)


def of_batch(batch: dict[str, Any]) -> PackedRow:
    """The row of a batch of trl's experimental trainers, which close texts in their own way."""
    groups = []
    for number in range(len(batch["prompt_input_ids"])):
        sides = [batch[f"{side}_input_ids"][number].numpy() for side in ("chosen", "rejected")]
        said = [batch[f"{side}_labels"][number].numpy() != -100 for side in ("chosen", "rejected")]
        prompt = sides[0][: int(said[0].argmax())]
        texts = tuple(ids[mask].astype(np.int32) for ids, mask in zip(sides, said, strict=True))
        made = group(str(number), 1, tuple(map(len, texts)), ((0, 1),))
        groups.append(replace(made, prompt=prompt.astype(np.int32), responses=texts))
    return pack(groups)


def test_simpo_is_that_of_trl(tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    model = language_model(tmp_path / "base")
    arguments = CPOConfig(
        **trl_arguments(tmp_path / "trl"), beta=2.0, loss_type="simpo", simpo_gamma=0.5, cpo_alpha=0.0,
        remove_unused_columns=False,
    )  # fmt: skip
    trainer = CPOTrainer(
        copy.deepcopy(model), args=arguments, train_dataset=Dataset.from_list(conversations()),
        processing_class=AutoTokenizer.from_pretrained(tmp_path / "base"),
    )  # fmt: skip
    batch = next(iter(trainer.get_train_dataloader()))
    expected = trainer.compute_loss(trainer.model, batch)
    enable_packing(model)
    row = of_batch(batch)
    settings = PolicyLossSettings(method="simpo", beta=2.0, gamma=0.5)
    close(PolicyLoss(settings)(log_probs(model, row, 0), None, row).loss / 2, expected.detach())


def test_the_odds_ratio_of_orpo_is_that_of_trl(tmp_path: Path) -> None:
    """The other half is not compared: trl imitates the prompt as well, the paper's equation the response alone."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    model = language_model(tmp_path / "base")
    arguments = ORPOConfig(**trl_arguments(tmp_path / "trl"), beta=0.2, remove_unused_columns=False)
    trainer = ORPOTrainer(
        copy.deepcopy(model), args=arguments, train_dataset=Dataset.from_list(conversations()),
        processing_class=AutoTokenizer.from_pretrained(tmp_path / "base"),
    )  # fmt: skip
    batch = next(iter(trainer.get_train_dataloader()))
    chosen, rejected, *_ = trainer.concatenated_forward(trainer.model, batch)
    expected = -trainer.odds_ratio_loss(chosen, rejected)[0].mean()
    enable_packing(model)
    row = of_batch(batch)
    said = log_probs(model, row, 0)
    loss = PolicyLoss(PolicyLossSettings(method="orpo", beta=0.2))(said, None, row).loss / 2
    close(loss + said.means()[row.chosen].mean(), expected.detach())
