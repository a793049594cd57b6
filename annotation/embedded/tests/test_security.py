"""Every route of the API, asked without a key, with a wrong one, with an outsider's, with an annotator's: refused as
it must be. The routes come from the server's own OpenAPI; one that the table does not know fails the test."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from serving import Server, choice, environment, make_dataset, ok, push, run, workspace_of

PUBLIC = {"nobody": "open", "outsider": "open", "member": "open", "admin": "open"}
SELF = {"nobody": 401, "outsider": "open", "member": "open", "admin": "open"}
MEMBER = {"nobody": 401, "outsider": 403, "member": "open", "admin": 403}
ADMIN = {"nobody": 401, "outsider": 403, "member": 403, "admin": 403}
OWNER = {"nobody": 401, "outsider": 403, "member": 403, "admin": 403}
AUTHOR = {"nobody": 401, "outsider": 403, "member": 403, "admin": 403}
CLOSED = {"nobody": 401, "outsider": 403, "member": 403, "admin": 403}
UNKNOWN = {"nobody": 401, "outsider": 404, "member": 404, "admin": 404}
NO_PROVIDER = {"nobody": 404, "outsider": 404, "member": 404, "admin": 404}
BY_ITEM = {"nobody": 401, "outsider": "by item", "member": "open", "admin": "by item"}
"""What four roles get. nobody: no key, or a wrong one. outsider: an annotator who is in no workspace. member: an
annotator of the dataset's workspace, asking for what is another's. admin: one of another workspace.
"open" is any answer but 401 and 403."""

TABLE: dict[tuple[str, str], dict[str, Any]] = {
    ("GET", "/version"): PUBLIC,
    ("GET", "/status"): PUBLIC,
    ("GET", "/settings"): PUBLIC,
    ("POST", "/token"): PUBLIC,
    ("GET", "/oauth2/providers"): PUBLIC,
    ("GET", "/oauth2/providers/{provider}/authentication"): NO_PROVIDER,
    ("GET", "/oauth2/providers/{provider}/access-token"): NO_PROVIDER,
    ("GET", "/me"): SELF,
    ("GET", "/me/datasets"): SELF,
    ("GET", "/me/workspaces"): SELF,
    ("GET", "/datasets/{dataset_id}"): MEMBER,
    ("GET", "/datasets/{dataset_id}/fields"): MEMBER,
    ("GET", "/datasets/{dataset_id}/questions"): MEMBER,
    ("GET", "/datasets/{dataset_id}/vectors-settings"): MEMBER,
    ("GET", "/datasets/{dataset_id}/progress"): MEMBER,
    ("GET", "/datasets/{dataset_id}/users/progress"): MEMBER,
    ("GET", "/datasets/{dataset_id}/records/search/suggestions/options"): MEMBER,
    ("GET", "/me/datasets/{dataset_id}/metadata-properties"): MEMBER,
    ("GET", "/me/datasets/{dataset_id}/metrics"): MEMBER,
    ("POST", "/me/datasets/{dataset_id}/records/search"): MEMBER,
    ("GET", "/records/{record_id}"): MEMBER,
    ("GET", "/records/{record_id}/suggestions"): MEMBER,
    ("POST", "/records/{record_id}/responses"): MEMBER,
    ("GET", "/workspaces/{workspace_id}"): MEMBER,
    ("POST", "/me/responses/bulk"): BY_ITEM,
    ("PUT", "/responses/{response_id}"): AUTHOR,
    ("DELETE", "/responses/{response_id}"): AUTHOR,
    ("GET", "/metadata-properties/{metadata_property_id}/metrics"): ADMIN,  # the property is hidden from annotators
    ("GET", "/datasets/{dataset_id}/records"): ADMIN,
    ("POST", "/datasets/{dataset_id}/records/search"): ADMIN,
    ("POST", "/datasets"): ADMIN,
    ("PATCH", "/datasets/{dataset_id}"): ADMIN,
    ("DELETE", "/datasets/{dataset_id}"): ADMIN,
    ("PUT", "/datasets/{dataset_id}/publish"): ADMIN,
    ("POST", "/datasets/{dataset_id}/fields"): ADMIN,
    ("POST", "/datasets/{dataset_id}/questions"): ADMIN,
    ("POST", "/datasets/{dataset_id}/vectors-settings"): ADMIN,
    ("POST", "/datasets/{dataset_id}/metadata-properties"): ADMIN,
    ("DELETE", "/datasets/{dataset_id}/records"): ADMIN,
    ("POST", "/datasets/{dataset_id}/records/bulk"): ADMIN,
    ("PUT", "/datasets/{dataset_id}/records/bulk"): ADMIN,
    ("PATCH", "/fields/{field_id}"): ADMIN,
    ("DELETE", "/fields/{field_id}"): ADMIN,
    ("PATCH", "/questions/{question_id}"): ADMIN,
    ("DELETE", "/questions/{question_id}"): ADMIN,
    ("PATCH", "/metadata-properties/{metadata_property_id}"): ADMIN,
    ("DELETE", "/metadata-properties/{metadata_property_id}"): ADMIN,
    ("PATCH", "/vectors-settings/{vector_settings_id}"): ADMIN,
    ("DELETE", "/vectors-settings/{vector_settings_id}"): ADMIN,
    ("PATCH", "/records/{record_id}"): ADMIN,
    ("DELETE", "/records/{record_id}"): ADMIN,
    ("PUT", "/records/{record_id}/suggestions"): ADMIN,
    ("DELETE", "/records/{record_id}/suggestions"): ADMIN,
    ("DELETE", "/suggestions/{suggestion_id}"): ADMIN,
    ("GET", "/workspaces/{workspace_id}/users"): ADMIN,
    ("DELETE", "/workspaces/{workspace_id}/users/{user_id}"): ADMIN,
    ("POST", "/workspaces"): OWNER,
    ("DELETE", "/workspaces/{workspace_id}"): OWNER,
    ("POST", "/workspaces/{workspace_id}/users"): OWNER,
    ("GET", "/users"): OWNER,
    ("POST", "/users"): OWNER,
    ("GET", "/users/{user_id}"): OWNER,
    ("PATCH", "/users/{user_id}"): OWNER,
    ("DELETE", "/users/{user_id}"): OWNER,
    ("GET", "/users/{user_id}/workspaces"): OWNER,
    ("GET", "/webhooks"): OWNER,
    ("POST", "/webhooks"): OWNER,
    ("PATCH", "/webhooks/{webhook_id}"): OWNER,
    ("DELETE", "/webhooks/{webhook_id}"): OWNER,
    ("POST", "/webhooks/{webhook_id}/ping"): OWNER,
    ("POST", "/datasets/{dataset_id}/import"): CLOSED,
    ("POST", "/datasets/{dataset_id}/export"): CLOSED,
    ("GET", "/jobs/{job_id}"): UNKNOWN,
}

BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/datasets"): {"name": "new", "workspace_id": "{workspace_id}"},
    ("PATCH", "/datasets/{dataset_id}"): {"name": "taken over"},
    ("POST", "/datasets/{dataset_id}/fields"): {"name": "x", "title": "x", "settings": {"type": "text"}},
    ("POST", "/datasets/{dataset_id}/questions"): {"name": "x", "title": "x", "settings": {"type": "text"}},
    ("POST", "/datasets/{dataset_id}/vectors-settings"): {"name": "x", "title": "x", "dimensions": 2},
    ("POST", "/datasets/{dataset_id}/metadata-properties"): {"name": "x", "title": "x", "settings": {"type": "terms"}},
    ("POST", "/datasets/{dataset_id}/import"): {
        "name": "n",
        "subset": "s",
        "split": "t",
        "mapping": {"fields": [{"source": "a", "target": "text"}]},
    },
    ("POST", "/datasets/{dataset_id}/export"): {"name": "n", "token": "t"},
    ("POST", "/me/datasets/{dataset_id}/records/search"): {},
    ("POST", "/datasets/{dataset_id}/records/search"): {},
    ("POST", "/datasets/{dataset_id}/records/bulk"): {"items": [{"fields": {"text": "x"}}]},
    ("PUT", "/datasets/{dataset_id}/records/bulk"): {"items": [{"fields": {"text": "x"}}]},
    ("PATCH", "/fields/{field_id}"): {"title": "x"},
    ("PATCH", "/questions/{question_id}"): {"title": "x"},
    ("PATCH", "/metadata-properties/{metadata_property_id}"): {"title": "x"},
    ("PATCH", "/vectors-settings/{vector_settings_id}"): {"title": "x"},
    ("PATCH", "/records/{record_id}"): {"metadata": {}},
    ("POST", "/records/{record_id}/responses"): choice("a"),
    ("PUT", "/records/{record_id}/suggestions"): {"question_id": "{question_id}", "value": "b"},
    ("POST", "/me/responses/bulk"): {"items": [{"record_id": "{record_id}", **choice("a")}]},
    ("PUT", "/responses/{response_id}"): choice("a"),
    ("POST", "/users"): {"username": "new", "first_name": "new", "password": "12345678"},
    ("PATCH", "/users/{user_id}"): {"role": "owner"},
    ("POST", "/workspaces"): {"name": "new"},
    ("POST", "/workspaces/{workspace_id}/users"): {"user_id": "{user_id}"},
    ("POST", "/webhooks"): {"url": "https://example.org", "events": ["response.created"]},
    ("PATCH", "/webhooks/{webhook_id}"): {"enabled": False},
}
QUERIES = {
    ("DELETE", "/datasets/{dataset_id}/records"): {"ids": "{record_id}"},
    ("DELETE", "/records/{record_id}/suggestions"): {"ids": "{suggestion_id}"},
}

DESCRIBE = """
import asyncio, json, sys
from pathlib import Path
from argilla_embedded.booting import booted_offline
from argilla_embedded.folder import open_folder
async def describe():
    async with booted_offline(open_folder(Path(sys.argv[1]), make=True)) as booted:
        return booted.api.openapi()
