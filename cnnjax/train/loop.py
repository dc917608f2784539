"""The only training loop: from a configuration and seeds to folders with results."""

import collections
import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax.config import RunConfig
from cnnjax.errors import Stopped
from cnnjax.result import RunResult
from cnnjax.train import folder, memory
from cnnjax.train.active_run import ActiveRun, opened
from cnnjax.train.folder import Log
from cnnjax.train.job import Job, Setting
from cnnjax.train.metrics_log import Clock
from cnnjax.train.plan import Plan
from cnnjax.train.probe import Probes
from cnnjax.train.profile import Profile
from cnnjax.train.replicas import Metrics, Replicas
from cnnjax.train.session import Session

NO_PROBES, NO_PROFILE = Probes(), Profile()
ALONE, TOGETHER = "one after another", "together"
AHEAD = {"cpu": 1}
ON_ACCELERATORS = 4
"""How many calls the host makes before it waits for the first of them: enough for a device to have
the next one at hand; few, so that a run which is asked to stop does so soon."""

MOST = 10_000
"""How many calls' figures are kept on the devices, where lines are written seldom."""


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
    steps_per_call: int = 1,
    probes: Probes = NO_PROBES,
    log: Log = print,
    stop: Callable[[], str] = never,
) -> RunResult:
    """Trains one run alone to its end, as `train` does; returns its result."""
    job = Job(config, seed, directory, identity or {})
    (result,) = train(
        session,
        [job],
        together=False,
        steps_per_call=steps_per_call,
        probes=probes,
        log=log,
        stop=stop,
    )
    return result


def train(
    session: Session,
    jobs: Sequence[Job],
    *,
    together: bool = True,
    replica_axis: Sequence[tuple[str, int]] = (),
    steps_per_call: int = 1,
    probes: Probes = NO_PROBES,
    profile: Profile = NO_PROFILE,
    log: Log = print,
    stop: Callable[[], str] = never,
) -> list[RunResult]:
    """Trains runs to their end, from where they were left, and writes and returns their results.
    Each has its own weights, order of the data, augmentation, dropout and numbers, which are those
    that it would have alone.

    Args:
      session: what the runs of this process share.
      jobs: the runs. Their configurations have one `program_key.lockstep_key`.
      together: whether they take their steps together; else there is one.
      replica_axis: the arm and seed of each run that those which have begun were started together
        with, their own among them, in order; by default those of `jobs`.
      steps_per_call: how many steps are taken in one call of the compiled program, where so many
        are left before a line is written; a run that has begun keeps its number.
      probes: what else is asked of the network; answers go into result.json.
      profile: the trace of some of the steps.
      log: where lines for the user go.
      stop: asked between calls: what the runs are to stop for, empty for going on.

    Raises UserError for what the user can mend; the folders keep what was written. Raises Stopped
    when asked to stop, after a checkpoint of the last step is on the disk.
    """
    resumed = next(filter(None, (folder.resumed_settings(job.directory) for job in jobs)), {})
    steps_per_call = resumed.get("steps_per_call", steps_per_call)
    replica_axis = list(replica_axis or [job.key for job in jobs])
    way: dict[str, Any] = {"steps_per_call": steps_per_call}
    if together:  # the native convolution has no batching rule
        convolution, way = (
            "xla",
            {**way, "replicas": TOGETHER, "replica_axis": [*map(list, replica_axis)]},
        )
    else:
        convolution = session.convolution(jobs[0].config, resumed.get("convolution"))
        way["replicas"] = ALONE
    settings = _settings(session, jobs, convolution, way, probes)
    count = len(replica_axis) if together else 1
    with memory.explained(jobs[0].config, runs=count), contextlib.ExitStack() as stack:
        bars: list[str | None] = [_bar(jobs), *[None] * (len(jobs) - 1)]
        runs = [
            stack.enter_context(opened(setting, job, bar=bar, log=log))
            for setting, job, bar in zip(settings, jobs, bars, strict=True)
        ]
        planned = runs[0].planned
        started = {run: int(run.start.step) for run in runs}
        ends = sorted({*started.values(), planned.total_steps})
        for first, last in itertools.pairwise(ends):
            behind = [run for run in runs if started[run] <= first and not run.outcome]
            places = {replica_axis.index(run.job.key) if together else 0: run for run in behind}
            width = len(replica_axis) if together else 0
            try:
                _take_steps(
                    places,
                    first,
                    last,
                    width=width,
                    steps_per_call=steps_per_call,
                    profile=profile,
                    stop=stop,
                )
            finally:
                profile.end()
        for run in runs:
            _go_on(stop, planned.total_steps, planned)
            run.finish()
    compilations = [settings[0].program.compiled.new_traces(), *[0] * (len(runs) - 1)]
    return [run.write(count) for run, count in zip(runs, compilations, strict=True)]


