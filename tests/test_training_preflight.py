from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny import CHATML, tiny_classifier, tiny_model, tiny_tokenizer  # noqa: E402

from prefkit.errors import PrefkitError  # noqa: E402
from prefkit.records import Message  # noqa: E402
from prefkit.training.groups import Group  # noqa: E402
from prefkit.training.packed import enable_packing  # noqa: E402
from prefkit.training.packing import pack  # noqa: E402
from prefkit.training.preflight import check_rewards, check_texts, check_vocabulary, mended_padding, preflight  # noqa: E402
from prefkit.training.tokens import GroupTokenizer  # noqa: E402

GROUPS = [
    Group(
        prompt_id=f"p{place}",
        messages=(Message(role="user", content=said),),
        response_ids=("a", "b"),
        texts=texts,
        policies=("m", "n"),
    )
    for place, (said, texts) in enumerate(
        [
            (
                "I cannot sleep since my father died.",
                ("What was he like?", "Drink less coffee in the evening, and walk."),
            ),
            ("Work is too much.", ("Tell me about a day of yours.", "Quit.")),
        ]
    )
]


def load_tokenizer(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def tokens_of(tokenizer):
    return list(GroupTokenizer(tokenizer).tokenized(GROUPS))


@pytest.mark.parametrize("kind", ["llama", "gemma3", "bert"])
@pytest.mark.parametrize("packing", [True, False])
def test_a_sound_model_passes_and_keeps_its_mode(tmp_path, kind, packing):
    model = tiny_classifier(tmp_path, kind, labels=2)
    tokenizer = load_tokenizer(tmp_path)
    if packing:
        enable_packing(model)
    model.train()
    preflight(model, tokenizer, tokens_of(tokenizer), base="tiny")
    assert model.training


def test_an_encoder_that_tells_prompt_from_response_passes(tmp_path):
    model = tiny_classifier(tmp_path, "bert")
    tokenizer = load_tokenizer(tmp_path)
    tokens = [replace(group, two_types=True) for group in tokens_of(tokenizer)]
    preflight(model, tokenizer, tokens, base="tiny")


def test_half_precision_is_no_fault(tmp_path):
    model = tiny_classifier(tmp_path).to(torch.bfloat16)
    enable_packing(model)
    tokenizer = load_tokenizer(tmp_path)
    preflight(model, tokenizer, tokens_of(tokenizer), base="tiny")


# --- tokens


def without_template(folder, **options):
    tiny_model(folder, **options)
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = None
    return tokenizer


def test_padding_with_the_end_of_text_is_refused_and_mended(tmp_path):
    tokenizer = without_template(tmp_path, pad_is_eos=True)
    model = tiny_classifier(tmp_path)
    tokens = tokens_of(tokenizer)
    with pytest.raises(PrefkitError, match=r"4 of the first 4 texts end with the padding token '<\|im_end\|>'"):
        preflight(model, tokenizer, tokens, base="tiny")
    said = mended_padding(tokenizer, model.config)
    assert said == "rows are padded with <pad>: <|im_end|> can end a text"
    assert (tokenizer.pad_token_id, model.config.pad_token_id) == (0, 0)
    preflight(model, tokenizer, tokens, base="tiny")


def test_padding_that_is_right_stays(tmp_path):
    model = tiny_classifier(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert mended_padding(tokenizer, model.config) is None
    assert (tokenizer.pad_token, model.config.pad_token_id) == ("<pad>", 0)


def test_another_padding_token_in_the_config_is_mended_and_said(tmp_path):
    model = tiny_classifier(tmp_path)
    model.config.pad_token_id = 2
    assert mended_padding(load_tokenizer(tmp_path), model.config) == (
        "rows are padded with <pad>: the base's config says token 2"
    )
    assert model.config.pad_token_id == 0


def test_a_tokenizer_without_padding_gets_one(tmp_path):
    model = tiny_classifier(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    tokenizer.pad_token = model.config.pad_token_id = None
    assert mended_padding(tokenizer, model.config) == "rows are padded with <pad>: the base has none"


def test_a_vocabulary_that_does_not_fit_is_refused_and_the_prompt_named(tmp_path):
    model = tiny_classifier(tmp_path, vocab_size=80)
    tokenizer = load_tokenizer(tmp_path)
    tokens = tokens_of(tokenizer)
    highest = max(int(ids.max()) for ids in (tokens[0].prompt, *tokens[0].responses))
    with pytest.raises(PrefkitError) as caught:
        preflight(model, tokenizer, tokens, base="tiny")
    assert caught.value.found == f"token {highest} in the texts of prompt p0"
    assert caught.value.expected == "tokens below 80, the rows of its embedding"


def test_the_highest_token_that_fits_is_no_fault(tmp_path):
    tokenizer = load_tokenizer(tiny_model(tmp_path))
    tokens = tokens_of(tokenizer)
    highest = max(int(ids.max()) for group in tokens for ids in (group.prompt, *group.responses))
    embedding = SimpleNamespace(num_embeddings=highest + 1)
    check_vocabulary(SimpleNamespace(get_input_embeddings=lambda: embedding), tokens, "tiny")
    embedding.num_embeddings = highest
    with pytest.raises(PrefkitError):
        check_vocabulary(SimpleNamespace(get_input_embeddings=lambda: embedding), tokens, "tiny")


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("<bos>" + CHATML, r"the first token twice \(<bos>\), in 4 of the first 4 texts"),
        (CHATML.replace("<|im_end|>", ""), r"no token that ends the response \(such as <\|im_end\|>\)"),
        (CHATML.replace("<|im_end|>\n", "<|im_end|><|im_end|>"), r"the last token twice \(<\|im_end\|>\)"),
    ],
)
def test_a_template_that_begins_twice_or_never_ends_is_refused(tmp_path, template, found):
    tokenizer = load_tokenizer(tiny_tokenizer(tmp_path, bos=True, template=template))
    with pytest.raises(PrefkitError, match=found):
        check_texts(tokenizer, tokens_of(tokenizer), "tiny")


def test_one_text_that_quotes_an_end_is_no_fault(tmp_path):
    tokenizer = load_tokenizer(tiny_tokenizer(tmp_path))
    tokens = tokens_of(tokenizer)
    twice = np.array([*tokens[0].responses[0][:-1], 2, 2], dtype=np.int32)
    odd = replace(tokens[0], responses=(twice, tokens[0].responses[1]))
    check_texts(tokenizer, [odd, tokens[1]], "tiny")
    with pytest.raises(PrefkitError, match="the last token twice"):
        check_texts(tokenizer, [replace(odd, responses=(twice, twice))], "tiny")


# --- rewards


class Made(torch.nn.Module):
    """Gives each text a reward by a function of its tokens' numbers, [B, T], and the mask of what is no padding."""

    def __init__(self, reward):
        super().__init__()
        self.reward = reward
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.embedding = torch.nn.Embedding(300, 1)

    def get_input_embeddings(self):
        return self.embedding

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(logits=self.reward(input_ids.double(), attention_mask.double())[:, None])


def mean(ids, mask):
    return (ids * mask).sum(1) / mask.sum(1)


def without_last(ids, mask):
    return mean(ids[:, :-1], mask[:, 1:])


def over_padding(ids, mask):
    return ids.mean(1)


def by_batch(ids, mask):
    return mean(ids, mask) + len(ids)


def no_number(ids, mask):
    return mean(ids, mask) * math.nan


def zero(ids, mask):
    return 0 * mean(ids, mask)


@pytest.mark.parametrize(
    ("reward", "found"),
    [
        (without_last, "rewards that do not change with the last token, for 4 of 4 texts"),
        (zero, "rewards that do not change with the last token"),
        (over_padding, "rewards that change with padding and batch size"),
        (by_batch, "rewards that change with padding and batch size, by 3 where"),
        (no_number, "rewards that are no numbers, for 4 of 4 texts"),
    ],
)
def test_rewards_that_mean_nothing_are_refused(tmp_path, reward, found):
    tokenizer = load_tokenizer(tiny_tokenizer(tmp_path))
    tokens = tokens_of(tokenizer)
    preflight(Made(mean), tokenizer, tokens, base="made")
    with pytest.raises(PrefkitError, match=found):
        preflight(Made(reward), tokenizer, tokens, base="made")


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    model = tiny_classifier(tmp_path)
    enable_packing(model)
    with torch.no_grad():
        model.score.weight[0, 0] = math.nan
    tokenizer = load_tokenizer(tmp_path)
    with pytest.raises(PrefkitError, match="rewards that are no numbers, for 4 of 4 texts"):
        preflight(model, tokenizer, tokens_of(tokenizer), base="tiny")


def as_one_text(model, row, pad):
    """A packed row without a mask: a response sees those before it."""
    return model.score(model.model(row.input_ids).last_hidden_state[0, row.ends])


def test_packing_in_which_responses_see_each_other_is_refused(tmp_path, monkeypatch):
    model = tiny_classifier(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    monkeypatch.setattr("prefkit.training.preflight.rewards_in_training", as_one_text)
    with pytest.raises(PrefkitError, match="rewards that change with what else is read in the same row"):
        preflight(model, tokenizer, tokens_of(tokenizer), base="tiny")


def test_a_reward_read_one_token_early_is_refused(tmp_path):
    """What plain transformers does when texts end with the padding token, here the line break behind the last turn."""
    model = tiny_classifier(tmp_path)
    enable_packing(model)
    tokenizer = load_tokenizer(tmp_path)
    tokens = tokens_of(tokenizer)
    model.config.pad_token_id = int(tokens[0].responses[0][-1])
    with pytest.raises(PrefkitError, match="rewards that change with padding and batch size"):
        check_rewards(model, tokenizer, pack(tokens), "tiny")
