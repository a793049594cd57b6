"""One file with all that cannot be made again, and back.

A backup is a .tar.gz, readable by its owner only, of

    argilla.db       a copy by ``VACUUM INTO``: consistent, also while the server answers and people submit
    accounts.json    names, passwords, keys: without them restored users would need new passwords
    secret           so that log-ins of before stay good

It is as secret as DIR itself. The index is not in it; the next start makes it from the database.
"""

from __future__ import annotations

import io
import os
import sqlite3
import tarfile
import tempfile
from datetime import datetime
from pathlib import Path

from argilla_embedded import database
from argilla_embedded.errors import Problem
from argilla_embedded.folder import Folder, disk_full, hold, write_private


def back_up(folder: Folder, to: Path | None = None) -> Path:
    """Write a backup, whole or not at all.

    Args:
        folder: whose; its server may be running.
        to: the file; by default one in DIR/backups, named by the time.

    Returns:
        The file.

    Raises:
        Problem: there is no database, the file exists, or it cannot be written.
    """
    if not folder.database.exists():
        raise Problem(f"no {folder.database.name} in {folder.root}", "a server's DIR", "Name the right --dir.")
    if to is None:
        folder.backups.mkdir(mode=0o700, exist_ok=True)
        to = folder.backups / f"argilla-{datetime.now():%Y%m%d-%H%M%S}.tar.gz"
    if to.exists():
        raise Problem(f"{to}, already there", "a name that is free", "Name another file with --to.")
    try:
        with tempfile.TemporaryDirectory(dir=to.parent, prefix=".backup-") as scratch:
            copy = Path(scratch) / folder.database.name
            with database.reading(folder.database) as connection:
                connection.execute("VACUUM INTO ?", (str(copy),))
            part = Path(scratch) / "backup.tar.gz"
            with tarfile.open(part, "w:gz", compresslevel=3) as archive:
                archive.add(copy, arcname=folder.database.name)
                for path in (folder.accounts, folder.secret):
                    if path.exists():
                        archive.add(path, arcname=path.name)
            part.chmod(0o600)
            with part.open("rb") as written:
                os.fsync(written.fileno())
            os.replace(part, to)
    except sqlite3.DatabaseError as error:
        raise (
            disk_full(to.parent) if "full" in str(error) else database.not_a_database(folder.database, error)
        ) from None
    except OSError as error:
        raise Problem(
            f"{to}: {error.strerror or error}", "a file that can be written", "Name another with --to."
        ) from None
    return to


def restore(folder: Folder, backup: Path, *, replace: bool = False) -> Path | None:
    """Put a backup back. The folder's server must not be running.

    Args:
        folder: where to; may be new and empty.
        backup: a file that `back_up` wrote.
        replace: whether a database that is there may be replaced; it is kept beside, renamed.

    Returns:
        Where the replaced database went; None where there was none.

    Raises:
        Problem: the server runs, a database is there, or the file is not a whole backup.
    """
    with hold(folder), tempfile.TemporaryDirectory(dir=folder.root, prefix=".restore-") as scratch:
        members = _members(backup, folder)
        copy = Path(scratch) / folder.database.name
        copy.write_bytes(members[folder.database.name])
        _check(copy, backup)
        kept = None
        if folder.database.exists():
            if not replace:
                raise Problem(
                    f"{folder.database}, already there",
                    "a folder without a database",
                    "Restore to a new --dir, or add --replace: the present database is kept beside, renamed.",
                )
            kept = folder.database.with_name(f"argilla-{datetime.now():%Y%m%d-%H%M%S}.replaced.db")
            with database.reading(folder.database) as connection:
                connection.execute("VACUUM INTO ?", (str(kept),))
            kept.chmod(0o600)
        for name in (folder.database.name, folder.index.name):
            for path in folder.root.glob(f"{name}*"):
                path.unlink()
        copy.chmod(0o600)
        os.replace(copy, folder.database)
        for path in (folder.accounts, folder.secret):
            if path.name in members:
                write_private(path, members[path.name].decode())
    return kept


def _members(backup: Path, folder: Folder) -> dict[str, bytes]:
    """The known files of a backup; whatever else is in it is not looked at."""
    known = {folder.database.name, folder.accounts.name, folder.secret.name}
    try:
        with tarfile.open(backup, "r:gz") as archive:
            found = {
                member.name: (archive.extractfile(member) or io.BytesIO()).read()
                for member in archive
                if member.isfile() and member.name in known
            }
    except (OSError, EOFError, tarfile.TarError) as error:
        raise Problem(
            f"{backup}: {error}", "a file that `argilla-embedded backup` wrote", "Name another backup."
        ) from None
    if folder.database.name not in found:
        raise Problem(f"no database in {backup}", "a file that `argilla-embedded backup` wrote", "Name another backup.")
    return found


def _check(copy: Path, backup: Path) -> None:
    try:
        with database.reading(copy) as connection:
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        verdict = str(error)
    if verdict != "ok":
        raise Problem(f"{backup}: its database is damaged ({verdict})", "a whole backup", "Name another backup.")
