"""Names of models: what they mean, what is refused, and that a key shows nowhere."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from prefkit.errors import PrefkitError
from prefkit.models.addresses import is_local, public_url
from prefkit.models.catalogue import Catalogue
from prefkit.models.chat import Price, Sampling
from prefkit.models.entries import PROVIDERS, ModelEntry
from prefkit.models.models_file import NEW_FILE, start_models_file
from prefkit.models.opening import key_of
from prefkit.records import Usage

SECRET = "sk-test-5f0c1d7e9a3b4455"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key, no base URL, no models.yaml of the machine that runs the tests."""
    for name in (*PROVIDERS, "house"):
        for ending in ("BASE_URL", "API_KEY"):
            monkeypatch.delenv(f"PREFKIT_{name.upper()}_{ending}", raising=False)
            monkeypatch.delenv(f"{name.upper()}_{ending}", raising=False)
    monkeypatch.chdir(tmp_path)


def written(text: str, folder: Path = Path()) -> Catalogue:
    (folder / "models.yaml").write_text(text)
    return Catalogue.load(folder)


def entry(text: str) -> ModelEntry:
    return written(f"models:\n  one:\n{text}").entry("one")


def refused(text: str) -> PrefkitError:
    with pytest.raises(PrefkitError) as caught:
        written(text)
    return caught.value


# names


@pytest.mark.parametrize(
    ("name", "model", "url", "keys"),
    [
        ("openai/gpt-4o", "gpt-4o", "https://api.openai.com/v1", ("PREFKIT_OPENAI_API_KEY", "OPENAI_API_KEY")),
        ("ollama/llama3.2:3b", "llama3.2:3b", "http://127.0.0.1:11434/v1", ("PREFKIT_OLLAMA_API_KEY",)),
        ("vllm/Qwen/Qwen3-8B", "Qwen/Qwen3-8B", "http://127.0.0.1:8000/v1", ("PREFKIT_VLLM_API_KEY",)),
    ],
)
def test_a_provider_and_a_model_need_no_file(name: str, model: str, url: str, keys: tuple[str, ...]):
    found = Catalogue.load().entry(name)
    assert (found.name, found.model, found.urls, found.keys) == (name, model, (url,), keys)


def test_a_provider_nobody_knows_answers_where_the_environment_says(monkeypatch):
    with pytest.raises(PrefkitError, match="PREFKIT_HOUSE_BASE_URL"):
        Catalogue.load().entry("house/one")
    monkeypatch.setenv("PREFKIT_HOUSE_BASE_URL", "http://gpu7:9000/v1")
    assert Catalogue.load().entry("house/one").urls == ("http://gpu7:9000/v1",)


