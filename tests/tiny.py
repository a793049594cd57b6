"""Two-layer models with random weights and a tokenizer with a token a byte, saved where transformers finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

Kind = Literal["llama", "qwen2", "qwen3", "gemma2", "gemma3", "mistral", "bert", "modernbert"]
DECODERS: tuple[Kind, ...] = ("llama", "qwen2", "qwen3", "gemma2", "gemma3", "mistral")
ENCODERS: tuple[Kind, ...] = ("bert", "modernbert")
WINDOW = 16
"""Tokens that a sliding window sees, in the kinds that have one: gemma2, gemma3, mistral."""
CHATML = (
    "{% if bos_token %}{{ bos_token }}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<pad>", "<|im_start|>", "<|im_end|>", "<bos>")


def tiny_tokenizer(folder: Path, *, pad_is_eos: bool = False, bos: bool = False, template: str | None = CHATML) -> Path:
    """A token a byte, ChatML, ``<|im_end|>`` as the end of text.

    Args:
        folder: where it is saved.
        pad_is_eos: it pads with the end of text, as many do.
        bos: it opens a text with ``<bos>``, in the template and, once more, when it encodes a plain text.
        template: its chat template.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={token: place for place, token in enumerate((*SPECIAL, *letters))}, merges=[])
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing("<bos> $A", special_tokens=[("<bos>", 3)])
    names = {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>" if pad_is_eos else "<pad>"}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, **({"bos_token": "<bos>"} if bos else {}))
    wrapped.chat_template = template
    wrapped.save_pretrained(folder)
    return folder


def tiny_encoder_tokenizer(folder: Path, *, two_types: bool = True, model_max_length: int | None = None) -> Path:
    """A token a byte, no chat template: ``[CLS] prompt [SEP] response [SEP]``, as encoders read pairs of texts.

    Args:
        folder: where it is saved.
        two_types: the response's tokens are of type 1, as BERT's.
        model_max_length: what it says of the model.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={token: place for place, token in enumerate((*special, *letters))}, merges=[])
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    second = 1 if two_types else 0
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", f"[CLS] $A [SEP] $B:{second} [SEP]:{second}", [("[CLS]", 1), ("[SEP]", 2)]
    )
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    inputs = ["input_ids", *(["token_type_ids"] if two_types else []), "attention_mask"]
    options = {"model_max_length": model_max_length} if model_max_length else {}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **names, **options)
    wrapped.save_pretrained(folder)
    return folder


def tiny_config(kind: Kind, *, pad_token_id: int = 0, **options: Any) -> Any:
    """The configuration of a two-layer model; ``options`` replace its fields."""
    import transformers

    shape = {
        "vocab_size": len(SPECIAL) + 256,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 2048,
        "pad_token_id": pad_token_id,
        "eos_token_id": 2,
        "bos_token_id": 3,
        "initializer_range": 0.3,  # with the usual 0.02 all texts score alike
    }
    decoder = {**shape, "num_key_value_heads": 2, "head_dim": 8}
    match kind:
        case "llama":
            return transformers.LlamaConfig(**decoder | options)
        case "qwen2":
            return transformers.Qwen2Config(**shape | {"num_key_value_heads": 2} | options)
        case "qwen3":
            return transformers.Qwen3Config(**decoder | options)
        case "mistral":
            return transformers.MistralConfig(**decoder | {"sliding_window": WINDOW} | options)
        case "gemma2":
            soft = {"attn_logit_softcapping": 5.0, "query_pre_attn_scalar": 24, "sliding_window": WINDOW}
            return transformers.Gemma2Config(**decoder | soft | options)
        case "gemma3":
            layers = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": WINDOW}
            return transformers.Gemma3TextConfig(**decoder | layers | {"query_pre_attn_scalar": 24} | options)
        case "bert":
            return transformers.BertConfig(**shape | options)
        case "modernbert":
            special = {"cls_token_id": 3, "sep_token_id": 2, "local_attention": WINDOW}
            return transformers.ModernBertConfig(**shape | special | options)


def tiny_model(
    folder: Path, kind: Kind = "llama", *, pad_is_eos: bool = False, bos: bool = False, seed: int = 0, **options: Any
) -> Path:
    """A model with its tokenizer in ``folder``: a causal language model, or a bare encoder.

    Args:
        folder: where they are saved.
        kind: the architecture.
        pad_is_eos, bos: see ``tiny_tokenizer``.
        seed: of the weights.
        options: replace fields of the configuration.
    """
    import torch
    import transformers

    tiny_tokenizer(folder, pad_is_eos=pad_is_eos, bos=bos)
    config = tiny_config(kind, pad_token_id=2 if pad_is_eos else 0, **options)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        maker = transformers.AutoModel if kind in ENCODERS else transformers.AutoModelForCausalLM
        maker.from_config(config).save_pretrained(folder)
    return folder


def tiny_classifier(folder: Path, kind: Kind = "llama", *, labels: int = 1, seed: int = 0, **options: Any) -> Any:
    """A sequence classifier in float32 on a tiny model's weights, in ``eval`` mode."""
    import torch
    import transformers

    if not (folder / "config.json").exists():
        tiny_model(folder, kind, seed=seed, **options)
    maker = transformers.AutoModelForSequenceClassification
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return maker.from_pretrained(folder, num_labels=labels, dtype=torch.float32).eval()
