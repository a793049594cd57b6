"""A two-layer Llama with a token a byte, made here, answers in batches as it answers alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from making import save_byte_tokenizer

from prefkit.errors import PrefkitError
from prefkit.models.catalogue import Catalogue
from prefkit.models.chat import CallFailed, Endpoint, Reply, Request, Sampling
from prefkit.models.local import LocalEndpoint
from prefkit.models.opening import opened
from prefkit.records import Message

os.environ.setdefault("OMP_NUM_THREADS", "1")

CONTEXT = 256
QUESTIONS = ["Hi.", "I wake at four and lie there.", "Why?", "My mother calls every day, and I cannot say no."]
REFUSES_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    folder = save_byte_tokenizer(tmp_path_factory.mktemp("tiny"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=1.0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer.pad_token_id].normal_()  # zero would hide a padding that is read
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def endpoint(folder: Path) -> Iterator[LocalEndpoint]:
    endpoint = LocalEndpoint.load(str(folder), batch=4)
    yield endpoint
    endpoint.close()


def request(words: str, *, system: str | None = None, top_logprobs: int = 0, **sampling: Any) -> Request:
    setting = (Message(role="system", content=system),) if system else ()
    chosen = Sampling(**{"temperature": 0.0, "max_tokens": 12, **sampling})
    return Request((*setting, Message(role="user", content=words)), chosen, top_logprobs=top_logprobs)


def together(endpoint: Endpoint, *requests: Request) -> list[Reply]:
    async def all_of_them() -> list[Reply]:
        return list(await asyncio.gather(*(endpoint.ask(one) for one in requests)))

    return asyncio.run(all_of_them())


def batches(endpoint: LocalEndpoint, monkeypatch: pytest.MonkeyPatch, most: int = 1 << 30) -> list[int]:
    """The sizes of the batches from now on; larger ones than ``most`` run out of memory."""
    import torch

    sizes, generate = [], endpoint._model.generate

    def counted(**arguments: Any) -> Any:
        sizes.append(len(arguments["input_ids"]))
        if sizes[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(**arguments)

    monkeypatch.setattr(endpoint._model, "generate", counted)
    return sizes


def test_a_batch_answers_as_one_by_one(endpoint, monkeypatch):
    alone = [together(endpoint, request(words))[0] for words in QUESTIONS]
    sizes = batches(endpoint, monkeypatch)
    assert together(endpoint, *map(request, QUESTIONS)) == alone
    assert sizes == [4]
    assert len({reply.text for reply in alone}) == len(QUESTIONS)


def greedy(folder: Path) -> tuple[str, list[int]]:
    """What transformers' own generation answers to "Why?", and its tokens."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer("user: Why?<eos>assistant: ", add_special_tokens=False, return_tensors="pt")
    words = model.generate(**ids, do_sample=False, max_new_tokens=12)[0, ids["input_ids"].shape[1] :]
    return tokenizer.decode(words, skip_special_tokens=True), words.tolist()


def test_transformers_own_generation_writes_the_same(endpoint, folder):
    assert together(endpoint, request("Why?"))[0].text == greedy(folder)[0]


def test_rows_of_one_batch_keep_their_own_settings(endpoint, monkeypatch):
    wanted = [
        request("Hi.", max_tokens=3),
        request("Hi.", temperature=1.0, seed=1),
        request("Hi.", temperature=1.0, seed=2),
        request("Hi.", max_tokens=7),
    ]
    alone = [together(endpoint, one)[0] for one in wanted]
    sizes = batches(endpoint, monkeypatch)
    assert together(endpoint, *wanted) == alone
    assert sizes == [4]
    assert alone[1].text != alone[2].text
    assert [reply.usage.completion for reply in (alone[0], alone[3]) if reply.usage] == [3, 7]


def test_a_seed_draws_the_same_words_again_and_none_draws_others(endpoint):
    seeded = [together(endpoint, request("Hi.", temperature=1.5, seed=5))[0].text for _ in range(2)]
    free = {together(endpoint, request("Hi.", temperature=1.5))[0].text for _ in range(4)}
    assert seeded[0] == seeded[1]
    assert len(free) > 1


def test_words_are_drawn_as_often_as_their_probability_says(endpoint):
    """400 first tokens at temperature 1 against exp(logprob) of the likeliest: within four standard errors."""
    replies = together(
        endpoint, *(request("Hi.", temperature=1.0, seed=n, max_tokens=1, top_logprobs=1) for n in range(400))
    )
    tokens = [reply.tokens[0] for reply in replies if reply.tokens]
    likeliest, logprob = tokens[0].top[0]
    share, expected = sum(token.text == likeliest for token in tokens) / len(replies), 2.718281828**logprob
    assert 0.05 < expected < 0.95
    assert abs(share - expected) < 4 * (expected * (1 - expected) / len(replies)) ** 0.5


def test_a_small_top_p_leaves_the_likeliest_word(endpoint):
    greedy = together(endpoint, request("Why?"))[0].text
    assert {together(endpoint, request("Why?", temperature=2.0, top_p=1e-6))[0].text for _ in range(3)} == {greedy}


