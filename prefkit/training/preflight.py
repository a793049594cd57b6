"""Looks at the first texts before a training begins, and refuses what would fail in silence.

Reads the tokens of all groups, and rewards of a few of them; changes nothing but the padding token.

A reward model that reads its reward one token too early, or from padding, still trains: its loss falls, and it is
worse, or worth nothing once it is loaded elsewhere. So before hours are spent, the rewards that training will use are
compared with those of each text alone in plain transformers, and the last token is exchanged to see that it counts.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from prefkit.errors import PrefkitError
from prefkit.training.groups import Ids, TokenGroup
from prefkit.training.packed import rewards as rewards_in_training
from prefkit.training.packing import PackedRow, pack
from prefkit.training.reward_model import choose_pad_token
from prefkit.training.token_store import sizes

LOOKED_AT = 32
"""Groups whose texts are looked at token by token."""

RESPONSES = 2
"""Responses of each of two groups whose rewards are compared."""

ROUNDING = {torch.float32: (1e-3, 1e-4), torch.float64: (1e-3, 1e-4)}
"""By how much rewards of one text may differ: a share of their spread, and one of the largest."""
COARSE_ROUNDING = (0.1, 0.03)


def mended_padding(tokenizer: Any, config: Any) -> str | None:
    """Let a model pad with a token that ends no text; what was changed, in words, or None.

    Where texts end with the padding token, plain transformers reads the reward one token early.
    """
    before, by_config = tokenizer.pad_token, config.get_text_config().pad_token_id
    known = tokenizer.convert_tokens_to_ids(before) if before is not None else None
    chosen = choose_pad_token(tokenizer, config)
    if chosen == known and by_config in (None, known):
        return None
    was = "the base has none" if before is None else f"{before} can end a text"
    if chosen == known:
        was = f"the base's config says token {by_config}"
    return f"rows are padded with {tokenizer.pad_token}: {was}"


def preflight(model: nn.Module, tokenizer: Any, groups: Sequence[TokenGroup], *, base: str) -> None:
    """Refuse a training that would fail in silence.

    Args:
        model: a sequence classifier, or a PEFT model around one, before accelerate wraps it; its mode stays.
        tokenizer: with the padding token that the training uses.
        groups: all that will be read; the rewards of two of them are looked at.
        base: the model's name, for messages.

    Raises:
        PrefkitError: a token that the model has no row for; texts without an end, or with a doubled beginning; a
            padding token that ends a text; rewards that are no numbers, do not change with the last token, or change
            with padding or with what else is read in the same call.
    """
    check_vocabulary(model, groups, base)
    check_texts(tokenizer, groups[:LOOKED_AT], base)
    check_rewards(model, tokenizer, pack(_sample(groups)), base)


def check_vocabulary(model: nn.Module, groups: Sequence[TokenGroup], base: str) -> None:
    """Every token has a row in the embedding.

    Raises:
        PrefkitError: one has none.
    """
    rows = int(model.get_input_embeddings().num_embeddings)  # type: ignore[operator]
    for group in groups:
        highest = max((int(ids.max()) for ids in (group.prompt, *group.responses) if len(ids)), default=0)
        if highest >= rows:
            found = f"token {highest} in the texts of prompt {group.group.prompt_id}"
            remedy = "The tokenizer is another model's, or got more tokens than the weights: use those saved together."
            raise PrefkitError(base, found, f"tokens below {rows}, the rows of its embedding", remedy)


def check_texts(tokenizer: Any, groups: Sequence[TokenGroup], base: str) -> None:
    """Most texts begin once, end once, and not with padding.

    A text may quote anything, so a fault counts when more than half of the texts have it: then it is the tokenizer's.

    Raises:
        PrefkitError: they do not.
    """
    texts = [[*group.prompt.tolist(), *ids.tolist()] for group in groups for ids in group.responses]
    faults = Counter(fault for text in texts if (fault := fault_in_ids(text, tokenizer)))
    for fault, count in faults.most_common(1):
        if 2 * count > len(texts):
            remedy = "Mend the chat template or the tokenizer's settings (add_bos_token, eos_token) of the base."
            found = f"{fault}, in {count} of the first {len(texts)} texts"
            raise PrefkitError(base, found, "one beginning, and a token that ends a response", remedy)
    padded = sum(text[-1] == tokenizer.pad_token_id for text in texts)
    if padded:
        found = f"{padded} of the first {len(texts)} texts end with the padding token {tokenizer.pad_token!r}"
        remedy = "Choose a padding token that no text ends with."
        raise PrefkitError(base, found, "a reward that can be read at the last token", remedy)


def check_rewards(model: nn.Module, tokenizer: Any, row: PackedRow, base: str) -> None:
    """Rewards are numbers, come from the whole text, and from nothing else.

    Args:
        row: a few texts of different lengths, on any device.

    Raises:
        PrefkitError: they are not, or do not.
    """
    pad = int(tokenizer.pad_token_id)
    row = row.to(next(model.parameters()).device)
    with _evaluating(model):
        trained = rewards_in_training(model, row, pad).double().cpu()
        _refuse_no_numbers(trained, base)
        _refuse_deaf_to_the_end(trained, rewards_in_training(model, _other_ends(row, pad), pad).double().cpu(), base)
        everyone = range(len(row.texts))
        alone = torch.cat([_plain(model, row, [one], pad) for one in everyone])
        together = _plain(model, row, everyone, pad)
    precision = next(model.parameters()).dtype
    _refuse_different(together, alone, precision, base, "padding and batch size")
    _refuse_different(trained, alone, precision, base, "what else is read in the same row")


def _sample(groups: Sequence[TokenGroup]) -> list[TokenGroup]:
    """The first group and the shortest other one, with a few responses each and no pairs."""
    others = sizes(groups).tokens[1:]
    sample = [groups[0], *([groups[1 + int(others.argmin())]] if len(others) else [])]
    return [
        replace(group, group=replace(group.group, pairs=()), responses=group.responses[:RESPONSES]) for group in sample
    ]


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout and gradients, and then as it was."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def _other_ends(row: PackedRow, pad: int) -> PackedRow:
    """The row with another last token for each response, which is not the padding token."""
    ids = row.input_ids.clone()
    last = ids[0, row.ends]
    candidates = [one for one in torch.unique(ids).tolist() if one != pad]
    for end, now in zip(row.ends.tolist(), last.tolist(), strict=True):
        ids[0, end] = next((one for one in candidates if one != now), now)
    return replace(row, input_ids=ids)


def _plain(model: nn.Module, row: PackedRow, responses: Sequence[int], pad: int) -> Tensor:
    """[len(responses), outputs] as transformers gives them for a batch padded on the right."""
    texts = [row.input_ids[0, row.texts[one]] for one in responses]
    width = max(map(len, texts))
    ids = torch.stack([nn.functional.pad(text, (0, width - len(text)), value=pad) for text in texts])
    place = torch.arange(width, device=ids.device)
    lengths = torch.tensor([len(text) for text in texts], device=ids.device)[:, None]
    inputs = {"input_ids": ids, "attention_mask": (place < lengths).long()}
    if row.two_types:
        begins = lengths - row.lengths[list(responses)].to(lengths)[:, None]
        inputs["token_type_ids"] = ((place >= begins) & (place < lengths)).long()
    rewards: Tensor = model(**inputs).logits
    return rewards.double().cpu()


def _refuse_no_numbers(rewards: Tensor, base: str) -> None:
    wrong = int((~torch.isfinite(rewards)).any(dim=1).sum())
    if wrong:
        remedy = "Its weights are broken, or too large for the precision: look at them, or train with --precision fp32."
        raise PrefkitError(base, f"rewards that are no numbers, for {wrong} of {len(rewards)} texts", "numbers", remedy)


def _refuse_deaf_to_the_end(rewards: Tensor, with_other_ends: Tensor, base: str) -> None:
    same = int((rewards == with_other_ends).all(dim=1).sum())
    if 2 * same > len(rewards):
        found = f"rewards that do not change with the last token, for {same} of {len(rewards)} texts"
        remedy = "Its head reads another place, or is zero: take a base that AutoModelForSequenceClassification knows."
        raise PrefkitError(base, found, "rewards read at the end of the text", remedy)


def _refuse_different(found: Tensor, alone: Tensor, precision: torch.dtype, base: str, with_what: str) -> None:
    of_spread, of_largest = ROUNDING.get(precision, COARSE_ROUNDING)
    spread = float(alone.std(dim=0).max()) if len(alone) > 1 else 0.0
    off = float((found - alone).abs().max())
    if not off <= of_spread * spread + of_largest * float(alone.abs().max()):
        said = f"rewards that change with {with_what}, by {off:.2g} where texts differ by {spread:.2g}"
        remedy = "Look at config.pad_token_id and the attention implementation of the base, or take another base."
        raise PrefkitError(base, said, "the same reward as for the text alone", remedy)


def fault_in_ids(ids: Sequence[int] | Ids, tokenizer: Any) -> str | None:
    """What is wrong with a whole conversation in tokens; None for nothing.

    Looked for: no token at all, a doubled first or last token, no token that ends the response.
    """
    tokens = [int(one) for one in ids]
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if not tokens:
        return "no tokens"
    if bos is not None and tokens[:2] == [bos, bos]:
        return f"the first token twice ({tokenizer.bos_token})"
    if eos is not None and tokens[-2:] == [eos, eos]:
        return f"the last token twice ({tokenizer.eos_token})"
    ending = set(tokenizer.all_special_ids) | {
        number for number, one in tokenizer.added_tokens_decoder.items() if one.special
    }
    while tokens and tokens[-1] not in ending and not tokenizer.decode(tokens[-1:]).strip():
        tokens.pop()
    if not tokens or tokens[-1] not in ending:
        return f"no token that ends the response (such as {tokenizer.eos_token})"
    return None
