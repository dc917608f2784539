"""What a run's folder says of how the run was started, and what must stay so."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnjax import files
from cnnjax.config import RunConfig
from cnnjax.errors import UserError


def begun(directory: Path) -> dict[str, Any]:
    """What the bits of a run with a checkpoint depend on, as it was at its start; empty where there
    is none, or that is not known."""
    if not _has_checkpoint(directory):
        return {}
    with contextlib.suppress(UserError, TypeError, ValueError):
        return dict(files.read_json(directory / "runtime.json"))
    return {}


def settle(directory: Path, config: RunConfig, runtime: Mapping[str, Any]) -> None:
    """Keeps the configuration, and what a run's bits depend on until it has its first checkpoint.

    Raises UserError where the folder holds another configuration, or was started with another
    number of threads, kind of convolution or way to train replicates (which change the order of
    sums).
    """
    for name, values in (
        ("config.json", config.model_dump(mode="json")),
        ("runtime.json", runtime),
    ):
        path = directory / name
        if not path.exists() or (name == "runtime.json" and not _has_checkpoint(directory)):
            files.write_json(path, values)
            continue
        try:
            known = dict(files.read_json(path))
        except (UserError, TypeError, ValueError):
            raise UserError(
                f"{path}: cannot be read; remove {directory} to start this run anew."
            ) from None
        changed = [key for key in values if known.get(key) != values[key]]
        if changed:
            raise UserError(
                f"{path}: {changed[0]} is {known.get(changed[0])!r} there and "
                f"{values[changed[0]]!r} now; pick another --workdir."
            )


def _has_checkpoint(directory: Path) -> bool:
    return any(step.name.isdecimal() for step in directory.glob("checkpoints/*"))
