"""The only training loop: from a configuration and seeds to folders with results."""

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax.config import RunConfig
from cnnjax.errors import Stopped
from cnnjax.train import folder
from cnnjax.train.lanes import Lanes, Metrics
from cnnjax.train.plan import Plan, plan
from cnnjax.train.probe import Probes
from cnnjax.train.records import Clock
from cnnjax.train.replicate import Job, Replicate, Say, Setting, opened
from cnnjax.train.session import Session

NO_PROBES = Probes()
ALONE, TOGETHER = "one after another", "together"


def never() -> str:
    """Nothing asks for a stop."""
    return ""


def run(
    session: Session,
    config: RunConfig,
    seed: int,
    directory: Path,
    *,
    identity: Mapping[str, Any] | None = None,
    probes: Probes = NO_PROBES,
    say: Say = print,
    stop: Callable[[], str] = never,
) -> dict[str, Any]:
    """Trains one run alone to its end, as `replicates` does; returns its result."""
    job = Job(seed, directory, identity or {})
    (result,) = replicates(
        session, config, [job], together=False, probes=probes, say=say, stop=stop
    )
    return result


def replicates(
    session: Session,
    config: RunConfig,
    jobs: Sequence[Job],
    *,
    together: bool = True,
    lanes: Sequence[int] = (),
    probes: Probes = NO_PROBES,
    say: Say = print,
    stop: Callable[[], str] = never,
) -> list[dict[str, Any]]:
    """Trains runs of one arm to their end, from where they were left, and writes and returns their
    results. Each has its own weights, order of the data, augmentation and dropout, which are those
    that it would have alone.

    Args:
      session: what the runs of this process share.
      config: the arm's resolved configuration.
      jobs: the runs.
      together: whether they take their steps together; else there is one.
      lanes: the seeds that runs which have begun were started together with, their own among them,
        in order; by default those of `jobs`.
      probes: what else is asked of the network; answers go into result.json.
      say: where lines for the user go.
      stop: asked between steps: what the runs are to stop for, empty for going on.

    Raises UserError for what the user can mend; the folders keep what was written. Raises Stopped
    when asked to stop, after a checkpoint of the last step is on the disk.
    """
    if together:  # the native convolution maps over no further axis
        lanes = list(lanes or [job.seed for job in jobs])
        convolution, way = "xla", {"replicates": TOGETHER, "lanes": lanes}
    else:
        begun = folder.begun(jobs[0].directory).get("convolution")
        convolution, way = session.convolution(config, begun), {"replicates": ALONE}
    program = session.program(config, convolution)
    fingerprint = session.load(config.data).fingerprint
    runtime = {**session.runtime, "convolution": convolution, **way, "data": fingerprint}
    setting = Setting(session, config, program, runtime, probes)
    planned = plan(config, setting.dataset(jobs[0].seed).order)
    with contextlib.ExitStack() as stack:
        bars: list[str | None] = [_bar(jobs), *[None] * (len(jobs) - 1)]
        runs = [
            stack.enter_context(opened(setting, job, planned, bar=bar, say=say))
            for job, bar in zip(jobs, bars, strict=True)
        ]
        started = {run: int(run.start.step) for run in runs}
        steps = sorted({*started.values(), planned.total_steps})
        for first, last in itertools.pairwise(steps):
            behind = [run for run in runs if started[run] <= first and not run.outcome]
            places = {lanes.index(run.job.seed) if together else 0: run for run in behind}
            width = len(lanes) if together else 0
            _train(setting, planned, places, first, last, width=width, stop=stop)
        for run in runs:
            _go_on(stop, planned.total_steps, planned)
            run.finish()
    compilations = [program.compiled.untold(), *[0] * (len(runs) - 1)]
    return [run.write(count) for run, count in zip(runs, compilations, strict=True)]


def _go_on(stop: Callable[[], str], step: int, planned: Plan) -> None:
    """Raises Stopped where the runs are to stop."""
    if stop():
        raise Stopped(f"stopped by {stop()} at step {step} of {planned.total_steps}")


def _bar(jobs: Sequence[Job]) -> str:
    """What the progress bar of some runs is called."""
    others = "".join(f", {job.seed}" for job in jobs[1:])
    return jobs[0].label + others


def _train(
    setting: Setting,
    planned: Plan,
    runs: Mapping[int, Replicate],
    first: int,
    last: int,
    *,
    width: int,
    stop: Callable[[], str],
) -> None:
    """The steps `first` + 1 to `last` of runs, by their lanes. Raises Stopped."""
    lanes = Lanes(
        setting.program.compiled,
        setting.store,
        {place: run.start for place, run in runs.items()},
        {place: setting.hparams(run.job.seed) for place, run in runs.items()},
        width=width,
    )
    clock = Clock()
    for run in runs.values():
        run.begin(clock, len(runs))
    flows = [run.dataset.train_batches(first, last) for run in runs.values()]
    going = dict(runs)

    def complete(step: int, metrics: Metrics) -> None:
        """Waits for a step, and takes in what it says."""
        values = lanes.wait(metrics)
        clock.tick()
        for place, run in going.items():
            run.trained(step, values[place])
        drop()

    def drop() -> None:
        """Runs that have diverged are not looked at any more."""
        for place in [place for place, run in going.items() if run.outcome]:
            del going[place]

    pending: Metrics | None = None
    for step, batches in enumerate(zip(*flows, strict=True), first + 1):
        if stop():
            if pending is not None:
                complete(step - 1, pending)
            for place, run in going.items():
                run.stop(step - 1, lanes.state(place))
            _go_on(stop, step - 1, planned)
        metrics = lanes.step(dict(zip(runs, batches, strict=True)), planned.rate(step))
        if pending is not None:
            complete(step - 1, pending)
        pending = metrics
        if going and (planned.due(step) or step == last):
            complete(step, pending)
            pending = None
            for place, run in going.items() if planned.due(step) else ():
                run.log(step, recent=planned.lines)
                if planned.saves(step):
                    run.save(step, lanes.state(place))
                    clock.go_on()
            drop()
        if not going:
            break
    for place, run in going.items():
        run.end(lanes.state(place))
