"""Times train steps of cnnjax and of its peers, which take turns.

python -m launch.benchmark --workdir=DIR [--networks=lenet5_modern,resnet20] [--contenders=a,b]
    [--rounds=5] [--threads=N] [--batch_size=128] [--precision=float32,bfloat16]

All have the same network, weights, batch, loss, optimizer and precision; the losses of the first
two steps are compared. `unet` classifies every pixel of 64 x 64; it is a quarter as wide as the
published one, with four levels (16 to 128 channels). The peers are those of tests/peers (`pip
install -e '.[bench]'`); those that are not installed, or do not have a network, are left out. An
accelerator is measured if jax finds one: in both precisions, and also with several steps a call and
several replicas together (`cnnjax 8 steps`, `cnnjax 8 replicas`, or other numbers in --contenders).
resnet50, with images of 224 x 224 pixels, is timed on a CPU only if it is named. Writes
DIR/benchmark.json and DIR/benchmark.svg.
"""

import contextlib
import importlib.util
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cnnjax import files, machine
from cnnjax.errors import UserError
from launch import flags
from launch.contender import IMAGES, write_task
from launch.timing import TimedProcess


class Kind(NamedTuple):
    """A kind of contender: the package that it needs, its module and the words after the task, its
    device, `cpu`, `accelerator`, or both if it is empty, and the networks that it does not have."""

    package: str
    module: str
    options: tuple[str, ...] = ()
    device: str = ""
    lacks: tuple[str, ...] = ()


def _cnnjax(mode: str) -> Kind:
    """cnnjax with `N steps` a call, or with `N replicas` trained together."""
    return Kind("jax", "launch.contender", ("xla", mode), "accelerator")


PRECISIONS = ("float32", "bfloat16")
CONTENDERS = {
    "cnnjax native": Kind("jax", "launch.contender", ("native",), "cpu"),
    "cnnjax xla": Kind("jax", "launch.contender", ("xla",)),
    "cnnjax 8 steps": _cnnjax("8 steps"),
    "cnnjax 8 replicas": _cnnjax("8 replicas"),
    "flax": Kind("jax", "tests.peers.flax_peer"),
    "keras": Kind("keras", "tests.peers.keras_peer", lacks=("resnet50", "unet")),
    "torch": Kind("torch", "tests.peers.torch_peer"),
    "torch compiled": Kind("torch", "tests.peers.torch_peer", ("compile",)),
}
LARGE = 224  # pixels; networks for images this large are timed on a CPU only if they are named
REFERENCE = "torch"
ROOT = Path(__file__).resolve().parents[1]
SECONDS = 1.5  # about, of one contender in a round


def main(arguments: Sequence[str]) -> int:
    """Measures; returns the exit code."""
    flags.no_arguments(arguments)
    workdir = flags.path("workdir")
    networks = flags.names("networks", flags.FLAGS.networks, IMAGES)
    device = _device()
    if not flags.FLAGS.networks and device == "cpu":
        networks = [name for name in networks if max(IMAGES[name]) < LARGE]
    precision = flags.FLAGS.precision or ("float32" if device == "cpu" else None)
    precisions = flags.names("precision", precision, PRECISIONS)
    chosen = _contenders(device)
    contenders = {name: kind for name, kind in chosen.items() if _is_available(name, kind)}
    if not contenders:
        raise UserError("--contenders: none of them is available.")
    contenders_of = {network: _that_have(network, contenders) for network in networks}
    measured: dict[str, Any] = {}
    _write(workdir, measured)
    for network in networks:
        for precision in precisions:
            title = network if precision == "float32" else f"{network}, {precision}"
            measured[title] = _measure(network, precision, contenders_of[network])
            _print(title, measured[title])
            _write(workdir, measured)
    from cnnjax.report import speed

    files.write_text(workdir / "benchmark.svg", speed.plot(measured).svg)
    print(f"written: {workdir / 'benchmark.json'}, {workdir / 'benchmark.svg'}")
    return 0


def _write(workdir: Path, measured: dict[str, Any]) -> None:
    """Writes the figures measured so far."""
    figures = {
        "machine": {
            "processor": machine.processor(),
            "threads": machine.threads(),
            "platform": platform.platform(),
        },
        "batch_size": flags.FLAGS.batch_size,
        "rounds": flags.FLAGS.rounds,
        "reference": REFERENCE,
        "networks": measured,
    }
    files.write_json(workdir / "benchmark.json", figures)


def _device() -> str:
    """`cpu` or `accelerator`; found in another process, since jax would occupy the accelerator."""
    code = "from cnnjax.train import devices; print(devices.require()[0].platform)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise UserError(lines[-1].removeprefix(f"{UserError.__module__}.UserError: "))
    return "cpu" if done.stdout.strip() == "cpu" else "accelerator"


