"""Questions with a known answer, to notice who has stopped reading.

Reads   a file of them (JSONL, CSV, YAML: prompt, good, bad), or the run's own responses
Gives   Asked, the better response first

From the run: a client's words with a response that was written for them, and with one by the same policy, about as
long, that was written for another client, on another topic where there are topics. Of many such, those are taken whose
right response repeats most of the client's own words and whose wrong one fewest. Neither style nor length gives it
away; whoever reads knows. Prompts and responses with a mark of risk are never used, nor prompts that stand in the deck:
no client in danger gets an answer that was meant for somebody else. A general answer may still fit both clients, so
look at them before you push (`--dry-run` prints them), and take a wrong answer as a reason to ask, not to drop
somebody's work. A file written by hand is better.
"""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from prefkit.annotation.cases import Fit, key_of
from prefkit.annotation.plan import Asked
from prefkit.annotation.texts import Made, messages_of
from prefkit.durable import explained_disk_errors, read_lines
from prefkit.errors import InputError, RunError
from prefkit.records import Prompt, Response, digest
from prefkit.run import Run

COLUMNS = ("prompt", "good", "bad")
OWN, FOREIGN = 20, 64
"""How many prompts are looked at for each that is wanted, and how many responses to others for each of these."""
ALIKE = 1.3
"""How much longer the one response may be than the other."""
_WORD = re.compile(r"\w{4,}")


def read_made(path: Path) -> list[Made]:
    """The attention items of a file.

    Raises:
        InputError: it cannot be read, or a row lacks one of the three texts.
    """
    found = []
    for where, row in _rows(path):
        texts = [row.get(name) if isinstance(row, dict) else None for name in COLUMNS]
        for name, text in zip(COLUMNS, texts, strict=True):
            if not isinstance(text, str) or not text.strip():
                remedy = f"Each row needs {', '.join(COLUMNS)}: a client's words, the better response, the worse one."
                raise InputError(f"{path}:{where}: {name}", repr(text)[:60], "a text", remedy)
        prompt, good, bad = (str(text) for text in texts)
        if good == bad:
            raise InputError(f"{path}:{where}", "good and bad of the same words", "two responses", "Change one.")
        found.append(Made(messages=messages_of(prompt), good=good, bad=bad))
    if not found:
        raise InputError(path, "no rows", f"rows of {', '.join(COLUMNS)}", "Look at the file.")
    return found


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Rows with their numbers, from 1; lines for JSONL."""
    with explained_disk_errors(path):
        try:
            if path.suffix.lower() in (".yaml", ".yml"):
                import yaml

                loaded = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
                yield from enumerate(loaded if isinstance(loaded, list) else [loaded], 1)
            elif path.suffix.lower() == ".csv":
                with path.open(encoding="utf-8-sig", newline="") as file:
                    yield from enumerate(csv.DictReader(file), 2)
            else:
                for number, line in read_lines(path):
                    yield number, msgspec.json.decode(line)
        except FileNotFoundError:
            raise InputError(path, "no such file", "a file of attention items", "Look at the path.") from None
        except (msgspec.DecodeError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(path, str(error), "JSONL, CSV or YAML in UTF-8", "Look at the file.") from None
        except ValueError as error:  # YAML's errors are such
            raise InputError(path, " ".join(str(error).split()), "a YAML list", "Look at the file.") from None


def asked_of(made: Sequence[Made]) -> list[Asked]:
    """Attention items that somebody wrote, as questions."""
    return [Asked(one.prompt.id, one.responses, ("good", "bad"), "attention") for one in made]


def drawn(run: Run, count: int, taken: Collection[str], seed: int) -> list[Asked]:
    """Attention items made from the responses of a run.

    Args:
        run: the run.
        count: how many.
        taken: ids of prompts that are not used: those that people are asked about.
        seed: decides which.

    Raises:
        RunError: there are not enough.
    """
    rng = random.Random(digest("attention", seed))
    fit = Fit(run, risk=False)
    prompts = _prompts(run, fit, set(taken))
    unread = list(range(len(fit)))
    rng.shuffle(unread)
    found: list[tuple[float, Asked]] = []
    used: set[str] = set()
    for row in unread:
        if len(found) >= OWN * count:
            break
        prompt = prompts.get(int(fit.prompt_keys[fit.prompt[row]]))
        if prompt is None or prompt.id in used or _risky(fit[row]):
            continue
        foreign = _foreign(fit, row, prompt, prompts, rng)
        if foreign is not None:
            used.add(prompt.id)
            alike, other = foreign
            policy = fit.policies[fit.policy[row]]
            found.append((alike, Asked(prompt.id, (fit[row].id, other.id), (policy, policy), "attention")))
    if len(found) < count:
        remedy = "Ask for fewer, or write some into a file (prompt, good, bad): --attention FILE."
        words = f"{len(found)} attention items that can be made"
        raise RunError(
            run.path, words, f"{count}, of prompts without a mark of risk that nobody is asked about", remedy
        )
    return [asked for _, asked in sorted(found, key=lambda one: one[0])[:count]]


def _prompts(run: Run, fit: Fit, taken: set[str]) -> dict[int, Prompt]:
    """The prompts that may be used, by key."""
    answered = set(fit.prompt_keys[fit.prompt].tolist())
    return {
        key: prompt for prompt in run.prompts() if prompt.id not in taken and (key := key_of(prompt.id)) in answered
    }


def _risky(response: Response) -> bool:
    return any(mark.startswith("risk:") for mark in response.marks)


def _foreign(
    fit: Fit, row: int, prompt: Prompt, prompts: dict[int, Prompt], rng: random.Random
) -> tuple[float, Response] | None:
    """Of some responses to other prompts that which has the least in common with this one, and how much more that is
    than what its own has: of the share of words, and 1 for the same topic."""
    asked = _words(prompt.messages[-1].content)
    own, repeated = fit.length[row], _share(fit[row], asked)
    best: tuple[float, Response] | None = None
    for other in rng.sample(range(len(fit)), min(FOREIGN, len(fit))):
        theirs = prompts.get(int(fit.prompt_keys[fit.prompt[other]]))
        if theirs is None or theirs.id == prompt.id:
            continue
        if fit.policy[other] != fit.policy[row] or not own / ALIKE <= fit.length[other] <= own * ALIKE:
            continue
        response = fit[other]
        alike = float(theirs.topic == prompt.topic) + _share(response, asked) - repeated
        if not _risky(response) and (best is None or alike < best[0]):
            best = alike, response
    return best


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))


def _share(response: Response, asked: set[str]) -> float:
    """Which share of a response's words stand in the prompt."""
    words = _words(response.text or "")
    return len(words & asked) / max(1, len(words))
