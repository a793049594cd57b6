"""Groups to tokens: the ids of the whole, each text encoded once, what is over-long, what is wrong with ids."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CHATML, SPECIAL

from prefkit.errors import PrefkitError
from prefkit.records import Message
from prefkit.training.groups import Group, Pair, TokenGroup
from prefkit.training.preflight import fault_in_ids
from prefkit.training.tokens import GroupTokenizer

WORDS = (
    "I am not sure that the breathing helps me. \n\n Human: what can I do?\n\nAssistant: the others help the most, "
    "and then\n\n\nit is  over.  I am here, the others are there; then what? 12 34 don't we'll\n"
) * 4
PHRASE = "others help the most"
TRIMMED = CHATML.replace("m['content']", "m['content'] | trim")
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if loop.last and m['role'] == 'assistant' %}<think>\n\n</think>\n\n{{ m['content'].split('</think>')[-1] }}"
    "{% else %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OPENING_THOUGHT = CHATML.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n")
NO_SEAM = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
ALTERNATING = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{{ m['content'] }}{% endfor %}"
)


@functools.cache
def learned(kind: str) -> Any:
    """A tokenizer that merges letters as it learned from WORDS.

    ``bytes`` cuts between words as GPT-2's does; ``across`` merges across words and lines; ``marks`` writes blanks as
    marks and puts one before each text, as Llama 2's does; ``lower`` changes the text before it cuts it;
    ``phrases`` cuts between words but for one phrase.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    if kind == "marks":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        tokenizer.decoder = decoders.Metaspace()
    elif kind == "phrases":
        rule = pre_tokenizers.Split(Regex(rf" ?{PHRASE}| ?\p{{L}}+|\s+| ?[^\s\p{{L}}]+"), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([rule, pre_tokenizers.ByteLevel(False, use_regex=False)])
        tokenizer.decoder = decoders.ByteLevel()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind != "across")
        tokenizer.decoder = decoders.ByteLevel()
    if kind == "lower":
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=[*SPECIAL, "<s>"], initial_alphabet=letters, show_progress=False
    )
    tokenizer.train_from_iterator([WORDS], trainer)
    return tokenizer


def made(kind: str = "bytes", *, template: str | None = CHATML, post: str | None = None, **names: str) -> Any:
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer.from_str(learned(kind).to_str())
    if post:
        special = [(name, tokenizer.token_to_id(name)) for name in ("<bos>", "<|im_end|>") if name in post]
        tokenizer.post_processor = processors.TemplateProcessing(post, special_tokens=special)
    given = {"eos_token": "<|im_end|>", "pad_token": "<pad>", **names}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **given)
    wrapped.chat_template = template
    return wrapped


def group(*texts: str, prompt: str | list[Message] = "I am sad.", pairs: tuple[tuple[int, int], ...] = ()) -> Group:
    messages = (Message(role="user", content=prompt),) if isinstance(prompt, str) else tuple(prompt)
    return Group(
        prompt_id="p",
        messages=messages,
        response_ids=tuple(f"r{place}" for place in range(len(texts))),
        texts=texts,
        policies=("one",) * len(texts),
        pairs=tuple(Pair(id=f"{a}-{b}", chosen=a, rejected=b) for a, b in pairs),
    )


def one(tokenizer: Any, it: Group, **options: Any) -> TokenGroup:
    (found,) = GroupTokenizer(tokenizer, **options).tokenized([it])
    return found


def wholes(found: TokenGroup) -> list[list[int]]:
    return [[*found.prompt.tolist(), *response.tolist()] for response in found.responses]


def whole_conversation(tokenizer: Any, messages: tuple[Message, ...], text: str) -> list[int]:
    """What trl reads: the conversation with the response, through the chat template, in tokens."""
    turns = [{"role": turn.role, "content": turn.content} for turn in messages]
    whole = [*turns, {"role": "assistant", "content": text}]
    ids: list[int] = tokenizer.apply_chat_template(whole, tokenize=True, return_dict=True)["input_ids"]
    return ids


def whole_text(tokenizer: Any, messages: tuple[Message, ...], text: str) -> list[int]:
    """What trl reads of plain texts: prompt and response with the end-of-text token."""
    closed = text if text.endswith(tokenizer.eos_token) else text + tokenizer.eos_token
    ids: list[int] = tokenizer(text=messages[0].content + closed)["input_ids"]
    return ids


# --- the same ids ----------------------------------------------------------------------------------------------------

TEXTS = st.one_of(
    st.sampled_from(
        ["", " ", "\n", "\n\n", "<|im_end|>", "<|im_start|>", "<think>", "</think>", "the", " others", "é"]
    ),
    st.text(max_size=12),
    st.integers(0, len(WORDS) - 1).flatmap(lambda at: st.integers(1, 60).map(lambda size: WORDS[at : at + size])),
)
SPEECHES = st.lists(TEXTS, min_size=1, max_size=4).map("".join)


