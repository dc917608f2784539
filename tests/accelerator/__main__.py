"""Proves and measures cnnjax on the accelerators of this machine.

python -m tests.accelerator --output=DIR [--minutes=8] [--parts=a,b] [--data_dir=DIR] [--tiny]
    [--wheelhouse=DIR]

Parts run in order of worth, each in a process of its own with a limit of its own. What a part has
measured is in DIR/PART.json at every moment, its output in DIR/PART.log; DIR/summary.md has all of
them after every part and at the end, also after SIGTERM or Ctrl-C. `--wheelhouse` installs the
wheels of a folder (`make wheelhouse`) for the parts alone, without a package index. `--tiny` is the
rehearsal: every part in sizes that a CPU does in minutes.

Exit codes: 0, all parts ended by themselves; 1, one failed, or a goal that holds on every device
was missed; 2, a mistake in the flags; 75, stopped by a signal.
"""

import argparse
import contextlib
import difflib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

from tests.accelerator import summary
from tests.accelerator.plan import GOALS, PARTS, has_data, write
from tests.accelerator.summary import ON_A_CPU, Outcome

ROOT = Path(__file__).resolve().parents[2]
IN_A_HURRY = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
"""How a rehearsal compiles."""
ENDINGS = ("json", "log")
WORTH = 10.0  # seconds that have to be left for a part to be begun
ASK = (
    "import json, jax; from cnnjax.train.devices import require; d = require(); "
    "print(json.dumps({'platform': d[0].platform, "
    "'kind': d[0].device_kind, 'count': len(d), 'jax': jax.__version__}))"
)


class Stop(BaseException):
    """A signal asked the suite to stop."""


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are one line."""

    def error(self, message: str) -> NoReturn:
        """Ends with exit code 2."""
        fail(message)


def fail(message: str) -> NoReturn:
    """Ends with one line and exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def main() -> int:
    """Runs the parts; returns the exit code."""
    asked = parse()
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, _stop)
    ends = time.monotonic() + 60 * asked.minutes
    outcomes = {name: Outcome("skipped", reason="the time was over") for name in asked.parts}
    device: dict[str, Any] = {}
    about = f"`python -m tests.accelerator {' '.join(sys.argv[1:])}`"

    def summarize() -> str:
        whole = summary.render(asked.output, outcomes, device=device, about=about)
        write(asked.output / "summary.md", whole)
        return whole

    code, stopped = 0, ""
    with tempfile.TemporaryDirectory(
        prefix="cnnjax-accelerator-", ignore_cleanup_errors=True
    ) as folder:
        try:
            environment = prepare(asked.wheelhouse, Path(folder))
            if asked.tiny:
                environment = {"XLA_FLAGS": IN_A_HURRY} | environment
            device = find_device(environment)
            for path in (asked.output / f"{name}.{end}" for name in asked.parts for end in ENDINGS):
                path.unlink(missing_ok=True)  # of an earlier run
            for name in asked.parts:
                left = ends - time.monotonic()
                reason = _reason_to_skip(name, asked, left)
                if reason:
                    outcomes[name] = Outcome("skipped", reason=reason)
                else:
                    limit = min(left, PARTS[name].seconds * (4 if asked.tiny else 1))
                    print(f"[{left / 60:4.1f} min left] {name}: {limit:.0f} s at most", flush=True)
                    outcomes[name] = Outcome("running")
                    outcomes[name] = run(name, asked, Path(folder), limit, environment)
                summarize()
                outcome = outcomes[name]
                left = max(ends - time.monotonic(), 0) / 60
                said = f"{outcome.status}{f' ({outcome.reason})' if outcome.reason else ''}"
                print(f"[{left:4.1f} min left] {name}: {said}, {outcome.seconds:.0f} s", flush=True)
        except Stop as stop:
            code, stopped = 75, str(stop)
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(name, signal.SIG_IGN)  # the summary is written to its end
        for name, outcome in outcomes.items():
            if stopped and outcome.status in ("running", "skipped") and not outcome.seconds:
                status = "stopped" if outcome.status == "running" else "skipped"
                outcomes[name] = Outcome(status, reason=f"{stopped} ended the suite")
        if device:  # else what is there is of an earlier run
            print(summarize(), flush=True)
    return code or _code(asked, outcomes)


