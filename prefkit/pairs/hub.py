"""The dataset to the Hugging Face Hub, private unless asked otherwise, and never unscrubbed."""

from __future__ import annotations

from prefkit.errors import RunError
from prefkit.run import Run


def refuse_unscrubbed(run: Run) -> None:
    """Stop before anything identifying could leave the machine.

    Raises:
        RunError: a prompt or a response with a text has not been scrubbed.
    """
    prompts = sum(not prompt.scrubbed for prompt in run.prompts())
    responses = sum(not response.scrubbed and response.text is not None for response in run.responses())
    if prompts or responses:
        found = f"{prompts:,} prompts and {responses:,} responses that were not scrubbed"
        remedy = f"Run `prefkit scrub {run.path}` first, and read docs/scrubbing.md for what it misses."
        raise RunError(run.path, found, "scrubbed texts before anything is pushed", remedy)


def push(run: Run, repository: str, *, private: bool) -> str:
    """Upload ``dataset/`` and return its address.

    Raises:
        RunError: huggingface_hub is not installed, nobody is logged in, or the hub refuses.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
    except ImportError:
        remedy = "pip install 'prefkit[train]'"
        raise RunError("--push-to-hub", "no huggingface_hub", "the package that uploads", remedy) from None
    try:
        api = HfApi()
        url = api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, repo_type="dataset", folder_path=run.path / "dataset")
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError, ValueError) as error:
        found = f"a refusal: {str(error).splitlines()[0]}"
        remedy = "Log in (`hf auth login`) and check the name; the dataset itself is written."
        raise RunError(f"--push-to-hub {repository}", found, "an upload", remedy) from None
    return str(url)