@pytest.mark.parametrize("kind", ["bytes", "across", "marks", "lower"])
@pytest.mark.parametrize("template", [CHATML, TRIMMED, THINKING, OPENING_THOUGHT, NO_SEAM])
@settings(max_examples=15, deadline=None)
@given(prompts=st.lists(SPEECHES, min_size=1, max_size=3), texts=st.lists(SPEECHES, min_size=1, max_size=4))
def test_a_conversation_has_the_ids_of_the_whole(
    kind: str, template: str, prompts: list[str], texts: list[str]
) -> None:
    tokenizer = made(kind, template=template)
    roles = ("user", "assistant", "user")
    turns = [Message(role=role, content=said) for role, said in zip(roles, prompts, strict=False)]  # type: ignore[arg-type]
    it = group(*texts, prompt=turns)
    assert wholes(one(tokenizer, it)) == [whole_conversation(tokenizer, it.messages, text) for text in texts]


@pytest.mark.parametrize("kind", ["bytes", "across", "marks", "lower"])
@pytest.mark.parametrize("post", [None, "<bos> $A", "<bos> $A <|im_end|>"])
@settings(max_examples=15, deadline=None)
@given(prompt=SPEECHES, texts=st.lists(SPEECHES, min_size=1, max_size=4))
def test_plain_texts_have_the_ids_of_the_whole(kind: str, post: str | None, prompt: str, texts: list[str]) -> None:
    tokenizer = made(kind, post=post)
    it = group(*texts, prompt=prompt)
    assert wholes(one(tokenizer, it, plain=True)) == [whole_text(tokenizer, it.messages, text) for text in texts]


@pytest.mark.parametrize("kind", ["bytes", "across", "marks", "lower", "phrases"])
def test_wherever_a_text_is_cut_into_prompt_and_response_the_ids_are_those_of_the_whole(kind):
    """At every letter; the first response does not go on as the tokenizer learned, the second does."""
    tokenizer = made(kind)
    several = [group("7!", WORDS[at : at + 40], prompt=WORDS[:at]) for at in range(20, 260)]
    found = GroupTokenizer(tokenizer, plain=True).tokenized(several)
    for it, ids in zip(several, found, strict=True):
        assert wholes(ids) == [whole_text(tokenizer, it.messages, text) for text in it.texts]


def test_a_blank_inside_of_what_a_tokenizer_reads_as_one_is_no_cut():
    tokenizer = made("phrases")
    it = group("7!", "then", prompt=f"I see {PHRASE} 12345678901234567")
    assert wholes(one(tokenizer, it, plain=True)) == [whole_text(tokenizer, it.messages, text) for text in it.texts]


@pytest.mark.parametrize("kind", ["bytes", "marks"])
def test_many_groups_in_one_call_do_not_mix(kind):
    tokenizer = made(kind)
    several = [group(*(f"{WORDS[at : at + 9]}{n}" for n in range(at % 3 + 1)), prompt=WORDS[at:]) for at in range(9)]
    for options in ({}, {"plain": True}):
        found = list(GroupTokenizer(tokenizer, batch=4, **options).tokenized(several))
        assert [ids.group for ids in found] == several
        alone = [one(tokenizer, it, **options) for it in several]
        assert [wholes(ids) for ids in found] == [wholes(ids) for ids in alone]


def test_a_special_token_that_goes_on_in_the_response_is_no_seam():
    """``<s>`` ends the prompt, and ``<s>!`` is a token too."""
    from tokenizers import AddedToken

    tokenizer = made(
        template="{% for m in messages %}{{ m['content'] }}"
        "{% if not loop.last or add_generation_prompt %}<s>{% endif %}{% endfor %}<|im_end|>"
    )
    tokenizer.add_tokens([AddedToken("<s>!", special=True, normalized=False)])
    it = group("! the others", "then")
    first, second = wholes(one(tokenizer, it))
    assert tokenizer.convert_tokens_to_ids("<s>!") in first
    assert [first, second] == [whole_conversation(tokenizer, it.messages, text) for text in it.texts]


# --- each text once --------------------------------------------------------------------------------------------------


def test_prompt_and_response_meet_where_the_response_begins():
    tokenizer = made()
    found = one(tokenizer, group("The others help.", "Then what?"))
    assert tokenizer.decode(found.prompt) == "<|im_start|>user\nI am sad.<|im_end|>\n<|im_start|>assistant\n"
    assert [tokenizer.decode(ids) for ids in found.responses] == [
        "The others help.<|im_end|>\n",
        "Then what?<|im_end|>\n",
    ]
    assert found.tokens == len(found.prompt) + sum(map(len, found.responses))


