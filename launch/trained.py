"""Trained networks: the folders of runs and of weights, their configurations and variables."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cnnjax import config as config_files
from cnnjax.config import Levels, ResolvedConfig, override, resolve
from cnnjax.errors import UserError, shown
from launch import flags

if TYPE_CHECKING:
    from cnnjax.train.session import Session

Step = int | Literal["best", "last"]


def step() -> Step:
    """The checkpoint that --step names. Raises UserError."""
    text: Any = flags.FLAGS.step
    if text in ("best", "last"):
        return text
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise UserError(f"--step: {shown(text)} is not valid; write a step, best or last.")
    return int(text)


def folder() -> Path:
    """The folder in --workdir or --init_from. Raises UserError unless one of the two is given."""
    if bool(flags.FLAGS.workdir) == bool(flags.FLAGS.init_from):
        raise UserError("--workdir, --init_from: give one of the two. See --help.")
    return flags.path("workdir" if flags.FLAGS.workdir else "init_from")


def config(directory: Path, changes: Mapping[str, Any], levels: Levels) -> ResolvedConfig:
    """The configuration of a run or of weights, with changes. Raises UserError."""
    path = directory / "config.json"
    if not path.is_file():
        raise UserError(f"{directory}: holds no run (no config.json in it).")
    try:
        stored = config_files.read(path, levels)
    except UserError as error:
        raise UserError(f"{path}: {error}{_levels_hint(directory)}") from None
    # Nothing is trained, so there may be fewer examples than in a batch.
    return resolve(override(stored, {**changes, "training.batch_size": 1}, levels), levels)


def seed(directory: Path) -> int:
    """The seed of a run; 0 for a folder with another name than that of a run."""
    prefix, _, number = directory.resolve().name.rpartition("-")
    return int(number) if prefix == "seed" and number.isdecimal() else 0


def restore(
    directory: Path, config_now: ResolvedConfig, session: "Session", which: Step
) -> tuple[int, dict[str, Any]]:
    """The step that `which` names and the variables to evaluate with, on the devices.

    Raises UserError if the run was trained on other data of the same name, or its checkpoint is
    absent, damaged or of another network.
    """
    from cnnjax.train import folder, state
    from cnnjax.train.checkpoint import Checkpoints

    program = session.program(config_now)
    if config_now.data.name == config(directory, {}, session.levels).data.name:
        folder.check_same_data(directory, session.load(config_now.data).fingerprint)
    with Checkpoints(directory / "checkpoints", read_only=True) as checkpoints:
        found = checkpoints.find(which)
        fresh = program.initialize(state.keys(seed(directory))["params"])
        return found, checkpoints.variables(found, program.compiled.replicate(fresh))


def _levels_hint(directory: Path) -> str:
    """The flag that loads the user's own levels. Code is only run from a file that is named on the
    command line, never because a study names it."""
    from cnnjax.ablation import record

    for parent in (directory, *directory.parents[:2]):
        if (parent / "study.json").is_file():
            source = record.read(parent)["source"].get("path")
            return f"\nIf it is a level of your own, add --experiment={source}" if source else ""
    return ""