def _contenders(device: str) -> dict[str, Kind]:
    """The contenders in --contenders, or the default ones for a device."""
    default = [name for name, kind in CONTENDERS.items() if kind.device in ("", device)]
    text = flags.FLAGS.contenders or ",".join(default)
    pattern = re.compile(r"\s*cnnjax ([1-9]\d{0,3} (steps|replicas))\s*")
    modes = [match[1] for match in map(pattern.fullmatch, text.split(",")) if match]
    kinds = CONTENDERS | {f"cnnjax {mode}": _cnnjax(mode) for mode in modes}
    return {name: kinds[name] for name in flags.names("contenders", text, kinds)}


def _is_available(name: str, kind: Kind) -> bool:
    """Whether a contender can be started; prints why if it cannot."""
    reason = None
    if importlib.util.find_spec(kind.package) is None:
        reason = f"there is no {kind.package}; pip install -e '.[bench]'"
    elif not (ROOT / f"{kind.module.replace('.', '/')}.py").is_file():
        reason = f"there is no {kind.module}; it is in a checkout of the repository"
    elif "native" in kind.options:
        from cnnjax.nn.native import library

        reason = library.missing()
    if reason:
        print(f"{name}: left out, {reason}")
    return not reason


def _that_have(network: str, contenders: Mapping[str, Kind]) -> dict[str, Kind]:
    """The contenders that have a network; says which have not. Raises UserError if none has it."""
    kinds = {name: kind for name, kind in contenders.items() if network not in kind.lacks}
    if not kinds:
        raise UserError(f"--networks: none of the contenders has {network!r}.")
    for name, kind in contenders.items():
        if name not in kinds:
            print(f"{network}: {name} is left out, {kind.module} does not have this network")
    return kinds


def _measure(network: str, precision: str, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """{contender: figures} of one network."""
    batch_size = flags.FLAGS.batch_size
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = write_task(Path(folder), network, batch_size, precision, machine.threads())
        started: dict[str, TimedProcess] = {}
        for name, kind in sorted(kinds.items(), key=lambda item: item[1].package != "torch"):
            print(f"{network}: starting {name} ...", flush=True)
            # All share an accelerator: none may allocate all of its memory.
            share = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
            words = [kind.module, str(path), *kind.options]
            started[name] = TimedProcess(f"benchmark: {name}", words, ROOT, share)
            stack.callback(started[name].stop)
            if kind.package != "torch":  # which compiles in the meantime
                assert started[name].about
        contenders = {name: started[name] for name in kinds}
        _check_losses(network, precision, contenders)
        rounds = _rounds(network, contenders)
        return {
            name: {
                "images_per_second": rounds[name],
                **_ratios(rounds[name], rounds.get(REFERENCE)),
                "peak_bytes": contender.peak_bytes,
                **contender.about,
            }
            for name, contender in contenders.items()
        }


def _rounds(network: str, contenders: dict[str, TimedProcess]) -> dict[str, list[float]]:
    """The images per second of each contender in each round."""
    values, names = flags.FLAGS, list(contenders)
    steps = {name: contender.steps_within(SECONDS) for name, contender in contenders.items()}
    rounds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(values.rounds):
        first = number % len(names)
        for name in [*names[first:], *names[:first]]:
            seconds = contenders[name].time(steps[name])
            images = contenders[name].about.get("images_a_call", values.batch_size)
            rounds[name].append(images / statistics.median(seconds))
        print(f"{network}: round {number + 1} of {values.rounds}", flush=True)
    return rounds


def _ratios(rounds: Sequence[float], reference: Sequence[float] | None) -> dict[str, Any]:
    """The speed relative to the reference: the median over the rounds, and that of each round."""
    if reference is None:
        return {}
    ratios = [speed / other for speed, other in zip(rounds, reference, strict=True)]
    return {"ratio": statistics.median(ratios), "ratios": ratios}


def _check_losses(network: str, precision: str, contenders: dict[str, TimedProcess]) -> None:
    """Raises UserError where two contenders do not train the same network."""
    tolerance = 1e-3 if precision == "float32" else 5e-2
    losses = {name: contender.about["losses"] for name, contender in contenders.items()}
    middle = [statistics.median(pair) for pair in zip(*losses.values(), strict=True)]
    for name, pair in losses.items():
        difference = max(abs(loss - other) for loss, other in zip(pair, middle, strict=True))
        if not difference <= tolerance * max(middle) or not pair[1] < pair[0]:
            raise UserError(f"{network}: {name} has losses {pair}, the others {middle}.")


def _print(title: str, figures: dict[str, Any]) -> None:
    print(f"\n{title:<22}{'images/s':>10}{'range':>18}{f'of {REFERENCE}':>10}{'peak MB':>10}")
    for name, figure in figures.items():
        rounds = figure["images_per_second"]
        share = f"{figure['ratio']:.2f}" if "ratio" in figure else ""
        spread = f"{min(rounds):,.0f}-{max(rounds):,.0f}"
        print(
            f"  {name:<20}{statistics.median(rounds):>10,.0f}{spread:>18}{share:>10}"
            f"{figure['peak_bytes'] / 1e6:>10,.0f}"
        )
    print(flush=True)


if __name__ == "__main__":
    flags.start("benchmark", main)