def test_a_base_url_from_the_environment_goes_before_the_vendors_own(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    assert Catalogue.load().entry("openai/x").urls == ("http://127.0.0.1:1/v1",)
    monkeypatch.setenv("PREFKIT_OPENAI_BASE_URL", "http://127.0.0.1:2/v1")
    assert Catalogue.load().entry("openai/x").urls == ("http://127.0.0.1:2/v1",)


def test_a_vendor_needs_a_key_and_a_server_in_its_place_does_not(monkeypatch):
    with pytest.raises(PrefkitError, match="OPENAI_API_KEY"):
        key_of(Catalogue.load().entry("openai/x"))
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    assert key_of(Catalogue.load().entry("openai/x")) is None


def test_prefkits_own_variable_goes_before_the_vendors(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "general")
    monkeypatch.setenv("PREFKIT_OPENAI_API_KEY", "particular")
    assert key_of(Catalogue.load().entry("openai/x")) == "particular"


def test_a_key_with_a_line_break_is_refused_without_being_shown(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{SECRET}\nX")
    with pytest.raises(PrefkitError, match="OPENAI_API_KEY") as caught:
        key_of(Catalogue.load().entry("openai/x"))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["gpt-4o", "openai/", "embedded/gpt", "", "a b/c"])
def test_a_name_that_means_nothing_is_an_error_that_says_what_would(name: str):
    with pytest.raises(PrefkitError):
        Catalogue.load().entry(name)


def test_embedded_local_and_replay_are_named_like_providers():
    load = Catalogue.load().entry
    assert (load("embedded/smollm2").kind, load("embedded/smollm2").file) == ("embedded", None)
    assert load("embedded/w/x.gguf").file == Path("w/x.gguf")
    assert (load("local/runs/a/policy").kind, load("local/runs/a/policy").model) == ("local", "runs/a/policy")
    assert load("replay/old.jsonl").file == Path("old.jsonl")


# models.yaml


def test_the_file_in_the_run_goes_before_the_one_beside_it_and_the_one_here(tmp_path):
    run = tmp_path / "runs" / "first"
    run.mkdir(parents=True)
    for folder, model in ((tmp_path, "here"), (run.parent, "beside"), (run, "inside")):
        (folder / "models.yaml").write_text(f"models:\n  one: {{model: {model}, urls: [http://a/v1]}}\n")
    found = []
    for folder in (run, run.parent, tmp_path):
        found.append(Catalogue.load(run).entry("one").model)
        (folder / "models.yaml").unlink()
    assert found == ["inside", "beside", "here"]
    assert Catalogue.load(run).entries == {}


def test_an_entry_says_everything_but_the_key(monkeypatch):
    monkeypatch.setenv("GPU_KEY", SECRET)
    found = entry(
        "    model: Qwen/Qwen3-8B\n"
        "    urls: [http://gpu1:8000/v1, http://gpu2:8000/v1]\n"
        "    key-env: GPU_KEY\n"
        "    price: {prompt: 0.15, completion: 0.6, cached: 0.075}\n"
        "    sampling: {temperature: 0, max-tokens: 512}\n"
        "    system-role: false\n"
        "    concurrency: 64\n"
        "    extra: {chat_template_kwargs: {enable_thinking: false}}\n"
    )
    assert found == ModelEntry(
        name="one",
        model="Qwen/Qwen3-8B",
        urls=("http://gpu1:8000/v1", "http://gpu2:8000/v1"),
        keys=("GPU_KEY",),
        key_needed=True,
        price=Price(prompt=0.15, completion=0.6, cached=0.075),
        sampling=Sampling(temperature=0, max_tokens=512),
        system_role=False,
        concurrency=64,
        extra={"chat_template_kwargs": {"enable_thinking": False}},
    )
    assert key_of(found) == SECRET
    assert SECRET not in f"{found!r}{found.facts()}"
    assert found.price is not None
    assert found.price.of(Usage(prompt=2_000_000, cached=1_000_000, completion=1_000_000)) == pytest.approx(0.825)


def test_an_entry_without_urls_takes_them_from_its_provider():
    found = entry("    model: openai/gpt-4o\n    sampling: {temperature: 0}\n")
    assert (found.name, found.model, found.urls) == ("one", "gpt-4o", ("https://api.openai.com/v1",))
    assert found.key_needed


def test_the_vendors_key_does_not_go_to_a_server_of_ones_own(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    found = entry("    model: openai/gpt-oss-20b\n    urls: [http://gpu1:8000/v1]\n")
    assert found.model == "openai/gpt-oss-20b"
    assert key_of(found) is None


def test_prices_are_for_models_with_and_without_an_entry():
    catalogue = written(
        "models:\n  one: {model: openai/gpt-4o}\n  two: {model: openai/gpt-4o, price: {prompt: 1, completion: 1}}\n"
        "prices:\n  openai/gpt-4o: {prompt: 2.5, completion: 10}\n"
    )
    prices = [catalogue.entry(name).price for name in ("one", "two", "openai/gpt-4o", "openai/other")]
    assert [price and price.prompt for price in prices] == [2.5, 1, 2.5, None]


def test_files_are_beside_the_models_yaml(tmp_path):
    folder = tmp_path / "run"
    (folder / "policies" / "dpo").mkdir(parents=True)
    catalogue = written(
        "models:\n"
        "  again: {kind: replay, file: answers.jsonl}\n"
        "  kept: {kind: embedded, record: answers.jsonl}\n"
        "  mine: {kind: local, model: policies/dpo}\n"
        "  hub: {kind: local, model: org/name}\n",
        folder,
    )
    assert catalogue.entry("again").file == catalogue.entry("kept").record == folder / "answers.jsonl"
    assert catalogue.entry("mine").model == str(folder / "policies" / "dpo")
    assert catalogue.entry("hub").model == "org/name"


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("models:\n  one:\n    modle: x\n", "models.yaml:3: models.one.modle", "no meaning here"),
        ("models:\n  one:\n    kind: http\n", "models.yaml:3: models.one.kind", "openai-compatible, embedded"),
        ("models:\n  one:\n    urls: http://a/v1\n", "models.yaml:3: models.one.urls", "a list"),
        ("models:\n  one:\n    urls: [gpu1:8000]\n", "models.yaml:3: models.one.urls[0]", "base URL"),
        ("models:\n  one:\n    model: x\n", "models.yaml:3: models.one", "no urls"),
        ("models:\n  one: {model: x, file: a}\n", "models.yaml:2: models.one.file", "embedded and replay"),
        ("models:\n  one: {kind: replay}\n", "models.yaml:2: models.one", "recorded answers"),
        ("models:\n  one: {kind: embedded, urls: [http://a]}\n", "models.one.urls", "openai-compatible models only"),
        ("models:\n  one:\n    kind: embedded\n    sampling: {temp: 1}\n", "models.yaml:4", "max-tokens"),
        ("models:\n  one: {kind: embedded, concurrency: 0}\n", "models.one.concurrency", "from 1"),
        ("models:\n  one: {kind: embedded, extra: {stream: true}}\n", "models.one.extra.stream", "sets itself"),
        ("models:\n  one: {kind: embedded, price: {prompt: 1}}\n", "models.one.price", "no 'completion'"),
        ("models: {}\nprices:\n  a/b: {prompt: -1, completion: 1}\n", "models.yaml:3: prices.a/b", "0 or more"),
        ("model: {}\n", "models.yaml:1: model", "models, prices"),
        ("models: [one]\n", "models.yaml:1: models", "a mapping"),
        ("models:\n\tone: 1\n", "models.yaml:2", "YAML"),
        ("models:\n  one: &a {}\n", "models.yaml:2", "anchor"),
    ],
)
def test_what_a_file_cannot_say_is_refused_with_its_place(text: str, place: str, words: str):
    error = refused(text)
    assert place in error.where
    assert words in str(error)
    assert "prefkit models init" in error.remedy or "URL" in str(error)


