"""How runs take their steps: how many runs together, and how many steps in a call of the program.

Mapped over several runs, a step of a small network fills an accelerator that one alone leaves idle;
and several steps in a call leave it less to wait for the host. On a CPU both are slower than the
same steps taken one after another, but for the smallest networks. So the ways are timed, before the
first run, with the steps of the run itself, where enough training is left for it to pay; what was
measured is kept in the cache folder.
"""

import collections
import contextlib
import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from cnnjax import cache, files
from cnnjax.ablation.study import RunFolder
from cnnjax.config import RunConfig
from cnnjax.errors import NoRoom
from launch import deaths, division
from launch.training import Training

MOST = 32  # together on one device
LONGEST = 32  # steps in a call, unless more are asked for
WORTH = 1.05  # how many times faster they have to be
LEAST = {"cpu": 900.0}  # seconds of training that are left before measuring could pay
ON_ACCELERATORS = 30.0
WARM, ROUNDS, TIMED = 3, 5, 3  # calls before timing; rounds that are timed, and calls in each

RunKey = tuple[str, int]
"""The arm and the seed of a run that is, or was, trained together with others."""


class Way(NamedTuple):
    """How many runs take their steps together, and how many steps they take in a call."""

    replicas: int = 1
    steps_per_call: int = 1


class Group(NamedTuple):
    """Runs that a process trains at a time. `replica_axis` has those that are trained together,
    also those that have ended since; without any there is one run."""

    runs: list[RunFolder]
    replica_axis: tuple[RunKey, ...] = ()
    steps_per_call: int = 1


def alike(training: Training) -> dict[str, str]:
    """{arm: a key that it shares with the arms whose runs can be trained together with its own}."""
    from cnnjax.train import program_key

    return {arm: program_key.lockstep_key(config) for arm, config in training.configs.items()}


def ways(
    session: Any, training: Training, runs: Sequence[RunFolder], *, processes: int
) -> dict[str, Way]:
    """{arm: the way of its runs}: what is asked for with `training.replicas` and
    `training.steps_per_call`, but so few replicas that no process idles; else what is fastest.
    Where several processes share a machine, it is busy already: neither is used unless asked for.

    Args:
      session: what the runs share.
      training: what they are trained with.
      runs: the runs to do.
      processes: how many processes do them.
    """
    arms = list(dict.fromkeys(run.arm for run in runs))
    if training.replicas or training.steps_per_call or processes > 1:
        share = math.ceil(len(runs) / processes)
        way = Way(min(training.replicas or 1, share), training.steps_per_call or 1)
        return dict.fromkeys(arms, way)
    keys = alike(training)
    together = collections.Counter(keys[run.arm] for run in runs)
    same_speed = collections.defaultdict(list)
    for arm in arms:
        same_speed[cache.digest(division.what_decides(training, arm))].append(arm)
    found: dict[str, Way] = {}
    for key, these_arms in same_speed.items():
        with contextlib.ExitStack() as locks:
            these = [
                run for run in runs if run.arm == these_arms[0] and locks.enter_context(_lock(run))
            ]
            for run in these:
                deaths.count_left(run)
            way = Way()
            if not any(map(deaths.alone, these)):
                most = max(together[keys[arm]] for arm in these_arms)
                left = [run for run in runs if run.arm in these_arms]
                with deaths.at(these):
                    way = _measured(session, training.configs, left, most, key)
            found |= dict.fromkeys(these_arms, way)
    return found


def _lock(run: RunFolder) -> contextlib.AbstractContextManager[bool]:
    files.refuse_links(run.directory, below=run.directory.parents[1])
    return files.lock(run.directory / ".lock", wait=False)


def groups(
    runs: Sequence[RunFolder], ways: Mapping[str, Way], alike: Mapping[str, str]
) -> list[Group]:
    """The runs in groups of about equal size, at most so many as their arm's way has replicas, in
    the order of their first ones. Runs that have begun go on the way they began, and one that
    begins anew among those it was with.

    Args:
      runs: the runs.
      ways: the way of each arm.
      alike: of each arm, what it shares with those that its runs can be trained together with.
    """
    recorded, again = _recorded(runs), {run for run in runs if run.result()}
    parts = collections.defaultdict(list)
    for run in runs:
        axis, way = recorded[run], ways[run.arm]
        key: Any = run
        if axis:
            key = (alike.get(run.arm), axis)
        elif axis is None and way.replicas > 1:
            key = (alike[run.arm], way, run in again)
        parts[key].append(run)
    found = []
    for some in parts.values():
        axis, way = recorded[some[0]], ways[some[0].arm]
        if axis or axis == () or way.replicas == 1:
            found.append(Group(some, axis or (), way.steps_per_call))
        else:
            size = math.ceil(len(some) / math.ceil(len(some) / way.replicas))
            for own in (some[at : at + size] for at in range(0, len(some), size)):
                found.append(Group(own, tuple(map(deaths.key, own)), way.steps_per_call))
    place = {run: place for place, run in enumerate(runs)}
    return sorted(found, key=lambda group: place[group.runs[0]])


