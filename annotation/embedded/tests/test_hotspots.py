"""The two mended slow spots answer as upstream does. Run in processes of their own: mending changes modules."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from serving import Server, choice, environment, make_dataset, ok, push

SETTINGS = """
import json, sys
from argilla_embedded import hotspots, jobs, page
from pathlib import Path
with page.temporary_files(Path(sys.argv[1]) / "page"), jobs.redis_in_process():
    import argilla_server
from argilla_server.models import MetadataProperty, Question
options = [{"value": v, "text": v, "description": None} for v in ("a", "b")]
QUESTIONS = [
    {"type": "text", "use_markdown": True},
    {"type": "rating", "options": [{"value": n} for n in range(1, 6)]},
    {"type": "label_selection", "options": options, "visible_options": None},
    {"type": "multi_label_selection", "options": options, "visible_options": None, "options_order": "natural"},
    {"type": "ranking", "options": options},
    {"type": "span", "field": "text", "allow_overlapping": True, "allow_character_annotation": True,
     "options": options, "visible_options": None},
    {"type": "none such"},
    {},
]
PROPERTIES = [{"type": "terms"}, {"type": "terms", "values": ["x"]}, {"type": "integer", "min": 1, "max": 3},
              {"type": "float"}, {"type": "float", "min": 2.5}, {"type": "none such"}]
def told(thing):
    try:
        return repr(thing.parsed_settings)
    except Exception as error:
        return f"{type(error).__name__} {error}"
def all_of_them():
    return [told(Question(settings=s)) for s in QUESTIONS] + [told(MetadataProperty(settings=s)) for s in PROPERTIES]
before = all_of_them()
hotspots.mend()
print("RESULT" + json.dumps([before, all_of_them()]))
"""


def test_settings_are_parsed_to_the_same_objects_and_the_same_errors(tmp_path):
    printed = subprocess.run(
        [sys.executable, "-c", SETTINGS, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**environment(), "ARGILLA_HOME_PATH": str(tmp_path)},
    ).stdout
    before, after = json.loads(printed.partition("RESULT")[2])
    assert len(before) == 14 and len(set(before)) == 14
    assert after == before


@pytest.fixture
def events() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A listener for webhooks: its address, and what it was sent."""
    sent: list[dict[str, Any]] = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    listener = HTTPServer(("127.0.0.1", 0), Listener)
    Thread(target=listener.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listener.server_port}/", sent
    listener.shutdown()
    listener.server_close()


def test_a_webhook_is_told_of_everything_from_the_moment_it_is_enabled(tmp_path: Path, events):
    address, sent = events
    server = Server(tmp_path / "dir", annotators=("anna",)).start()
    with server.client() as owner, server.client("anna") as anna:
        dataset = make_dataset(owner, "watched")
        silent, first = push(owner, dataset, [{"fields": {"text": text}} for text in ("silent", "first")])
        named = [
            "record.created",
            "record.updated",
            "record.completed",
            "record.deleted",
            "response.created",
            "response.updated",
            "response.deleted",
        ]
        hook = ok(owner.post("webhooks", json={"url": address, "events": named, "description": "test"}))
        ok(anna.post("me/responses/bulk", json={"items": [{"record_id": first, **choice("a")}]}))
        ok(anna.post("me/responses/bulk", json={"items": [{"record_id": first, **choice("b")}]}))
        ok(owner.delete(f"records/{silent}"))
        (second,) = push(owner, dataset, [{"fields": {"text": "second"}}])
        ok(owner.patch(f"webhooks/{hook['id']}", json={"enabled": False}))
        push(owner, dataset, [{"fields": {"text": "unheard"}}])
    assert server.stop() == 0  # jobs finish before the end, so everything is sent
    told = sorted(event["type"] for event in sent)
    assert told == [
        "record.completed",
        "record.completed",
        "record.created",
        "record.deleted",
        "record.updated",
        "record.updated",
        "response.created",
        "response.updated",
    ]
    by_type = {event["type"]: event["data"] for event in sent}
    assert by_type["record.created"]["id"] == second and by_type["record.created"]["fields"] == {"text": "second"}
    assert by_type["record.deleted"]["id"] == silent
    assert by_type["response.updated"]["values"]["better"]["value"] == "b"
    assert by_type["response.updated"]["record"]["dataset"]["name"] == "watched"