print("OPENAPI" + json.dumps(asyncio.run(describe())))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Anna and Ben in the workspace; Eve in none; Adam, an admin, in another."""
    server = Server(tmp_path_factory.mktemp("security") / "dir", annotators=("anna", "ben")).start()
    run("users", "add", "--dir", server.directory, "eve")
    run("users", "add", "--dir", server.directory, "adam", "--role", "admin")
    with server.client() as owner:
        users = {user["username"]: user["id"] for user in ok(owner.get("users"))["items"]}
        workspace = workspace_of(owner)
        for name in ("eve", "adam"):
            ok(owner.delete(f"workspaces/{workspace}/users/{users[name]}"))
        elsewhere = workspace_of(owner, "elsewhere")
        ok(owner.post(f"workspaces/{elsewhere}/users", json={"user_id": users["adam"]}))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def ids(server: Server) -> dict[str, str]:
    """One of everything, Ben's response among it, for the paths of the routes."""
    with server.client() as owner, server.client("ben") as ben:
        dataset = make_dataset(owner, "secrets", overlap=2, hidden="model")
        questions = ok(owner.get(f"datasets/{dataset}/questions"))["items"]
        vectors = ok(
            owner.post(f"datasets/{dataset}/vectors-settings", json={"name": "v", "title": "v", "dimensions": 2})
        )
        suggestion = {"question_id": questions[0]["id"], "value": "a", "agent": "policy-7b", "score": 0.9}
        record = push(
            owner,
            dataset,
            [
                {
                    "fields": {"text": "one"},
                    "metadata": {"model": "policy-7b", "extra": "key"},
                    "suggestions": [suggestion],
                },
                {"fields": {"text": "two"}, "metadata": {"model": "policy-8b"}},
            ],
        )[0]
        ok(ben.post("me/responses/bulk", json={"items": [{"record_id": record, **choice("b", "Ben's reason")}]}))
        whole = ok(owner.get(f"records/{record}"))
        webhook = ok(
            owner.post(
                "webhooks",
                json={"url": "http://127.0.0.1:9/none", "events": ["dataset.deleted"], "description": "none"},
            )
        )
        return {
            "dataset_id": dataset,
            "record_id": record,
            "workspace_id": workspace_of(owner),
            "question_id": questions[0]["id"],
            "webhook_id": webhook["id"],
            "vector_settings_id": vectors["id"],
            "response_id": whole["responses"][0]["id"],
            "suggestion_id": whole["suggestions"][0]["id"],
            "field_id": ok(owner.get(f"datasets/{dataset}/fields"))["items"][0]["id"],
            "metadata_property_id": ok(owner.get(f"me/datasets/{dataset}/metadata-properties"))["items"][0]["id"],
            "user_id": next(u["id"] for u in ok(owner.get("users"))["items"] if u["username"] == "ben"),
            "provider": "none",
            "job_id": "none",
        }


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """Every route in the server's own description of its API."""
    printed = subprocess.run(
        [sys.executable, "-c", DESCRIBE, str(tmp_path_factory.mktemp("openapi"))],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
        check=True,
    ).stdout
    described = json.loads(printed.partition("OPENAPI")[2])
    return {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}


