"""A real server as a process of its own, for tests and proofs: started, asked over HTTP, killed, started again."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).parent
START_SECONDS = 240
"""A start takes five seconds; with sixteen processes on two cores it took ninety."""


def environment() -> dict[str, str]:
    """This one, with the package importable and no proxy between us and the loopback."""
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    paths = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths)}


def command(*arguments: object) -> list[str]:
    """``argilla-embedded`` with these arguments."""
    return [sys.executable, "-m", "argilla_embedded", *map(str, arguments)]


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    options = {"capture_output": True, "text": True, "timeout": START_SECONDS, "env": environment(), **options}
    return subprocess.run(command(*arguments), check=False, **options)


@dataclass
class Server:
    """A server on a folder."""

    directory: Path
    annotators: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = field(default=None, repr=False)
    address: str = ""

    def start(self) -> Server:
        """Start it and wait until it says that it answers."""
        names = ["--annotators", ",".join(self.annotators)] if self.annotators else []
        self.log = self.directory.with_suffix(".log")
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command("serve", "--dir", self.directory, "--port", 0, *names, *self.extra),
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment(),
                **self.options,
            )
        atexit.register(_end, self.process)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            told = self._told()
            if told.get("pid") == self.process.pid:
                self.address = told["address"]
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"no server: {self.log.read_text()}")

    def _told(self) -> dict[str, Any]:
        try:
            told: dict[str, Any] = json.loads((self.directory / "server.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return told

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and wait.

        Returns:
            The exit code.
        """
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(START_SECONDS)

    def account(self, name: str) -> dict[str, str]:
        """What accounts.json has on a user."""
        users = json.loads((self.directory / "accounts.json").read_text())["users"]
        account: dict[str, str] = next(user for user in users if user["username"] == name)
        return account

    def client(self, name: str | None = "owner", **options: Any) -> httpx.Client:
        """A client of the API with that user's key; None for no key."""
        headers = {"X-Argilla-Api-Key": self.account(name)["api_key"]} if name else {}
        headers |= options.pop("headers", {})
        options = {"timeout": 120, "trust_env": False, **options}
        return httpx.Client(base_url=f"{self.address}/api/v1/", headers=headers, **options)


def _end(process: subprocess.Popen[str]) -> None:
    """Leave no server behind when a test failed before it stopped its own."""
    if process.poll() is None:
        process.kill()


def ok(answer: httpx.Response) -> Any:
    """The body of an answer that has to be a good one."""
    assert answer.is_success, f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:500]}"
    return answer.json() if answer.content else None


def workspace_of(client: httpx.Client, name: str = "annotation") -> str:
    """The id of a workspace, made if it is not there."""
    for workspace in ok(client.get("me/workspaces"))["items"]:
        if workspace["name"] == name:
            return str(workspace["id"])
    return str(ok(client.post("workspaces", json={"name": name}))["id"])


def make_dataset(
    client: httpx.Client,
    name: str,
    *,
    workspace: str = "annotation",
    overlap: int = 1,
    hidden: str | None = None,
    publish: bool = True,
) -> str:
    """A dataset with a text field, a choice and a reason.

    Args:
        client: the owner's.
        name: the dataset's.
        workspace: where; made if it is not there.
        overlap: submitted responses that complete a record.
        hidden: a metadata property that annotators may not see.
        publish: whether records can go in at once.

    Returns:
        Its id.
    """
    made = ok(
        client.post(
            "datasets",
            json={
                "name": name,
                "workspace_id": workspace_of(client, workspace),
                "distribution": {"strategy": "overlap", "min_submitted": overlap},
            },
        )
    )["id"]
    ok(
        client.post(
            f"datasets/{made}/fields",
            json={
                "name": "text",
                "title": "Text",
                "required": True,
                "settings": {"type": "text", "use_markdown": False},
            },
        )
    )
    options = [{"value": value, "text": value} for value in ("a", "b", "tie")]
    ok(
        client.post(
            f"datasets/{made}/questions",
            json={
                "name": "better",
                "title": "Which is better?",
                "required": True,
                "settings": {"type": "label_selection", "options": options},
            },
        )
    )
    ok(
        client.post(
            f"datasets/{made}/questions",
            json={
                "name": "reason",
                "title": "Why?",
                "required": False,
                "settings": {"type": "text", "use_markdown": False},
            },
        )
    )
    if hidden:
        ok(
            client.post(
                f"datasets/{made}/metadata-properties",
                json={"name": hidden, "title": hidden, "settings": {"type": "terms"}, "visible_for_annotators": False},
            )
        )
    if publish:
        ok(client.put(f"datasets/{made}/publish"))
    return str(made)


def push(client: httpx.Client, dataset: str, items: list[dict[str, Any]], at_a_time: int = 100) -> list[str]:
    """Add records, some in a request.

    Returns:
        Their ids, in order.
    """
    ids: list[str] = []
    for start in range(0, len(items), at_a_time):
        answer = client.post(f"datasets/{dataset}/records/bulk", json={"items": items[start : start + at_a_time]})
        ids += [record["id"] for record in ok(answer)["items"]]
    return ids


def choice(value: str, reason: str = "", status: str = "submitted") -> dict[str, Any]:
    """A response's values and status."""
    values = {"better": {"value": value}, **({"reason": {"value": reason}} if reason else {})}
    return {"values": values, "status": status}
