"""Start from another network's weights: names, shapes and dtypes checked, what is new named."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax.errors import UserError, unknown
from cnnjax.train.checkpoint import Checkpoints


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
    an entry is missing, extra or differently shaped.
    """
    path = directory / "checkpoints"
    if not path.is_dir():
        raise UserError(f"{directory}: holds no weights (no checkpoints/ in it).")
    for name in reset:
        if name not in variables["params"]:
            raise unknown("transfer.reset", name, variables["params"])
    fresh = {kind: _without(tree, reset) for kind, tree in variables.items()}
    with Checkpoints(path, read_only=True) as checkpoints:
        step = checkpoints.find("last")
        found = checkpoints.variables(step, fresh, ignore=reset)
    return {
        kind: {**{name: tree[name] for name in reset if name in tree}, **found.get(kind, {})}
        for kind, tree in variables.items()
    }


def _without(tree: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in tree.items() if name not in names}
