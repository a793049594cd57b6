"""``prefkit iterate``: a policy answers, a reward model says which answers are better, the policy learns that, again.

Reads   the prompts of a run, a policy to start from, a reward model, a second one to judge if one is named
Writes  RUN/iterations/NAME/
    iterate.json        settings and what was begun with, written first: the same command goes on, another is refused
    start/              the start at the held-out prompts: answers, rewards, evaluation.json
    round-1/
        answers.jsonl, rewards.jsonl    several answers to each prompt, and what they are worth (``round_answers``)
        pairs.jsonl                     what is learned from (``choosing``); ``prefkit train-policy`` reads it as well
        policy/                         after one round of DPO, whose reference is the policy before (``training``)
        held-out/                       its answers at the held-out prompts, and what they are worth
        evaluation.json                 what the round came to (``round_evaluation``); written last
    round-2/ ...
    finished.json       why it ended, and which round is the best

Each phase goes on where it was killed, and what it ends with does not tell that it was: answers and rewards are made in
blocks whose shape is fixed, pairs follow from them, the training goes on from its checkpoint to the same weights. One
process at a time; it trains on what one machine has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from prefkit.durable import make_folders, replacing
from prefkit.errors import PrefkitError, RunError
from prefkit.marking import CUT_OFF
from prefkit.policies.choosing import pairs_of
from prefkit.policies.opening import open_policy
from prefkit.policies.round_answers import Rewards, Said, answers, free_memory, rewards
from prefkit.policies.round_evaluation import Baseline, Evaluation, best_round
from prefkit.policies.round_files import EVALUATION, FINISHED, Finished, begin, claimed, read, write
from prefkit.policies.round_measuring import (
    Judge,
    Measured,
    Measuring,
    Opened,
    Say,
    counting_answers,
    drawing,
    judges_of,
    opening,
)
from prefkit.policies.round_prompts import Pool, draw_pool
from prefkit.policies.round_settings import RoundSettings
from prefkit.records import Prompt
from prefkit.run import Run
from prefkit.training.machine import need_one_process

ITERATIONS = "iterations"


@dataclass(frozen=True, kw_only=True)
class Iterated:
    """What came of the rounds.

    Args:
        folder: of the iteration.
        start: what the policy was before.
        rounds: what each round came to.
        stopped: why there were no more; empty where all that were asked for are done.
        best_round: 0 for the start.
        best: the best round's policy: its folder, or the start's name.
    """

    folder: Path
    start: Baseline
    rounds: tuple[Evaluation, ...]
    stopped: tuple[str, ...]
    best_round: int
    best: str


def iteration_folder(run: Path, base: str, name: str | None) -> Path:
    """Where the rounds go: called after the start if not otherwise."""
    return run / ITERATIONS / (name or Path(base.rstrip("/")).name.lower())


def iterate(
    run: Run,
    settings: RoundSettings,
    folder: Path,
    *,
    reward_model: Path,
    second: Path | None = None,
    overwrite: bool = False,
    opened: Opened = lambda title, total, unit: lambda done: None,
    say: Say = lambda line: None,
) -> Iterated:
    """Run rounds, or go on with those that were cut.

    Args:
        run: whose prompts are asked.
        settings: how.
        folder: of the iteration.
        reward_model: that chooses the pairs and judges the rounds.
        second: another one, that only judges.
        overwrite: throw away what is in the folder.
        opened: opens a progress bar: title, total, unit -> what is told how much more is done.
        say: told lines worth reading.

    Raises:
        PrefkitError: no reward model, or one of another rubric; no prompts; a tokenizer without a chat template; no
            pair comes of a round; the folder holds other rounds, or another process works on them; it cannot be
            written.
    """
    settings = settings.resolved()
    need_one_process("iterate")
    judges = judges_of(run, reward_model, second)
    pool = _pool(run, settings)
    with claimed(folder, overwrite):
        begin(folder, settings, [one.digest for one in judges], pool.identity)
        _say_pool(say, settings, pool)
        work = _Work(run, settings, folder, judges, pool, opened, say)
        return work.done_before() or work.all_rounds()


# --- before anything is written --------------------------------------------------------------------------------------


def _pool(run: Run, settings: RoundSettings) -> Pool:
    from prefkit.policies.templates import need_chat_template
    from prefkit.training.building import tokenizer_of, window_of

    base = settings.training.base
    tokenizer = tokenizer_of(base)
    need_chat_template(tokenizer, base)
    room = min(settings.training.max_tokens, window_of(base, tokenizer)) - settings.answer_tokens
    if room < 1:
        remedy = "Ask for shorter answers."
        raise PrefkitError(base, "a context with no room for a prompt", f"more than {settings.answer_tokens}", remedy)
    return draw_pool(
        run, tokenizer, to_ask=settings.rounds * settings.prompts, held_out=settings.held_out, most_tokens=room,
        seed=settings.seed,
    )  # fmt: skip


def _say_pool(say: Say, settings: RoundSettings, pool: Pool) -> None:
    say(f"{len(pool.to_ask):,} prompts to ask, {len(pool.held_out):,} held out to measure on")
    for reason, count in pool.counts.items():
        say(f"  {count:,} {reason}")
    wanted = settings.prompts * settings.rounds
    if len(pool.to_ask) < wanted:
        say(f"  fewer than {settings.rounds} x {settings.prompts:,}: some are asked again in later rounds")
    if len(pool.held_out) < settings.held_out:
        say(f"  fewer held out than {settings.held_out:,}: intervals are wide")


# --- the rounds ------------------------------------------------------------------------------------------------------


class _Work:
    """Rounds on their way.

    Args:
        run, settings, folder, opened, say: see ``iterate``.
        judges: the reward model, and the second one where there is one.
        pool: prompts.
    """

    def __init__(
        self,
        run: Run,
        settings: RoundSettings,
        folder: Path,
        judges: Sequence[Judge],
        pool: Pool,
        opened: Opened,
        say: Say,
    ) -> None:
        self._run, self._settings, self._folder = run, settings, folder
        self._judges, self._pool, self._opened, self._say = judges, pool, opened, say
        self._base = settings.training.base
        self._measuring = Measuring(pool.held_out, settings, judges, opened, say)

    def done_before(self) -> Iterated | None:
        """What came of rounds that have ended; None where more are to come."""
        finished = read(self._folder / FINISHED, Finished)
        if finished is None or (not finished.stopped and finished.rounds < self._settings.rounds):
            return None
        self._say(f"{self._folder}: finished before")
        start = read(self._folder / "start" / EVALUATION, Baseline)
        rounds = [read(self._of(number) / EVALUATION, Evaluation) for number in range(1, finished.rounds + 1)]
        if start is None or None in rounds:
            remedy = "Copy the whole folder, or begin anew with --overwrite."
            raise RunError(self._folder, "finished rounds without their evaluation", "all files of them", remedy)
        return self._iterated(finished, start, [one for one in rounds if one])

    def all_rounds(self) -> Iterated:
        """The rounds, from where they were cut."""
        start = self._measuring.start(self._folder / "start", self._base)
        baseline = self._measuring.baseline(self._folder / "start", start)
        before: Measured = start
        done: list[Evaluation] = []
        for number in range(1, self._settings.rounds + 1):
            counts = self._learn(number)
            folder, title = self._of(number), f"round {number}: held out"
            now = self._measuring.measured(folder / "held-out", self._policy(number), title)
            done.append(self._measuring.evaluated(folder, number, counts, now, before, start))
            before = now
            if done[-1].stop:
                break
        best = best_round(done)
        finished = Finished(
            rounds=len(done),
            stopped=done[-1].stop,
            best_round=best.round if best else 0,
            policy=best.policy if best else self._base,
        )
        write(self._folder / FINISHED, finished)
        return self._iterated(finished, baseline, done)

    def _iterated(self, finished: Finished, start: Baseline, rounds: Sequence[Evaluation]) -> Iterated:
        best = str(self._folder / finished.policy) if finished.best_round else finished.policy
        return Iterated(
            folder=self._folder,
            start=start,
            rounds=tuple(rounds),
            stopped=finished.stopped,
            best_round=finished.best_round,
            best=best,
        )

    def _of(self, number: int) -> Path:
        return self._folder / f"round-{number}"

    def _policy(self, number: int) -> str:
        """The policy after a round: its folder, or the start's name."""
        return str(self._of(number) / "policy") if number else self._base

    # --- learning ----------------------------------------------------------------------------------------------------

    def _learn(self, number: int) -> dict[str, int]:
        """Answers, rewards, pairs and a policy of a round; how much of what."""
        folder, chosen = self._of(number), self._settings
        make_folders(folder)
        prompts = self._pool.of_round(number, chosen.prompts)
        bar = counting_answers(self._opened, len(prompts) * chosen.samples)
        said = answers(
            folder / "answers.jsonl", prompts, lambda: open_policy(self._policy(number - 1)),
            drawing(chosen, number, chosen.samples), bar(f"round {number}: answers"),
        )  # fmt: skip
        judge = self._judges[0]
        given = rewards(folder / "rewards.jsonl", prompts, said, opening(judge), bar(f"round {number}: rewards"))
        counts = self._choose(number, prompts, said, given)
        self._train(number)
        return counts

    def _choose(self, number: int, prompts: Sequence[Prompt], said: Sequence[Said], given: Rewards) -> dict[str, int]:
        """Write the pairs of a round.

        Raises:
            PrefkitError: there are none.
        """
        chosen, tally, pairs = self._settings, Counter[str](), list[dict[str, Any]]()
        for prompt, some, of in zip(prompts, said, given, strict=True):
            pairs += pairs_of(
                prompt, some, of, f"round-{number - 1}", choose=chosen.choose, top=chosen.top,
                least=chosen.min_gap * self._judges[0].std, keep_cut_off=chosen.keep_cut_off, tally=tally,
            )  # fmt: skip
        asked = {"prompts": len(prompts), "answers": len(prompts) * chosen.samples, "pairs": len(pairs)}
        left_out = dict(sorted(tally.items()))
        self._say(f"round {number}: {len(pairs):,} pairs of {asked['answers']:,} answers to {len(prompts):,} prompts")
        for reason, count in left_out.items():
            self._say(f"  {count:,} {reason}")
        if tally[f"answers left out: {CUT_OFF}"] > asked["answers"] / 2:
            self._say(f"  most are cut off at {chosen.answer_tokens:,} tokens: ask for longer ones (--answer-tokens),")
            self._say("  or start from a policy that comes to an end, such as one after train-policy --method sft")
        path = self._of(number) / "pairs.jsonl"
        if not pairs:
            reasons = "; ".join(f"{count:,} {reason}" for reason, count in left_out.items())
            found = f"no pair of {asked['answers']:,} answers ({reasons})"
            remedy = "Look at the answers; give them more --answer-tokens, or ask for less --min-gap."
            raise PrefkitError(self._of(number) / "answers.jsonl", found, "answers of which one is better", remedy)
        if not path.exists():
            with replacing(path) as file:
                file.writelines(msgspec.json.encode(one) + b"\n" for one in pairs)
        return {**asked, **left_out}

    def _train(self, number: int) -> None:
        """One round of DPO from the policy before."""
        from prefkit.policies.training import train_policy
        from prefkit.training.begun import DONE
        from prefkit.training.training_pairs import TrainingData

        folder = self._of(number) / "policy"
        if (folder / DONE).exists():
            self._say(f"{folder}: done before")
            return
        reference = self._base if self._settings.reference == "start" and number > 1 else None
        train_policy(
            TrainingData(source=self._of(number) / "pairs.jsonl", split=None),
            replace(self._settings.training, base=self._policy(number - 1), reference=reference),
            folder,
            opened=_absolute(self._opened),
            say=self._say,
        )
        free_memory()


def _absolute(opened: Opened) -> Opened:
    """Bars for those who say how much is done in all."""

    def open_one(title: str, total: int | None, unit: str) -> Callable[[int], None]:
        advance, before = opened(title, total, unit), [0]

        def reach(done: int) -> None:
            advance(done - before[0])
            before[0] = done

        return reach

    return open_one
