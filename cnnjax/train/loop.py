"""The only training loop: from a configuration and seeds to folders with results."""

import collections
import contextlib
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cnnjax.errors import Stopped
from cnnjax.result import RunResult
from cnnjax.train import folder, memory
from cnnjax.train.active_run import ActiveRun, ArmSetup, Job, label, open_run
from cnnjax.train.folder import Log
from cnnjax.train.metrics_log import Clock
from cnnjax.train.plan import Plan
from cnnjax.train.probe import Probes
from cnnjax.train.profile import Profile
from cnnjax.train.replicas import Metrics, Replicas
from cnnjax.train.session import Session

NO_PROBES, NO_PROFILE = Probes(), Profile()
CALLS_IN_FLIGHT = {"cpu": 1}
CALLS_IN_FLIGHT_ON_ACCELERATORS = 4
"""How many calls may be incomplete when the host makes the next one: enough to keep a device busy,
and few, so that a run stops soon after it is asked to."""

MAX_FETCH = 10_000
"""After how many calls their metrics are fetched from the devices even if no line is due."""


def never() -> str:
    """Never asks to stop."""
    return ""


def train(
    session: Session,
    jobs: Sequence[Job],
    *,
    replica_axis: Sequence[tuple[str, int]] = (),
    steps_per_call: int = 1,
    probes: Probes = NO_PROBES,
    profile: Profile = NO_PROFILE,
    log: Log = print,
    stop: Callable[[], str] = never,
) -> list[RunResult]:
    """Trains runs from their last checkpoints to their end; writes and returns their results. Each
    has the weights, order of the data, augmentation, dropout and numbers that it would have alone.

    Args:
      session: what the runs of this process share.
      jobs: the runs. Their configurations have one `program_key.replica_key`.
      replica_axis: the arm and seed of each run that these runs were started together with,
        including their own, in order; () for one run that is trained alone.
      steps_per_call: steps per call of the compiled program, where so many are left before a line
        is written. A resumed run keeps the number that it was started with.
      probes: what else is measured of the network, for result.json.
      profile: the trace of some of the steps.
      log: called with each line for the user.
      stop: called before each call; returns why the runs have to stop, "" if they do not.

    Raises UserError for what the user can correct; the folders keep what was written. Raises
    Stopped when asked to stop, after a checkpoint of the last step is on disk.
    """
    resumed = next(filter(None, (folder.resumed_settings(job.directory) for job in jobs)), {})
    steps_per_call = resumed.get("steps_per_call", steps_per_call)
    stepping: dict[str, Any] = {"steps_per_call": steps_per_call}
    if replica_axis:
        convolution = "xla"  # the native convolution has no batching rule
        stepping |= {"replicas": "together", "replica_axis": [*map(list, replica_axis)]}
    else:
        convolution = session.convolution(jobs[0].config, resumed.get("convolution"))
        stepping["replicas"] = "one after another"
    setups = _arm_setups(session, jobs, convolution, stepping, probes)
    width = len(replica_axis)
    with memory.explain_training(jobs[0].config, runs=width), contextlib.ExitStack() as stack:
        bars: list[str | None] = [label(jobs), *[None] * (len(jobs) - 1)]
        runs = [
            stack.enter_context(open_run(setup, job, bar=bar, log=log))
            for setup, job, bar in zip(setups, jobs, bars, strict=True)
        ]
        plan = runs[0].plan
        restored = {run: int(run.state.step) for run in runs}
        # Runs that were restored at a later step join the others there.
        for first, last in itertools.pairwise(sorted({*restored.values(), plan.total_steps})):
            active = [run for run in runs if restored[run] <= first and not run.outcome]
            try:
                _take_steps(
                    {replica_axis.index(run.job.key) if width else 0: run for run in active},
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
            _check_stop(stop, plan.total_steps, plan)
            run.finish()
    compilations = [setups[0].program.compiled.new_traces(), *[0] * (len(runs) - 1)]
    return [run.write(count) for run, count in zip(runs, compilations, strict=True)]


def _arm_setups(
    session: Session,
    jobs: Sequence[Job],
    convolution: str,
    stepping: Mapping[str, Any],
    probes: Probes,
) -> list[ArmSetup]:
    """The setup of each run; runs with the same configuration object share it."""
    setups: dict[int, ArmSetup] = {}
    for job in jobs:
        if id(job.config) not in setups:
            program = session.program(job.config, convolution)
            fingerprint = session.load(job.config.data).fingerprint
            numerics = {"convolution": convolution, **session.numerics(job.config)}
            runtime = {**session.runtime, **numerics, **stepping, "data": fingerprint}
            setups[id(job.config)] = ArmSetup(session, job.config, program, runtime, probes)
    return [setups[id(job.config)] for job in jobs]


def _check_stop(stop: Callable[[], str], step: int, plan: Plan) -> None:
    """Raises Stopped where the runs have to stop."""
    if stop():
        raise Stopped(f"stopped by {stop()} at step {step} of {plan.total_steps}")


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
    """Takes the steps `first` + 1 to `last` of runs, which are given by their indices on the
    replica axis. Raises Stopped.

    The host does not wait for a call before it makes the next one. The metrics of the steps, and
    whether they are finite, stay on the devices until a line is written.
    """
    any_run = next(iter(runs.values()))
    setup, plan = any_run.setup, any_run.plan
    replicas = Replicas(
        setup.program.compiled,
        setup.store,
        {index: run.state for index, run in runs.items()},
        {index: run.setup.hparams(run.job.seed) for index, run in runs.items()},
        width=width,
    )
    clock = Clock()
    for run in runs.values():
        run.begin(clock, len(runs))
    streams = {index: run.dataset.train_batches(first, last) for index, run in runs.items()}
    backend = setup.session.runtime["backend"]
    max_in_flight = CALLS_IN_FLIGHT.get(backend, CALLS_IN_FLIGHT_ON_ACCELERATORS)
    in_flight: collections.deque[tuple[range, Metrics]] = collections.deque()
    complete: list[tuple[range, Metrics]] = []

    def active() -> dict[int, ActiveRun]:
        """The runs that have not diverged."""
        return {index: run for index, run in runs.items() if not run.outcome}

    def wait(count: int) -> None:
        """Waits until no more than `count` calls are in flight."""
        while len(in_flight) > count:
            steps, metrics = in_flight.popleft()
            metrics["loss"].block_until_ready()  # then all outputs of the call are ready
            for value in metrics.values() if backend != "cpu" else ():
                value.copy_to_host_async()
            clock.tick(len(steps))
            for run in active().values():
                run.advance(len(steps))
            complete.append((steps, metrics))

    def fetch() -> None:
        """Waits for all calls and fetches their metrics."""
        wait(0)
        for steps, metrics in complete:
            figures = replicas.figures(metrics)
            for index, run in active().items():
                for step, values in zip(steps, figures[index], strict=True):
                    if not run.outcome:
                        run.add(step, values)
        complete.clear()

    name = label([run.job for run in runs.values()])
    for call, steps in enumerate(plan.calls(first, last, steps_per_call)):
        profile.before(call, name, functools.partial(wait, 0))
        if stop():
            fetch()
            for index, run in active().items():
                run.stop(steps[0] - 1, replicas.state(index))
            _check_stop(stop, steps[0] - 1, plan)
        batches = {
            index: list(itertools.islice(stream, len(steps))) for index, stream in streams.items()
        }
        rates = {index: [*map(run.plan.rate, steps)] for index, run in runs.items()}
        in_flight.append((steps, replicas.steps(replicas.batch(batches), rates)))
        wait(max_in_flight)
        step = steps[-1]
        if plan.due(step) or step == last or len(complete) >= MAX_FETCH:
            fetch()
        if plan.due(step):
            for index, run in active().items():
                run.log(step, recent=plan.log_every)
                if plan.saves(step):
                    run.save(step, replicas.state(index))
                    clock.restart()
        if not active():
            break
    for index, run in active().items():
        run.state = replicas.state(index)
