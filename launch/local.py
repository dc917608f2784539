"""Executes runs on this machine, in one process or in several that share the runs.

Processes share nothing but the workdir: each takes the next run whose lock is free. A process that
is killed is restarted, and its run is resumed from its last checkpoint. The bits of a run depend on
the number of threads, so a run that was started with another number gets a process with that
number.
"""

import collections
import contextlib
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cnnjax import files, machine
from cnnjax.ablation import study
from cnnjax.errors import UserError, one_line
from cnnjax.fingerprint import Fingerprint
from launch import crashes, division, processes
from launch import plan as planning
from launch.progress import describe
from launch.request import Request
from launch.training import TrainingSetup
from launch.work import work

if TYPE_CHECKING:
    from cnnjax.data import LoadedData
    from cnnjax.train.session import Session

FORWARD = 1 / 3  # cost of a forward pass relative to a training step


def execute(request: Request, *, workers: int | None = 1, worker: int | None = None) -> int:
    """Trains the pending runs, and returns the exit code: 1 if a run failed, else 0.

    Args:
      request: the requested runs.
      workers: the number of processes; None to choose it by measurement.
      worker: the number of this process, if this function started it in another one.
    """
    request.check()
    for name in ("logs", "study"):  # the folders of runs and figures are checked on writing
        files.refuse_links(request.workdir / name, below=request.folder)
    threads = machine.threads()
    if worker is not None:
        session, broken = open_session(request.training, trains=True)
        study.check_data(request.workdir, session.fingerprints)
        excluded = crashes.excluded_runs()
        runs = [run for run in request.pending if crashes.key(run) not in excluded]
        runs = [run for run in runs if _threads(run, threads) == threads]
        if request.training.max_minutes is None:
            start = worker * len(runs) // (workers or 1)  # so that processes seldom meet
            runs = [*runs[start:], *runs[:start]]
        runs.sort(key=lambda run: run.arm not in broken)  # errors are reported first
        work(session, request.training, runs, quiet=True, processes=workers or 1)
        return 0  # failed runs are reported, but are not an error of this process
    loaded = {} if workers == 1 else _load(request)
    if workers is None:
        images = _images(request, loaded)
        request.write_question()  # which the processes that are timed read
        workers, _ = division.choose(request, images, threads)
    groups, data = collections.defaultdict(list), list[Fingerprint]()
    broken = {}
    for run in request.pending:
        groups[_threads(run, max(1, threads // workers))].append(run)
    in_process = workers == 1 and len(groups) == 1
    if in_process:
        os.environ["PJRT_NPROC"] = str(next(iter(groups)))
        session, broken = open_session(request.training, trains=True)
        data = session.fingerprints
    elif groups:
        data = [each.fingerprint for each in (loaded or _load(request)).values()]
        if request.loaded.levels or any(
            config.transfer.init_from or config.optimizer.groups
            for config in request.configs.values()
        ):
            session, broken = open_session(request.training)
    request.write_question()
    request.write(data)
    print("".join(f"{line}\n" for line in request.weight_changes()), end="")
    for arm, config in request.configs.items() if groups else ():
        if config.optimizer.groups and arm not in broken:
            print(f"{arm}: {session.groups(config)}")
    done = len(request.runs) - len(request.pending)
    if done:
        print(f"{done} of {len(request.runs)} runs have ended already in {request.workdir}")
    failing = [run for run in request.pending if run.arm in broken]
    total = len(request.pending)
    code = work(session, request.training, failing, quiet=False, total=total) if failing else 0
    sound, count = request.without(broken), {"ended": len(failing), "total": total}
    for threads, runs in groups.items():
        runs = [run for run in runs if run.arm not in broken]
        if in_process:
            code = max(code, work(session, sound.training, runs, quiet=False, **count))
        elif runs:
            pool = processes.Pool(sound, min(workers, len(runs)), threads)
            code = max(code, processes.share(pool, runs, **count))
        count["ended"] += len(runs)
    return max(code, _print_summary(request))


def _threads(run: study.RunFolder, default: int) -> int:
    """The threads that a run was started with, `default` if it was not started."""
    from cnnjax.train import folder

    with contextlib.suppress(TypeError, ValueError):
        return max(1, int(folder.resumed_settings(run.directory).get("threads", default)))
    return default


def _load(request: Request) -> dict[str, "LoadedData"]:
    """{arm: its data set} of the arms with pending runs. Raises UserError where one is missing,
    lacks what the arm's task reads, does not fit the arm's network or batch, or differs from that
    of runs in the workdir."""
    from cnnjax import data, models
    from cnnjax.tasks import registry

    loaded: dict[str, LoadedData] = {}
    arms = {}
    for arm in dict.fromkeys(run.arm for run in request.pending):
        config = request.configs[arm]
        key = config.data.model_dump_json()
        if key not in loaded:
            loaded[key] = data.load(config.data, request.training.data_dir)
        arms[arm], spec, levels = loaded[key], loaded[key].spec, request.loaded.levels
        try:
            task = registry.find(config.task, levels)
            task.check(config, spec)
            loaded[key].for_seed(0, config.training.batch_size)
            task = task.for_run(config, spec)
            models.build(
                config.model,
                image_shape=spec.image_shape,
                num_outputs=task.num_outputs(spec),
                per_pixel=task.per_pixel,
                head=registry.head(task, config.task, spec),
                levels=levels,
            )
        except UserError as error:
            raise UserError(f"arm {arm!r}: {error}", path=error.path) from None
        except Exception:
            if not levels:
                raise  # else it is the user's own code, whose runs fail and say so
    study.check_data(request.workdir, [dataset.fingerprint for dataset in loaded.values()])
    return arms


def _images(request: Request, loaded: Mapping[str, "LoadedData"]) -> dict[str, float]:
    """{arm: number of images that its pending runs are trained on}. An image of an evaluation
    counts as a third, for the forward pass. `loaded` has the data set of each arm.

    Raises UserError where a data set is smaller than an arm's batch."""
    images: dict[str, float] = {}
    for run in request.pending:
        config = request.configs[run.arm]
        batch = config.training.batch_size
        dataset = loaded[run.arm].for_seed(run.seed, batch)
        trained = dataset.order.total_steps(config.training) * batch
        evaluations = trained / dataset.order.examples / config.evaluation.every_epochs + 1
        sizes = {name: len(split) for name, split in dataset.splits.items()}
        evaluated = evaluations * sizes.get("validation", 0) + sizes.get("test", 0)
        images[run.arm] = images.get(run.arm, 0) + trained + FORWARD * evaluated
    return images


def describe_data(request: Request) -> None:
    """Prints a description of the folders of images of pending runs. Raises UserError where one
    cannot be read."""
    from cnnjax import data

    arms = {run.arm for run in request.pending}
    configs = (config.data for arm, config in request.configs.items() if arm in arms)
    lines = data.describe(configs, request.training.data_dir)
    print("".join(f"{line}\n" for line in lines), end="")


def plan(request: Request, *, commands: bool, jobs: int | None) -> None:
    """Prints the plan of a sweep. Nothing is run, but a question of the command line is written.

    Args:
      request: the requested runs.
      commands: whether to print the commands instead.
      jobs: about how many commands; None for one per program.
    """
    request.check()
    session, broken = open_session(request.training)
    sound = request.without(broken)
    images = {} if commands and not jobs else _images(sound, _load(sound))
    if commands or not (request.workdir / "study.json").exists():
        request.write_question()
        if request.text is not None:
            print(f"the question is kept as {request.loaded.path}", file=sys.stderr)
    for arm, error in broken.items():
        text = f"arm {arm!r} cannot be built, and its runs will fail: {error}"
        print(text, file=sys.stderr if commands else sys.stdout)
    if commands:
        lines = planning.commands(sound, session, jobs, images)
        print("".join(f"{line}\n" for line in lines), end="")
    else:
        describe_data(sound)
        planning.show(sound, session, images, machine.threads())


def open_session(
    training: TrainingSetup, *, trains: bool = False
) -> tuple["Session", dict[str, str]]:
    """Returns a session, and {arm: error} of the arms whose network cannot be built, whose runs
    will fail with that error. Unless it `trains`, the session leaves the memory of an accelerator
    to the processes that train. Raises UserError for what would make all runs of an arm fail."""
    from cnnjax.train.session import Session

    broken = {}
    with contextlib.nullcontext() if trains else machine.without_preallocation():
        session = Session(
            data_dir=training.data_dir,
            levels=training.levels,
            devices=training.devices,
            trains=trains,
        )
    for arm, config in training.configs.items():
        try:
            session.check(config)
        except UserError as error:
            if error.path is None:
                raise
            raise UserError(f"arm {arm!r}: {error}", path=error.path) from None
        except Exception as error:
            broken[arm] = one_line(error, training.path)
    if session.note:
        print(session.note)
    return session, broken


def _print_summary(request: Request) -> int:
    """Prints which runs failed or have not ended; returns 1 if any failed, or has not ended and is
    not being trained by another process."""
    results = {run: run.result() for run in request.runs}
    ended = {run: result for run, result in results.items() if result}
    failed = {run: result for run, result in ended.items() if result.status == "failed"}
    unfinished = [run for run in results if run not in ended]
    diverged = [result.status for result in ended.values()].count("diverged")
    count = f"{len(ended) - len(failed)} of {len(results)}"
    print(f"{count} runs have ended ({diverged} diverged), {len(failed)} failed")
    for run, result in failed.items():
        text = describe(run, result, request.training.primary)
        print(f"  {text}\n    whole error: {run.directory / 'error.txt'}")
    unlocked = 0
    fresh = [run for run in unfinished if not (run.directory / "config.json").exists()]
    if fresh:
        print(f"  {len(fresh)} of them have not been started; the same command goes on from here")
    for run in unfinished:
        with files.lock(run.directory / ".lock", wait=False) as free:
            unlocked += free
            if run in fresh:
                continue
            hint = "give the same command again" if free else "another process is training it"
            print(f"  {run.arm} seed {run.seed}: has not ended; {hint}")
    return 1 if failed or unlocked else 0
