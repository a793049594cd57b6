"""A reward model to the Hugging Face Hub, private unless asked otherwise.

Weights can hold pieces of the texts that they were trained on, so a model counts as its texts do: whoever calls this
refuses first where they are not scrubbed. Only what opens the model is uploaded, never checkpoints or evaluations.
"""

from __future__ import annotations

from pathlib import Path

from prefkit.errors import PrefkitError, RunError
from prefkit.training.reward_info import read_info

UPLOADED = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "adapter_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "chat_template.jinja",
    "vocab*",
    "merges.txt",
    "reward.json",
    "README.md",
)


def push_reward_model(folder: Path, repository: str, *, private: bool) -> str:
    """Upload a reward model and return its address.

    Args:
        folder: that ``save_reward_model`` wrote.
        repository: ``OWNER/NAME``.
        private: whether only the owner sees it.

    Raises:
        PrefkitError: the folder holds no whole reward model.
        RunError: huggingface_hub is not installed, nobody is logged in, or the hub refuses.
    """
    read_info(folder)
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
    except ImportError:
        remedy = "pip install 'prefkit[train]'"
        raise RunError("--push-to-hub", "no huggingface_hub", "the package that uploads", remedy) from None
    if not (folder / "README.md").exists():
        raise PrefkitError(folder, "no README.md", "a model card", "Train the model again.")
    try:
        api = HfApi()
        url = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=folder, allow_patterns=list(UPLOADED), ignore_patterns=["*/*"]
        )
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError, ValueError) as error:
        found = f"a refusal: {str(error).splitlines()[0]}"
        remedy = "Log in (`hf auth login`) and check the name; the model itself is written."
        raise RunError(f"--push-to-hub {repository}", found, "an upload", remedy) from None
    return str(url)
