"""How many replicates of an arm are trained together: as asked for, or as measured.

Mapped over several replicates, a step of a small network fills an accelerator that one alone leaves
idle. On a CPU the mapped convolutions are slower than the same step taken for one seed after
another. So both are timed, before the first run, with the steps of the run itself, where enough
training is left for it to pay; what was measured is kept in the cache folder.
"""

import collections
import contextlib
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cnnjax import cache, files
from cnnjax.ablation.study import Run
from cnnjax.config import RunConfig
from launch import deaths, division
from launch.request import Request

MOST = 16  # together on one device
WORTH = 1.05  # how many times faster they have to be
LEAST = {"cpu": 900.0}  # seconds of training that are left before measuring could pay
ON_ACCELERATORS = 30.0
WARM, STEPS = 3, 10  # steps before timing, and timed


class Group(NamedTuple):
    """Runs of one arm that a process trains at a time; `lanes` are the seeds that are trained
    together, those of runs that have ended since among them; without any there is one run."""

    runs: list[Run]
    lanes: tuple[int, ...] = ()


def numbers(
    session: Any, request: Request, runs: Sequence[Run], *, processes: int
) -> dict[str, int]:
    """{arm: how many of its seeds are trained together}: `request.replicates` where that is given,
    but so few that no process idles; else what is fastest. Where several processes share a CPU, its
    cores are used already, and seeds are trained one after another.

    Args:
      session: what the runs share.
      request: what was asked for.
      runs: the runs to do.
      processes: how many processes do them.
    """
    seeds = collections.Counter(run.arm for run in runs)
    if request.replicates or processes > 1:
        share = math.ceil(len(runs) / processes)
        return dict.fromkeys(seeds, min(request.replicates or 1, share))
    alike = collections.defaultdict(list)
    for arm in seeds:
        alike[cache.digest(division.what_decides(request, arm))].append(arm)
    found: dict[str, int] = {}
    for key, arms in alike.items():
        with contextlib.ExitStack() as locks:
            these = [run for run in runs if run.arm == arms[0] and locks.enter_context(_lock(run))]
            for run in these:
                deaths.count_left(run)
            number = 1
            if not any(map(deaths.alone, these)):
                with deaths.at(these):
                    number = _measured(session, request, arms, seeds, key)
            found |= dict.fromkeys(arms, number)
    return found


def _lock(run: Run) -> contextlib.AbstractContextManager[bool]:
    files.no_links(run.directory, below=run.directory.parents[1])
    return files.lock(run.directory / ".lock", wait=False)


def groups(runs: Sequence[Run], number: Mapping[str, int], *, in_turn: bool) -> list[Group]:
    """The runs in groups of about equal size, at most so many as `number` has for their arm. Runs
    that have begun go on the way they began, and one that begins anew among those it was with.

    Args:
      runs: the runs; those of an arm that follow each other make its groups.
      number: of each arm, how many of its seeds are trained together.
      in_turn: whether the first groups of all arms come first.
    """
    if in_turn:
        order = list(number)
        runs = sorted(runs, key=lambda run: order.index(run.arm))
    by_arm = itertools.groupby(runs, lambda run: run.arm)
    found = [list(_of_one_arm(list(own), number[arm])) for arm, own in by_arm]
    if in_turn:
        found = [[group for group in row if group] for row in itertools.zip_longest(*found)]
    return list(itertools.chain.from_iterable(found))


def steps(
    session: Any, config: RunConfig, seeds: Sequence[int], *, together: bool
) -> Callable[[], list[float]]:
    """A function that takes the next step of fresh runs, as the runs themselves take it, waits for
    it, and gives the loss of each."""
    from cnnjax.train.lanes import Lanes

    program = session.program(config, "xla" if together else None)
    datasets = [session.dataset(config, seed) for seed in seeds]
    lanes = Lanes(
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

    def step() -> list[float]:
        batches = dict(enumerate(map(next, flows)))
        metrics = lanes.step(batches, config.optimizer.learning_rate)
        return [figures["loss"] for figures in lanes.wait(metrics).values()]

    return step


def begun_with(run: Run) -> tuple[int, ...] | None:
    """The lanes that a run was started with, () for one alone; None before its first checkpoint."""
    from cnnjax.train import folder

    known = folder.begun(run.directory)
    if not known:
        return None
    lanes = known.get("lanes", [])
    sensible = isinstance(lanes, list) and (not lanes or run.seed in lanes)
    return tuple(lanes) if sensible else (run.seed,)


def _lanes(run: Run) -> tuple[int, ...] | None:
    """What `begun_with` tells; of a run that has not begun, or begins anew, the lanes of others of
    its arm, if it was one of them."""
    from cnnjax.train import folder

    own = begun_with(run)
    if own is not None:
        return own
    for other in sorted(run.directory.parent.glob("seed-*")):
        lanes = folder.begun(other).get("lanes", [])
        if isinstance(lanes, list) and run.seed in lanes:
            return tuple(lanes)
    return None


def _of_one_arm(runs: Sequence[Run], number: int) -> Iterator[Group]:
    known = {run: _lanes(run) for run in runs}
    fresh = [run for run in runs if known[run] is None]
    size = math.ceil(len(fresh) / math.ceil(len(fresh) / number)) if fresh else 1
    taken: set[Run] = set()
    for run in runs:
        if run in taken:
            continue
        lanes = known[run]
        if lanes:
            group = Group([other for other in runs if known[other] == lanes], lanes)
        elif lanes is None and number > 1:
            place = fresh.index(run)
            own = fresh[place : place + size]
            group = Group(own, tuple(run.seed for run in own))
        else:
            group = Group([run])
        taken.update(group.runs)
        yield group


def _measured(
    session: Any, request: Request, arms: Sequence[str], seeds: Mapping[str, int], key: str
) -> int:
    """How many seeds are trained together of arms that are as fast as the first of them."""
    config, first = request.configs[arms[0]], list(request.seeds)
    count = min(max(seeds[arm] for arm in arms), MOST * len(session.devices))
    dataset = session.dataset(config, first[0])
    if count < 2 or config.training.parallel == "pmap" or not dataset.in_memory:
        return 1
    images = sum(
        dataset.order.total(request.configs[arm].training)
        * request.configs[arm].training.batch_size
        * seeds[arm]
        for arm in arms
    )
    try:
        alone = _speed(session, config, first[:1], key)
        if images / alone < LEAST.get(session.runtime["backend"], ON_ACCELERATORS):
            return 1
        together = _speed(session, config, first[:count], key)
    except Exception:  # too little memory, or what the run itself will tell
        return 1
    chosen = count if together > WORTH * alone else 1
    way = f"{count} seeds at a time" if chosen > 1 else "one seed after another"
    print(
        f"{arms[0]}: {count} replicates trained together take {together:,.0f} images/s, one "
        f"{alone:,.0f}: {way}",
        flush=True,
    )
    return chosen


def _speed(session: Any, config: RunConfig, seeds: Sequence[int], key: str) -> float:
    """Images per second of so many replicates, measured now or kept from before."""

    def measure() -> dict[str, Any]:
        step = steps(session, config, seeds, together=len(seeds) > 1)
        for _ in range(WARM):
            step()
        seconds = []
        for _ in range(STEPS):
            started = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - started)
        images = len(seeds) * config.training.batch_size
        return {"images_per_second": images / statistics.median(seconds)}

    what = [key, "replicates", len(seeds), session.runtime, session.convolution(config)]
    return float(division.remembered(what, measure)["images_per_second"])
