"""A packed row gives the rewards and gradients of its texts read one by one, in all architectures it claims."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import DECODERS, ENCODERS, WINDOW, tiny_classifier, tiny_model

from prefkit.training import attention
from prefkit.training.groups import Group, Pair, TokenGroup
from prefkit.training.packed import enable_packing, packed_rewards, packs, padded_rewards, rewards
from prefkit.training.packing import SHARED, PackedRow, group_tokens, pack, plan_rows

# peft reads transformers' old name of activation checkpointing
old_name = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
PAD = 0
SYSTEM = np.arange(10, 22, dtype=np.int32)


@pytest.fixture(autouse=True)
def quiet() -> None:
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def group(
    name: str, prompt: Sequence[int] | np.ndarray, responses: Sequence[Sequence[int] | np.ndarray], **pair: Any
) -> TokenGroup:
    """A group of these tokens, with all pairs among its responses, the earlier one preferred."""
    count = len(responses)
    pairs = [
        Pair(id=f"{name}/{better}{worse}", chosen=better, rejected=worse, **pair)
        for better in range(count)
        for worse in range(better + 1, count)
    ]
    words = Group(
        prompt_id=name,
        messages=(),
        response_ids=tuple(map(str, range(count))),
        texts=("",) * count,
        policies=("",) * count,
        pairs=tuple(pairs),
    )
    return TokenGroup(words, np.array(prompt, np.int32), tuple(np.array(one, np.int32) for one in responses))


def made_up(name: str, prompt: int, lengths: Sequence[int], *, system: bool = True) -> TokenGroup:
    """A group of random tokens, under a system message that all share."""
    random = np.random.default_rng(sum(map(ord, name)))
    own = random.integers(4, 250, prompt)
    texts = [random.integers(4, 250, length) for length in lengths]
    return group(name, np.concatenate((SYSTEM, own)) if system else own, texts)


def several() -> PackedRow:
    """Prompts with one to five responses, most of them longer than the windows of the models that have one."""
    return pack(
        [
            made_up("a", 25, (6,)),
            made_up("b", 3, (WINDOW + 9, 4)),
            made_up("c", 14, (2, 30, 11)),
            made_up("d", 9, (1, 5, 3, 8)),
            made_up("e", 31, (7, 2, 9, 4, 20), system=False),
        ]
    )


def one_by_one(model: Any, row: PackedRow) -> torch.Tensor:
    """The reward of each text in a call of its own, by transformers alone."""
    return torch.cat([model(input_ids=row.input_ids[:, text]).logits for text in row.texts])


def close(found: torch.Tensor, expected: torch.Tensor, off: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, atol=off * float(expected.detach().abs().max() + 1e-6), rtol=off)


def same_gradients(model: Any, plain: Any, row: PackedRow) -> None:
    """Rewards and all gradients agree, with weights that tell the responses apart."""
    found, expected = packed_rewards(model, row), one_by_one(plain, row)
    close(found, expected)
    weights = torch.linspace(-1, 2, expected.numel()).reshape(expected.shape)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    trained = {name: one.grad for name, one in plain.named_parameters() if one.requires_grad}
    assert trained
    mine = dict(model.named_parameters())
    for name, gradient in trained.items():
        close(mine[name].grad, gradient, 2e-5)


@pytest.mark.parametrize("kind", DECODERS)
def test_rewards_and_gradients_are_those_of_the_texts_one_by_one(tmp_path: Path, kind: Any) -> None:
    plain = tiny_classifier(tmp_path, kind, labels=2)
    model = copy.deepcopy(plain)
    assert enable_packing(model) is None
    row = several()
    assert row.tokens < sum(map(len, row.texts)) * 0.6
    same_gradients(model, plain, row)


@pytest.mark.parametrize(
    ("kind", "without"),
    [
        ("mistral", {"sliding_window": None}),
        ("gemma2", {"sliding_window": 4096}),
        ("gemma2", {"attn_logit_softcapping": None}),
        ("gemma3", {"sliding_window": 4096}),
    ],
)
def test_a_window_and_a_cap_change_the_rewards_so_the_test_above_sees_them(
    tmp_path: Path, kind: Any, without: dict[str, Any]
) -> None:
    row = several()
    models = [tiny_classifier(tmp_path / "with", kind), tiny_classifier(tmp_path / "without", kind, **without)]
    assert [enable_packing(model) for model in models] == [None, None]
    found, other = (packed_rewards(model, row).detach() for model in models)
    assert (found - other).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_gradient_checkpointing_changes_nothing(tmp_path: Path, kind: Any) -> None:
    plain = tiny_classifier(tmp_path, kind)
    model = copy.deepcopy(plain)
    enable_packing(model)
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    assert model.is_activation_checkpointing
    same_gradients(model, plain, several())


@old_name
def test_lora_adapters_get_the_same_gradients(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    def adapted() -> Any:
        model = tiny_classifier(tmp_path)
        enable_packing(model)
        return model

    config = LoraConfig(
        task_type="SEQ_CLS", r=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False
    )
    torch.manual_seed(1)
    model = get_peft_model(adapted(), config)
    plain = get_peft_model(tiny_classifier(tmp_path), config)
    plain.load_state_dict(model.state_dict())
    assert packs(model)
    same_gradients(model.eval(), plain.eval(), several())


def test_a_row_of_one_response_and_a_row_without_prompt_are_read(tmp_path: Path) -> None:
    plain = tiny_classifier(tmp_path)
    model = copy.deepcopy(plain)
    enable_packing(model)
    for row in (pack([group("a", [5, 6], [[7]])]), pack([group("a", [], [[7, 8, 9], [7, 9]])])):
        close(packed_rewards(model, row), one_by_one(plain, row))


def test_attention_dropout_is_drawn_in_training_and_off_outside(tmp_path: Path) -> None:
    plain = tiny_classifier(tmp_path, attention_dropout=0.5)
    model = copy.deepcopy(plain)
    enable_packing(model)
    row = several()
    close(packed_rewards(model, row), one_by_one(plain, row))
    model.train()
    assert (packed_rewards(model, row) - packed_rewards(model, row)).abs().max() > 1e-3


def test_the_mask_of_flex_attention_is_the_dense_one() -> None:
    tree = several().tree
    for window in (None, WINDOW):
        blocks = tree.blocks(window, torch.device("cpu"))
        place = torch.arange(tree.tokens)
        flex = blocks.mask_mod(torch.tensor(0), torch.tensor(0), place[:, None], place[None, :])
        assert torch.equal(flex, tree.visible(window, torch.device("cpu")))


def test_all_ways_of_computing_attention_agree() -> None:
    """Joined parts, span by span, and one dense masked call: the three for which there is code on a CPU."""
    tree = several().tree
    made = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, tree.tokens, 8, generator=made) for heads in (4, 2, 2))
    module = torch.nn.Module()
    joined, _ = attention.attend(module, query, key, value, None, packed=tree)
    by_span, _ = attention.attend(module, query, key, value, None, packed=tree, softcap=1e9)
    mask = tree.visible(None, query.device)
    dense = torch.nn.functional.scaled_dot_product_attention(query, key, value, mask, enable_gqa=True)
    close(joined, dense.transpose(1, 2))
    close(by_span, dense.transpose(1, 2), 1e-4)


@pytest.mark.parametrize("grouped", [True, False])
def test_gradients_of_the_joined_parts_are_those_of_finite_differences(
    monkeypatch: pytest.MonkeyPatch, grouped: bool
) -> None:
    monkeypatch.setattr(attention, "GROUPED", grouped)
    tree = pack([group("a", range(20, 29), [[1, 2, 3], [4, 5]]), group("b", range(40, 48), [[6]])]).tree
    assert len(tree.spans) == 4
    made = torch.Generator().manual_seed(0)
    states = [
        torch.randn(1, heads, tree.tokens, 4, generator=made, dtype=torch.float64, requires_grad=True)
        for heads in (4, 2, 2)
    ]
    module = torch.nn.Module()
    assert torch.autograd.gradcheck(
        lambda query, key, value: attention.attend(module, query, key, value, None, packed=tree, scaling=0.4)[0],
        states,
        fast_mode=True,
    )


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_bf16_and_autocast_give_nearly_the_rewards_of_float32(tmp_path: Path, kind: Any) -> None:
    model = tiny_classifier(tmp_path, kind)
    enable_packing(model)
    row = several()
    expected = packed_rewards(model, row).detach()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = packed_rewards(model, row).detach()
    half = packed_rewards(model.to(torch.bfloat16), row).detach()
    for found in (mixed, half):
        assert 0 < (found - expected).abs().max() < 0.1 * expected.std()
        assert found.dtype == torch.float32


def test_plain_calls_are_what_they_were(tmp_path: Path) -> None:
    """Padded on either side, without a mask, and in training mode."""
    for kind in ("llama", "gemma2", "mistral"):
        plain = tiny_classifier(tmp_path / kind, kind)
        model = copy.deepcopy(plain)
        enable_packing(model)
        ids = torch.randint(4, 250, (3, 2 * WINDOW))
        mask = torch.ones_like(ids)
        mask[0, 20:] = 0
        ids[0, 20:] = PAD
        close(model(input_ids=ids, attention_mask=mask).logits, plain(input_ids=ids, attention_mask=mask).logits)
        close(model(input_ids=ids[1:]).logits, plain(input_ids=ids[1:]).logits)


def test_a_saved_model_says_nothing_of_packing(tmp_path: Path) -> None:
    model = tiny_classifier(tmp_path / "base")
    enable_packing(model)
    model.save_pretrained(tmp_path / "saved")
    words = (tmp_path / "saved" / "config.json").read_text()
    assert "packed" not in words
    assert "LlamaForSequenceClassification" in words


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_reads_padded_rows_and_says_why(tmp_path: Path, kind: Any) -> None:
    model = tiny_classifier(tmp_path, kind)
    assert "encoder" in str(enable_packing(model))
    assert not packs(model)
    row = several()
    close(rewards(model, row, PAD), one_by_one(model, row), 1e-4)


def test_an_encoder_of_text_pairs_is_told_which_tokens_are_the_responses(tmp_path: Path) -> None:
    model = tiny_classifier(tmp_path, "bert")
    groups = [replace(made_up(name, 5, (3, 8)), two_types=True) for name in "ab"]
    row = pack(groups)
    expected = torch.cat(
        [
            model(
                input_ids=row.input_ids[:, text],
                token_type_ids=torch.tensor([[0] * (len(text) - int(length)) + [1] * int(length)]),
            ).logits
            for text, length in zip(row.texts, row.lengths, strict=True)
        ]
    )
    close(rewards(model, row, PAD), expected, 1e-4)
    assert (rewards(model, row, PAD) - one_by_one(model, row)).abs().max() > 1e-3


@pytest.mark.parametrize("batch", [None, 1, 4])
def test_padded_rows_give_the_rewards_of_the_texts_one_by_one(tmp_path: Path, batch: int | None) -> None:
    plain = tiny_classifier(tmp_path)
    model = copy.deepcopy(plain)
    enable_packing(model)
    row = several()
    close(padded_rewards(model, row, PAD, batch), one_by_one(plain, row))


def test_padding_with_the_end_of_text_does_not_move_where_a_reward_is_read(tmp_path: Path) -> None:
    """Pad 2 is the end of text here: a plain call would read the reward one token early, at the last token != 2."""
    model = tiny_classifier(tmp_path, pad_is_eos=True)
    assert model.config.pad_token_id == 2
    enable_packing(model)
    row = pack([group("a", [5, 6, 7], [[8, 2], [9, 9, 9, 2]])])
    early = torch.cat([model(input_ids=row.input_ids[:, text]).logits for text in row.texts])
    close(packed_rewards(model, row), padded_rewards(model, row, 2))
    assert (packed_rewards(model, row) - early).abs().max() > 1e-3


def test_a_model_that_mixes_tokens_otherwise_than_by_attention_is_refused(tmp_path: Path) -> None:
    """Its layers add to each token what stands one place before it in the row, as a convolution would."""
    model = tiny_classifier(tmp_path)
    layer = model.model.layers[0]
    plain = layer.mlp.forward
    layer.mlp.forward = lambda states: plain(states + 3 * states.roll(1, dims=1))
    reason = enable_packing(model)
    assert reason is not None
    assert "hidden states" in reason
    assert not packs(model)


def test_a_window_that_only_the_mask_knows_of_is_refused(tmp_path: Path) -> None:
    model = tiny_classifier(tmp_path, "gemma3")
    model.model.layers[0].self_attn.sliding_window = None
    assert "sliding_attention" in str(enable_packing(model))


def test_packing_a_row_keeps_who_is_who() -> None:
    """Two prompts with 2 and 3 responses: the second group's response 0 is the row's response 2."""
    first = group("a", range(20, 30), [[1, 2], [3]], preferred=0.75, weight=2.0, gap=1.5, gaps={"warm": 2.0})
    second = group("b", range(40, 50), [[4], [5, 6, 7], [8]], principle_preferred={"warm": 1.0, "safe": None})
    row = pack([first, second], principles=("warm", "safe"))
    assert row.pair_ids == ("a/01", "b/01", "b/02", "b/12")
    assert row.chosen.tolist() == [0, 2, 2, 3]
    assert row.rejected.tolist() == [1, 3, 4, 4]
    assert row.pair_prompt.tolist() == [0, 1, 1, 1]
    assert row.target.tolist() == [0.75, 1, 1, 1]
    assert row.weight.tolist() == [2, 1, 1, 1]
    assert row.gap[0] == 1.5
    assert row.gap[1:].isnan().all()
    assert row.gaps[0, 0] == 2
    assert row.gaps.isnan().sum() == 7
    assert row.principle_targets[1:, 0].tolist() == [1, 1, 1]
    assert row.principle_targets.isnan().sum() == 5
    assert row.lengths.tolist() == [2, 1, 1, 3, 1]
    assert row.prompt.tolist() == [0, 0, 1, 1, 1]
    assert row.place.tolist() == [0, 1, 0, 1, 2]
    assert row.sizes == (2, 3)
    texts = [row.input_ids[0, text].tolist() for text in row.texts]
    assert texts[0] == [*range(20, 30), 1, 2]
    assert texts[3] == [*range(40, 50), 5, 6, 7]
    assert [row.input_ids[0, end].item() for end in row.ends] == [2, 3, 4, 7, 8]
    assert [row.position_ids[0, text].tolist() for text in row.texts] == [list(range(len(text))) for text in texts]
    assert row.without_weight().weight.tolist() == [0] * 4


def test_a_system_message_an_opening_and_a_repeated_response_are_read_once() -> None:
    """Spans: the system's 12; a prompt and an opening, 10 + 9; its ends, 1 and 2; the other prompt and text, 10 + 9."""
    opening = list(range(100, 109))
    one = group("a", [*SYSTEM, *range(30, 40)], [[*opening, 1], [*opening, 2, 3]])
    two = group("b", [*SYSTEM, *range(50, 60)], [[4] * 9, [4] * 9])
    row = pack([one, two])
    assert row.tokens == 12 + (10 + 9 + 1 + 2) + (10 + 9)
    assert row.ends[2] == row.ends[3]
    assert len(row.tree.spans) == 5


