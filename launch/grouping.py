"""Chooses how many runs are trained together, and how many steps are taken in a call.

A step of a small network does not fill an accelerator, but vmapped over several runs it may; and
with several steps in a call it waits less for the host. On a CPU both are slower than single steps,
except for the smallest networks. So the alternatives are timed before the first run, with steps of
the run itself, unless little training is left. Measured speeds are cached.
"""

import collections
import contextlib
import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cnnjax import cache, files
from cnnjax.ablation.study import RunFolder
from cnnjax.config import ResolvedConfig
from cnnjax.errors import OutOfMemory
from launch import crashes, division
from launch.training import TrainingSetup

if TYPE_CHECKING:
    from cnnjax.train.session import Session

MAX_REPLICAS = 32  # on one device
MAX_STEPS_PER_CALL = 32  # unless more are requested
MIN_SPEEDUP = 1.05  # of several replicas or steps per call over single steps
MIN_SECONDS = {"cpu": 900.0}  # of training, below which measuring takes longer than it saves
MIN_SECONDS_ON_ACCELERATORS = 30.0
WARM_UP_CALLS, ROUNDS, CALLS_PER_ROUND = 3, 5, 3


class Dispatch(NamedTuple):
    """How many runs are trained together, and how many steps are taken in a call."""

    replicas: int = 1
    steps_per_call: int = 1


class Group(NamedTuple):
    """Runs that a process trains at the same time. `replica_axis` has the keys of the runs that are
    trained together, including those that have ended; it is empty for a run alone."""

    runs: list[RunFolder]
    replica_axis: tuple[crashes.Key, ...] = ()
    steps_per_call: int = 1


def replica_keys(training: TrainingSetup) -> dict[str, str]:
    """{arm: its replica key}; runs whose arms have the same key can be trained together."""
    from cnnjax.train import program_key

    return {arm: program_key.replica_key(config) for arm, config in training.configs.items()}


def choose_dispatches(
    session: "Session", training: TrainingSetup, runs: Sequence[RunFolder], *, processes: int
) -> dict[str, Dispatch]:
    """{arm: the dispatch of its runs}: `training.replicas` and `training.steps_per_call` where they
    are set, but so few replicas that no process idles; otherwise the fastest. Processes that share
    a machine keep it busy, so that they use single runs and steps unless the fields are set.

    Args:
      session: what the runs share.
      training: what they are trained with.
      runs: the pending runs.
      processes: the number of processes that share them.
    """
    arms = list(dict.fromkeys(run.arm for run in runs))
    if training.replicas or training.steps_per_call or processes > 1:
        share = math.ceil(len(runs) / processes)
        dispatch = Dispatch(min(training.replicas or 1, share), training.steps_per_call or 1)
        return dict.fromkeys(arms, dispatch)
    keys = replica_keys(training)
    replicas = collections.Counter(keys[run.arm] for run in runs)
    arms_by_speed = collections.defaultdict(list)
    for arm in arms:
        arms_by_speed[cache.digest(division.speed_key(training, arm))].append(arm)
    dispatches: dict[str, Dispatch] = {}
    for speed_key, equal_arms in arms_by_speed.items():
        with contextlib.ExitStack() as locks:
            locked = [
                run for run in runs if run.arm == equal_arms[0] and locks.enter_context(lock(run))
            ]
            for run in locked:
                crashes.count_attempt(run)
            dispatch = Dispatch()
            if not any(map(crashes.must_be_alone, locked)):
                equal_runs = [run for run in runs if run.arm in equal_arms]
                max_replicas = max(replicas[keys[arm]] for arm in equal_arms)
                with crashes.training(locked):
                    dispatch = _fastest(
                        session, training.configs, equal_runs, max_replicas, speed_key
                    )
            dispatches |= dict.fromkeys(equal_arms, dispatch)
    return dispatches


def lock(run: RunFolder) -> contextlib.AbstractContextManager[bool]:
    """`files.lock` of a run. Raises UserError where its folder, or anything in it, is a link."""
    files.refuse_links(run.directory, below=run.directory.parents[1])
    return files.lock(run.directory / ".lock", wait=False)


