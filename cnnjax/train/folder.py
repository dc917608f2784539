"""What a run's folder records of how it was started, and what must be the same on resuming."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cnnjax import files, fingerprint, result
from cnnjax.config import ResolvedConfig, changes
from cnnjax.errors import MachineError, UserError
from cnnjax.fingerprint import Fingerprint

_REQUIRED = {"backend", "device_kind", "devices", "threads", "convolution", "replicas"}
"""Fields of runtime.json that every version has written."""

Log = Callable[[str], None]
"""Called with each line for the user."""


def resumed_settings(directory: Path) -> dict[str, Any]:
    """The runtime.json of a run that has a checkpoint; empty where it has none, or where the file
    is damaged. Raises MachineError where it cannot be read just now."""
    stored = _read(directory / "runtime.json") if _has_checkpoint(directory) else {}
    return _with_defaults(stored) if _is_runtime(stored) else {}


def replica_axis(settings: Mapping[str, Any], arm: str) -> tuple[tuple[str, int], ...]:
    """The arm and seed of each replica of a run of `arm` with these `resumed_settings`, in order;
    () for a run that is trained alone."""
    axis = settings.get("replica_axis", [])
    return tuple((arm, key) if isinstance(key, int) else (key[0], key[1]) for key in axis)


def keep_settings(
    directory: Path, config: ResolvedConfig, runtime: Mapping[str, Any], log: Log
) -> None:
    """Writes config.json and runtime.json, or checks them where the run has a checkpoint. Where one
    of them is damaged, it is not known what the checkpoints are of: they are renamed, and the run
    starts anew.

    Raises UserError where the folder holds another configuration, or was started with another
    number of threads, kind of convolution, precision or way to train replicas (which change the
    order of sums); MachineError where a file cannot be read just now.
    """
    for name, is_valid in (("config.json", bool), ("runtime.json", _is_runtime)):
        if _has_checkpoint(directory) and not is_valid(_read(directory / name)):
            renamed = files.set_aside(directory / "checkpoints").name
            log(
                f"{directory / name}: is not whole; this run starts anew, its checkpoints so far "
                f"are kept as {renamed}."
            )
    _keep_config(directory / "config.json", config)
    path = directory / "runtime.json"
    stored = _read(path)
    if not stored or not _has_checkpoint(directory):
        files.write_json(path, runtime)
        return
    check_same_data(directory, runtime["data"])
    stored = _with_arms(_with_defaults(stored), runtime)
    differing = (key for key in runtime if key != "data" and stored.get(key) != runtime[key])
    if key := next(differing, None):
        raise UserError(
            f"{path}: {key} is {stored.get(key)!r} there and {runtime[key]!r} now; pick another "
            "--workdir."
        )


def _keep_config(path: Path, config: ResolvedConfig) -> None:
    stored = _read(path)
    if not stored:
        files.write_json(path, config.model_dump(mode="json"))
    elif differences := changes(stored, config):
        raise UserError(
            f"{path}: is another configuration: {'; '.join(differences)}; pick another --workdir."
        )


def check_same_data(directory: Path, current: Fingerprint) -> None:
    """Raises UserError where a run was started on other data, since examples that it was trained on
    could be among those it is evaluated on now. Runs of older versions have no fingerprint."""
    stored = _read(directory / "runtime.json").get("data")
    if differences := fingerprint.differences(stored, current):
        raise UserError(
            f"{directory}: this run was started on other data ({'; '.join(differences)}). Restore "
            "them; a run on other data needs another --workdir."
        )


def _is_runtime(stored: Mapping[str, Any]) -> bool:
    """Whether the content of a runtime.json is complete and makes sense."""
    axis, steps = stored.get("replica_axis", []), stored.get("steps_per_call", 1)
    together = stored.get("replicas") == "together"
    return (
        stored.keys() >= _REQUIRED
        and isinstance(axis, list)
        and all(map(_is_replica, axis))
        and isinstance(steps, int)
        and steps > 0
        and together == bool(axis)
    )


def _is_replica(value: Any) -> bool:
    """Whether a value is [arm, seed], or a seed as in versions that trained one arm together."""
    if isinstance(value, list) and len(value) == 2:
        return isinstance(value[0], str) and isinstance(value[1], int)
    return isinstance(value, int)


def _with_defaults(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A runtime.json with the fields that older versions did not write."""
    cpu = stored["backend"] == "cpu"
    precision = "float32" if cpu else "default"  # XLA's
    return {"steps_per_call": 1, "matmul_precision": precision, "deterministic": cpu, **stored}


def _with_arms(stored: Mapping[str, Any], runtime: Mapping[str, Any]) -> dict[str, Any]:
    """A runtime.json whose replica axis has [arm, seed] as `runtime` has, not seeds as in older
    versions."""
    arms = {arm for arm, _ in runtime.get("replica_axis", ())}
    if len(arms) != 1 or "replica_axis" not in stored:
        return dict(stored)
    return {**stored, "replica_axis": [*map(list, replica_axis(stored, arms.pop()))]}


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none, or the file is damaged. Raises
    MachineError where it cannot be read just now."""
    try:
        return dict(result.current_names(files.read_json(path)))
    except MachineError:
        raise
    except (UserError, TypeError, ValueError):
        return {}


def _has_checkpoint(directory: Path) -> bool:
    return bool(steps(directory / "checkpoints"))


def steps(checkpoints: Path) -> list[int]:
    """The steps of the checkpoints in a folder, in ascending order. Raises MachineError where the
    folder cannot be read just now."""
    try:
        return sorted(int(name) for name in os.listdir(checkpoints) if name.isdecimal())
    except files.ABSENT:
        return []
    except OSError as error:
        reason = error.strerror or error
        raise MachineError(f"{checkpoints}: cannot be read just now ({reason}).") from None