def test_a_common_beginning_of_responses_stays_with_them():
    """Where there is no special token to cut at, too; there the blank before a word is part of it."""
    for template, options in ((CHATML, {}), (NO_SEAM, {}), (None, {"plain": True})):
        found = one(made(template=template), group("the others", "the others help"), **options)
        assert [made().decode(ids).strip()[:10] for ids in found.responses] == ["the others"] * 2


def counted(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many letters a tokenizer has read since."""
    from prefkit.training import encodings

    read: list[int] = []
    encoder = encodings._Encoder
    call, places = encoder.__call__, encodings.PlainTexts._with_places

    def counting(self: Any, texts: Any, **options: Any) -> Any:
        read.extend(map(len, texts))
        return call(self, texts, **options)

    def counting_places(self: Any, texts: Any) -> Any:
        read.extend(map(len, texts))
        return places(self, texts)

    monkeypatch.setattr(encoder, "__call__", counting)
    monkeypatch.setattr(encodings.PlainTexts, "_with_places", counting_places)
    return lambda: sum(read)


@pytest.mark.parametrize("options", [{}, {"plain": True}])
def test_a_long_prompt_is_encoded_once_whatever_the_number_of_responses(monkeypatch, options):
    """Ten responses of five letters: about the 10,000 letters of the prompt are read, not 100,000."""
    letters = counted(made(), monkeypatch)
    prompt = WORDS * 20
    one(made(), group(*(f"then{n}" for n in range(10)), prompt=prompt), **options)
    assert len(prompt) < letters() < 1.5 * len(prompt)


def test_an_encoder_reads_its_pair_encoding():
    tokenizer = made(template=None, post=None, cls_token="<bos>", sep_token="<|im_end|>")
    from tokenizers import processors

    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "<bos> $A <|im_end|>",
        "<bos> $A <|im_end|> $B:1 <|im_end|>:1",
        special_tokens=[("<bos>", 3), ("<|im_end|>", 2)],
    )
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    found = one(tokenizer, group("the others", "then"))
    assert wholes(found) == [tokenizer("I am sad.", text)["input_ids"] for text in found.group.texts]
    assert (tokenizer.decode(found.prompt), found.two_types) == ("<bos>I am sad.<|im_end|>", True)
    assert not one(made(), group("then")).two_types


def test_without_a_chat_template_words_stand_plainly_with_the_speakers_where_several_spoke():
    tokenizer = made(template=None)
    (single,), (several,) = (
        wholes(one(tokenizer, group("then", prompt=prompt)))
        for prompt in ("I am sad.", [Message(role="user", content="Hm."), Message(role="assistant", content="What?")])
    )
    assert tokenizer.decode(single) == "I am sad.\n\nthen<|im_end|>"
    assert tokenizer.decode(several) == "Client: Hm.\n\nTherapist: What?\n\nTherapist: then<|im_end|>"


def test_a_dialogue_that_the_template_refuses_is_one_clear_error():
    system = [Message(role="system", content="Be kind."), Message(role="user", content="I am sad.")]
    with pytest.raises(PrefkitError, match=r"prompt p: found turns of system, user.* refuses \(no system\)"):
        list(GroupTokenizer(made(template=ALTERNATING)).tokenized([group("a"), group("a", prompt=system), group("b")]))


# --- over-long -------------------------------------------------------------------------------------------------------

SHORT, LONG = "then", "the others help the most, and then it is over"


def length(*texts: str, prompt: str | list[Message] = "I am sad.") -> int:
    return max(map(len, wholes(one(made(), group(*texts, prompt=prompt)))))


def test_what_is_just_within_the_limit_stays():
    it = group(SHORT, LONG, pairs=((0, 1),))
    encoder = GroupTokenizer(made(), max_tokens=length(LONG))
    assert [ids.group for ids in encoder.tokenized([it])] == [it]
    assert encoder.tally == {}


def test_an_over_long_response_goes_with_its_pairs_and_both_are_counted():
    it = group(SHORT, LONG, "What?", pairs=((0, 1), (1, 2), (2, 0)))
    encoder = GroupTokenizer(made(), max_tokens=length(LONG) - 1)
    (found,) = encoder.tokenized([it])
    assert found.group.texts == (SHORT, "What?")
    assert [(pair.id, pair.chosen, pair.rejected) for pair in found.group.pairs] == [("2-0", 1, 0)]
    assert wholes(found) == [whole_conversation(made(), it.messages, text) for text in (SHORT, "What?")]
    limit = length(LONG) - 1
    assert encoder.tally == {
        f"responses over {limit} tokens, left out": 1,
        f"pairs over {limit} tokens, left out": 2,
    }


def test_a_group_of_whose_pairs_none_is_left_goes_and_one_without_pairs_keeps_what_fits():
    encoder = GroupTokenizer(made(), max_tokens=length(SHORT))
    assert list(encoder.tokenized([group(SHORT, LONG, pairs=((0, 1),))])) == []
    (found,) = encoder.tokenized([group(SHORT, LONG), group(LONG)])
    assert found.group.texts == (SHORT,)
    assert encoder.tally[f"responses over {length(SHORT)} tokens, left out"] == 3


def dialogue(*said: str) -> list[Message]:
    turns = [Message(role=("user", "assistant")[place % 2], content=words) for place, words in enumerate(said)]  # type: ignore[arg-type]
    return [Message(role="system", content="Be kind."), *turns]


def test_cutting_takes_the_oldest_turns_and_keeps_system_and_responses():
    tokenizer, whole = made(), dialogue(WORDS, "What?", "it is over", "What?", "I am sad.")
    left = dialogue("it is over", "What?", "I am sad.")
    encoder = GroupTokenizer(tokenizer, max_tokens=length(LONG, prompt=left), over_long="cut")
    (found,) = encoder.tokenized([group(SHORT, LONG, prompt=whole, pairs=((0, 1),))])
    assert wholes(found) == [whole_conversation(tokenizer, tuple(left), text) for text in (SHORT, LONG)]
    assert found.group.messages == tuple(whole)
    assert encoder.tally == {f"prompts cut, as they were over {encoder.max_tokens} tokens with a response": 1}


@pytest.mark.parametrize("options", [{}, {"plain": True}])
def test_cutting_the_last_turn_takes_its_beginning_and_fills_the_limit(options):
    """No token of the limit is wasted but what the seam of two words may take."""
    tokenizer = made()
    encoder = GroupTokenizer(tokenizer, max_tokens=60, over_long="cut", **options)
    (found,) = encoder.tokenized([group(SHORT, LONG, prompt=WORDS + "I am sad.", pairs=((0, 1),))])
    longest = max(map(len, wholes(found)))
    assert 57 <= longest <= 60
    assert "I am sad." in tokenizer.decode(found.prompt)
    assert [tokenizer.decode(ids).partition("<|im_end|>")[0] for ids in found.responses] == [SHORT, LONG]


def test_a_response_that_fits_with_no_prompt_is_left_out_and_the_others_keep_their_prompt():
    encoder = GroupTokenizer(made(), max_tokens=length(SHORT), over_long="cut")
    (found,) = encoder.tokenized([group(SHORT, WORDS, "What", pairs=((0, 1), (0, 2)))])
    assert found.group.texts == (SHORT, "What")
    assert [pair.id for pair in found.group.pairs] == ["0-2"]
    assert wholes(found)[0] == whole_conversation(made(), found.group.messages, SHORT)
    assert encoder.tally == {
        f"responses over {length(SHORT)} tokens, left out": 1,
        f"pairs over {length(SHORT)} tokens, left out": 1,
    }


def test_a_limit_below_one_is_a_wrong_argument():
    with pytest.raises(ValueError, match="max_tokens must be at least 1"):
        GroupTokenizer(made(), max_tokens=0)


# --- what is wrong with ids ------------------------------------------------------------------------------------------


def test_ids_that_are_in_order_have_no_fault():
    """ChatML ends with a line break behind the end of the turn."""
    tokenizer = made(bos_token="<bos>")
    assert fault_in_ids(wholes(one(tokenizer, group("then")))[0], tokenizer) is None
    assert fault_in_ids(np.asarray([3, 40, 2], dtype=np.int32), tokenizer) is None


def test_a_doubled_first_token_is_found_where_the_tokenizer_adds_one_to_that_of_the_text():
    tokenizer = made(post="<bos> $A", bos_token="<bos>")
    (ids,) = wholes(one(tokenizer, group("then", prompt="<bos>I am sad."), plain=True))
    assert fault_in_ids(ids, tokenizer) == "the first token twice (<bos>)"


def test_a_doubled_last_token_is_found_where_the_tokenizer_adds_one_too():
    tokenizer = made(post="$A <|im_end|>")
    (ids,) = wholes(one(tokenizer, group("then"), plain=True))
    assert fault_in_ids(ids, tokenizer) == "the last token twice (<|im_end|>)"


def test_a_text_that_nothing_ends_is_found():
    tokenizer = made(template=NO_SEAM)
    (ids,) = wholes(one(tokenizer, group("then")))
    assert fault_in_ids(ids, tokenizer) == "no token that ends the response (such as <|im_end|>)"
    assert fault_in_ids([], tokenizer) == "no tokens"