def make_groups(
    runs: Sequence[RunFolder], dispatches: Mapping[str, Dispatch], keys: Mapping[str, str]
) -> list[Group]:
    """Divides runs into groups of about equal size, with at most as many runs as the dispatch of
    their arm has replicas, in the order of their first runs. A run that was started keeps its
    replica axis, also if it has to start anew; those that failed before are in groups of their own.

    Args:
      runs: the runs.
      dispatches: the dispatch of each arm.
      keys: the replica key of each arm.
    """
    axes, failed = _recorded_axes(runs), {run for run in runs if run.result()}
    parts = collections.defaultdict(list)
    for run in runs:
        axis, dispatch = axes[run], dispatches[run.arm]
        key: Any = run
        if axis:
            key = (keys.get(run.arm), axis)
        elif axis is None and dispatch.replicas > 1:
            key = (keys[run.arm], dispatch, run in failed)
        parts[key].append(run)
    groups = []
    for part in parts.values():
        axis, dispatch = axes[part[0]], dispatches[part[0].arm]
        if axis is not None or dispatch.replicas == 1:
            groups.append(Group(part, axis or (), dispatch.steps_per_call))
        else:
            size = math.ceil(len(part) / math.ceil(len(part) / dispatch.replicas))
            for start in range(0, len(part), size):
                together = part[start : start + size]
                axis = tuple(map(crashes.key, together))
                groups.append(Group(together, axis, dispatch.steps_per_call))
    order = {run: index for index, run in enumerate(runs)}
    return sorted(groups, key=lambda group: order[group.runs[0]])


def step_function(
    session: "Session",
    config: ResolvedConfig,
    seeds: Sequence[int],
    *,
    together: bool = False,
    steps_per_call: int = 1,
) -> Callable[..., list[float]]:
    """Returns a function of fresh runs that takes the steps of the next call, or of several calls,
    as a run takes them. It waits for the last call and returns the last loss of each run."""
    from cnnjax.train.replicas import Replicas

    program = session.program(config, "xla" if together else None)
    datasets = [session.dataset(config, seed) for seed in seeds]
    replicas = Replicas(
        program.compiled,
        session.store(config, program),
        {
            index: session.initial_state(config, program, dataset, seed)
            for index, (seed, dataset) in enumerate(zip(seeds, datasets, strict=True))
        },
        {index: session.hparams(config, seed, program) for index, seed in enumerate(seeds)},
        width=len(seeds) if together else 0,
    )
    streams = [dataset.train_batches(0, 2**31) for dataset in datasets]
    rates = [config.optimizer.learning_rate] * steps_per_call

    def call(count: int = 1) -> list[float]:
        metrics: Any = None
        for _ in range(count):
            batches = [list(itertools.islice(stream, steps_per_call)) for stream in streams]
            batch = replicas.batch(dict(enumerate(batches)))
            metrics = replicas.steps(batch, dict.fromkeys(range(len(seeds)), rates))
        return [figures[-1]["loss"] for figures in replicas.figures(metrics).values()]

    return call


def replica_axis(run: RunFolder) -> tuple[crashes.Key, ...] | None:
    """The replica axis that a run was started with, () for a run alone; None before its first
    checkpoint."""
    from cnnjax.train import folder

    settings = folder.resumed_settings(run.directory)
    if not settings:
        return None
    axis = folder.replica_axis(settings, run.arm)
    return axis if not axis or crashes.key(run) in axis else (crashes.key(run),)


def _recorded_axes(runs: Sequence[RunFolder]) -> dict[RunFolder, tuple[crashes.Key, ...] | None]:
    """The `replica_axis` of each run. Without a checkpoint, it is the axis of another run of the
    study that contains the run, or None."""
    from cnnjax.train import folder

    axes = {run: replica_axis(run) for run in runs}
    unknown = [run for run, axis in axes.items() if axis is None]
    axes_of_others: dict[crashes.Key, tuple[crashes.Key, ...]] = {}
    workdirs = {run.directory.parents[1] for run in unknown}
    for path in sorted(path for workdir in workdirs for path in workdir.glob("*/seed-*")):
        other = folder.replica_axis(folder.resumed_settings(path), path.parent.name)
        axes_of_others.update(dict.fromkeys(other, other))
    return axes | {run: axes_of_others.get(crashes.key(run)) for run in unknown}


