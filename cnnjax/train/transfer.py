"""Start from another network's weights: names, shapes and dtypes checked, what is new named."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from cnnjax import files
from cnnjax.config import RunConfig
from cnnjax.errors import Mismatch, UserError, unknown
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.state import TrainState


def check(directory: Path, variables: Mapping[str, Any], *, reset: Sequence[str] = ()) -> None:
    """Raises what `start_from` would, of shapes alone: nothing is read but their description."""
    with _opened(directory, variables, reset) as (checkpoints, fresh):
        checkpoints.check(checkpoints.find("last"), fresh, ignore=reset)


def start_from(
    directory: Path, variables: Mapping[str, Any], *, reset: Sequence[str] = ()
) -> dict[str, Any]:
    """`variables` with the weights kept in `directory`, but for the layers named in `reset`.

    Args:
      directory: a run's folder, or any folder with `checkpoints/` in it; its newest step is used.
      variables: fresh variables of the network: `params` and maybe `batch_stats`.
      reset: top-level layers that keep their fresh values, a head for another number of classes
        for example. Everything else must fit.

    Raises UserError where the folder holds no checkpoint, a layer in `reset` does not exist, or
    an entry is missing, extra or differently shaped; it names the layers to put into `reset`.
    """
    with _opened(directory, variables, reset) as (checkpoints, fresh):
        found = checkpoints.variables(checkpoints.find("last"), fresh, ignore=reset)
    return {
        kind: {**{name: tree[name] for name in reset if name in tree}, **found.get(kind, {})}
        for kind, tree in variables.items()
    }


def write(
    variables: Mapping[str, Any], config: RunConfig, directory: Path, about: Mapping[str, Any]
) -> None:
    """Makes a folder of weights to start from or to evaluate: `checkpoints/` with step 0,
    config.json, and weights.json, which tells where they are from (`about`). It appears whole.

    Raises UserError where the folder is there already, or cannot be written.
    """
    if directory.exists():
        raise UserError(f"--output: {directory} is there already; name a new folder.")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        made = directory.parent / f".{directory.name}@{secrets.token_hex(4)}"
        made.mkdir()
    except OSError as error:
        raise UserError(f"{directory}: cannot be written: {error.strerror}.") from None
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state={},
        ema=None,
    )
    values = config.model_dump(mode="json")
    try:
        with Checkpoints(made / "checkpoints") as checkpoints:
            checkpoints.save(state, values, None)
            checkpoints.wait()
        files.write_json(made / "config.json", values)
        files.write_json(made / "weights.json", about)
        made.chmod(0o755)
        os.rename(made, directory)
    except OSError as error:
        raise UserError(f"{directory}: cannot be written: {error.strerror}.") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextlib.contextmanager
def _opened(
    directory: Path, variables: Mapping[str, Any], reset: Sequence[str]
) -> Iterator[tuple[Checkpoints, dict[str, Any]]]:
    """The checkpoints of a folder, and the variables that are to come from there. A misfit is told
    with the layers to put into `reset`."""
    path = directory / "checkpoints"
    if not path.is_dir():
        raise UserError(f"{directory}: holds no weights (no checkpoints/ in it).")
    for name in reset:
        if name not in variables["params"]:
            raise unknown("transfer.reset", name, variables["params"])
    fresh = {kind: _without(tree, reset) for kind, tree in variables.items()}
    with Checkpoints(path, read_only=True) as checkpoints:
        try:
            yield checkpoints, fresh
        except Mismatch as error:
            raise UserError(f"{error}{_hint(error, reset, fresh['params'])}") from None


def _hint(error: Mismatch, reset: Sequence[str], params: Mapping[str, Any]) -> str:
    """What to type where layers do not fit."""
    named = {path.split("/")[1] for path in error.paths if "/" in path}
    layers = [name for name in params if name in named]
    if not layers or len(layers) == len(params):
        return ""
    words = ", ".join(f'"{name}"' for name in (*reset, *layers))
    return f"\nTo keep fresh values there: --set 'transfer.reset=[{words}]'"


def _without(tree: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in tree.items() if name not in names}
