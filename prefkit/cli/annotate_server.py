"""``prefkit annotate serve``, ``stop``, ``status``, ``backup``, ``restore`` and ``users``."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from prefkit.annotation.launcher import Dataset, Launcher, Status
    from prefkit.annotation.server import Account

_DIR = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    help="The server's folder: answers, accounts, log.  [default: $PREFKIT_ANNOTATION_DIR, else in ~/.local/share]",
)


@click.command()
@_DIR
@click.option("--annotators", "-a", default="", metavar="A,B", help="Accounts to make where they do not exist yet.")
@click.option("--port", type=click.IntRange(0, 65535), default=6900, show_default=True, help="0 for any free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--allow-network", is_flag=True, help="Needed with a --host that other machines can reach.")
@click.option("--foreground", is_flag=True, help="Stay, and stop with Ctrl-C.")
def serve(directory: Path | None, annotators: str, port: int, host: str, allow_network: bool, foreground: bool) -> None:
    """Start Argilla on this machine, and install it first where need be.

    It gets an environment of its own and keeps running when the terminal is closed. Passwords are random, shown once,
    and kept in DIR/accounts.json. The same command on a server that runs says where it is, and adds annotators.

    \b
        prefkit annotate serve --annotators anna,ben
    """
    from prefkit.annotation.launcher import Serve
    from prefkit.annotation.launcher import serve as served
    from prefkit.cli.progress import Bars

    folder = _folder(directory)
    names = tuple(name.strip() for name in annotators.split(",") if name.strip())
    asked = Serve(host=host, port=port, allow_network=allow_network, annotators=names, own_session=not foreground)
    with Bars() as bars:
        found = served(folder, asked, bars.open_absolute, click.echo)
    click.echo(f"Argilla {'answers' if found.process else 'runs already'} at {found.running.address}")
    _show_log_ins(folder, found.new)
    if foreground and found.process:
        _stay(found.process)
        return
    if found.process:
        found.process.returncode = 0  # it outlives us; without this Python would warn that nobody waited for it
    click.echo(f"Next: prefkit annotate push RUN{_option(directory)}")


def _stay(process: subprocess.Popen[bytes]) -> None:
    """Wait for the server. A Ctrl-C in the terminal reaches it as well; a SIGTERM is passed on."""
    from prefkit.errors import PrefkitError

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: process.terminate()),
    }
    try:
        click.echo("stop it with Ctrl-C")
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code:
        remedy = "Start it again: every answer that was acknowledged is kept."
        raise PrefkitError("annotate serve", f"a server that ended by itself (code {code})", "one that stays", remedy)
    click.echo("stopped")


@click.command()
@_DIR
def stop(directory: Path | None) -> None:
    """Stop the server; requests that it has begun are finished.

    \b
        prefkit annotate stop
    """
    folder = _folder(directory)
    click.echo("stopped" if _known(folder) and _launcher(folder).stop() else f"no server runs on {folder}")


@click.command()
@_DIR
def status(directory: Path | None) -> None:
    """Whether the server runs, who may log in, and how far everybody is. Also tells when it is stopped.

    \b
        prefkit annotate status
    """
    from prefkit.annotation.environment import place, server
    from prefkit.annotation.server import LOG, running

    folder = _folder(directory)
    if not _known(folder):
        click.echo(f"no Argilla here: nothing has been served from {folder}")
        click.echo(f"Next: prefkit annotate serve{_option(directory)} --annotators A,B")
        return
    here = running(folder)
    click.echo(f"Argilla answers at {here.address} (process {here.pid})" if here else "Argilla is stopped")
    of = server()
    found = _launcher(folder).status()
    click.echo(f"  folder       {folder} ({_sizes(found)})")
    click.echo(f"  log-ins      {folder / 'accounts.json'}")
    click.echo(f"  log          {folder / LOG}")
    click.echo(f"  environment  {place(of)} (argilla-server {of.version})")
    click.echo(f"  users        {_users(found)}")
    for dataset in found.datasets:
        _show_progress(dataset)
    if not found.datasets:
        click.echo("  decks        none yet")
    if not here:
        click.echo(f"Next: prefkit annotate serve{_option(directory)}")


@click.command()
@_DIR
@click.option("--to", type=click.Path(path_type=Path), help="The file.  [default: DIR/backups/argilla-TIME.tar.gz]")
def backup(directory: Path | None, to: Path | None) -> None:
    """Copy all that cannot be made again into one file, also while the server runs.

    The file is as secret as DIR: it holds answers, texts and passwords.

    \b
        prefkit annotate backup --to /media/stick/friday.tar.gz
    """
    folder = _folder(directory)
    file = _launcher(folder).back_up(to)
    click.echo(f"{file}: {_size(file.stat().st_size)}, readable by you only; it holds passwords and answers")
    click.echo(f"To put it back: prefkit annotate restore {file} --dir NEW")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@_DIR
@click.option("--replace", is_flag=True, help="Also over a database that is there; it is kept beside, renamed.")
def restore(file: Path, directory: Path | None, replace: bool) -> None:
    """Put a backup FILE back into DIR, whose server must not run.

    \b
        prefkit annotate restore friday.tar.gz --dir restored
    """
    from prefkit.annotation.launcher import installed
    from prefkit.annotation.server import prepare_folder

    folder = _folder(directory)
    prepare_folder(folder)
    click.echo(installed(folder).restore(file, replace=replace))
    click.echo(f"Next: prefkit annotate serve{_option(directory)}")


@click.group()
def users() -> None:
    """Add and list annotators, also while the server runs.

    \b
        prefkit annotate users add cleo
    """


@users.command()
@click.argument("names", nargs=-1, required=True)
@_DIR
def add(names: tuple[str, ...], directory: Path | None) -> None:
    """Make accounts NAMES; their passwords are shown once.

    \b
        prefkit annotate users add cleo dora
    """
    folder = _folder(directory)
    new = _launcher(folder).add_users(names)
    if there := [name for name in dict.fromkeys(names) if name not in {account.username for account in new}]:
        click.echo(f"already there, unchanged: {', '.join(there)}")
    _show_log_ins(folder, new)


@users.command("list")
@_DIR
def list_(directory: Path | None) -> None:
    """Everybody who may log in.

    \b
        prefkit annotate users list
    """
    folder = _folder(directory)
    for user in _launcher(folder).status().users:
        click.echo(f"{user.username}  {user.role}")


@users.command()
@click.argument("name")
@_DIR
def password(name: str, directory: Path | None) -> None:
    """Give NAME a new password.

    \b
        prefkit annotate users password anna
    """
    folder = _folder(directory)
    _show_log_ins(folder, [_launcher(folder).renew_password(name)])


def _folder(directory: Path | None) -> Path:
    from prefkit.annotation.server import default_folder

    return directory.expanduser().absolute() if directory else default_folder()


def _option(directory: Path | None) -> str:
    return f" --dir {directory}" if directory else ""


def _known(folder: Path) -> bool:
    from prefkit.annotation.server import served_before

    return served_before(folder)


def _launcher(folder: Path) -> Launcher:
    from prefkit.annotation.launcher import launcher

    return launcher(folder)


def _show_log_ins(folder: Path, new: list[Account]) -> None:
    """New accounts with their passwords, never with their keys."""
    if not new:
        click.echo(f"  log-ins: {folder / 'accounts.json'}")
        return
    width = max(len(account.username) for account in new)
    for account in new:
        click.echo(f"  {account.username:<{width}}  {account.password}")
    click.echo(f"  passwords are shown this once; they stay in {folder / 'accounts.json'}, readable by you only")


def _sizes(found: Status) -> str:
    kept = ", ".join(f"{name} {_size(size)}" for name, size in found.sizes.items())
    return f"{kept}; {found.free_bytes / 1e9:.0f} GB free"


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.0f} kB"


def _users(found: Status) -> str:
    return ", ".join(
        user.username if user.role == "annotator" else f"{user.username} ({user.role})" for user in found.users
    )


def _show_progress(dataset: Dataset) -> None:
    name = dataset.name if dataset.name == dataset.workspace else f"{dataset.workspace}/{dataset.name}"
    click.echo(f"  {name}: {dataset.completed} of {dataset.records} items done")
    width = max((len(annotator.username) for annotator in dataset.annotators), default=0)
    for annotator in dataset.annotators:
        said = annotator.responses
        click.echo(
            f"    {annotator.username:<{width}}  {said.submitted} submitted, {said.draft} drafts, "
            f"{said.discarded} discarded"
        )