def filled(pattern: Any, ids: dict[str, str]) -> Any:
    """A path, body or query with the ids in it."""
    text = json.dumps(pattern)
    for name, value in ids.items():
        text = text.replace("{" + name + "}", value)
    return json.loads(text)


def test_the_table_knows_every_route_and_no_other(routes):
    assert routes - TABLE.keys() == set()
    assert TABLE.keys() - routes == set()


@pytest.mark.parametrize(
    "role, user", [("nobody", None), ("nobody", "wrong"), ("outsider", "eve"), ("member", "anna"), ("admin", "adam")]
)
def test_every_route_refuses_whom_it_must(server, ids, role, user):
    """Refusals first: nothing may have changed that a later one would stumble over."""
    headers = {"X-Argilla-Api-Key": "wrong" * 10} if user == "wrong" else {}
    wrong = []
    with server.client(None if user == "wrong" else user) as client:
        client.headers.update(headers)
        for (method, path), expected in sorted(TABLE.items(), key=lambda row: row[1][role] == "open"):
            form = {"username": "nobody", "password": "x"} if path == "/token" else None
            answer = client.request(
                method,
                filled(path, ids).lstrip("/"),
                json=filled(BODIES.get((method, path)), ids),
                data=form,
                params=filled(QUERIES.get((method, path)), ids),
            )
            got = answer.status_code
            if expected[role] == "by item":
                right = got == 200 and [item["item"] for item in answer.json()["items"]] == [None]
            elif expected[role] == "open":
                right = got not in (401, 403, 500) or (path == "/token" and got == 401)
            else:
                right = got == expected[role]
            if not right:
                wrong.append(f"{method} {path}: {got}, expected {expected[role]}: {answer.text[:100]}")
    assert wrong == []


