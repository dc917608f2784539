"""Start from another network's weights, with all names, shapes and dtypes checked."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from cnnjax import files
from cnnjax.config import ResolvedConfig
from cnnjax.errors import Mismatch, UserError, unknown
from cnnjax.train.checkpoint import Checkpoints, without_layers
from cnnjax.train.state import TrainState


def check(directory: Path, variables: Mapping[str, Any], *, reset: Sequence[str] = ()) -> None:
    """Raises what `start_from` would; reads only the metadata of the checkpoint."""
    with _open_source(directory, variables, reset) as (checkpoints, step, target):
        checkpoints.check(step, target, ignore=reset)


def start_from(
    directory: Path, variables: Mapping[str, Any], *, reset: Sequence[str] = ()
) -> dict[str, Any]:
    """Returns `variables` with the weights in `directory`, except for the layers in `reset`.

    Args:
      directory: a run's folder, or any folder with `checkpoints/` in it; its newest step is used.
      variables: fresh variables of the network: `params` and possibly `batch_stats`.
      reset: top-level layers that keep their fresh values, such as a head for another number of
        classes, and those in `directory` that this network does not have, such as the dense layers
        of a classifier whose other layers are an encoder. Everything else must fit.

    Raises UserError where the folder holds no checkpoint, a layer in `reset` does not exist, or
    an entry is missing, extra or differently shaped; it names the layers to put into `reset`.
    """
    with _open_source(directory, variables, reset) as (checkpoints, step, target):
        stored = checkpoints.variables(step, target, ignore=reset)
    return {
        kind: {**{name: tree[name] for name in reset if name in tree}, **stored.get(kind, {})}
        for kind, tree in variables.items()
    }


def write(
    variables: Mapping[str, Any], config: ResolvedConfig, directory: Path, about: Mapping[str, Any]
) -> None:
    """Writes a folder of weights to start from or to evaluate: `checkpoints/` with step 0,
    config.json, and weights.json, which says where they are from (`about`). The folder is complete
    as soon as it exists.

    Raises UserError where the folder exists already, or cannot be written.
    """
    if directory.exists():
        raise UserError(f"--output: {directory} exists already; name a new folder.")
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state={},
        ema=None,
    )
    values = config.model_dump(mode="json")
    temporary = directory.parent / f".{directory.name}@{secrets.token_hex(4)}"
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        with Checkpoints(temporary / "checkpoints") as checkpoints:
            checkpoints.save(state, values, None)
            checkpoints.wait()
        files.write_json(temporary / "config.json", values)
        files.write_json(temporary / "weights.json", about)
        temporary.chmod(0o755)
        os.rename(temporary, directory)
    except OSError as error:
        raise UserError(f"{directory}: cannot be written: {error.strerror}.") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _open_source(
    directory: Path, variables: Mapping[str, Any], reset: Sequence[str]
) -> Iterator[tuple[Checkpoints, int, dict[str, Any]]]:
    """Yields the checkpoints of a folder, the newest step, and the variables to be taken from it.
    The error of variables that do not fit names the layers to put into `reset`."""
    path = directory / "checkpoints"
    if not path.is_dir():
        raise UserError(f"{directory}: holds no weights (no checkpoints/ in it).")
    params = variables["params"]
    left_out = [name for name in reset if name not in params]
    target = without_layers(variables, reset)
    with Checkpoints(path, read_only=True) as checkpoints:
        step = checkpoints.find("last")
        stored = checkpoints.weights(step, shapes=True)["params"] if left_out else {}
        for name in left_out:
            if name not in stored:
                raise unknown("transfer.reset", name, dict.fromkeys((*params, *stored)))
        try:
            yield checkpoints, step, target
        except Mismatch as error:
            raise UserError(f"{error}{_reset_hint(error, reset, target['params'])}") from None


def _reset_hint(error: Mismatch, reset: Sequence[str], params: Mapping[str, Any]) -> str:
    """The flag that resets the layers that do not fit, and leaves out those that the network does
    not have; "" if nothing would be left."""
    paths = (*error.missing, *error.extra, *error.different)
    mismatched = dict.fromkeys(path.split("/")[1] for path in paths if "/" in path)
    layers = [name for name in params if name in mismatched]
    others = [name for name in mismatched if name not in params]
    if not mismatched or len(layers) == len(params):
        return ""
    names = ", ".join(f'"{name}"' for name in (*reset, *layers, *others))
    what = "To keep their fresh values" if layers else "To leave them out"
    if layers and others:
        what += f", and to leave out {', '.join(others)}"
    return f"\n{what}: --set 'transfer.reset=[{names}]'"