def test_a_beginning_shorter_than_a_span_is_worth_is_read_again() -> None:
    few = list(range(30, 30 + SHARED - 1))
    assert pack([group("a", few, [[1], [2]])]).tokens == 2 * SHARED
    assert pack([group("a", [*few, 99], [[1], [2]])]).tokens == SHARED + 2


def test_rows_are_filled_up_to_the_budget_and_the_same_each_time() -> None:
    """Largest first: 90 > 60 alone; 50 + 10; 30 + 30; 20."""
    sizes = [20, 30, 90, 10, 50, 30]
    assert plan_rows(sizes, 60) == [[2], [3, 4], [1, 5], [0]]
    assert plan_rows([], 60) == []
    assert plan_rows([50, 60, 30, 40, 20], 100) == [[1, 3], [0, 2, 4]]


def test_a_groups_size_counts_its_prompt_once() -> None:
    assert group_tokens(group("a", range(10), [[1, 2], [3, 4, 5]])) == 15


def test_a_row_without_responses_or_tokens_is_refused() -> None:
    for groups in ([], [group("a", [5], [])], [group("a", [5], [[1], []])]):
        with pytest.raises(ValueError, match="a row needs"):
            pack(groups)


@old_name
def test_enabling_what_peft_wrapped_binds_the_classifier_inside(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["o_proj", "up_proj"], init_lora_weights=False)
    model = get_peft_model(tiny_classifier(tmp_path), config).eval()
    expected = one_by_one(model, several())
    assert enable_packing(model) is None
    close(packed_rewards(model, several()), expected)