def test_after_all_refusals_everything_is_still_there(server, ids):
    with server.client() as owner:
        record = ok(owner.get(f"records/{ids['record_id']}"))
        by_ben = next(r for r in record["responses"] if r["user_id"] == ids["user_id"])
        assert by_ben["values"]["better"]["value"] == "b"
        assert record["suggestions"][0]["value"] == "a"
        assert ok(owner.get(f"datasets/{ids['dataset_id']}"))["name"] == "secrets"
        assert {user["username"] for user in ok(owner.get("users"))["items"]} == {"owner", "anna", "ben", "eve", "adam"}


def everything_anna_can_read(server: Server, ids: dict[str, str]) -> dict[str, str]:
    """Every answer to a GET or a search that an annotator is given, as text, by route."""
    texts = {}
    with server.client("anna") as anna:
        for method, path in TABLE:
            if method == "GET" and TABLE[method, path]["member"] == "open":
                texts[path] = anna.get(filled(path, ids).lstrip("/")).text
        for include in ("responses", "suggestions", "vectors", "responses,suggestions,vectors"):
            answer = anna.post(f"me/datasets/{ids['dataset_id']}/records/search?include={include}", json={})
            texts[f"search {include}"] = json.dumps(ok(answer))
        texts["search all responses"] = anna.post(f"datasets/{ids['dataset_id']}/records/search", json={}).text
        texts["list"] = anna.get(f"datasets/{ids['dataset_id']}/records?include=responses").text
    return texts


@pytest.mark.parametrize("secret", ["Ben's reason", '"ben"', "policy-7b", "policy-8b", '"extra"'])
def test_no_answer_to_an_annotator_holds_what_is_not_theirs(server, ids, secret):
    assert [route for route, text in everything_anna_can_read(server, ids).items() if secret in text] == []


def test_an_annotator_sees_her_own_response_and_the_suggestion_without_its_agent(server, ids):
    with server.client("anna") as anna:
        ok(anna.post("me/responses/bulk", json={"items": [{"record_id": ids["record_id"], **choice("a", "mine")}]}))
        record = ok(anna.get(f"records/{ids['record_id']}"))
    assert [response["values"]["reason"]["value"] for response in record["responses"]] == ["mine"]
    assert [(suggestion["value"], suggestion["agent"]) for suggestion in record["suggestions"]] == [("a", None)]


