"""Times train steps of cnnjax and of its peers, all taking turns in one run.

python -m launch.benchmark --workdir=DIR [--networks=lenet5_modern,resnet20] [--contenders=a,b]
    [--rounds=5] [--threads=N] [--batch_size=128] [--precision=float32|bfloat16]

Same network, weights, batch, optimizer and precision on all sides; the losses of the first two
steps are compared. Peers are those of tests/peers (`pip install -e '.[bench]'`); one that is not
installed is left out. Writes DIR/benchmark.json and DIR/benchmark.svg.
"""

import importlib.util
import platform
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnjax import files, machine
from cnnjax.errors import UserError, unknown
from launch import flags
from launch.contenders import Contender, task

NETWORKS = ("lenet5_modern", "vgg_small", "resnet20")
CONTENDERS: dict[str, tuple[str, Sequence[str]]] = {
    "cnnjax native": ("jax", ("launch.contender", "TASK", "native")),
    "cnnjax xla": ("jax", ("launch.contender", "TASK", "xla")),
    "flax": ("jax", ("tests.peers.flax_peer", "TASK")),
    "keras": ("keras", ("tests.peers.keras_peer", "TASK")),
    "torch": ("torch", ("tests.peers.torch_peer", "TASK")),
    "torch compiled": ("torch", ("tests.peers.torch_peer", "TASK", "compile")),
}
REFERENCE = "torch"
SECONDS = 1.5  # of one contender's part of a round, about


def main(arguments: Sequence[str]) -> int:
    """Measures; returns the exit code."""
    flags.nothing_left(arguments)
    workdir = Path(flags.need("workdir")).expanduser()
    networks = _chosen("networks", NETWORKS)
    names = [name for name in _chosen("contenders", tuple(CONTENDERS)) if _is_here(name)]
    measured = {}
    for network in networks:
        measured[network] = _measure(network, names)
        _print(network, measured[network])
    files.write_json(
        workdir / "benchmark.json",
        {
            "machine": {
                "processor": machine.processor(),
                "threads": machine.threads(),
                "platform": platform.platform(),
            },
            "batch_size": flags.FLAGS.batch_size,
            "precision": flags.FLAGS.precision,
            "rounds": flags.FLAGS.rounds,
            "networks": measured,
        },
    )
    from cnnjax.ablation import speed

    files.write_bytes(workdir / "benchmark.svg", speed.plot(measured).encode())
    print(f"written: {workdir / 'benchmark.json'}, {workdir / 'benchmark.svg'}")
    return 0


def _chosen(flag: str, known: Sequence[str]) -> list[str]:
    text = getattr(flags.FLAGS, flag)
    chosen = [part.strip() for part in text.split(",")] if text else list(known)
    for name in chosen:
        if name not in known:
            raise unknown(f"--{flag}", name, known)
    return chosen


def _is_here(name: str) -> bool:
    needed, (module, *_) = CONTENDERS[name]
    missing = [part for part in (needed, module) if not _found(part)]
    if missing:
        print(f"{name}: left out, there is no {missing[0]}; pip install -e '.[bench]'")
    return not missing


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _measure(network: str, names: Sequence[str]) -> dict[str, Any]:
    """{contender: figures} of one network."""
    asked = flags.FLAGS
    with tempfile.TemporaryDirectory() as folder:
        path = task(
            Path(folder), network, asked.batch_size, asked.precision, threads=machine.threads()
        )
        contenders: dict[str, Contender] = {}
        try:
            for name in names:
                words = [str(path) if word == "TASK" else word for word in CONTENDERS[name][1]]
                print(f"{network}: starting {name} ...", flush=True)
                contenders[name] = Contender(name, words)
            _agree(network, contenders)
            steps = {name: contender.steps_in(SECONDS) for name, contender in contenders.items()}
            rounds: dict[str, list[float]] = {name: [] for name in contenders}
            for number in range(asked.rounds):
                order = [*names[number % len(names) :], *names[: number % len(names)]]
                for name in order:
                    seconds = contenders[name].time(steps[name])
                    rounds[name].append(asked.batch_size / statistics.median(seconds))
                print(f"{network}: round {number + 1} of {asked.rounds}", flush=True)
            return {
                name: {
                    "images_per_second": rounds[name],
                    "peak_bytes": contenders[name].peak_bytes,
                    **contenders[name].about,
                }
                for name in contenders
            }
        finally:
            for contender in contenders.values():
                contender.stop()


def _agree(network: str, contenders: dict[str, Contender]) -> None:
    """Raises UserError where two contenders do not train the same network."""
    tolerance = 1e-3 if flags.FLAGS.precision == "float32" else 5e-2
    losses = {name: contender.about["losses"] for name, contender in contenders.items()}
    middle = [statistics.median(pair) for pair in zip(*losses.values(), strict=True)]
    for name, pair in losses.items():
        apart = max(abs(one - other) for one, other in zip(pair, middle, strict=True))
        if not apart <= tolerance * max(middle) or not pair[1] < pair[0]:
            raise UserError(f"{network}: {name} has losses {pair}, the others {middle}.")


def _print(network: str, figures: dict[str, Any]) -> None:
    reference = figures.get(REFERENCE, {}).get("images_per_second")
    print(f"\n{network:<16}{'images/s':>10}{'range':>18}{'of torch':>10}{'peak MB':>10}")
    for name, figure in figures.items():
        rounds = figure["images_per_second"]
        share = ""
        if reference:
            share = f"{statistics.median(map(ratio, rounds, reference)):.2f}"
        spread = f"{min(rounds):,.0f}-{max(rounds):,.0f}"
        print(
            f"  {name:<14}{statistics.median(rounds):>10,.0f}{spread:>18}{share:>10}"
            f"{figure['peak_bytes'] / 1e6:>10,.0f}"
        )
    print(flush=True)


def ratio(one: float, other: float) -> float:
    """How many times faster, within one round."""
    return one / other


if __name__ == "__main__":
    flags.define("workdir", "networks", "contenders", "rounds")
    flags.define("batch_size", "precision", "threads")
    flags.start(main)
