"""One part in a process of its own: python -m tests.accelerator.part NAME OPTIONS

What it has measured is in OUTPUT/NAME.json at every moment: tables (rows of named cells), values of
goals, and notes.
"""

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.accelerator.plan import PARTS, write

EVERY, PATIENCE = 3.0, 15.0  # seconds between looks, and after SIGTERM


class Part:
    """What a part is given, and where it puts its figures.

    Args:
      name: its name.
      output: where its JSON is written.
      work: a folder for everything else.
      seconds: how long it may take.
      data_dir: a folder with data sets, or "".
      tiny: whether sizes are those of a rehearsal.
    """

    def __init__(
        self, name: str, output: Path, work: Path, seconds: float, data_dir: str, tiny: bool
    ):
        self.name, self.output, self.work = name, output, work
        self.data_dir, self.tiny = data_dir, tiny
        self.failures = 0
        self._ends = time.monotonic() + seconds
        self._figures: dict[str, Any] = {"tables": {}, "goals": {}, "notes": []}

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return self._ends - time.monotonic()

    def row(self, table: str, **cells: Any) -> None:
        """Adds a row to a table."""
        self._figures["tables"].setdefault(table, []).append(cells)
        print(f"{table}:", *(f"{name} {value}" for name, value in cells.items()), flush=True)
        self._write()

    def replace(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Puts rows in the place of what a table had."""
        self._figures["tables"][table] = rows
        self._write()

    def goal(self, name: str, value: float) -> None:
        """Tells the value of a goal so far."""
        self._figures["goals"][name] = value
        self._write()

    def note(self, text: str) -> None:
        """Adds a line for the reader."""
        self._figures["notes"].append(text)
        print(text, flush=True)
        self._write()

    def attempt(self, title: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls one unit of the part, and goes on where it fails or is stopped: returns None then,
        and says so."""
        if self.left < 5:
            self.note(f"{title}: not begun, the time was over")
            return None
        print(f"--- {title}, {self.left:.0f} s left", flush=True)
        try:
            return function(*arguments)
        except TimeoutError as stopped:
            self.note(f"{title}: {stopped}")
        except Exception as error:
            traceback.print_exc()
            self.failures += 1
            line = " ".join(str(error).split())[:300]
            self.note(f"{title}: failed: {type(error).__name__}: {line}")
        return None

    def program(
        self,
        *words: str,
        seconds: float | None = None,
        meanwhile: Callable[[], None] = lambda: None,
        **environment: str,
    ) -> float:
        """The seconds that `python -m WORDS` takes; `meanwhile` is called every few of them.

        Raises TimeoutError where it was stopped, by SIGTERM, after `seconds` or because the part's
        time was over; RuntimeError, with its last line, where it fails.
        """
        limit = min(self.left, seconds or self.left)
        print("+ python -m", *words, flush=True)
        started, log = time.monotonic(), self.output / f"{self.name}.log"
        process = subprocess.Popen([sys.executable, "-m", *words], env=os.environ | environment)
        code = None
        while code is None and time.monotonic() - started < limit:
            try:
                left = limit - (time.monotonic() - started)
                code = process.wait(min(max(left, 0.1), EVERY))
            except subprocess.TimeoutExpired:
                meanwhile()
        if code is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise TimeoutError(f"{words[0]} was stopped after {limit:.0f} s")
        if code:
            lines = log.read_text(errors="replace").split("\n") if log.exists() else []
            last = next((line for line in reversed(lines) if line.strip()), "")
            raise RuntimeError(f"{words[0]} ended with {code}: {last.strip()}")
        return time.monotonic() - started

    def _write(self) -> None:
        write(self.output / f"{self.name}.json", json.dumps(self._figures, indent=1))


def results(workdir: Path) -> dict[str, dict[str, Any]]:
    """{arm/seed: its result.json} of a study, of runs that have ended."""
    paths = sorted(workdir.glob("*/seed-*/result.json"))
    return {f"{p.parts[-3]}/{p.parts[-2][5:]}": json.loads(p.read_text()) for p in paths}


def main() -> int:
    """Runs one part; returns 1 where some of it failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=PARTS)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--tiny", action="store_true")
    part = Part(**vars(parser.parse_args()))
    module = importlib.import_module(f"tests.accelerator.{PARTS[part.name].module}")
    part.attempt(part.name, getattr(module, part.name), part)
    return int(part.failures > 0)


if __name__ == "__main__":
    sys.exit(main())
