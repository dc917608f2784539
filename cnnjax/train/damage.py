"""Why a checkpoint cannot be read: it is damaged, or the machine refuses to read it just now."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import jax

from cnnjax import files
from cnnjax.errors import MachineError
from cnnjax.train import folder


class Damaged(Exception):
    """A checkpoint is not what was saved; the message says how that was seen."""


def without_figures(directory: Path) -> list[Path]:
    """The checkpoints whose metrics are damaged: with one of them orbax opens none."""
    damaged = []
    for step in folder.steps(directory):
        path = directory / str(step) / "metrics" / "metrics"
        try:
            files.parse_json(path.read_bytes())
        except files.ABSENT:
            continue
        except OSError as error:
            raise not_now(path, error) from None
        except ValueError:
            damaged.append(directory / str(step))
    return damaged


def judged(checkpoint: Path, error: Exception) -> Damaged:
    """What it means that a checkpoint could not be read: that it is damaged, unless the machine
    refused to read it. Raises MachineError for that."""
    refused = next(refusals(error), None) or _refusal_to_read(checkpoint)
    if refused:
        raise not_now(checkpoint, refused)
    lines = str(error).strip().splitlines() or [""]
    told = lines[0].partition(" See full TensorStore details")[0]
    return Damaged(f"{type(error).__name__}: {told[:160]}")


def refusals(error: BaseException | None) -> Iterator[BaseException]:
    """Among an error and its causes, those in which the machine refused something."""
    refused = (OSError, MemoryError, jax.errors.JaxRuntimeError)
    while error is not None:
        code = re.search(r"\[os_error_code='(\d+)'\]", str(error))  # how tensorstore tells it
        each = OSError(int(code[1]), os.strerror(int(code[1]))) if code else error
        if isinstance(each, refused) and not isinstance(each, files.ABSENT):
            yield each
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _refusal_to_read(checkpoint: Path) -> OSError | None:
    """What the machine says when all files of a checkpoint are read: orbax tells of some refusals
    as if entries were missing, too many open files for one."""

    def refuse(error: OSError) -> None:
        raise error

    try:
        for root, _, names in os.walk(checkpoint, onerror=refuse):
            for name in names:
                with open(os.path.join(root, name), "rb") as file:
                    while file.read(1 << 20):
                        pass
    except files.ABSENT:
        return None
    except OSError as error:
        return error
    return None


def not_now(path: Path, refused: BaseException) -> MachineError:
    """The error that says so: neither is anything wrong with the path, nor is it touched."""
    reason = getattr(refused, "strerror", None) or str(refused).strip() or type(refused).__name__
    return MachineError(
        f"{path}: cannot be read just now ({reason.splitlines()[0][:160]}); nothing was changed; "
        "the same command goes on from here."
    )
