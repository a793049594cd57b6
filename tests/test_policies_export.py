"""Policies for others: adapters merged, GGUF by llama.cpp's converter, a Modelfile; what was written is asked again."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny import CHATML, tiny_classifier, tiny_config, tiny_model, tiny_tokenizer

from prefkit.errors import PrefkitError
from prefkit.policies.alike import Alike, ask_policy, compare_gguf
from prefkit.policies.merging import find_source, open_source
from prefkit.policies.modelfile import modelfile, turns_of

CONVERTS = all(importlib.util.find_spec(name) for name in ("auto_round", "gguf", "sentencepiece", "xllamacpp"))
needs_converter = pytest.mark.skipif(not CONVERTS, reason="auto-round, sentencepiece or xllamacpp are not installed")
PLAIN = CHATML.replace("{% if bos_token %}{{ bos_token }}{% endif %}", "")
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n\n{{ m['content'] | trim }}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n\n{% endif %}"
)
SETTING = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}" + PLAIN
GEMMA = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_model(tmp_path_factory.mktemp("policies") / "tuned")
    settings = {"method": "dpo", "base": "/home/anna/secret/base"}
    noted = {"settings": settings, "base": {"config.json": "1 a"}, "steps": 7, "notes": ["Nothing improved."]}
    (folder / "training.json").write_text(json.dumps(noted))
    return folder


def adapter_of(base: Path, folder: Path, **shape: Any) -> Path:
    """A LoRA adapter that changes what its base says."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from prefkit.training.building import quiet

    if shape:
        tiny_model(folder / "other", **shape)
    model: Any = AutoModelForCausalLM.from_pretrained(folder / "other" if shape else base, dtype=torch.float32)
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(3)
        adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    adapted.save_pretrained(folder / "adapter")
    return folder / "adapter"


def logits(model: Any, tokenizer: Any) -> Any:
    import torch

    ids = tokenizer("I feel alone.", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        return model(ids).logits


# --- safetensors -----------------------------------------------------------------------------------------------------


def test_a_policy_is_copied_byte_for_byte_without_what_its_training_noted(policy, tmp_path, prefkit):
    outcome = prefkit("export", policy, "--to", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "out/model.safetensors").read_bytes() == (policy / "model.safetensors").read_bytes()
    assert not (tmp_path / "out/training.json").exists()
    assert re.search(r"at (\d+) of \1 places", outcome.out)
    card = (tmp_path / "out/README.md").read_text()
    assert "| method | dpo |" in card and "8 of 8 prompts" in card
    assert "Made from `base`" in card and "- Nothing improved." in card
    assert "anna" not in card, "where a base lay is nobody's business"


def test_an_adapter_is_merged_into_its_base(policy, tmp_path, prefkit):
    adapter = adapter_of(policy, tmp_path)
    assert prefkit("export", adapter, "--to", tmp_path / "out").code == 0
    merged = logits(*open_source(find_source(str(tmp_path / "out"))))
    assert (merged - logits(*open_source(find_source(str(adapter))))).abs().max() < 1e-4
    assert (merged - logits(*open_source(find_source(str(policy))))).abs().max() > 0.1
    assert not (tmp_path / "out/adapter_config.json").exists()


def test_an_adapter_of_another_base_is_refused(policy, tmp_path, prefkit):
    adapter = adapter_of(policy, tmp_path, hidden_size=16)
    outcome = prefkit("export", adapter, "--to", tmp_path / "out")
    assert outcome.code == 1
    assert "size mismatch" in outcome.err and "--base" in outcome.err
    assert not (tmp_path / "out").exists()


def test_an_adapter_whose_base_is_gone_asks_for_it(policy, tmp_path, prefkit):
    base = shutil.copytree(policy, tmp_path / "base")
    adapter = adapter_of(base, tmp_path)
    shutil.move(base, tmp_path / "moved")
    outcome = prefkit("export", adapter, "--to", tmp_path / "out")
    assert outcome.code == 1 and "--base" in outcome.err
    assert prefkit("export", adapter, "--base", tmp_path / "moved", "--to", tmp_path / "out").code == 0


def test_what_answers_otherwise_leaves_nothing_under_the_final_name(policy, tmp_path, prefkit, monkeypatch):
    def scrambled(source: object, folder: Path) -> None:
        tiny_model(folder, seed=1)

    monkeypatch.setattr("prefkit.policies.exporting.write_safetensors", scrambled)
    outcome = prefkit("export", policy, "--to", tmp_path / "out")
    assert outcome.code == 1
    assert re.search(r"the same at \d+ of \d+ places", outcome.err) and "Nothing was written" in outcome.err
    assert list(tmp_path.iterdir()) == []
    assert prefkit("export", policy, "--to", tmp_path / "out", "--no-check").code == 0
    assert "not checked" in (tmp_path / "out/README.md").read_text()


def test_a_folder_with_files_is_replaced_only_when_asked(policy, tmp_path, prefkit):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("kept")
    assert "--overwrite" in prefkit("export", policy, "--to", tmp_path / "out").err
    assert (tmp_path / "out/mine.txt").read_text() == "kept"
    assert prefkit("export", policy, "--to", tmp_path / "out", "--overwrite", "--no-check").code == 0
    assert not (tmp_path / "out/mine.txt").exists()


def test_the_policy_itself_is_never_the_folder_that_is_replaced(policy, prefkit):
    for place in (policy, policy.parent):
        assert "another" in prefkit("export", policy, "--to", place, "--overwrite").err
    assert (policy / "model.safetensors").exists()


def test_a_run_names_its_policies_and_leaves_out_the_unfinished(policy, tmp_path, prefkit):
    run = tmp_path / "run"
    assert prefkit("new", run, "--rubric", "psychocounsel").code == 0
    assert "none that is finished" in prefkit("export", run, "--to", tmp_path / "out").err
    for name in ("dpo", "orpo", "cut"):
        shutil.copytree(policy, run / "policies" / name)
    (run / "policies/cut/training.json").unlink()
    assert "2 of them: dpo, orpo" in prefkit("export", run, "--to", tmp_path / "out").err
    assert "no training.json" in prefkit("export", run, "--policy", "cut", "--to", tmp_path / "out").err
    assert prefkit("export", run, "--policy", "orpo", "--to", tmp_path / "out", "--no-check").code == 0


def test_what_is_no_policy_is_refused(policy, tmp_path, prefkit):
    tiny_classifier(tmp_path / "rm").save_pretrained(tmp_path / "rm")
    assert "a reward model" in prefkit("export", tmp_path / "rm", "--to", tmp_path / "out").err
    mute = shutil.copytree(policy, tmp_path / "mute")
    (mute / "chat_template.jinja").unlink()
    assert "without a chat template" in prefkit("export", mute, "--to", tmp_path / "out").err
    assert prefkit("export", policy, "--quantize", "q8_0", "--format", "safetensors", "--to", "x").code == 2


def test_a_missing_converter_says_what_to_install(policy, tmp_path, prefkit, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "auto_round" else real(name))
    outcome = prefkit("export", policy, "--to", tmp_path / "out", "--quantize", "f16")
    assert outcome.code == 1 and "prefkit[export]" in outcome.err


# --- the Modelfile ---------------------------------------------------------------------------------------------------


def tokenizer_with(folder: Path, template: str, bos: bool = False) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_tokenizer(folder, bos=bos, template=template))