def parse() -> argparse.Namespace:
    """The flags; ends with exit code 2 where one is wrong."""
    parser = Parser(prog="python -m tests.accelerator", description=__doc__, allow_abbrev=False,
                    formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--output", required=True, help="the folder to write to")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together")
    parser.add_argument("--parts", default=",".join(PARTS), help="separated by commas")
    parser.add_argument("--data_dir", default="", help="a folder with mnist and cifar10")
    parser.add_argument("--tiny", action="store_true", help="the sizes of a rehearsal")
    parser.add_argument("--wheelhouse", type=Path, help="a folder of wheels to install from")
    asked = parser.parse_args()
    if not asked.output:
        fail("--output: is empty; name a folder")
    asked.output = Path(asked.output)
    asked.parts = list(dict.fromkeys(part.strip() for part in asked.parts.split(",")))
    for part in asked.parts:
        if part not in PARTS:
            near = difflib.get_close_matches(part, PARTS, 1, 0.4)
            fail(f"--parts: unknown {part!r}; {f'did you mean {near[0]}?' if near else _known()}")
    if not (math.isfinite(asked.minutes) and asked.minutes > 0):
        fail(f"--minutes: {asked.minutes} is not a positive number")
    if asked.data_dir and not Path(asked.data_dir).is_dir():
        fail(f"--data_dir: {asked.data_dir}: there is no such folder")
    asked.data_dir = asked.data_dir and str(Path(asked.data_dir).absolute())
    if asked.wheelhouse and not list(asked.wheelhouse.glob("*.whl")):
        fail(f"--wheelhouse: {asked.wheelhouse}: has no wheels; `make wheelhouse` gathers them")
    try:
        asked.output = asked.output.absolute()
        asked.output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=asked.output):
            pass
    except FileExistsError:
        fail(f"--output: {asked.output} is a file; name a folder")
    except OSError as error:
        fail(f"--output: {asked.output}: cannot be written ({error.strerror or error})")
    return asked


def prepare(wheelhouse: Path | None, folder: Path) -> dict[str, str]:
    """The environment of the parts, in which the wheels of a folder are installed."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    if wheelhouse:
        site, wheels = folder / "site", sorted(map(str, wheelhouse.glob("*.whl")))
        words = ["install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir"]
        words += ["--disable-pip-version-check", "--upgrade", f"--target={site}", *wheels]
        done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["pip gave no reason"]
            fail(f"--wheelhouse: {wheelhouse}: cannot be installed: {lines[-1]}")
        print(f"installed {len(wheels)} wheels of {wheelhouse}", flush=True)
        paths.insert(0, str(site))
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(folder),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several processes share the device
    }


def find_device(environment: dict[str, str]) -> dict[str, Any]:
    """The devices that jax finds, and says so."""
    done = subprocess.run(
        [sys.executable, "-c", ASK], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        fail(lines[-1].removeprefix("cnnjax.errors.UserError: "))
    device = dict(json.loads(done.stdout.splitlines()[-1]))
    if device["platform"] == "cpu":
        print(f"There is no accelerator. {ON_A_CPU}", flush=True)
    else:
        print(f"{device['count']} x {device['kind']}, jax {device['jax']}", flush=True)
    return device


def run(
    name: str, asked: argparse.Namespace, folder: Path, limit: float, environment: dict[str, str]
) -> Outcome:
    """Runs a part to its end, or to its limit."""
    words = [f"--output={asked.output}", f"--work={folder / name}", f"--seconds={limit - 5}"]
    words += [f"--data_dir={asked.data_dir}", *(["--tiny"] if asked.tiny else [])]
    (folder / name).mkdir()
    started = time.monotonic()
    with (asked.output / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.accelerator.part", name, *words],
            cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            start_new_session=True, env=environment | PARTS[name].environment,
        )  # fmt: skip
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):  # what it started, too
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    seconds = time.monotonic() - started
    if code is None:
        return Outcome("stopped", seconds, f"after its limit of {limit:.0f} s")
    if code < 0:
        return Outcome("failed", seconds, f"ended by {signal.Signals(-code).name}")
    return Outcome("failed", seconds, f"exit code {code}") if code else Outcome("done", seconds)


def _reason_to_skip(name: str, asked: argparse.Namespace, left: float) -> str:
    data = PARTS[name].data
    if data and not has_data(asked.data_dir, data):
        return f"no data: --data_dir has no {data}"
    return "the time was over" if left < WORTH else ""


def _code(asked: argparse.Namespace, outcomes: dict[str, Outcome]) -> int:
    found = summary.values(asked.output, asked.parts)
    wrong = [
        name for name, value in found.items()
        if GOALS[name].anywhere and summary.missed(GOALS[name], value)
    ]  # fmt: skip
    return int(bool(wrong) or any(part.status == "failed" for part in outcomes.values()))


def _known() -> str:
    return f"the parts are {', '.join(PARTS)}"


def _stop(number: int, _: Any) -> NoReturn:
    raise Stop(signal.Signals(number).name)


if __name__ == "__main__":
    sys.exit(main())
