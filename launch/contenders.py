"""The processes that a benchmark times, and what they are given."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnjax.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
CLASSES = 10
LEARNING_RATE = 0.01


class Contender:
    """A process that answers as `launch.timing` says; `about` is its first answer.

    Raises UserError, with the last line of its errors, where it ends before it answers.
    """

    def __init__(self, name: str, words: Sequence[str]):
        self.name = name
        self.peak_bytes = 0
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.about: dict[str, Any] = {}
        self.about = self._answer()

    def time(self, steps: int) -> list[float]:
        """The seconds of each of so many steps."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        answer = self._answer()
        self.peak_bytes = answer["peak_bytes"]
        return list(answer["seconds"])

    def steps_in(self, seconds: float) -> int:
        """The number of steps that take about so long, 2 at least; warms up."""
        self.time(2)
        return max(2, round(seconds / min(self.time(3))))

    def stop(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            last = (self._errors.read().strip().splitlines() or ["no reason given"])[-1]
            self.stop()
            raise UserError(f"benchmark: {self.name} stopped: {last}")
        return dict(json.loads(line))


def task(folder: Path, network: str, batch_size: int, precision: str, threads: int) -> Path:
    """Writes what all contenders of a network are given into `folder`; returns its JSON file.

    The arrays are `images` (uint8 [B, H, W, C]), `labels` (int32 [B]) and, under `p/` and their
    names in cnnjax, the first weights.
    """
    import jax
    import numpy as np

    from cnnjax import models
    from cnnjax.train import state
    from launch import contender

    values = {
        "network": network,
        "classes": CLASSES,
        "learning_rate": LEARNING_RATE,
        "batch_size": batch_size,
        "precision": precision,
        "threads": threads,
        "arrays": str(folder / "arrays.npz"),
    }
    shape = (28, 28, 1) if network == "lenet5_modern" else (32, 32, 3)
    model = contender.configuration(values).model
    module = models.build(model, image_shape=shape, classes=CLASSES)
    variables = jax.jit(lambda key: state.initial_variables(module, shape, key))(jax.random.key(0))
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "images": rng.integers(0, 256, (batch_size, *shape), dtype=np.uint8),
        "labels": rng.integers(0, CLASSES, batch_size).astype(np.int32),
    }
    weights = state.flat(variables["params"])
    arrays |= {f"p/{path}": np.asarray(leaf) for path, leaf in weights.items()}
    np.savez(folder / "arrays.npz", **arrays)
    path = folder / "task.json"
    path.write_text(json.dumps(values))
    return path
