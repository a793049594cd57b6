"""SQLite that keeps what it acknowledged: how it is opened, brought up to date, repaired and looked into.

Every connection writes ahead to a log (WAL) and waits up to 30 s for another writer. ``synchronous=FULL`` has each
commit on the disk before it is acknowledged: what was acknowledged survives the process's death, and a loss of power
as far as the disk keeps its own word about flushing.

A kill can fall between two commits of one request: a response is there, its record's status is still that of before.
The status follows from the responses, so `repair` computes it anew at every start; then the index is compared with the
database by the search engine.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any, Literal

from argilla_embedded.errors import Problem

BUSY_SECONDS = 30


def url(path: Path) -> str:
    """The address under which SQLAlchemy opens the file."""
    return f"sqlite+aiosqlite:///{path}?check_same_thread=False"


def open_safely() -> None:
    """Have every connection of the imported server opened as this module says. Call once, before the first."""
    from argilla_server.database import async_engine, sync_engine
    from sqlalchemy import event

    for engine in (async_engine.sync_engine, sync_engine):
        event.listen(engine, "connect", _set_pragmas)


def _set_pragmas(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def migrate(path: Path) -> None:
    """Bring the database to the imported server's schema, making it where there is none.

    Raises:
        Problem: it was written by a newer server, or is not a database.
    """
    import argilla_server
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(argilla_server.__file__).parent / "alembic"))
    revision = schema_revision(path)
    if revision is not None:
        try:
            ScriptDirectory.from_config(config).get_revision(revision)
        except CommandError:
            raise Problem(
                f"{path} in schema {revision}",
                "a database that argilla-server 2.8.0 or an older one wrote",
                "Use the newer argilla-embedded that wrote it, or restore an older backup.",
            ) from None
    command.upgrade(config, "head")
    _index_in_order(path)


def _index_in_order(path: Path) -> None:
    """Let a page of records be read where it begins: upstream sorts all of a dataset for each page of 250."""
    with contextlib.closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection, connection:
        connection.execute("CREATE INDEX IF NOT EXISTS argilla_embedded_order ON records (dataset_id, inserted_at)")


def schema_revision(path: Path) -> str | None:
    """The schema's revision; None for a database that is not there or empty.

    Raises:
        Problem: the file is not a database.
    """
    if not path.exists():
        return None
    try:
        with reading(path) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError:
        return None
    except sqlite3.DatabaseError as error:
        raise not_a_database(path, error) from None
    return str(row[0]) if row else None


def not_a_database(path: Path, error: Exception) -> Problem:
    """What to say of a file that SQLite cannot read."""
    return Problem(f"{path}: {error}", "an SQLite database", "Restore a backup: argilla-embedded restore --help.")


class reading(sqlite3.Connection):
    """A connection that only reads, also while a server writes; ``with`` closes it."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)

    def __exit__(self, *_: object) -> Literal[False]:
        self.close()
        return False


def repair(path: Path) -> int:
    """Make each record's status what its submitted responses and its dataset's overlap say.

    Returns:
        How many were wrong: after a clean end none.
    """
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        with connection:
            connection.execute(
                """
                WITH true_status AS (
                    SELECT records.id, CASE WHEN count(responses.id) >= json_extract(datasets.distribution,
                               '$.min_submitted') THEN 'completed' ELSE 'pending' END AS status
                    FROM records JOIN datasets ON datasets.id = records.dataset_id
                    LEFT JOIN responses ON responses.record_id = records.id AND responses.status = 'submitted'
                    WHERE json_extract(datasets.distribution, '$.strategy') = 'overlap'
                    GROUP BY records.id
                )
                UPDATE records SET status = true_status.status FROM true_status
                WHERE true_status.id = records.id AND true_status.status != records.status
                """
            )
        return connection.total_changes
    finally:
        connection.close()


def counts(path: Path) -> dict[str, Any]:
    """Users, and for each dataset its records, completed ones, responses by status. Reads only."""
    with reading(path) as connection:
        users = [
            {"username": name, "role": role}
            for name, role in connection.execute("SELECT username, role FROM users ORDER BY inserted_at")
        ]
        datasets = [
            {
                "name": name,
                "workspace": workspace,
                "status": status,
                "records": records,
                "completed": completed,
                "responses": dict(
                    connection.execute(
                        "SELECT responses.status, count(*) FROM responses JOIN records ON records.id = record_id "
                        "WHERE dataset_id = ? GROUP BY responses.status",
                        (dataset,),
                    )
                ),
                "annotators": _annotators(connection, dataset),
            }
            for dataset, name, workspace, status, records, completed in connection.execute(
                "SELECT datasets.id, datasets.name, workspaces.name, datasets.status, count(records.id), "
                "coalesce(sum(records.status = 'completed'), 0) FROM datasets "
                "JOIN workspaces ON workspaces.id = workspace_id LEFT JOIN records ON dataset_id = datasets.id "
                "GROUP BY datasets.id ORDER BY datasets.inserted_at"
            )
        ]
    return {"users": users, "datasets": datasets}


def _annotators(connection: sqlite3.Connection, dataset: str) -> list[dict[str, Any]]:
    """How far each is: the annotators of the dataset's workspace, and whoever else answered."""
    counted: dict[str, dict[str, int]] = {
        name: {}
        for (name,) in connection.execute(
            "SELECT username FROM users JOIN workspaces_users ON users.id = user_id "
            "JOIN datasets ON datasets.workspace_id = workspaces_users.workspace_id "
            "WHERE datasets.id = ? AND role = 'annotator' ORDER BY users.inserted_at",
            (dataset,),
        )
    }
    for name, status, count in connection.execute(
        "SELECT username, responses.status, count(*) FROM responses JOIN records ON records.id = record_id "
        "JOIN users ON users.id = user_id WHERE dataset_id = ? GROUP BY username, responses.status",
        (dataset,),
    ):
        counted.setdefault(name, {})[status] = count
    return [{"username": name, "responses": responses} for name, responses in counted.items()]


async def close() -> None:
    """Close the imported server's connections; the last one folds the log into the database."""
    from argilla_server.database import async_engine, sync_engine

    await async_engine.dispose()
    sync_engine.dispose()
