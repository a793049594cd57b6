"""A Modelfile, by which Ollama takes a GGUF file: ``ollama create NAME -f FILE``.

Reads   the tokenizer's chat template; the tokens that end an answer
Writes  FROM, TEMPLATE, PARAMETER stop, SYSTEM

Ollama's templates are Go's. A Jinja template by which every turn stands between words that depend on its role alone is
said again in Go, and held against the Jinja one. Any other (without a system role, with turns that depend on their
place) is left to Ollama, which knows the common ones by the GGUF file's own chat template.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_S, _U, _A, _V = (f"prefkit{mark}words" for mark in "SUAV")
Render = Callable[[Sequence[tuple[str, str]], bool], str]


@dataclass(frozen=True)
class Turns:
    """What stands before and behind the words of each role; ``head`` before all, ``reply`` before an answer.

    ``setting`` is what the template says as a system message where there is none.
    """

    head: str
    around: dict[str, tuple[str, str]]
    reply: str
    setting: str | None

    def text(self, dialogue: Sequence[tuple[str, str]], *, answering: bool) -> str:
        """A dialogue as the template writes it."""
        if dialogue[0][0] != "system" and self.setting is not None:
            dialogue = [("system", self.setting), *dialogue]
        body = "".join(f"{self.around[role][0]}{words}{self.around[role][1]}" for role, words in dialogue)
        return self.head + body + (self.reply if answering else "")


def modelfile(tokenizer: Any, ends: Sequence[int], file: str, system: str | None = None) -> str:
    """The Modelfile's text.

    Args:
        tokenizer: with its chat template.
        ends: the tokens that end an answer.
        file: the name of the GGUF file beside it.
        system: the system prompt; None for the template's own, if it has one.
    """
    turns = turns_of(tokenizer)
    lines = [f"FROM ./{file}"]
    template = go_template(turns) if turns else None
    if template:
        lines.append(f'TEMPLATE """{template}"""')
    else:
        lines.append("# No TEMPLATE: Ollama goes by the chat template inside the file, if it is one that it knows.")
    stops = [tokenizer.convert_ids_to_tokens(int(end)) for end in ends]
    if turns and (opening := _opening(tokenizer, turns.around["user"][0])):
        stops.append(opening)
    lines += [f'PARAMETER stop "{stop}"' for stop in dict.fromkeys(stops) if stop and '"' not in stop]
    setting = system if system is not None else (turns.setting if turns else None)
    if setting and '"""' not in setting:
        lines.append(f'SYSTEM """{setting}"""')
    return "\n".join(lines) + "\n"


def go_template(turns: Turns) -> str | None:
    """The same for Ollama, which puts the token that begins a text there itself; None where it cannot be said."""
    words = [turns.head, turns.reply, *(part for pair in turns.around.values() for part in pair)]
    if any("{{" in part or '"""' in part for part in words):
        return None
    before, kinds = "", []
    for role in ("system", "user", "assistant"):
        if role in turns.around:
            left, right = turns.around[role]
            kinds.append(f'{before}if eq .Role "{role}" }}}}{left}{{{{ .Content }}}}{right}')
            before = "else "
    body = "{{ " + "{{ ".join(kinds) + "{{ end }}"
    return f"{turns.head}{{{{ range .Messages }}}}{body}{{{{ end }}}}{turns.reply}"


def turns_of(tokenizer: Any) -> Turns | None:
    """What the chat template puts around the words; None where that depends on more than the role."""
    from jinja2 import TemplateError

    def render(dialogue: Sequence[tuple[str, str]], answering: bool) -> str:
        messages = [{"role": role, "content": words} for role, words in dialogue]
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answering))

    begun = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    bos = tokenizer.bos_token if begun else ""
    try:
        turns = _turns(render, bos)
        alike = all(
            render(dialogue, answering).removeprefix(bos) == turns.text(dialogue, answering=answering)
            for dialogue in _TRIALS
            for answering in (True, False)
        )
    except (TemplateError, ValueError):
        return None
    return turns if alike else None


_TRIALS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("user", "One."),),
    (("system", "Be kind."), ("user", "One.")),
    (("user", "One."), ("assistant", "Two."), ("user", "Three.")),
    (("system", "Be kind."), ("user", "One."), ("assistant", "Two."), ("user", "3"), ("assistant", "4"), ("user", "5")),
)


def _turns(render: Render, bos: str) -> Turns:
    """By rendering dialogues of words that occur nowhere else; without the token that begins a text, which llama.cpp
    and Ollama put there themselves.

    Raises:
        ValueError: the words do not come out once each.
    """
    setting = [("system", _S), ("user", _U)]
    answered = [*setting, ("assistant", _A)]
    whole = render([*answered, ("user", _V)], False)
    behind_user = _cut(render(setting, False), _U)[1]
    behind_answer = _cut(render(answered, False), _A)[1]
    before_user = _cut(_cut(whole, _V)[0], _A)[1].removeprefix(behind_answer)
    before_answer = _cut(_cut(whole, _A)[0], _U)[1].removeprefix(behind_user)
    before_setting = _cut(whole, _S)[0].removeprefix(bos)
    behind_setting = _cut(_cut(whole, _U)[0], _S)[1].removesuffix(before_user)
    reply = _cut(render(setting, True), _U)[1].removeprefix(behind_user)
    rest = _cut(render([("user", _U)], False), _U)[0].removeprefix(bos).removesuffix(before_user)
    own = None
    if rest and before_setting and rest.startswith(before_setting):
        own, rest = rest.removeprefix(before_setting).removesuffix(behind_setting), ""
    around = {
        "system": (before_setting.removeprefix(rest), behind_setting),
        "user": (before_user, behind_user),
        "assistant": (before_answer, behind_answer),
    }
    return Turns(rest, around, reply, own)


def _cut(text: str, words: str) -> tuple[str, str]:
    """What stands before and behind words that occur once.

    Raises:
        ValueError: they do not.
    """
    if text.count(words) != 1:
        raise ValueError(f"the words come out {text.count(words)} times")
    left, _, right = text.partition(words)
    return left, right


def _opening(tokenizer: Any, before_user: str) -> str | None:
    """The special token with which a turn of the user begins; a model that goes on with it speaks for another."""
    ids = tokenizer(before_user, add_special_tokens=False)["input_ids"]
    special = {token for token, one in tokenizer.added_tokens_decoder.items() if one.special}
    return tokenizer.convert_ids_to_tokens(int(ids[0])) if ids and ids[0] in special else None