def as_ollama(text: str, messages: list[tuple[str, str]]) -> str:
    """What Ollama makes of a Modelfile's TEMPLATE: the few words of Go's that are used there."""
    (template,) = re.findall(r'TEMPLATE """(.*?)"""', text, re.DOTALL)
    head, body, reply = re.fullmatch(
        r"(.*?)\{\{ range \.Messages \}\}(.*)\{\{ end \}\}\{\{ end \}\}(.*)", template, re.DOTALL
    ).groups()
    turns = dict(re.findall(r'\{\{ (?:else )?if eq \.Role "(\w+)" \}\}(.*?)(?=\{\{ else|\Z)', body, re.DOTALL))
    return head + "".join(turns[role].replace("{{ .Content }}", words) for role, words in messages) + reply


DIALOGUE = [("system", "Be kind."), ("user", "One."), ("assistant", "Two."), ("user", "Three.")]


@pytest.mark.parametrize(("template", "bos"), [(PLAIN, False), (LLAMA3, True), (SETTING, False)])
def test_the_modelfile_says_in_go_what_the_chat_template_says(tmp_path, template, bos):
    tokenizer = tokenizer_with(tmp_path, template, bos)
    if not bos:
        tokenizer.bos_token = "<|im_start|>"  # as SmolLM2's is, which begins no text with it
    text = modelfile(tokenizer, [2], "a.gguf")
    messages = [{"role": role, "content": words} for role, words in DIALOGUE]
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert ("<bos>" if bos else "") + as_ollama(text, DIALOGUE) == expected
    assert text.startswith("FROM ./a.gguf\n")
    assert 'PARAMETER stop "<|im_end|>"\nPARAMETER stop "<|im_start|>"\n' in text
    assert ('SYSTEM """You help."""' in text) == (template == SETTING)
    assert 'SYSTEM """Mine."""' in modelfile(tokenizer, [2], "a.gguf", "Mine.")


@pytest.mark.parametrize("template", [GEMMA, PLAIN.replace("{{ m['content'] }}", "{{ loop.index }}{{ m['content'] }}")])
def test_a_template_that_go_cannot_say_is_left_to_ollama(tmp_path, template):
    tokenizer = tokenizer_with(tmp_path, template)
    assert turns_of(tokenizer) is None
    text = modelfile(tokenizer, [2], "a.gguf")
    assert 'TEMPLATE "' not in text and "# No TEMPLATE" in text and 'stop "<|im_end|>"' in text


