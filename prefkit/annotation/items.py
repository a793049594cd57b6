"""What was shown to whom: the key of the blinding. It stays in the run folder.

Reads and writes   annotation/items.jsonl    a question as it was put onto a page, which response stood left
                   annotation/secret         what ids and pseudonyms are digested with

A page, an export and a table know an item by its ``id``, which tells nothing. An annotator is known here by a
pseudonym, a digest of the account's id; names stay where the accounts are.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from prefkit.durable import explained_disk_errors, read_lines
from prefkit.errors import RecordError, RunError
from prefkit.records import Record
from prefkit.run import Run

FOLDER = "annotation"
ITEMS = f"{FOLDER}/items.jsonl"
SECRET = f"{FOLDER}/secret"

Mode = Literal["compare", "rate"]
Kind = Literal["item", "repeat", "attention", "adjudication"]
Side = Literal["left", "right", "tie"]


class Item(Record, frozen=True, kw_only=True):
    """A question as it stands on a page.

    ``deck`` is the dataset that it is in; ``number`` its place there, from 0. ``right`` is None where one response is
    rated. ``form`` digests the questions asked, ``words`` the texts shown. ``sample`` is 1 for a hidden repeat, which
    the same annotators see a second time; ``expected`` the known answer of an attention item.
    """

    id: str
    deck: str
    number: int
    kind: Kind
    mode: Mode
    prompt_id: str
    left: str
    right: str | None
    rubric: str
    form: str
    words: str
    sample: int = 0
    expected: Side | None = None


def items_of(run: Run) -> Iterator[Item]:
    """The items pushed so far, in the order in which they were pushed.

    Raises:
        RecordError: a line is not an item.
    """
    path = run.path / ITEMS
    if not path.exists():
        return
    decoder = msgspec.json.Decoder(Item)
    for number, line in read_lines(path):
        try:
            yield decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            remedy = "prefkit wrote this file; without its lines answers cannot be read. Take it from a backup."
            raise RecordError(f"{ITEMS}:{number}", str(error), "an item as prefkit writes it", remedy) from None


def make_folder(run: Run) -> None:
    """See to it that ``annotation/`` is there."""
    with explained_disk_errors(run.path / FOLDER):
        (run.path / FOLDER).mkdir(exist_ok=True)


def keep_items(run: Run, items: Iterable[Item], secret: bytes | None = None) -> None:
    """Write all items of a run, and its secret where it has none yet (``secret``, or a new one); to be called before
    any of them is shown to anybody."""
    make_folder(run)
    if known_secret(run) is None:
        with run.replacing(SECRET) as file:
            os.chmod(file.name, 0o600)
            file.write(secret or new_secret())
    with run.replacing(ITEMS) as file:
        for item in items:
            file.write(msgspec.json.encode(item) + b"\n")


def new_secret() -> bytes:
    """A secret for a run that has none."""
    return secrets.token_hex(16).encode()


def known_secret(run: Run) -> bytes | None:
    """What a run's opaque ids and pseudonyms are digested with; None before its first item."""
    path = run.path / SECRET
    with explained_disk_errors(path):
        return (path.read_bytes() or None) if path.exists() else None


def secret_of(run: Run) -> bytes:
    """The same of a run that has items.

    Raises:
        RunError: it is gone.
    """
    secret = known_secret(run)
    if secret is None:
        remedy = (
            "Take it from a backup of the run: with another one, the same people would be told by other pseudonyms."
        )
        raise RunError(run.path / SECRET, "no secret", "the one that the items were made with", remedy)
    return secret


def pseudonym(run: Run, account: str) -> str:
    """The annotator that an account (its id, or its name where there is no id) is known as: ``human:4f1c09ab``.

    Raises:
        RunError: the run's secret is gone.
    """
    return f"human:{hashlib.blake2b(account.encode(), key=secret_of(run), digest_size=4).hexdigest()}"
