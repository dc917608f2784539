"""What a run's folder says of how the run was started, and what must stay so."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cnnjax import files, fingerprint, result
from cnnjax.config import RunConfig, changes
from cnnjax.errors import MachineError, UserError
from cnnjax.fingerprint import Fingerprint

_DECIDE = {"backend", "device_kind", "devices", "threads", "convolution", "replicas"}
Log = Callable[[str], None]


def resumed_settings(directory: Path) -> dict[str, Any]:
    """What the bits of a run with a checkpoint depend on, as it was at its start; empty where there
    is none, or that is not known. Raises MachineError where it cannot be read just now."""
    known = _known(directory / "runtime.json") if _has_checkpoint(directory) else {}
    return _complete(known) if _whole("runtime.json", known) else {}


def replica_axis(settings: Mapping[str, Any], arm: str) -> tuple[tuple[str, int], ...]:
    """The arm and seed of each run that a run of `arm` was started together with, in order, by what
    `resumed_settings` gave; () for one alone."""
    axis = settings.get("replica_axis", [])
    return tuple((arm, each) if isinstance(each, int) else (each[0], each[1]) for each in axis)


def keep_settings(directory: Path, config: RunConfig, runtime: Mapping[str, Any], log: Log) -> None:
    """Keeps the configuration, and what a run's bits depend on until it has its first checkpoint.
    Where one of them is lost, nobody knows what the checkpoints are of: they are renamed, and the
    run starts anew.

    Raises UserError where the folder holds another configuration, or was started with another
    number of threads, kind of convolution, precision or way to train replicas (which change the
    order of sums); MachineError where that cannot be read just now.
    """
    for name in ("config.json", "runtime.json"):
        if _has_checkpoint(directory) and not _whole(name, _known(directory / name)):
            kept = files.set_aside(directory / "checkpoints").name
            log(
                f"{directory / name}: is not whole; this run starts anew, its checkpoints so far "
                f"are kept as {kept}."
            )
    _keep_config(directory / "config.json", config)
    path = directory / "runtime.json"
    known = _known(path)
    if not known or not _has_checkpoint(directory):
        files.write_json(path, runtime)
        return
    same_data(directory, runtime["data"])
    known = _with_arms(_complete(known), runtime)
    others = (key for key in runtime if key != "data" and known.get(key) != runtime[key])
    if key := next(others, None):
        raise UserError(
            f"{path}: {key} is {known.get(key)!r} there and {runtime[key]!r} now; pick another "
            "--workdir."
        )


def _keep_config(path: Path, config: RunConfig) -> None:
    known = _known(path)
    if not known:
        files.write_json(path, config.model_dump(mode="json"))
    elif phrases := changes(known, config):
        raise UserError(
            f"{path}: is another configuration: {'; '.join(phrases)}; pick another --workdir."
        )


def same_data(directory: Path, current: Fingerprint) -> None:
    """Raises UserError where a run was begun on other data: what it trained on could be among what
    it is evaluated on now. Runs of older versions do not tell."""
    if phrases := fingerprint.differences(_known(directory / "runtime.json").get("data"), current):
        raise UserError(
            f"{directory}: this run was begun on other data ({'; '.join(phrases)}). Put them back; "
            "a run on others needs another --workdir."
        )


def _whole(name: str, known: Mapping[str, Any]) -> bool:
    """Whether what a file holds says all that it has to."""
    if name != "runtime.json":
        return bool(known)
    axis = known.get("replica_axis", [])
    sensible = isinstance(axis, list) and all(map(_is_replica, axis))
    steps = known.get("steps_per_call", 1)
    sensible = sensible and isinstance(steps, int) and steps > 0
    alone = known.get("replicas") != "together"
    return known.keys() >= _DECIDE and sensible and alone == (not axis)


def _is_replica(value: Any) -> bool:
    """Whether a value is an arm and a seed; before arms were trained together it was a seed."""
    if isinstance(value, list) and len(value) == 2:
        return isinstance(value[0], str) and isinstance(value[1], int)
    return isinstance(value, int)


def _complete(known: Mapping[str, Any]) -> dict[str, Any]:
    """What a runtime.json says, and what holds for a run of a version that did not write it."""
    cpu = known["backend"] == "cpu"
    precision = "float32" if cpu else "default"  # XLA's
    return {"steps_per_call": 1, "matmul_precision": precision, "deterministic": cpu, **known}


def _with_arms(known: Mapping[str, Any], runtime: Mapping[str, Any]) -> dict[str, Any]:
    """What a runtime.json says, with a replica axis of seeds, as they were before arms were trained
    together, written as those of `runtime` are."""
    arms = {arm for arm, _ in runtime.get("replica_axis", ())}
    if len(arms) != 1 or "replica_axis" not in known:
        return dict(known)
    return {**known, "replica_axis": [list(replica) for replica in replica_axis(known, arms.pop())]}


def _known(path: Path) -> dict[str, Any]:
    """What a file holds, empty where it is not there or is no whole table. Raises MachineError
    where it cannot be read just now."""
    try:
        return dict(result.current_names(files.read_json(path)))
    except MachineError:
        raise
    except (UserError, TypeError, ValueError):
        return {}


def _has_checkpoint(directory: Path) -> bool:
    return bool(steps(directory / "checkpoints"))


def steps(checkpoints: Path) -> list[int]:
    """The steps that a folder has checkpoints of, in order. Raises MachineError where the folder
    cannot be read just now."""
    try:
        return sorted(int(name) for name in os.listdir(checkpoints) if name.isdecimal())
    except files.ABSENT:
        return []
    except OSError as error:
        reason = error.strerror or error
        raise MachineError(f"{checkpoints}: cannot be read just now ({reason}).") from None
