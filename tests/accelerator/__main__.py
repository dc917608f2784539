"""What a machine with an accelerator is asked, in order of worth: python -m tests.accelerator

python -m tests.accelerator --output=DIR [--minutes=8] [--parts=a,b] [--data_dir=DIR] [--tiny]

Each part is a process of its own with a limit of its own. Its answer is in DIR/PART.json as soon as
it is there, its output in DIR/PART.log; DIR/summary.md has all of them, also after SIGTERM.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cnnjax import files

ROOT = Path(__file__).resolve().parents[2]
PARTS = {
    "machine": 60,
    "right": 200,
    "resumed": 90,
    "quickstart": 120,
    "mnist": 150,
    "small": 280,
    "large": 240,
    "cifar10": 600,
}
"""The parts, and after how many seconds each is stopped."""


def main() -> int:
    """Runs the parts; returns 1 where one failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--parts", default="machine,right,resumed,quickstart,mnist,small,large")
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--tiny", action="store_true")
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + 60 * asked.minutes
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    found: dict[str, dict[str, Any]] = {}
    try:
        for part in asked.parts.split(","):
            left = ends - time.monotonic()
            if left > 5:
                found[part] = _part(part, asked, min(left, PARTS[part]))
                print(
                    f"{part}: {found[part]['status']}, {found[part]['seconds']:.0f} s", flush=True
                )
    finally:
        files.write_bytes(asked.output / "summary.md", _summary(found).encode())
        print(_summary(found), flush=True)
    return int(any(part["status"] != "done" for part in found.values()))


def _part(part: str, asked: argparse.Namespace, limit: float) -> dict[str, Any]:
    words = [sys.executable, "-m", "tests.accelerator.parts", part, str(asked.output)]
    words += [asked.data_dir, *(["tiny"] if asked.tiny else [])]
    started = time.monotonic()
    with (asked.output / f"{part}.log").open("w") as log:
        process = subprocess.Popen(
            words, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        try:
            status = "done" if process.wait(limit) == 0 else f"failed ({process.returncode})"
        except subprocess.TimeoutExpired:
            status = f"stopped after {limit:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    path = asked.output / f"{part}.json"
    answer = json.loads(path.read_text()) if path.exists() else {}
    return {"status": status, "seconds": time.monotonic() - started, "answer": answer}


def _summary(found: dict[str, dict[str, Any]]) -> str:
    lines = ["# An accelerator", ""]
    for part, values in found.items():
        lines += [f"## {part}", "", f"{values['status']}, {values['seconds']:.0f} s", ""]
        lines += [f"    {line}" for line in json.dumps(values["answer"], indent=1).splitlines()]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
