"""An S3 endpoint on this machine: moto's server, which may be told to fail now and then.

    python benchmarks/s3_server.py PORT [SHARE]     serve; a share of the requests ends in 500 or in 503 SlowDown

The first line that it prints is its address.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

BUCKET = "bucket"
SLOW = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
BROKEN = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>We encountered an error.</Message></Error>"


class Faulty:
    """An application that answers a share of its requests with an error; ``/faults`` tells how many so far."""

    def __init__(self, application: Callable[..., Iterable[bytes]], share: float) -> None:
        self._application, self._share = application, share
        self._random, self._lock, self._faults = random.Random(7), threading.Lock(), 0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        if environ["PATH_INFO"] == "/faults":
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [str(self._faults).encode()]
        with self._lock:
            fails, kind = self._random.random() < self._share, self._random.random()
            self._faults += fails
        if not fails:
            return self._application(environ, start_response)
        with contextlib.suppress(ValueError):  # what was sent is read before it is refused
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        status, body = ("500 Internal Server Error", BROKEN) if kind < 0.5 else ("503 Slow Down", SLOW)
        start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body]


def serve(port: int, share: float) -> None:
    """Serve until killed."""
    import boto3
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application = Faulty(DomainDispatcherApplication(create_backend_app), share)
    server = make_server("127.0.0.1", port, application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    boto3.client("s3", endpoint_url=address, **_CREDENTIALS).create_bucket(Bucket=BUCKET)
    print(address, flush=True)
    sys.stdin.read()


_CREDENTIALS: dict[str, Any] = {
    "aws_access_key_id": "nobody",
    "aws_secret_access_key": "nothing",
    "region_name": "us-east-1",
}


@contextlib.contextmanager
def s3_server(share: float = 0.0) -> Iterator[dict[str, str]]:
    """The environment in which ``s3://bucket/`` is a server of its own."""
    command = [sys.executable, str(Path(__file__)), "0", str(share)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().decode().strip()
        assert address, "no server"
        yield {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": _CREDENTIALS["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": _CREDENTIALS["aws_secret_access_key"],
            "AWS_DEFAULT_REGION": _CREDENTIALS["region_name"],
            "AWS_CONFIG_FILE": os.devnull,
        }
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    os.environ.setdefault("WERKZEUG_RUN_MAIN", "true")
    serve(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
