"""``prefkit score`` and ``prefkit serve-rm``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefkit.cli.engine import engine_options

if TYPE_CHECKING:
    from prefkit.training.scoring import ScoreReport

DEVICE = click.option("--device", help="Such as cuda:1 or cpu.  [default: a GPU where there is one]")
BUDGET = click.option(
    "--tokens", type=click.IntRange(min=1), help="Tokens in a forward pass.  [default: 4096; 32768 on a GPU]"
)


@click.command()
@click.argument("source", metavar="RUN|FILE", type=click.Path(path_type=Path))
@click.option("--rm", "model", required=True, metavar="PATH|NAME", help="A reward model's folder, or its name in RUN.")
@click.option("--best-of", type=click.IntRange(min=1), metavar="N", help="Also write the best of each N responses.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="[default: RUN/rewards.jsonl, beside FILE]"
)
@DEVICE
@BUDGET
@engine_options
def score(
    source: Path,
    model: str,
    best_of: int | None,
    out: Path | None,
    device: str | None,
    tokens: int | None,
    engine: str,
    ray_address: str | None,
) -> None:
    """Give every response of RUN or FILE a reward.

    Rewards are appended to RUN/rewards.jsonl; the same command goes on where it was stopped: see docs/scoring.md.

    \b
        prefkit score runs/first --rm first
        prefkit score runs/first --rm runs/first/reward-models/first --best-of 4
        prefkit score answers.jsonl --rm runs/first/reward-models/first --out rewards.jsonl
    """
    from contextlib import nullcontext

    from prefkit.cli.progress import Bars
    from prefkit.run import Run
    from prefkit.training.examples import read_groups
    from prefkit.training.reward_info import read_info, reward_model_folder
    from prefkit.training.reward_model import RewardModel
    from prefkit.training.scoring import REWARDS, keep_best, model_digest, score

    if engine == "ray":
        if best_of or out:
            raise click.UsageError("--best-of and --out go with --engine local.")
        _score_on_cluster(source, model, device, tokens, ray_address)
        return
    run = Run(source) if source.is_dir() and (source / "run.json").exists() else None
    folder = reward_model_folder(model, source)
    path = out or (source / REWARDS if run else source.with_name(f"{source.stem}.{REWARDS}"))
    info, model_id = read_info(folder), model_digest(folder)
    with Bars() as bars, run.writing("score") if run else nullcontext():
        groups = read_groups(source, all_responses=True)
        bar = bars.open("scoring", groups.prompts, "prompts")
        report = score(groups, lambda: RewardModel.load(folder, device, budget=tokens), model_id, path, bar)
        _say(report, folder.resolve().name)
        if best_of:
            place = path.with_name(f"best-of-{best_of}.jsonl" if run else f"{path.stem}.best-of-{best_of}.jsonl")
            best = keep_best(groups, info, model_id, path, place, best_of)
            click.echo(
                f"{best.path}: {best.prompts:,} prompts; normalised reward {best.best:+.2f} of the best,"
                f" {best.mean:+.2f} of those it was chosen from"
            )
            if best.fewer:
                click.echo(f"  {best.fewer:,} prompts have fewer than {best_of} responses")


def _score_on_cluster(
    source: Path, model: str, device: str | None, tokens: int | None, ray_address: str | None
) -> None:
    from prefkit.cli.progress import Bars
    from prefkit.cluster.cluster import joined
    from prefkit.cluster.scoring import score_on_cluster
    from prefkit.run import Run
    from prefkit.working_copy import store_of

    run = Run(source)
    with Bars() as bars, joined(ray_address) as cluster:
        bar = bars.open("scoring", None, "prompts")
        report = score_on_cluster(run, store_of(source), model, cluster, device=device, tokens=tokens, progress=bar)
    _say(report, Path(model).name)


def _say(report: ScoreReport, model: str) -> None:
    held = f", {report.held:,} from before" if report.held else ""
    click.echo(f"{report.path}: {report.scored:,} new rewards by {model}{held}")
    if report.failed:
        click.echo(f"  {report.failed:,} responses without a reward (see failure)")
    for reason, count in sorted(report.tally.items()):
        click.echo(f"  {count:,} {reason}")
    if report.padded:
        click.echo(f"  texts were padded: {report.padded}")


@click.command()
@click.argument("model", metavar="PATH", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Another one needs a key.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--name", help="What clients call the model.  [default: the folder's name]")
@click.option(
    "--key-env",
    default="PREFKIT_RM_KEY",
    show_default=True,
    metavar="NAME",
    help="Environment variable with the key that clients must send; no key is asked for where it is not set.",
)
@DEVICE
@BUDGET
def serve_rm(
    model: Path, host: str, port: int, name: str | None, key_env: str, device: str | None, tokens: int | None
) -> None:
    """Serve the reward model PATH over HTTP, as vLLM serves reward models; Ctrl-C stops it.

    /classify, /pooling, /score, /rerank, /v1/rewards, /get_reward, /v1/models, /health: see docs/scoring.md.

    \b
        prefkit serve-rm runs/first/reward-models/first
        prefkit serve-rm runs/first/reward-models/first --port 0 --device cuda:1
    """
    import os

    from prefkit.training.reward_model import RewardModel
    from prefkit.training.serving.server import Serving, serve

    settings = Serving(host=host, port=port, key=os.environ.get(key_env) or None, key_name=key_env)
    settings.check()
    loaded = RewardModel.load(model, device, budget=tokens)
    serve(loaded, settings, name or loaded.name, lambda address: click.echo(f"{name or loaded.name}: {address}"))
    click.echo("stopped")
