"""Weights by name from the Hugging Face hub: safetensors files only, in the hub's own cache."""

import contextlib
import importlib
import re
from pathlib import Path
from typing import Any

from cnnjax.errors import UserError

PREFIX = "hub:"
WEIGHTS = "model.safetensors"


def fetch(name: str) -> Path:
    """The weights file of `hub:OWNER/NAME` or `hub:OWNER/NAME/FILE.safetensors`, downloaded if it
    is not in the cache, with the repository's config.json beside it, if there is one.

    Raises UserError: another kind of file, no huggingface_hub, no network, no such repository.
    """
    match = re.fullmatch(
        r"([\w.-]+/[\w.-]+)(?:/([\w./-]+\.safetensors))?", name.removeprefix(PREFIX)
    )
    if not match or ".." in name:
        raise UserError(
            f"--file: {name!r} is not valid; write hub:OWNER/NAME, followed by /FILE.safetensors "
            f"if the file is not {WEIGHTS}."
        )
    repository, file = match[1], match[2] or WEIGHTS
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ImportError:
        raise UserError(
            "--file: hub: needs huggingface_hub; pip install -e '.[pretrained]'"
        ) from None
    hub.logging.set_verbosity_error()  # it logs every attempt
    print(f"asking huggingface.co for {repository}/{file} ...", flush=True)
    try:
        weights = hub.hf_hub_download(repository, file)
    except Exception as error:
        raise UserError(
            f"--file: {name}: cannot be fetched ({type(error).__name__}). With a network, "
            f"download https://huggingface.co/{repository}/resolve/main/{file} (and "
            "config.json beside it) and name that file."
        ) from None
    with contextlib.suppress(Exception):  # not every repository has one
        hub.hf_hub_download(repository, "config.json")
    return Path(weights)