@pytest.mark.parametrize(
    "line",
    [
        f"key-env: {SECRET}",
        "key-env: AKIAABCDEFGH12345678",
        f"key: {SECRET}",
        f"api_key: {SECRET}",
        f"extra: {{api-key: {SECRET}}}",
        f"urls: ['https://user:{SECRET}@gpu.example.org/v1']",
        f"urls: ['https://gpu.example.org/v1?key={SECRET}']",
    ],
)
def test_a_key_in_the_file_is_refused_and_not_repeated(line: str):
    error = refused(f"models:\n  one:\n    model: x\n    {line}\n")
    assert ":4: models.one" in error.where
    assert "key-env" in f"{error.expected} {error.remedy}"
    assert not re.search(f"{SECRET}|AKIA", str(error))


def test_the_file_to_fill_in_is_right_as_it_is_and_with_everything_in_it():
    assert list(written(NEW_FILE).entries) == ["small"]
    full = written(re.sub(r"^#(?! )|^#(?=  )", "", NEW_FILE, flags=re.MULTILINE))
    assert list(full.entries) == ["small", "judge-a", "careful", "other-weights", "mine", "again"]
    assert list(full.prices) == ["openai/gpt-4o"]


def test_a_file_that_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "models.yaml").write_text("models: {}\n")
    with pytest.raises(PrefkitError, match="a file of this name"):
        start_models_file(tmp_path)
    assert (tmp_path / "models.yaml").read_text() == "models: {}\n"


