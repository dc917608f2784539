"""How a sweep divides the cores among processes: by measuring, once for each program.

Two threads are seldom twice as fast as one, least of all for a small network; but two processes
need twice the memory, and runs to work on. What was measured is kept in the cache folder, for each
kind of processor and all that decides how long a step takes.
"""

import contextlib
import dataclasses
import functools
import os
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from cnnjax import cache, files, machine
from cnnjax.ablation import provenance
from cnnjax.errors import UserError
from launch.timing import Timed
from launch.training import Training

SECONDS = 1.5  # of steps that are timed
SMALL = 60.0  # seconds of training that are over before measuring would pay
WORTH = 1.05  # how many times longer may be taken by fewer processes
Log = Callable[[str], object]
MEMORY = 0.8  # share of the free memory that all processes may take


@dataclasses.dataclass(frozen=True)
class Work:
    """Runs that are to be divided.

    Attributes:
      training: what they are trained with.
      flags: those of `launch.sweep` that ask for them.
      images: of each arm that is not done, how many images it has to train on.
      runs: their number.
    """

    training: Training
    flags: Sequence[str]
    images: Mapping[str, float]
    runs: int


def processes(work: Work, threads: int) -> int:
    """The number of processes that would end the runs first, each with its share of the threads."""
    return expected(work, threads, log=print)[0]


def expected(work: Work, threads: int, log: Log = lambda text: None) -> tuple[int, float]:
    """That number, and the seconds of training that it would take; 0 where that is not known."""
    most = min(threads, work.runs)
    if most < 2 and log is print:
        return 1, 0.0
    try:
        alone = _estimate(work, 1, threads)
        if not alone.on_cpu:
            return 1, alone.seconds
        if alone.seconds < SMALL:
            return most, alone.seconds
        found = {1: alone.seconds}
        for number in sorted({most, *(2**n for n in range(1, most.bit_length()))}):
            if number * alone.peak_bytes < MEMORY * machine.free_memory():
                found[number] = _estimate(work, number, threads).seconds
    except UserError:
        return most, 0.0  # what is wrong with a run will be told by the run
    enough = WORTH * min(found.values())
    best = next(number for number, seconds in found.items() if seconds <= enough)
    log(f"about {found[best] / 60:.1f} min of training with {_named(best, threads)}")
    for number in sorted(found.keys() - {best}):
        log(f"  ({found[number] / 60:.1f} min with {_named(number, threads)})")
    return best, found[best]


def _named(number: int, threads: int) -> str:
    each = threads // number
    return f"{number} process{'es' * (number > 1)} of {each} thread{'s' * (each > 1)}"


class Estimate(NamedTuple):
    """How long a study would train for, and the most memory that one of its processes takes."""

    seconds: float
    peak_bytes: int
    on_cpu: bool


def _estimate(work: Work, number: int, threads: int) -> Estimate:
    keys = {arm: cache.digest(what_decides(work.training, arm)) for arm in work.images}
    alike = {key: arm for arm, key in reversed(keys.items())}  # the first of those that are alike
    figures = []
    for arm, count in work.images.items():
        key = keys[arm]
        place = f"{[*dict.fromkeys(keys.values())].index(key) + 1} of {len(alike)}"
        measure = functools.partial(_measure, work, alike[key], number, threads // number, place)
        found = remembered([key, number, threads], measure)
        figures.append((count / found["images_per_second"], found["peak_bytes"], found["backend"]))
    seconds, peaks, backends = zip(*figures, strict=True)
    return Estimate(sum(seconds), max(peaks), set(backends) == {"cpu"})


def what_decides(training: Training, arm: str) -> Any:
    """What the speed of a step depends on, besides the machine and in the main: arms that differ in
    an activation, a norm or an initialiser are taken to be as fast as the first of them. A level of
    the user's own stands for the file that it is in."""
    config = training.configs[arm]
    model = ("name", "hidden", "width", "depth", "kernel", "pooling", "remat", "inception_block")
    values = config.model_dump(
        mode="json",
        include={
            "model": set(model),
            "data": {"name", "image_size", "pipeline", "stream_workers", "augmentation"},
            "training": {
                "batch_size",
                "precision",
                "matmul_precision",
                "deterministic",
                "parallel",
                "cpu_convolution",
            },
        },
    )
    values |= {"devices": training.devices} if training.devices else {}
    own = [name for levels in training.levels.values() for name in levels]
    if {config.model.name, config.model.activation} & set(own):
        values["file"] = files.sha256(training.path)
    return values


def remembered(what: Any, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `measure` gives, now or kept from before, with these packages on this machine. `what`
    is all else that decides it."""
    versions = provenance.versions()
    packages = [versions[name] for name in ("cnnjax", "jaxlib")]
    native = os.environ.get("CXX") or shutil.which("g++")
    computer = [machine.processor(), machine.instructions(), native]
    path = cache.root() / "speeds" / f"{cache.digest([what, packages, computer])}.json"
    with contextlib.suppress(UserError):
        return dict(files.read_json(path))
    measured = measure()
    with contextlib.suppress(UserError):  # a cache that cannot be written
        files.write_json(path, measured)
    return measured


def _measure(work: Work, arm: str, number: int, threads: int, place: str) -> dict[str, Any]:
    """The speed of so many processes together, and whether they compute on the CPU; `place` is said
    to whom waits."""
    configs = work.training.configs
    weights = [
        other for other, config in configs.items() if other != arm and config.transfer.init_from
    ]  # are looked at before anything is timed
    words = ["launch.rehearsal", *work.flags, f"--arms={','.join([arm, *weights])}"]
    environment = {"PJRT_NPROC": str(threads), "OMP_NUM_THREADS": str(threads)}
    environment |= machine.share_of_accelerator(number)
    named = _named(number, number * threads)
    print(f"arm {arm!r} ({place}): starting {named} ...", flush=True)
    timed = [Timed(f"arm {arm!r}", words, environment=environment) for _ in range(number)]
    try:
        backends = [one.about["backend"] for one in timed]
        print(f"arm {arm!r} ({place}): timing steps ...", flush=True)
        steps = timed[0].steps_in(SECONDS)
        for one in timed:
            one.ask(steps)
        seconds = [statistics.median(one.answer()) for one in timed]
        batch_size = configs[arm].training.batch_size
        return {
            "images_per_second": sum(batch_size / each for each in seconds),
            "peak_bytes": max(one.peak_bytes for one in timed),
            "backend": backends[0],
        }
    finally:
        for one in timed:
            one.stop()