def _settings(
    session: Session,
    jobs: Sequence[Job],
    convolution: str,
    way: Mapping[str, Any],
    probes: Probes,
) -> list[Setting]:
    """The setting of each run, one for those of an arm."""
    made: dict[int, Setting] = {}
    for job in jobs:
        if id(job.config) not in made:
            program = session.program(job.config, convolution)
            fingerprint = session.load(job.config.data).fingerprint
            used = {"convolution": convolution, **session.numerics(job.config)}
            runtime = {**session.runtime, **used, **way, "data": fingerprint}
            made[id(job.config)] = Setting(session, job.config, program, runtime, probes)
    return [made[id(job.config)] for job in jobs]


def _go_on(stop: Callable[[], str], step: int, planned: Plan) -> None:
    """Raises Stopped where the runs are to stop."""
    if stop():
        raise Stopped(f"stopped by {stop()} at step {step} of {planned.total_steps}")


def _bar(jobs: Sequence[Job]) -> str:
    """What the progress bar of some runs is called."""
    arms = dict.fromkeys(job.named["arm"] for job in jobs)
    seeds = dict.fromkeys(str(job.seed) for job in jobs)
    return f"{', '.join(arms)} seed {', '.join(seeds)}".strip()


def _take_steps(
    runs: Mapping[int, ActiveRun],
    first: int,
    last: int,
    *,
    width: int,
    steps_per_call: int,
    profile: Profile,
    stop: Callable[[], str],
) -> None:
    """The steps `first` + 1 to `last` of runs, by their places on the replica axis. Raises Stopped.

    The host does not wait for a call before it makes the next one. What the steps say of loss and
    accuracy, and whether they were finite, stays on the devices until a line is written.
    """
    some = next(iter(runs.values()))
    setting, planned = some.setting, some.planned
    replicas = Replicas(
        setting.program.compiled,
        setting.store,
        {place: run.start for place, run in runs.items()},
        {place: run.setting.hparams(run.job.seed) for place, run in runs.items()},
        width=width,
    )
    clock = Clock()
    for run in runs.values():
        run.begin(clock, len(runs))
    flows = {place: run.dataset.train_batches(first, last) for place, run in runs.items()}
    going = dict(runs)
    backend = setting.session.runtime["backend"]
    most_ahead = AHEAD.get(backend, ON_ACCELERATORS)
    under_way: collections.deque[tuple[range, Metrics]] = collections.deque()
    complete: list[tuple[range, Metrics]] = []

    def wait(ahead: int) -> None:
        """Waits until no more than `ahead` calls are under way."""
        while len(under_way) > ahead:
            steps, metrics = under_way.popleft()
            metrics["loss"].block_until_ready()  # as is then all that the call gives
            for value in metrics.values() if backend != "cpu" else ():
                value.copy_to_host_async()
            clock.tick(len(steps))
            for run in going.values():
                run.advance(len(steps))
            complete.append((steps, metrics))

    def take_in() -> None:
        """Waits for all calls, and takes in what their steps say."""
        wait(0)
        for steps, metrics in complete:
            figures = replicas.figures(metrics)
            for place, run in list(going.items()):
                for step, values in zip(steps, figures[place], strict=True):
                    if not run.outcome:
                        run.trained(step, values)
        complete.clear()
        drop()

    def drop() -> None:
        """Runs that have diverged are not looked at any more."""
        for place in [place for place, run in going.items() if run.outcome]:
            del going[place]

    label = _bar([run.job for run in runs.values()])
    for number, steps in enumerate(planned.calls(first, last, steps_per_call)):
        profile.before(number, label, lambda: wait(0))
        if stop():
            take_in()
            for place, run in going.items():
                run.stop(steps[0] - 1, replicas.state(place))
            _go_on(stop, steps[0] - 1, planned)
        batches = {place: list(itertools.islice(flow, len(steps))) for place, flow in flows.items()}
        rates = {place: [*map(run.planned.rate, steps)] for place, run in runs.items()}
        under_way.append((steps, replicas.steps(replicas.batch(batches), rates)))
        wait(most_ahead)
        step = steps[-1]
        if planned.due(step) or step == last or len(complete) >= MOST:
            take_in()
        if planned.due(step):
            for place, run in going.items():
                run.log(step, recent=planned.log_every)
                if planned.saves(step):
                    run.save(step, replicas.state(place))
                    clock.go_on()
            drop()
        if not going:
            break
    for place, run in going.items():
        run.end(replicas.state(place))