# URLs


@pytest.mark.parametrize(
    ("host", "local"),
    [
        *(
            (host, True)
            for host in ("localhost", "127.0.0.1", "[::1]", "gpu1", "10.1.2.3", "172.31.0.1", "127.1", "[fe80::1]")
        ),
        *(
            (host, True)
            for host in ("192.168.7.7", "169.254.1.1", "[fd12::1]", "[::ffff:10.0.0.1]", "a.local", "b.c.internal")
        ),
        *((host, False) for host in ("api.openai.com", "8.8.8.8", "172.32.0.1", "11.0.0.1", "[2001:4860::1]")),
        *((host, False) for host in ("134744072", "0x08080808", "[::ffff:8.8.8.8]", "local.example.org", "100.64.0.1")),
    ],
)
def test_what_stays_in_the_house(host: str, local: bool):
    assert is_local(f"http://{host}:8000/v1") is local


def test_a_model_is_local_only_if_all_its_urls_are():
    found = entry("    model: x\n    urls: [http://gpu1/v1, https://gpu.example.org/v1]\n")
    assert not found.local


def test_a_url_is_shown_without_user_and_query():
    assert public_url(f"https://me:{SECRET}@h.org:8443/v1?key={SECRET}#x") == "https://h.org:8443/v1"
    assert public_url("http://[::1]:80/v1") == "http://[::1]:80/v1"
    assert SECRET not in public_url(f"http://[{SECRET}")


# the commands, and the key


class Echo(BaseHTTPRequestHandler):
    """Refuses everything, and says in its refusal which key it was sent."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        said = f'{{"error": {{"message": "bad key: {self.headers["Authorization"]}"}}}}'.encode()
        self.send_response(401)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_key_shows_nowhere_even_if_the_server_repeats_it(prefkit, monkeypatch, tmp_path, echo):
    monkeypatch.setenv("GPU_KEY", SECRET)
    (tmp_path / "models.yaml").write_text(
        f"models:\n  one: {{model: x, urls: ['{echo}'], key-env: GPU_KEY, record: answers.jsonl}}\n"
    )
    listed, checked = prefkit("models", "list"), prefkit("models", "check", "one")
    assert "key from GPU_KEY" in listed.out
    assert checked.code == 1
    assert "bad key: Bearer [key]" in checked.err
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert SECRET not in listed.out + listed.err + checked.out + checked.err + files.decode()


def test_list_says_where_a_key_is_missing(prefkit, tmp_path):
    (tmp_path / "models.yaml").write_text("models:\n  one: {model: x, urls: [http://gpu1/v1], key-env: GPU_KEY_2}\n")
    out = prefkit("models", "list").out
    assert re.search(r"one +openai-compatible +http://gpu1/v1 +no key: set GPU_KEY_2 +no price", out)
    assert "no key: set PREFKIT_OPENAI_API_KEY or OPENAI_API_KEY" in out


def test_a_model_without_its_key_is_not_asked(prefkit):
    outcome = prefkit("models", "check", "openai/x")
    assert outcome.code == 1
    assert "export OPENAI_API_KEY=" in outcome.err


def test_init_writes_a_file_that_list_reads(prefkit, tmp_path):
    assert prefkit("models", "init").code == 0
    assert re.search(r"small +embedded", prefkit("models", "list").out)
    assert prefkit("models", "init").code == 1


def test_naming_models_loads_neither_weights_nor_clients():
    script = (
        "import sys; from prefkit.models.catalogue import Catalogue; Catalogue.load().entry('openai/x');"
        "print([name for name in ('aiohttp', 'torch', 'xllamacpp', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