def test_a_copy_of_a_model_reads_with_its_own_weights(tmp_path: Path) -> None:
    model = tiny_classifier(tmp_path)
    enable_packing(model)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.1)
    row = several()
    close(packed_rewards(other, row), one_by_one(other, row))
    assert (packed_rewards(other, row) - packed_rewards(model, row)).abs().max() > 1e-3


def test_of_the_last_layer_only_what_is_read_is_computed(tmp_path: Path) -> None:
    """15 responses end at 15 places; the first layer's part still sees every token."""
    model = tiny_classifier(tmp_path)
    enable_packing(model)
    seen: list[int] = []
    for layer in model.model.layers:
        layer.mlp.down_proj.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    row = several()
    packed_rewards(model, row)
    assert seen == [row.tokens, 15]


def test_a_model_whose_forward_was_replaced_is_refused(tmp_path: Path) -> None:
    model = tiny_classifier(tmp_path)
    model.forward = lambda **options: None
    with pytest.raises(ValueError, match="before the model is prepared"):
        enable_packing(model)


def test_enabling_twice_binds_once(tmp_path: Path) -> None:
    tiny_model(tmp_path)
    model = tiny_classifier(tmp_path)
    enable_packing(model)
    forward = model.forward
    assert enable_packing(model) is None
    assert model.forward == forward
