"""What is marked in a response, and what is not."""

from __future__ import annotations

import itertools
import time

import pytest

from prefkit.marking import marks_of, spoken

REPLY = (
    "It sounds as if the bridge has become the place where everything gathers. You drove on for twenty-six years, and "
    "then your body said no in the middle of it. What did you notice first, before your heart began to race? And who "
    "besides me knows that there are no roadworks?"
)
BETWEEN = "I am here for you whenever you need it. "
CHINESE = "听起来你最近压力很大，晚上也睡不好。你愿意多说一点吗？是什么时候开始的？"


def sentences(count: int) -> str:
    """So many sentences of 13 words that have nothing in common but their first two and last two."""
    spelt = ("".join(letters) for letters in itertools.product("aeiou", repeat=4))
    middles = iter(lambda: " ".join(itertools.islice(spelt, 9)), "")
    return "".join(f"You may {middle} right now. " for middle in itertools.islice(middles, count))


# --- empty, cut off --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", " \n\t", "...", "—", "🙏"])
def test_a_text_without_a_letter_or_digit_is_empty(text):
    assert marks_of(text) == ("empty",)


@pytest.mark.parametrize("text", ["Yes.", "988", "嗯。"])
def test_a_single_word_is_not_empty(text):
    assert marks_of(text) == ()


def test_what_stopped_at_the_limit_of_tokens_is_cut_off():
    assert marks_of("I hear", "length") == ("cut-off",)


@pytest.mark.parametrize("finish", ["stop", None, "content_filter"])
def test_without_that_word_from_the_endpoint_nothing_is_cut_off(finish):
    assert marks_of("I hear", finish) == ()


# --- looping ---------------------------------------------------------------------------------------------------------

LOOPS = {
    "a sentence at the end": REPLY + BETWEEN * 8,
    "a sentence in the middle": REPLY + BETWEEN * 12 + REPLY.replace("bridge", "road"),
    "a sentence, cut off in its middle": REPLY + BETWEEN * 8 + "I am here for you when",
    "two words": REPLY + " no more" * 30,
    "one word": "never " * 40,
    "a line": REPLY + "\n- Take a slow walk in the evening light." * 8,
    "a list that goes round under rising numbers": "".join(
        f"{number}. {('Write down what you feel.', 'Call a friend you trust.', 'Go for a walk.')[number % 3]}\n"
        for number in range(1, 25)
    ),
    "the whole answer again": f"{REPLY}\n\n{REPLY}",
    "a word without end": REPLY + "ha" * 400,
    "a sign": REPLY + "!" * 200,
    "two signs": REPLY + "🙏✨" * 100,
    "empty lines": REPLY + "\n" * 200 + "Yes.",
    "a sentence three times in a row, and then cut off": f"{REPLY} You are a brave soul. You are a brave soul.\n"
    "you are a brave soul. You are",
    "Chinese": CHINESE + "我会一直在这里陪着你。" * 6,
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in LOOPS.items()])
def test_a_loop_is_marked(text):
    assert marks_of(text) == ("looping",)


NOT_LOOPS = {
    "an answer": REPLY,
    "a phrase said twice": f"{REPLY} {BETWEEN}{REPLY.replace('e', 'a')} {BETWEEN}",
    "a short answer that repeats itself": "Breathe in. Breathe out. Breathe in. Breathe out. Breathe in. Breathe out.",
    "sentences that begin alike": "".join(
        f"You could try to {what}. "
        for what in ("write it down", "ring your sister", "sleep first", "see your doctor", "say no", "leave early")
    ),
    "a sentence twice in a row, and later": f"{REPLY} It was not you. It was not you. Was it? It was not you.",
    "three words three times in a row": f"{REPLY} Let it come. Let it come. Let it come.",
    "a line to fill in": f"{REPLY}\n1. I felt: ________________\n2. I thought: ________________",
    "a rule between parts": f"{REPLY}\n{'-' * 40}\n{REPLY.upper()[::-1]}",
    "Chinese": CHINESE,
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in NOT_LOOPS.items()])
def test_what_repeats_a_little_is_no_loop(text):
    assert marks_of(text) == ()


@pytest.mark.parametrize(("fresh", "marks"), [(22, ("looping",)), (23, ())])
def test_looping_begins_at_a_fifth_of_the_words(fresh, marks):
    """Two sentences of 13 words, said three times more in turns: 78 words repeated. After 22 others they are 78 of
    390, a fifth."""
    others, both = sentences(fresh), sentences(fresh + 2)[len(sentences(fresh)) :]
    assert marks_of(others + both * 4) == marks


