"""Answers of a policy: what they depend on and what not, why they end, and what is left of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import CHATML, tiny_model, tiny_tokenizer

from prefkit.errors import PrefkitError
from prefkit.policies.opening import open_policy, policy_folder
from prefkit.policies.sampling import Answer, sample
from prefkit.policies.templates import stop_tokens

PROMPTS = ["Hello", "I feel sad all the time and do not know why.", "x" * 40, "Hello", "And then?"]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """In 64 bits, so that no draw is tied in rounding."""
    model, tokenizer = open_policy(tiny_model(tmp_path_factory.mktemp("policy")))
    return model.double(), tokenizer


def texts(answers: list[list[Answer]]) -> list[list[str]]:
    return [[one.text for one in several] for several in answers]


@pytest.mark.parametrize("settings", [{"temperature": 1.0}, {"temperature": 0.7, "top_p": 0.8}, {"temperature": 0}])
@pytest.mark.parametrize("tokens", [1, 300, 700])
def test_the_budget_changes_no_answer(policy, settings, tokens):
    asked = {"samples": 3, "max_tokens": 30, "seed": 1, **settings}
    whole = sample(*policy, PROMPTS, **asked)
    parted = sample(*policy, PROMPTS, tokens=tokens, **asked)
    assert texts(parted) == texts(whole)
    assert [[one.tokens for one in several] for several in parted] == [
        [one.tokens for one in several] for several in whole
    ]


def test_an_answer_depends_on_its_prompt_and_not_on_its_neighbours(policy):
    among = texts(sample(*policy, PROMPTS, max_tokens=20, seed=3))
    assert texts(sample(*policy, [PROMPTS[2]], max_tokens=20, seed=3)) == [among[2]]
    assert texts(sample(*policy, PROMPTS[::-1], max_tokens=20, seed=3))[2] == among[2]


def test_seeds_samples_and_equal_prompts_differ(policy):
    first = texts(sample(*policy, PROMPTS, samples=2, max_tokens=20, seed=1))
    assert texts(sample(*policy, PROMPTS, samples=2, max_tokens=20, seed=1)) == first
    assert texts(sample(*policy, PROMPTS, samples=2, max_tokens=20, seed=2)) != first
    assert first[1][0] != first[1][1]
    assert first[0] != first[3]


def test_more_samples_leave_the_first_ones_as_they_are(policy):
    few, more = (sample(*policy, PROMPTS, samples=count, max_tokens=20, seed=1) for count in (1, 3))
    assert [several[0].text for several in more] == [several[0].text for several in few]


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2", "gemma3", "mistral"])
def test_greedy_answers_are_those_of_transformers(tmp_path, kind):
    """Prompts of more tokens than the window of those that have one, padded beside each other."""
    model, tokenizer = open_policy(tiny_model(tmp_path, kind))
    found = sample(model, tokenizer, PROMPTS[1:3], max_tokens=20, temperature=0)
    for prompt, (answer,) in zip(PROMPTS[1:3], found, strict=True):
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        said = model.generate(ids, do_sample=False, max_new_tokens=20, pad_token_id=0)[0, ids.shape[1] :].tolist()
        assert answer.text == tokenizer.decode([token for token in said if token != tokenizer.eos_token_id])


def test_mean_log_probability_is_what_one_forward_says(policy):
    """At temperature 1, however the words were drawn."""
    model, tokenizer = policy
    ((answer,),) = sample(model, tokenizer, [PROMPTS[1]], max_tokens=12, temperature=1.7, seed=5)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": PROMPTS[1]}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    said = list(answer.ids)
    with torch.no_grad():
        logprobs = model(torch.tensor([ids + said])).logits[0].log_softmax(-1)
    by_hand = sum(float(logprobs[len(ids) + place - 1, word]) for place, word in enumerate(said)) / len(said)
    assert answer.tokens == len(said)
    assert answer.logprob == pytest.approx(by_hand)


def test_shares_of_drawn_words_are_the_softmax(policy):
    """4,000 first words against their probabilities: within four standard errors, each of the ten likeliest."""
    model, tokenizer = policy
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    with torch.no_grad():
        logits = model(torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])).logits[0, -1]
    expected = (logits / 0.8).softmax(-1)
    (answers,) = sample(model, tokenizer, ["Hi"], samples=4000, max_tokens=1, temperature=0.8)
    for word in expected.topk(10).indices.tolist():
        text, share = tokenizer.decode([word]), float(expected[word])
        if word in tokenizer.all_special_ids or "\ufffd" in text:
            continue
        found = sum(one.text == text for one in answers) / 4000
        assert abs(found - share) < 4 * (share * (1 - share) / 4000) ** 0.5


def test_top_p_draws_only_the_likeliest(policy):
    model, tokenizer = policy
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    with torch.no_grad():
        logits = model(torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])).logits[0, -1]
    shares, words = logits.softmax(-1).sort(descending=True)
    kept = words[: int((shares.cumsum(0) - shares < 0.5).sum())]
    allowed = {"" if word == tokenizer.eos_token_id else tokenizer.decode([word]) for word in kept.tolist()}
    (answers,) = sample(model, tokenizer, ["Hi"], samples=300, max_tokens=1, top_p=0.5)
    assert {one.text for one in answers} == allowed


def test_an_answer_ends_by_itself_or_at_the_limit(policy):
    answers = [one for several in sample(*policy, PROMPTS, samples=8, max_tokens=40) for one in several]
    assert {one.finish for one in answers} == {"stop", "length"}
    assert all((one.finish == "length") == (one.tokens == 40) for one in answers)
    assert not any("<|im_end|>" in one.text for one in answers)


def test_the_context_of_the_model_ends_an_answer(tmp_path):
    model, tokenizer = open_policy(tiny_model(tmp_path, max_position_embeddings=60))
    ((answer,),) = sample(model, tokenizer, ["Hi"], max_tokens=500, seed=1)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert answer.tokens <= 60 - len(tokenizer(asked)["input_ids"])
    with pytest.raises(PrefkitError, match=r"prompt 1: found .* tokens; expected fewer than the context of 60"):
        sample(model, tokenizer, ["Hi", "x" * 60])


def test_what_closes_a_turn_in_the_template_ends_an_answer(tmp_path):
    """The end of text is another token than the one that the template writes."""
    model, tokenizer = open_policy(tiny_model(tmp_path))
    model.generation_config.eos_token_id = None
    tokenizer.eos_token = "<bos>"
    assert stop_tokens(model, tokenizer) == {2, 3}


def test_another_speakers_template_stays_in_the_text(policy):
    """The end of the turn is the only special token that is taken off."""
    said = "".join(one.text for several in sample(*policy, PROMPTS, samples=20, max_tokens=40) for one in several)
    assert "<|im_start|>" in said


def test_a_model_in_training_is_as_it_was_afterwards(policy):
    model, tokenizer = policy
    expected = texts(sample(model, tokenizer, PROMPTS, max_tokens=10, seed=1))
    model.train()
    model.model.layers[0].eval()
    modes = [part.training for part in model.modules()]
    torch.manual_seed(7)
    state = torch.get_rng_state()
    try:
        assert texts(sample(model, tokenizer, PROMPTS, max_tokens=10, seed=1)) == expected
        assert [part.training for part in model.modules()] == modes
        assert torch.equal(torch.get_rng_state(), state)
        ids = torch.tensor([[4, 5, 6]])
        model(input_ids=ids, labels=ids).loss.backward()  # nothing that was made without gradients is in the way
        assert model.lm_head.weight.grad is not None
        with pytest.raises(PrefkitError):
            sample(model, tokenizer, [[]])
        assert [part.training for part in model.modules()] == modes
    finally:
        model.zero_grad()
        model.eval()


def test_dropout_is_off_while_a_model_in_training_answers(tmp_path):
    model, tokenizer = open_policy(tiny_model(tmp_path, attention_dropout=0.5))
    expected = texts(sample(model, tokenizer, PROMPTS, max_tokens=10, temperature=0))
    assert texts(sample(model.train(), tokenizer, PROMPTS, max_tokens=10, temperature=0)) == expected


def test_adapters_take_part(tmp_path):
    import peft

    from prefkit.training.building import quiet

    model, tokenizer = open_policy(tiny_model(tmp_path))
    before = texts(sample(model, tokenizer, PROMPTS, max_tokens=10, temperature=0))
    with quiet():
        wrapped = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear"))
    assert texts(sample(wrapped, tokenizer, PROMPTS, max_tokens=10, temperature=0)) == before
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.3)
    assert texts(sample(wrapped, tokenizer, PROMPTS, max_tokens=10, temperature=0)) != before


def test_a_dialogue_and_a_folder_are_taken(tmp_path):
    folder = tiny_model(tmp_path)
    turns = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "I am sad."},
    ]
    told: list[int] = []
    found = sample(folder, prompts=[turns, "Hello"], max_tokens=4, received=lambda place, answer: told.append(place))
    assert sorted(told) == [0, 1]
    assert [len(several) for several in found] == [1, 1]


def test_a_system_message_goes_to_the_user_where_the_template_has_no_such_role(tmp_path):
    strict = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
    folder = tiny_model(tmp_path)
    tiny_tokenizer(folder, template=strict)
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    folded = [{"role": "user", "content": "Be kind.\n\nHello"}]
    found = sample(folder, prompts=[turns, folded], max_tokens=8, temperature=0)
    assert found[0] == found[1]


def test_a_tokenizer_without_a_chat_template_is_said(tmp_path):
    folder = tiny_model(tmp_path)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(PrefkitError, match="a tokenizer without a chat template"):
        sample(folder, prompts=["Hello"])


@pytest.mark.parametrize(
    "setting", [{"samples": 0}, {"max_tokens": 0}, {"temperature": -1}, {"top_p": 0}, {"top_p": 2}]
)
def test_settings_that_mean_nothing_are_refused(policy, setting):
    with pytest.raises(ValueError, match="must be"):
        sample(*policy, ["Hello"], **setting)


def test_a_policy_that_a_run_does_not_have_is_said_with_those_it_has(tmp_path: Path):
    (tmp_path / "policies" / "dpo").mkdir(parents=True)
    assert policy_folder(tmp_path, "dpo") == tmp_path / "policies" / "dpo"
    with pytest.raises(PrefkitError, match=r"no policy sft(.|\n)*It has dpo"):
        policy_folder(tmp_path, "sft")
