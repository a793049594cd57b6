"""Look at a response for what makes it unfit to be learned from: nothing said, cut off, looping, several speakers.

Reads   the text of a response, and why it ended where the endpoint says so
Gives   marks

    empty           no letter and no digit in it
    cut-off         the endpoint stopped it at the limit of tokens
    looping         it says again, word for word, what it has said before, over and over
    multi-speaker   it goes on with somebody else's turn ("Client:", "### Instruction", "<|im_start|>")

Looping: at least a fifth of the words, and at least 20 of them, stand in runs of six words that stood in the text
before; numbers are not counted as words, so that a list that goes round in circles under rising numbers is found. Or
a sentence of at least four words stands three times in a row, as where the limit of tokens ended a loop early. Or at
least a fifth of the characters are one to four signs repeated ten times and more. So loops are found at the end, in the
middle, and with changes in between; one that says the same in ever new words is not. Where no blanks are written, each
character is a word.

A response may start with the label of its own speaker. A word that also names a helper ("Counselor: ...", as in a
list of whom to turn to) makes several speakers only when such labels stand at two lines.

How often this is right on real answers is in docs/generating.md. The time is linear in the length of the text.
Source of the idea to count repeated n-grams: Rae et al. 2021, arXiv:2112.11446, appendix A.1.1.
"""

from __future__ import annotations

import re

EMPTY = "empty"
CUT_OFF = "cut-off"
LOOPING = "looping"
MULTI_SPEAKER = "multi-speaker"

RUN = 6  # words that make a repetition
SHARE = 0.2  # of the words in repetitions, from which a text loops
AT_LEAST = 20  # words in repetitions, so that a short answer may repeat a phrase

_NO_BLANKS = r"\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff"  # Thai, kana, Han: a character is a word
_WORD = re.compile(rf"[{_NO_BLANKS}]|[^\W\d_{_NO_BLANKS}]{{1,12}}")  # in pieces of 12, for one endless word
_END_OF_SENTENCE = re.compile(r"[.!?\n。！？]+")
_SIGNS = re.compile(r"([\W_]{1,4}?)\1{9,}")

_CLIENTS = r"client|patient|user|human|customer|help[- ]?seeker|seeker|来访者|来询者|求助者|咨询者|患者|用户|客户"
_ASSISTANTS = r"assistant|ai|bot|chatbot|助手|助理"
_HELPERS = (
    r"therapist|counsell?or|psychologist|psychotherapist|psychiatrist|doctor|system|question|answer|input|output"
    r"|instruction|response|q|a|心理咨询师|咨询师|支持者|倾听者|治疗师|心理医生|医生|问|答"
)


def _label(words: str) -> str:
    """A speaker's name at the start of a line, plain or bold, with a number or a stage direction, and a colon."""
    return rf"^[ \t>]*(?:\*\*|__|\[)?(?:{words})(?: ?\d)?(?: ?[(（][^()（）\n]{{1,40}}[)）])?(?:\*\*|__|\])?[ \t]*[:：]"


_CLIENT_LABEL, _ASSISTANT_LABEL, _HELPER_LABEL = (
    re.compile(_label(words), re.IGNORECASE | re.MULTILINE) for words in (_CLIENTS, _ASSISTANTS, _HELPERS)
)
_INLINE_LABEL = re.compile(
    r"[.!?。！？…\"”)][ \t]+(?:Client|Patient|User|Human|Assistant)(?: ?\d)?: |[。！？…”](?:来访者|求助者|用户)："
)
_TEMPLATE = re.compile(
    r"<\|(?:im_start|start_header_id|user|assistant|system|prompter|start_of_role)\|>|<start_of_turn>|\[INST\]"
    r"|^#{2,4} ?(?:instruction|input|response|human|user|client|assistant|therapist|question|answer)s?\b",
    re.IGNORECASE | re.MULTILINE,
)
_THOUGHT = re.compile(r"\s*<(think|thinking)>(?:.*?</\1>|.*\Z)", re.DOTALL)
_THOUGHT_OPENED_BEFORE = re.compile(r"(?:(?!<think).)*?</think>", re.DOTALL)


def spoken(text: str) -> tuple[str, bool]:
    """A model's words without the thinking before them and without blanks around; and whether it thought to the end.

    >>> spoken("<think>She grieves.</think>\\n\\nI am sorry.")
    ('I am sorry.', True)
    >>> spoken("<think>She grieves, and")
    ('', False)
    """
    thought = _THOUGHT.match(text)
    if thought is None and "</think>" in text:  # some servers put the first tag into what they ask
        thought = _THOUGHT_OPENED_BEFORE.match(text)
    if thought is None:
        return text.strip(), True
    return text[thought.end() :].strip(), thought[0].endswith(">")


def marks_of(text: str, finish: str | None = None) -> tuple[str, ...]:
    """The marks of a response that ended for the reason ``finish``."""
    found = {
        EMPTY: not any(map(str.isalnum, text)),
        CUT_OFF: finish == "length",
        LOOPING: loops(text),
        MULTI_SPEAKER: has_several_speakers(text),
    }
    return tuple(mark for mark, there in found.items() if there)


def loops(text: str) -> bool:
    """Whether a text says the same again and again."""
    signs = sum(match.end() - match.start() for match in _SIGNS.finditer(text))
    if (signs and signs >= SHARE * len(text)) or _has_sentence_thrice(text):
        return True
    words = _WORD.findall(text.casefold())
    need = max(SHARE * len(words), AT_LEAST)
    runs = list(zip(*(words[start:] for start in range(RUN)), strict=False))
    if (len(runs) - len(set(runs))) * RUN < need:  # most texts: no need to look where they stand
        return False
    seen: set[tuple[str, ...]] = set()
    repeated = bytearray(len(words))
    for place, run in enumerate(runs):
        if run in seen:
            repeated[place : place + RUN] = b"\1" * RUN
        else:
            seen.add(run)
    return sum(repeated) >= need


def _has_sentence_thrice(text: str) -> bool:
    """Whether a sentence of at least four words stands three times in a row."""
    sentences = [sentence for part in _END_OF_SENTENCE.split(text.casefold()) if (sentence := part.strip())]
    in_a_row = zip(sentences, sentences[1:], sentences[2:], strict=False)
    return any(first == second == third and len(_WORD.findall(first)) >= 4 for first, second, third in in_a_row)


def has_several_speakers(text: str) -> bool:
    """Whether a text goes on with another speaker's turn."""
    text = text.strip()
    if _CLIENT_LABEL.search(text) or _INLINE_LABEL.search(text):
        return True
    if any(match.start() > 0 for pattern in (_ASSISTANT_LABEL, _TEMPLATE) for match in pattern.finditer(text)):
        return True
    return len(_HELPER_LABEL.findall(text)) > 1