def calls(
    session: Any,
    config: RunConfig,
    seeds: Sequence[int],
    *,
    together: bool = False,
    steps_per_call: int = 1,
) -> Callable[..., list[float]]:
    """A function that makes the next call, or so many, of steps of fresh runs, as the runs
    themselves take them, waits for the last, and gives the last loss of each."""
    from cnnjax.train.replicas import Replicas

    program = session.program(config, "xla" if together else None)
    datasets = [session.dataset(config, seed) for seed in seeds]
    replicas = Replicas(
        program.compiled,
        session.store(config, program),
        {
            place: session.initial_state(config, program, dataset, seed)
            for place, (seed, dataset) in enumerate(zip(seeds, datasets, strict=True))
        },
        {place: session.hparams(config, seed, program) for place, seed in enumerate(seeds)},
        width=len(seeds) if together else 0,
    )
    flows = [dataset.train_batches(0, 2**31) for dataset in datasets]
    rates = [config.optimizer.learning_rate] * steps_per_call

    def call(count: int = 1) -> list[float]:
        metrics: Any = None
        for _ in range(count):
            batches = [list(itertools.islice(flow, steps_per_call)) for flow in flows]
            batch = replicas.batch(dict(enumerate(batches)))
            metrics = replicas.steps(batch, dict.fromkeys(range(len(seeds)), rates))
        return [figures[-1]["loss"] for figures in replicas.figures(metrics).values()]

    return call


def replica_axis(run: RunFolder) -> tuple[RunKey, ...] | None:
    """The axis that a run was started with, () for one alone; None before its first checkpoint."""
    from cnnjax.train import folder

    known = folder.resumed_settings(run.directory)
    if not known:
        return None
    axis = folder.replica_axis(known, run.arm)
    return axis if not axis or deaths.key(run) in axis else (deaths.key(run),)


def _recorded(runs: Sequence[RunFolder]) -> dict[RunFolder, tuple[RunKey, ...] | None]:
    """What `replica_axis` tells; of a run that has not begun, or begins anew, the axis of another
    one of the study, if it was one of them."""
    from cnnjax.train import folder

    own = {run: replica_axis(run) for run in runs}
    others: dict[RunKey, tuple[RunKey, ...]] = {}
    workdirs = {run.directory.parents[1] for run, axis in own.items() if axis is None}
    for path in sorted(path for workdir in workdirs for path in workdir.glob("*/seed-*")):
        axis = folder.replica_axis(folder.resumed_settings(path), path.parent.name)
        others.update(dict.fromkeys(axis, axis))
    return {run: others.get(deaths.key(run)) if axis is None else axis for run, axis in own.items()}


def _measured(
    session: Any, configs: Mapping[str, RunConfig], runs: Sequence[RunFolder], most: int, key: str
) -> Way:
    """The fastest way of runs that are as fast as the first of them, of which `most` can be trained
    together."""
    config = configs[runs[0].arm]
    dataset = session.dataset(config, runs[0].seed)
    backend, count, steps = session.runtime["backend"], 1, 1
    if config.training.parallel == "jit" and dataset.in_memory:
        count = min(most, MOST * len(session.devices))
    if backend != "cpu":
        steps = longest_call(config)
    if count == steps == 1:
        return Way()
    images = sum(
        dataset.order.total_steps(configs[run.arm].training) * configs[run.arm].training.batch_size
        for run in runs
    )
    speeds: dict[Way, float] = {}
    with contextlib.suppress(Exception):  # what the run itself will tell
        speeds[Way()] = _speed(session, config, Way(), key)
    if not speeds or images / speeds[Way()] < LEAST.get(backend, ON_ACCELERATORS):
        return Way()
    if steps > 1:
        with contextlib.suppress(Exception):
            speeds[Way(1, steps)] = _speed(session, config, Way(1, steps), key)
        steps = max(speeds, key=speeds.__getitem__).steps_per_call
    while count > 1:
        try:
            speeds[Way(count, steps)] = _speed(session, config, Way(count, steps), key)
            break
        except Exception as error:  # too little memory, as a rule
            if isinstance(error, NoRoom):
                print(f"{runs[0].arm}: {error}", flush=True)
            count = 1 if backend == "cpu" else count // 2
    best = max(speeds, key=speeds.__getitem__)
    if speeds[best] <= WORTH * speeds[Way()]:
        best = Way()
    told = [f"{_named(way)} {speed:,.0f}" for way, speed in speeds.items()]
    print(f"{runs[0].arm}: images/s of {', '.join(told)}; taken: {_named(best)}", flush=True)
    return best


def longest_call(config: RunConfig) -> int:
    """The most steps that are tried in a call: the largest divisor of the steps between two lines,
    so that no single steps are left over."""
    lines = config.training.log_every_steps
    return max(steps for steps in range(1, LONGEST + 1) if lines % steps == 0)


def _named(way: Way) -> str:
    runs = "one run" if way.replicas == 1 else f"{way.replicas} runs together"
    return runs if way.steps_per_call == 1 else f"{runs}, {way.steps_per_call} steps a call"


def _speed(session: Any, config: RunConfig, way: Way, key: str) -> float:
    """Images per second of a way, measured now or kept from before."""

    from cnnjax.train import memory

    def measure() -> dict[str, Any]:
        with memory.explained(config, runs=way.replicas):
            return timed()

    def timed() -> dict[str, Any]:
        call = calls(
            session,
            config,
            range(way.replicas),
            together=way.replicas > 1,
            steps_per_call=way.steps_per_call,
        )
        call(WARM)
        seconds = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            call(TIMED)
            seconds.append(time.perf_counter() - started)
        images = TIMED * way.replicas * way.steps_per_call * config.training.batch_size
        return {"images_per_second": images / statistics.median(seconds)}

    what = [key, "way", way, session.runtime, session.convolution(config)]
    return float(division.remembered(what, measure)["images_per_second"])