@pytest.mark.parametrize(("refrain", "marks"), [("Truly so. ", ("looping",)), ("Truly. ", ())])
def test_a_repetition_is_six_words_long(refrain, marks):
    """With the words around it, "right now" and "You may", which all sentences share, the refrain makes six or five."""
    said = [sentences(number + 1)[len(sentences(number)) :] for number in range(20)]
    assert marks_of(refrain.join(said)) == marks


def test_the_time_grows_with_the_length_of_the_text_and_not_faster():
    def seconds(text: str) -> float:
        start = time.process_time()
        marks_of(spoken(text)[0])
        return time.process_time() - start

    for piece in (REPLY, BETWEEN, "aeiou" * 50, "\n> ", "!?", "Client ", "<think", "</think", "来访者"):
        short, long = piece * (10_000 // len(piece)), piece * (80_000 // len(piece))
        fastest = min(seconds(short) for _ in range(3))
        assert min(seconds(long) for _ in range(3)) < 25 * fastest, piece


# --- several speakers ------------------------------------------------------------------------------------------------

OTHERS_TURN = {
    "a client": f"{REPLY}\nClient: I saw the water.",
    "a user in bold": f"{REPLY}\n\n**User:** I saw the water.",
    "a human, and the model again": f"{REPLY}\nHuman: I saw the water.\nAssistant: And then?",
    "the model again": f"{REPLY}\nAssistant: And then?",
    "questions and answers in short": f"{REPLY}\nQ: And then?\nA: Home.",
    "capitals, a number": f"{REPLY}\nPATIENT 2: I saw the water.",
    "a stage direction": f"{REPLY}\nClient (softly): I saw the water.",
    "both labelled": f"Therapist: {REPLY}\nClient: I saw the water.",
    "the client first": f"Client: I saw the water.\nTherapist: {REPLY}",
    "in the client's name": "Client: I saw the water.",
    "the helper twice": f"Therapist: {REPLY}\nTherapist: And then?",
    "in one line": f"{REPLY} Client: I saw the water. Therapist: And then?",
    "Chinese": f"{CHINESE}\n来访者：三个月前。\n咨询师：嗯。",
    "Chinese in one line": f"{CHINESE}来访者：三个月前。",
    "an instruction": f"{REPLY}\n\n### Instruction:\nName three rivers.",
    "a template of ChatML": f"{REPLY}<|im_end|>\n<|im_start|>user\nI saw the water.",
    "a template of Llama": f"{REPLY}[/INST] ok [INST] I saw the water.",
    "questions and answers": f"{REPLY}\nQuestion: And then?\nAnswer: Home.",
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in OTHERS_TURN.items()])
def test_somebody_elses_turn_is_marked(text):
    assert marks_of(text) == ("multi-speaker",)


ONE_SPEAKER = {
    "its own label": f"Therapist: {REPLY}",
    "its own label in bold": f"**Counselor:** {REPLY}",
    "its own name": f"Assistant: {REPLY}",
    "its own header": f"### Response:\n{REPLY}",
    "its own template": f"\n <|assistant|>\n{REPLY}",
    "the word in a sentence": "The client: that is you. As a therapist, I listen; a user of words.",
    "one of several helpers to turn to": "You could see:\nFriends: they know you.\nTherapist: one who is trained.",
    "other labels": "Morning: a walk.\nEvening: a call.\nNote: be patient.\nQ: none.",
    "a line about patience": "Patient people wait: that is all.",
    "an example to say to a partner": "Try this.\nYou: I felt alone.\nPartner: When?\nYou: On Sunday.",
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in ONE_SPEAKER.items()])
def test_one_speaker_is_not_marked(text):
    assert marks_of(text) == ()


def test_a_text_may_have_several_marks():
    text = "I hear you.\n" + "Human: Are you real?\nAssistant: Of course I am real.\n" * 9
    assert marks_of(text, "length") == ("cut-off", "looping", "multi-speaker")


# --- thinking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "text", "whole"),
    [
        ("<think>\nShe grieves.\n</think>\n\nI am sorry.", "I am sorry.", True),
        ("\n<thinking>Hm.</thinking>I am sorry.\n", "I am sorry.", True),
        ("She grieves.\n</think>\n\nI am sorry.", "I am sorry.", True),
        ("<think>She grieves, and", "", False),
        ("<think></think>", "", True),
        ("  I am sorry.\n", "I am sorry.", True),
        ("I <think> so.", "I <think> so.", True),
        ("I am sorry. <think>She grieves.</think>", "I am sorry. <think>She grieves.</think>", True),
        ("", "", True),
    ],
)
def test_thinking_before_the_answer_is_taken_off(reply, text, whole):
    assert spoken(reply) == (text, whole)
