"""The only training loop: from a configuration and seeds to folders with results."""

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax.config import RunConfig
from cnnjax.train import folder
from cnnjax.train.lanes import Lanes, Metrics
from cnnjax.train.plan import Plan, plan
from cnnjax.train.probe import Probes
from cnnjax.train.records import Clock
from cnnjax.train.replicate import Job, Replicate, Say, Setting, opened
from cnnjax.train.session import Session

NO_PROBES = Probes()
ALONE, TOGETHER = "one after another", "together"


def run(
    session: Session,
    config: RunConfig,
    seed: int,
    directory: Path,
    *,
    identity: Mapping[str, Any] | None = None,
    probes: Probes = NO_PROBES,
    say: Say = print,
) -> dict[str, Any]:
    """Trains one run alone to its end, as `replicates` does; returns its result."""
    job = Job(seed, directory, identity or {})
    return replicates(session, config, [job], together=False, probes=probes, say=say)[0]


def replicates(
    session: Session,
    config: RunConfig,
    jobs: Sequence[Job],
    *,
    together: bool = True,
    probes: Probes = NO_PROBES,
    say: Say = print,
) -> list[dict[str, Any]]:
    """Trains runs of one arm to their end, from where they were left, and writes and returns their
    results. Each has its own weights, order of the data, augmentation and dropout, which are those
    that it would have alone.

    Args:
      session: what the runs of this process share.
      config: the arm's resolved configuration.
      jobs: the runs.
      together: whether they take their steps together; else there is one.
      probes: what else is asked of the network; answers go into result.json.
      say: where lines for the user go.

    Raises UserError for what the user can mend; the folders keep what was written.
    """
    begun = folder.begun(jobs[0].directory).get("convolution")
    # the native convolution maps over no further axis
    convolution = "xla" if together else session.convolution(config, begun_with=begun)
    program = session.program(config, convolution)
    way = {"convolution": convolution, "replicates": TOGETHER if together else ALONE}
    setting = Setting(session, config, program, {**session.runtime, **way}, probes)
    planned = plan(config, setting.dataset(jobs[0].seed).order)
    with contextlib.ExitStack() as stack:
        bars: list[str | None] = [_bar(jobs), *[None] * (len(jobs) - 1)]
        runs = [
            stack.enter_context(opened(setting, job, planned, bar=bar, say=say))
            for job, bar in zip(jobs, bars, strict=True)
        ]
        by_step = sorted(runs, key=lambda run: int(run.start.step))
        for step, group in itertools.groupby(by_step, lambda run: int(run.start.step)):
            _train(setting, planned, list(group), step, together=together)
    compilations = [program.compiled.untold(), *[0] * (len(runs) - 1)]
    return [run.write(count) for run, count in zip(runs, compilations, strict=True)]


def _bar(jobs: Sequence[Job]) -> str:
    """What the progress bar of some runs is called."""
    others = "".join(f", {job.seed}" for job in jobs[1:])
    return jobs[0].label + others


def _train(
    setting: Setting, planned: Plan, runs: Sequence[Replicate], first: int, *, together: bool
) -> None:
    """All remaining steps of runs that have taken `first` steps, then the final evaluation."""
    lanes = Lanes(
        setting.program.compiled,
        setting.store,
        [run.start for run in runs],
        [setting.session.hparams(setting.config, run.job.seed, setting.program) for run in runs],
        together=together,
    )
    clock = Clock()
    for run in runs:
        run.begin(clock, len(runs))
    flows = [run.dataset.train_batches(first, planned.total_steps) for run in runs]
    going = dict(enumerate(runs))

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
        metrics = lanes.step(batches, planned.learning_rates[step - 1])
        if pending is not None:
            complete(step - 1, pending)
        pending = metrics
        if going and planned.due(step):
            complete(step, pending)
            pending = None
            for place, run in going.items():
                run.log(step, recent=planned.lines)
                if step in planned.checkpoints:
                    run.save(step, lanes.state(place))
                    clock.go_on()
            drop()
        if not going:
            break
    for place, run in going.items():
        run.finish(lanes.state(place))