@pytest.mark.parametrize(
    "scope",
    [
        {"entity": "metadata", "metadata_property": "model"},
        {"entity": "suggestion", "question": "better", "property": "agent"},
    ],
)
def test_an_annotator_cannot_ask_for_hidden_values_by_filter_or_sort(server, ids, scope):
    path = f"me/datasets/{ids['dataset_id']}/records/search"
    by_filter = {"filters": {"and": [{"type": "terms", "scope": scope, "values": ["policy-7b"]}]}}
    by_sort = {"sort": [{"scope": scope, "order": "asc"}]}
    with server.client("anna") as anna, server.client() as owner:
        assert [anna.post(path, json=body).status_code for body in (by_filter, by_sort)] == [422, 422]
        assert owner.post(path, json=by_filter).status_code == 200


def test_an_admin_of_the_workspace_does_not_get_the_keys_of_others(server, ids):
    run("users", "add", "--dir", server.directory, "ada", "--role", "admin")
    with server.client("ada") as ada, server.client() as owner:
        keys = {u["username"]: u["api_key"] for u in ok(ada.get(f"workspaces/{ids['workspace_id']}/users"))["items"]}
        assert {name for name, key in keys.items() if key} == {"ada"}
        ok(owner.delete(f"users/{ok(ada.get('me'))['id']}"))


def test_the_owner_still_sees_all(server, ids):
    with server.client() as owner:
        assert "Ben's reason" in owner.get(f"records/{ids['record_id']}").text
        assert '"ben"' in owner.get(f"datasets/{ids['dataset_id']}/users/progress").text
        assert "policy-7b" in owner.get(f"datasets/{ids['dataset_id']}/records/search/suggestions/options").text


@pytest.mark.parametrize(
    "path", ["/docs", "/api", "/api/v1/docs", "/api/v1/redoc", "/api/v1/openapi.json", "/openapi.json"]
)
def test_the_documentation_is_off(server, path):
    with server.client(None) as client:
        text = client.get(server.address + path, follow_redirects=True).text
    assert "swagger" not in text.lower() and "openapi" not in text.lower()


def test_not_even_the_owner_sends_to_a_hub_or_fetches_from_one(server, ids):
    with server.client() as owner:
        for (method, path), expected in TABLE.items():
            if expected is CLOSED:
                answer = owner.request(method, filled(path, ids).lstrip("/"), json=filled(BODIES[method, path], ids))
                assert (answer.status_code, "hub" in answer.text) == (403, True), answer.text


def test_guessing_a_password_is_slowed_down_by_address_and_not_for_others(server):
    with server.client(None) as client:
        guesses = [
            client.post("token", data={"username": "ben", "password": f"guess{n}"}).status_code for n in range(7)
        ]
        right = client.post("token", data={"username": "ben", "password": server.account("ben")["password"]})
        other = client.post("token", data={"username": "anna", "password": server.account("anna")["password"]})
    assert guesses == [401] * 5 + [429] * 2
    assert (right.status_code, other.status_code) == (429, 201)
    assert 0 < int(right.headers["Retry-After"]) <= 61


def test_every_answer_carries_the_headers_and_no_word_of_the_software(server):
    with server.client(None) as client:
        for path in ("/", "/api/v1/version", "/api/v1/me", "/nowhere"):
            headers = client.get(server.address + path).headers
            assert "default-src 'self'" in headers["content-security-policy"]
            assert headers["x-frame-options"] == "DENY"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert "server" not in headers
        assert client.get("version").headers["cache-control"] == "no-store"


def test_a_foreign_page_gets_neither_an_answer_by_another_name_nor_leave_to_read_one(server):
    with server.client(None) as client:
        assert client.get("version", headers={"Host": "evil.example"}).status_code == 421
        foreign = client.get("version", headers={"Origin": "https://evil.example"})
        own = client.get("version", headers={"Origin": server.address})
    assert "access-control-allow-origin" not in foreign.headers
    assert own.headers["access-control-allow-origin"] == server.address


def test_the_page_names_no_font_or_style_of_another_server(server):
    sheets = [*(server.directory / "page").rglob("*.css")]
    assert len(sheets) > 20
    assert [sheet.name for sheet in sheets if "http" in sheet.read_text().replace("http://www.w3.org/", "")] == []
