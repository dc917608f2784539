"""Checkpoints through orbax: asynchronous, atomic; the last k and the best are kept.

A checkpoint holds the whole `TrainState` and the run's configuration as JSON.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp
from flax import serialization
from orbax.checkpoint import checkpoint_managers as policies

from cnnjax.errors import UserError
from cnnjax.train.folder import Say
from cnnjax.train.state import TrainState, flat


class Checkpoints:
    """The checkpoints in one folder. Use as a context: leaving it waits for pending writes."""

    def __init__(self, directory: Path, *, keep_last: int = 1, read_only: bool = False):
        if read_only and not directory.is_dir():
            raise UserError(f"{directory}: no checkpoints there.")
        best = policies.BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep_last), best]),
            best_fn=_score,
            create=not read_only,
            read_only=read_only,
            cleanup_tmp_directories=not read_only,
            async_options=ocp.AsyncOptions(timeout_secs=600),
        )
        self._directory = directory.resolve()
        self._damaged = _without_figures(self._directory)
        if self._damaged and read_only:
            raise UserError(f"{self._damaged[0]}: checkpoint cannot be read (metrics).")
        for step in self._damaged:
            shutil.rmtree(step, ignore_errors=True)
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=options,
            item_handlers={
                "state": ocp.StandardCheckpointHandler(),
                "config": ocp.JsonCheckpointHandler(),
            },
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._manager.close()

    @property
    def steps(self) -> list[int]:
        """The steps that there are whole checkpoints of, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState, config: Mapping[str, Any], accuracy: float | None) -> None:
        """Starts to write the state; `accuracy` (validation) is what `best` is judged by."""
        self._manager.save(
            int(state.step),
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(_tree(state)), config=ocp.args.JsonSave(dict(config))
            ),
            metrics=None if accuracy is None else {"accuracy": accuracy, "step": int(state.step)},
        )

    def wait(self) -> None:
        """Waits until every checkpoint is on disk; raises what went wrong there."""
        self._manager.wait_until_finished()

    def restore_latest(self, target: TrainState, say: Say) -> TrainState | None:
        """The newest checkpoint that can be read, placed as `target` is; None if there is none.

        A checkpoint that cannot be read is said so and removed, and the one before is taken.
        Raises UserError where a checkpoint is of another network.
        """
        for damaged in self._damaged:
            say(f"{damaged}: checkpoint cannot be read (metrics); going back to the one before.")
        for step in reversed(self.steps):
            try:
                return self.restore(step, target)
            except UserError:
                raise
            except Exception as error:
                reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else ""
                say(
                    f"{self._directory / str(step)}: checkpoint cannot be read "
                    f"({type(error).__name__}: {reason}); going back to the one before."
                )
                shutil.rmtree(self._directory / str(step), ignore_errors=True)
                self._manager.reload()
        return None

    def restore(self, step: int, target: TrainState) -> TrainState:
        """The checkpoint of `step` with the shapes, dtypes and placement of `target`."""
        wanted = jax.tree.map(_abstract, _tree(target))
        _compare(self._directory / str(step), self._stored(step), wanted)
        restored = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(wanted))
        )
        tree = restored["state"] | ({} if target.ema is not None else {"ema": None})
        return serialization.from_state_dict(target, tree)

    def variables(
        self, step: int, target: Mapping[str, Any], *, ignore: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The parameters and statistics to evaluate with: the averages where they were kept.

        Args:
          step: the step of the checkpoint.
          target: variables of the network, for names, shapes, dtypes and placement.
          ignore: stored top-level layers that are left out.

        Raises UserError where an entry is missing, extra or different.
        """
        found = {
            kind: {name: value for name, value in tree.items() if name not in ignore}
            for kind, tree in self.weights(step).items()
        }
        path = self._directory / str(step)
        target = {"params": target["params"], "batch_stats": target.get("batch_stats", {})}
        _compare(path, found, target)
        return jax.tree.map(
            lambda leaf, like: jax.device_put(leaf, getattr(like, "sharding", None)),
            found,
            serialization.to_state_dict(target),
        )

    def check(self, step: int, target: Mapping[str, Any], *, ignore: Sequence[str] = ()) -> None:
        """Raises UserError where `variables` would, from the description of the checkpoint."""
        try:
            stored = self._stored(step)
        except Exception as error:
            raise self._unreadable(step, error) from None
        source = stored.get("ema") or stored
        found = {
            kind: {
                name: tree for name, tree in (source.get(kind) or {}).items() if name not in ignore
            }
            for kind in ("params", "batch_stats")
        }
        wanted = {"params": target["params"], "batch_stats": target.get("batch_stats", {})}
        _compare(self._directory / str(step), found, wanted)

    def weights(self, step: int) -> dict[str, Any]:
        """All stored parameters and statistics of a step, as they are; averages where kept."""
        try:
            stored = self._stored(step)
            device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
            wanted = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), stored
            )
            tree = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(wanted))
            )["state"]
        except Exception as error:
            raise self._unreadable(step, error) from None
        source = tree.get("ema") or tree
        return {"params": source["params"], "batch_stats": source.get("batch_stats") or {}}

    def find(self, which: int | Literal["last", "best"]) -> int:
        """The step that `which` names. Raises UserError where there is no such checkpoint."""
        steps = self.steps
        if not steps:
            raise UserError(f"{self._directory}: no checkpoints there.")
        if which == "last":
            return steps[-1]
        if which == "best":
            metrics = {step: self._manager.metrics(step) for step in steps}
            judged = {step: _score(found) for step, found in metrics.items() if found}
            if not judged:
                raise UserError(f"--step: no checkpoint in {self._directory} was judged; use last.")
            return max(judged, key=judged.__getitem__)
        if which not in steps:
            raise UserError(
                f"--step: no checkpoint of step {which} in {self._directory}; there are "
                f"{', '.join(map(str, steps))}."
            )
        return int(which)

    def _unreadable(self, step: int, error: Exception) -> UserError:
        others = ", ".join(str(other) for other in self.steps if other != step)
        instead = f"ask for another --step: {others}" if others else "there is no other step"
        return UserError(
            f"{self._directory / str(step)}: checkpoint cannot be read "
            f"({type(error).__name__}); {instead}."
        )

    def _stored(self, step: int) -> Any:
        """The stored tree of shapes and dtypes."""
        metadata = self._manager.item_metadata(step)
        tree = None if metadata is None else metadata["state"]
        if tree is None:
            raise ValueError("no metadata")
        return tree.tree if hasattr(tree, "tree") else tree


def _without_figures(directory: Path) -> list[Path]:
    """The checkpoints whose metrics cannot be read: with one of them orbax opens none."""
    damaged = []
    for file in directory.glob("*/metrics/metrics"):
        try:
            json.loads(file.read_bytes())
        except (OSError, ValueError):
            damaged.append(file.parents[1])
    return damaged


def _tree(state: TrainState) -> dict[str, Any]:
    tree = serialization.to_state_dict(state)
    return {name: value for name, value in tree.items() if value is not None}


def _score(metrics: Any) -> float:
    """The accuracy; of equal ones the earliest is the best."""
    return float(metrics["accuracy"]) - 1e-12 * float(metrics["step"])


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))


def _compare(where: Path, stored: Any, wanted: Any) -> None:
    """Raises one UserError that lists every missing, extra and differing entry."""
    have = {path: (tuple(leaf.shape), str(leaf.dtype)) for path, leaf in flat(stored).items()}
    want = {path: (tuple(leaf.shape), str(leaf.dtype)) for path, leaf in flat(wanted).items()}
    lines = [f"  missing: {path} {_text(want[path])}" for path in want if path not in have]
    lines += [f"  extra: {path} {_text(have[path])}" for path in have if path not in want]
    lines += [
        f"  different: {path} is {_text(have[path])}, the network has {_text(want[path])}"
        for path in want
        if path in have and have[path] != want[path]
    ]
    if lines:
        raise UserError("\n".join([f"{where}: does not fit this network:", *lines]))


def _text(entry: tuple[tuple[int, ...], str]) -> str:
    shape, dtype = entry
    return f"{dtype}{list(shape)}"