# --- GGUF ------------------------------------------------------------------------------------------------------------


def known_to_llama_cpp(folder: Path) -> Path:
    """A tiny Llama whose tokenizer llama.cpp's converter knows: bytes and letters, as SentencePiece has them."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "<|im_end|>", "<pad>", "<|im_start|>"]
    names = [*special, *(f"<0x{number:02X}>" for number in range(256)), "▁", *map(chr, range(33, 127))]
    vocabulary = {name: place for place, name in enumerate(names)}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    inner.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    inner.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", special_tokens=[("<s>", 1)])
    inner.normalizer = normalizers.Replace(" ", "▁")
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="<|im_end|>", pad_token="<pad>", unk_token="<unk>",
        add_prefix_space=False, extra_special_tokens=["<|im_start|>"],
    )  # fmt: skip
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    config = tiny_config("llama", vocab_size=len(names), pad_token_id=3, bos_token_id=1, eos_token_id=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ggufs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy with an adapter as GGUF, checked as the command does it; q4_k_m without, as random weights do not bear
    its rounding."""
    from prefkit.policies.exporting import ExportSettings, export_policy

    folder = tmp_path_factory.mktemp("gguf")
    adapter = adapter_of(known_to_llama_cpp(folder / "base"), folder)
    for out, kinds in (("out", ("f16", "q8_0")), ("rounded", ("q4_k_m",))):
        settings = ExportSettings(
            source=str(adapter), out=folder / out, format="gguf", kinds=kinds, check=out == "out", system="Be kind."
        )
        export_policy(settings, lambda title, total, unit: lambda done: None, lambda words: None)
    return folder


@needs_converter
def test_an_adapter_becomes_gguf_files_that_answer_as_it_does(ggufs):
    names = {file.name for file in (ggufs / "out").iterdir()}
    expected = {f"adapter-{kind}.{end}" for kind in ("f16", "q8_0") for end in ("gguf", "Modelfile")}
    assert names == {"README.md", *expected}
    assert (ggufs / "out/README.md").read_text().count("the likeliest next token is the same") == 2
    assert "FROM ./adapter-q8_0.gguf" in (ggufs / "out/adapter-q8_0.Modelfile").read_text()


@needs_converter
def test_four_bits_answer_to_the_same_tokens_and_nearly_the_same(ggufs):
    rounded = ggufs / "rounded/adapter-q4_k_m.gguf"
    assert rounded.stat().st_size < (ggufs / "out/adapter-q8_0.gguf").stat().st_size
    seen = compare_gguf(rounded, ask_policy(*open_source(find_source(str(ggufs / "adapter")))))
    assert all(seen.tokens) and seen.agreement > 0.4, seen.in_words()


@needs_converter
def test_the_chat_template_stands_inside_the_file(ggufs):
    import gguf

    fields = gguf.GGUFReader(ggufs / "out/adapter-q8_0.gguf").fields
    assert fields["tokenizer.chat_template"].contents() == CHATML


@needs_converter
def test_a_file_with_other_weights_or_tokens_is_found_out(ggufs, tmp_path):
    import gguf

    asked = ask_policy(*open_source(find_source(str(ggufs / "adapter"))))
    wrong = shutil.copy(ggufs / "out/adapter-f16.gguf", tmp_path / "wrong.gguf")
    reader = gguf.GGUFReader(wrong, "r+")
    next(tensor for tensor in reader.tensors if tensor.name == "blk.0.ffn_down.weight").data[:] = 0
    reader.data.flush()
    seen = compare_gguf(wrong, asked)
    assert all(seen.tokens) and not seen.passes("f16")
    others = [type(one)(one.messages, [*one.ids, 9], one.words, one.logprobs) for one in asked[:1]]
    assert not compare_gguf(ggufs / "out/adapter-f16.gguf", others).passes("f16")


@needs_converter
def test_a_tokenizer_that_the_converter_does_not_know_is_refused_in_its_words(policy, tmp_path, prefkit):
    outcome = prefkit("export", policy, "--to", tmp_path / "out", "--quantize", "f16")
    assert outcome.code == 1
    assert "pre-tokenizer was not recognized" in outcome.err and "safetensors" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_other_tokens_are_an_error_however_well_it_answers():
    same = {"texts": [True], "firsts": [0.0], "places": [True]}
    assert Alike(tokens=[True], **same).passes("f16")
    assert not Alike(tokens=[False], **same).passes("q4_k_m")


def test_a_failed_conversion_says_its_last_words(policy, tmp_path, monkeypatch):
    from prefkit.policies import gguf_files

    monkeypatch.setattr(gguf_files, "need_converter", lambda: None)
    monkeypatch.setattr(gguf_files.sys, "executable", shutil.which("false"))
    with pytest.raises(PrefkitError, match="that failed: nothing"):
        gguf_files.write_gguf(policy, tmp_path / "a.gguf", "f16")
