"""Starts that cannot succeed end with one message and exit code 1."""

from __future__ import annotations

import resource
import socket
import sqlite3

import pytest
from serving import run


def refused(*arguments: object, **options: object) -> str:
    """What a start that fails says; it has to be one message, with found, expected and remedy."""
    ended = run(*arguments, **options)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.startswith("argilla-embedded: found ") and "; expected " in ended.stderr
    assert len(ended.stderr.strip().split("\n")) == 2
    return ended.stderr


def test_a_port_that_is_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused("serve", "--dir", tmp_path / "dir", "--port", port)
    assert f"port {port}" in said and "--port 0" in said


def test_an_address_that_others_can_reach_without_the_word_for_it(tmp_path):
    said = refused("serve", "--dir", tmp_path / "dir", "--port", 0, "--host", "0.0.0.0")
    assert "--allow-network" in said and not (tmp_path / "dir").exists()


def test_an_address_of_another_machine(tmp_path):
    assert "203.0.113.7" in refused(
        "serve", "--dir", tmp_path / "d", "--port", 0, "--host", "203.0.113.7", "--allow-network"
    )


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "dir").write_text("")
    assert str(tmp_path / "dir") in refused("serve", "--dir", tmp_path / "dir", "--port", 0)


def test_a_folder_that_cannot_be_made():
    assert "/proc/nowhere" in refused("serve", "--dir", "/proc/nowhere", "--port", 0)


def test_a_database_of_a_newer_version(tmp_path):
    run("users", "add", "--dir", tmp_path / "dir", "anna")
    connection = sqlite3.connect(tmp_path / "dir" / "argilla.db")
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    connection.close()
    assert "schema ffffffffffff" in refused("serve", "--dir", tmp_path / "dir", "--port", 0)


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "argilla.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    assert "restore" in refused("serve", "--dir", tmp_path / "dir", "--port", 0)


def test_accounts_that_cannot_be_read(tmp_path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "accounts.json").write_text('{"users": [{"username": "x"')
    assert "accounts.json" in refused("serve", "--dir", tmp_path / "dir", "--port", 0)


@pytest.mark.parametrize("bytes_left", [0, 100_000])
def test_a_disk_that_is_full(tmp_path, bytes_left):
    """A limit on the size of files stands for it: the probe of the folder fails, or the database's growth."""
    limited = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, bytes_left))}
    said = refused("serve", "--dir", tmp_path / "dir", "--port", 0, **limited)
    assert "no room to write" in said or "has room left" in said


def test_a_user_name_that_is_none(tmp_path):
    assert "'a b'" in refused("serve", "--dir", tmp_path / "dir", "--port", 0, "--annotators", "anna,a b")


def test_no_folder_for_the_other_commands(tmp_path):
    for command in ("status", "stop", "backup", "reindex"):
        assert "serve --dir" in refused(command, "--dir", tmp_path / "none")


def test_a_backup_that_is_none(tmp_path):
    (tmp_path / "b.tar.gz").write_bytes(b"no")
    assert "b.tar.gz" in refused("restore", "--dir", tmp_path / "dir", tmp_path / "b.tar.gz")