def test_a_reply_ends_at_its_bound_at_a_stop_word_and_at_the_end_token(endpoint, folder, monkeypatch):
    whole = together(endpoint, request("Why?"))[0]
    assert (whole.finish, whole.usage and whole.usage.completion) == ("length", 12)
    stop = whole.text[4:6]
    stopped = together(endpoint, request("Why?", stop=(stop,)))[0]
    assert (stopped.finish, stopped.text) == ("stop", whole.text.partition(stop)[0])
    drawn = greedy(folder)[1]
    monkeypatch.setattr(endpoint, "_eos", frozenset({drawn[5]}))
    ended = together(endpoint, request("Why?"))[0]
    assert (ended.finish, ended.usage and ended.usage.completion) == ("stop", drawn.index(drawn[5]) + 1)


def test_usage_counts_the_tokens_of_the_prompt_without_padding(endpoint):
    short, long = together(endpoint, request("Hi."), request("x" * 50))
    template = len("user: ") + 1 + len("assistant: ")
    assert short.usage is not None and short.usage.prompt == template + 3
    assert long.usage is not None and long.usage.prompt == template + 50


def test_logprobs_are_those_of_the_words_drawn(endpoint):
    reply = together(endpoint, request("Why?", top_logprobs=3))[0]
    assert reply.tokens is not None and len(reply.tokens) == 12
    for token in reply.tokens:
        assert token.top[0] == (token.text, token.logprob), "greedy takes the likeliest"
        assert len(token.top) == 3 and token.top[0][1] >= token.top[1][1] >= token.top[2][1]


def test_out_of_memory_halves_the_batch_and_goes_on(endpoint, monkeypatch):
    alone = [together(endpoint, request(words))[0] for words in QUESTIONS]
    sizes = batches(endpoint, monkeypatch, most=1)
    assert together(endpoint, *map(request, QUESTIONS)) == alone
    assert sizes == [4, 2, 1, 1, 1, 1]
    assert endpoint.notes["batch"] == "ran out of memory; 1 at a time from then on"


def test_out_of_memory_with_one_request_fails_that_request_only(endpoint, monkeypatch):
    batches(endpoint, monkeypatch, most=0)
    with pytest.raises(CallFailed, match="out of memory"):
        together(endpoint, request("Hi."))
    monkeypatch.undo()
    assert together(endpoint, request("Hi."))[0].finish == "length"


def test_a_cancelled_request_disturbs_no_other(endpoint):
    alone = together(endpoint, request("Why?"))

    async def one_is_cancelled() -> Reply:
        gone = [asyncio.create_task(endpoint.ask(request(words, max_tokens=100))) for words in QUESTIONS]
        stays = asyncio.create_task(endpoint.ask(request("Why?")))
        await asyncio.sleep(0.02)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        return await stays

    assert [asyncio.run(one_is_cancelled())] == alone
    assert together(endpoint, request("Why?")) == alone


def test_a_prompt_beyond_the_context_fails_and_its_neighbour_does_not(endpoint):
    async def both() -> list[Any]:
        asked = (endpoint.ask(request(words)) for words in ("x" * CONTEXT, "Hi."))
        return await asyncio.gather(*asked, return_exceptions=True)

    long, short = asyncio.run(both())
    assert isinstance(long, CallFailed) and "context of 256" in long.reason and not long.again
    assert isinstance(short, Reply)


def test_without_a_bound_a_reply_ends_with_the_context(endpoint):
    reply = together(endpoint, request("Hi.", max_tokens=None))[0]
    assert reply.usage is not None and reply.usage.prompt + reply.usage.completion <= CONTEXT
    assert reply.finish == "stop" or reply.usage.prompt + reply.usage.completion == CONTEXT


def test_a_template_without_a_system_role_gets_its_text_in_the_first_message(endpoint, monkeypatch):
    monkeypatch.setattr(endpoint._tokenizer, "chat_template", REFUSES_SYSTEM + endpoint._tokenizer.chat_template)
    folded = together(endpoint, request("Why?", system="Be kind."))
    assert folded == together(endpoint, request("Be kind.\n\nWhy?"))
    assert "system" in endpoint.notes


def test_a_schema_is_not_enforced_and_the_notes_say_so(endpoint):
    asked = Request((Message(role="user", content="Hi."),), Sampling(max_tokens=2), schema={"type": "object"})
    together(endpoint, asked)
    assert "no JSON schema" in endpoint.notes["json_schema"]


def test_a_closed_model_fails_what_waits(folder):
    endpoint = LocalEndpoint.load(str(folder), batch=1)

    async def closed_meanwhile() -> list[Any]:
        tasks = [asyncio.create_task(endpoint.ask(request(words, max_tokens=200))) for words in QUESTIONS]
        await asyncio.sleep(0.05)
        endpoint.close()
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = asyncio.run(closed_meanwhile())
    assert isinstance(outcomes[-1], CallFailed) and outcomes[-1].reason == "the model was closed"
    with pytest.raises(CallFailed, match="closed"):
        together(endpoint, request("Hi."))


def test_models_yaml_names_a_folder_beside_it(folder, tmp_path):
    (tmp_path / "policy").symlink_to(folder)
    (tmp_path / "models.yaml").write_text("models:\n  mine: {kind: local, model: policy, concurrency: 2}\n")

    async def asked() -> Reply:
        async with opened([Catalogue.load(tmp_path).entry("mine")], timeout=5, concurrency=64) as (model,):
            assert model.endpoints[0].most == 4, "two batches: one is answered, one waits"
            return await model.endpoints[0].ask(request("Hi."))

    assert asyncio.run(asked()).finish == "length"


def test_what_cannot_be_loaded_is_one_message(tmp_path):
    with pytest.raises(PrefkitError, match="hub id that can be reached"):
        LocalEndpoint.load(str(tmp_path))
