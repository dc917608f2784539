"""Chooses how many processes share the cores in a sweep, by measurement.

Two threads are seldom twice as fast as one, least of all for a small network; but two processes
need twice the memory, and at least two runs. Measured speeds are cached for each kind of processor
and everything else that affects the duration of a step.
"""

import contextlib
import functools
import os
import shutil
import statistics
from collections.abc import Callable, Mapping
from typing import Any

from cnnjax import cache, files, machine
from cnnjax.ablation import provenance
from cnnjax.errors import UserError
from launch.request import Request
from launch.timing import TimedProcess
from launch.training import TrainingSetup

SECONDS = 1.5  # duration of the steps that are timed
MIN_SECONDS = 60.0  # of training, below which measuring takes longer than it saves
TOLERANCE = 1.05  # fewer processes are preferred if they take at most so many times longer
MEMORY = 0.8  # share of the free memory that all processes together may use


def choose(
    request: Request, images: Mapping[str, float], threads: int, *, verbose: bool = True
) -> tuple[int, float]:
    """Chooses the number of processes that would finish the pending runs first, each with its share
    of the threads.

    Args:
      request: the requested runs.
      images: {arm: number of images that its pending runs are trained on}.
      threads: the number of threads that the processes share.
      verbose: whether to print the choice, and to choose without measuring if it is the only one.

    Returns that number, and the seconds of training with it; 0 where they are not known.
    """
    maximum = min(threads, len(request.pending))
    if maximum < 2 and verbose:
        return 1, 0.0
    try:
        seconds, peak_bytes, on_cpu = _estimate(request, images, 1, threads)
        if not on_cpu:
            return 1, seconds
        if seconds < MIN_SECONDS:
            return maximum, seconds
        estimates = {1: seconds}
        for count in sorted({maximum, *(2**n for n in range(1, maximum.bit_length()))}):
            if count * peak_bytes < MEMORY * machine.free_memory():
                estimates[count], *_ = _estimate(request, images, count, threads)
    except UserError:
        return maximum, 0.0  # the run itself will report what is wrong
    limit = TOLERANCE * min(estimates.values())
    best = next(count for count, seconds in estimates.items() if seconds <= limit)
    if verbose:
        print(f"about {estimates[best] / 60:.1f} min of training with {_describe(best, threads)}")
        for count in sorted(estimates.keys() - {best}):
            print(f"  ({estimates[count] / 60:.1f} min with {_describe(count, threads)})")
    return best, estimates[best]


def _describe(processes: int, threads: int) -> str:
    each = threads // processes
    return f"{processes} process{'es' * (processes > 1)} of {each} thread{'s' * (each > 1)}"


def _estimate(
    request: Request, images: Mapping[str, float], processes: int, threads: int
) -> tuple[float, int, bool]:
    """The seconds of training of the pending runs, the most memory that one of the processes uses,
    and whether all train on a CPU."""
    keys = {arm: cache.digest(speed_key(request.training, arm)) for arm in images}
    first_arms = {key: arm for arm, key in reversed(keys.items())}
    figures = []
    for arm, key in keys.items():
        progress = f"{[*dict.fromkeys(keys.values())].index(key) + 1} of {len(first_arms)}"
        measure = functools.partial(
            _measure, request, first_arms[key], processes, threads // processes, progress
        )
        speed = cached([key, processes, threads], measure)
        seconds = images[arm] / speed["images_per_second"]
        figures.append((seconds, speed["peak_bytes"], speed["backend"] == "cpu"))
    seconds_of_arms, peaks, on_cpu = zip(*figures, strict=True)
    return sum(seconds_of_arms), max(peaks), all(on_cpu)


def speed_key(training: TrainingSetup, arm: str) -> Any:
    """The fields that the speed of a step mainly depends on, besides the machine: arms that differ
    in an activation, a norm or an initialiser are assumed to be equally fast. If a level is the
    user's own, they include the checksum of its file."""
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
    groups = [(group.pattern, group.frozen) for group in config.optimizer.groups]
    values |= {"groups": groups} if groups else {}
    user_levels = {name for levels in training.levels.values() for name in levels}
    if {config.task, config.model.name, config.model.activation} & user_levels:
        values["file"] = files.sha256(training.path)
    return values


def cached(key: Any, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of `measure`, from the cache if there is one for `key`, these packages and this
    kind of machine."""
    versions = provenance.versions()
    packages = [versions[name] for name in ("cnnjax", "jaxlib")]
    native = os.environ.get("CXX") or shutil.which("g++")
    computer = [machine.processor(), machine.instructions(), native]
    path = cache.root() / "speeds" / f"{cache.digest([key, packages, computer])}.json"
    with contextlib.suppress(UserError):
        return dict(files.read_json(path))
    measured = measure()
    with contextlib.suppress(UserError):  # if the cache cannot be written
        files.write_json(path, measured)
    return measured


def _measure(
    request: Request, arm: str, processes: int, threads: int, progress: str
) -> dict[str, Any]:
    """Measures images per second of several processes together, their peak memory and backend. The
    user is shown `progress`."""
    configs = request.configs
    transfers = [  # arms whose weights are checked before anything is timed
        other for other, config in configs.items() if other != arm and config.transfer.init_from
    ]
    words = ["launch.time_arm", *request.sweep_flags, f"--arms={','.join([arm, *transfers])}"]
    environment = {"PJRT_NPROC": str(threads), "OMP_NUM_THREADS": str(threads)}
    environment |= machine.share_of_accelerator(processes)
    description = _describe(processes, processes * threads)
    print(f"arm {arm!r} ({progress}): starting {description} ...", flush=True)
    timed = [TimedProcess(f"arm {arm!r}", words, environment=environment) for _ in range(processes)]
    try:
        backends = [process.about["backend"] for process in timed]
        print(f"arm {arm!r} ({progress}): timing steps ...", flush=True)
        steps = timed[0].steps_within(SECONDS)
        for process in timed:
            process.start_steps(steps)
        medians = [statistics.median(process.read_seconds()) for process in timed]
        batch_size = configs[arm].training.batch_size
        return {
            "images_per_second": sum(batch_size / median for median in medians),
            "peak_bytes": max(process.peak_bytes for process in timed),
            "backend": backends[0],
        }
    finally:
        for process in timed:
            process.stop()