def _fastest(
    session: "Session",
    configs: Mapping[str, ResolvedConfig],
    runs: Sequence[RunFolder],
    max_replicas: int,
    key: str,
) -> Dispatch:
    """The fastest dispatch of runs that are all as fast as the first one, and of which
    `max_replicas` can be trained together."""
    config = configs[runs[0].arm]
    dataset = session.dataset(config, runs[0].seed)
    backend, count, steps = session.runtime["backend"], 1, 1
    if config.training.parallel == "jit" and dataset.in_memory:
        count = min(max_replicas, MAX_REPLICAS * len(session.devices))
    if backend != "cpu":
        steps = longest_call(config)
    if count == steps == 1:
        return Dispatch()
    fields = [configs[run.arm].training for run in runs]
    images = sum(dataset.order.total_steps(each) * each.batch_size for each in fields)
    speeds: dict[Dispatch, float] = {}

    def measure(dispatch: Dispatch) -> None:
        speeds[dispatch] = _speed(session, config, dispatch, key)

    single = Dispatch()
    with contextlib.suppress(Exception):  # the run itself will report it
        measure(single)
    min_seconds = MIN_SECONDS.get(backend, MIN_SECONDS_ON_ACCELERATORS)
    if not speeds or images / speeds[single] < min_seconds:
        return single
    if steps > 1:
        with contextlib.suppress(Exception):
            measure(Dispatch(1, steps))
        steps = max(speeds, key=speeds.__getitem__).steps_per_call
    while count > 1:
        try:
            measure(Dispatch(count, steps))
            break
        except Exception as error:  # usually too little memory
            if isinstance(error, OutOfMemory):
                print(f"{runs[0].arm}: {error}", flush=True)
            count = 1 if backend == "cpu" else count // 2
    best = max(speeds, key=speeds.__getitem__)
    if speeds[best] <= MIN_SPEEDUP * speeds[single]:
        best = single
    figures = ", ".join(f"{_describe(dispatch)} {speed:,.0f}" for dispatch, speed in speeds.items())
    print(f"{runs[0].arm}: images/s of {figures}; taken: {_describe(best)}", flush=True)
    return best


def longest_call(config: ResolvedConfig) -> int:
    """The number of steps per call that is tried: the largest divisor of the steps between two
    lines up to `MAX_STEPS_PER_CALL`, so that no single steps are left over."""
    log_every = config.training.log_every_steps
    return max(steps for steps in range(1, MAX_STEPS_PER_CALL + 1) if log_every % steps == 0)


def _describe(dispatch: Dispatch) -> str:
    runs = "one run" if dispatch.replicas == 1 else f"{dispatch.replicas} runs together"
    if dispatch.steps_per_call == 1:
        return runs
    return f"{runs}, {dispatch.steps_per_call} steps a call"


def _speed(session: "Session", config: ResolvedConfig, dispatch: Dispatch, key: str) -> float:
    """Images per second with a dispatch, measured or from the cache."""
    from cnnjax.train import memory

    replicas, steps = dispatch

    def measure() -> dict[str, Any]:
        with memory.explain_training(config, runs=replicas):
            call = step_function(
                session, config, range(replicas), together=replicas > 1, steps_per_call=steps
            )
            call(WARM_UP_CALLS)
            seconds = []
            for _ in range(ROUNDS):
                started = time.perf_counter()
                call(CALLS_PER_ROUND)
                seconds.append(time.perf_counter() - started)
        images = CALLS_PER_ROUND * replicas * steps * config.training.batch_size
        return {"images_per_second": images / statistics.median(seconds)}

    cache_key = [key, "way", dispatch, session.runtime, session.convolution(config)]
    return float(division.cached(cache_key, measure)["images_per_second"])
