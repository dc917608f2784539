"""The executor on this machine: one process, or several that share the runs.

Processes share nothing but the workdir: each takes the next run whose lock is free. A process that
is killed is started again, and its run goes on from its last checkpoint. The bits of a run depend
on the number of threads, so a run that was started with another number gets a process of its own
kind.
"""

import collections
import contextlib
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cnnjax import files, machine
from cnnjax.ablation import study
from cnnjax.errors import UserError, one_line
from cnnjax.fingerprint import Fingerprint
from launch import deaths, division, processes
from launch import plan as planning
from launch.progress import describe
from launch.request import Request
from launch.training import Training
from launch.work import work

FORWARD = 1 / 3  # of the operations of a training step


def execute(request: Request, *, workers: int | None = 1, worker: int | None = None) -> int:
    """Runs what is pending, and returns the exit code: 1 if a run failed, else 0.

    Args:
      request: what was asked for.
      workers: the number of processes; None for as many as make the most of the cores.
      worker: in a process that this function started: its number.
    """
    request.check()
    for name in ("logs", "study"):  # those of runs and figures are checked where they are written
        files.refuse_links(request.workdir / name, below=request.folder)
    threads = machine.threads()
    if worker is not None:
        started, unsound = session(request.training, trains=True)
        study.check_data(request.workdir, started.fingerprints)
        others = deaths.left_out()
        mine = [run for run in request.pending if deaths.key(run) not in others]
        mine = [run for run in mine if _threads(run, threads) == threads]
        if request.training.max_minutes is None:
            mine = _from(mine, worker, workers or 1)
        mine.sort(key=lambda run: run.arm not in unsound)  # what is wrong is said first
        work(started, request.training, mine, quiet=True, processes=workers or 1)
        return 0  # a run that failed has said so; this process has not
    request.keep_question()
    if workers is None:
        workers = division.processes(_work(request, _images(request, _load(request))), threads)
    here = threads if workers == 1 else max(1, threads // workers)
    groups, data = collections.defaultdict(list), list[Fingerprint]()
    broken: Collection[str] = ()
    for run in request.pending:
        groups[_threads(run, here)].append(run)
    alone = workers == 1 and len(groups) == 1
    if alone:
        os.environ["PJRT_NPROC"] = str(next(iter(groups)))
        started, broken = session(request.training, trains=True)
        data = started.fingerprints
    elif groups:
        data = [loaded.fingerprint for loaded in _load(request).values()]
        if request.loaded.levels or any(
            config.transfer.init_from or config.optimizer.groups
            for config in request.configs.values()
        ):
            started, broken = session(request.training)
    request.write(data)
    print("".join(f"{line}\n" for line in request.brought()), end="")
    for arm, config in request.configs.items() if groups else ():
        if config.optimizer.groups and arm not in broken:
            print(f"{arm}: {started.groups(config)}")
    done = len(request.runs) - len(request.pending)
    if done:
        print(f"{done} of {len(request.runs)} runs have ended already in {request.workdir}")
    failing = [run for run in request.pending if run.arm in broken]
    total = len(request.pending)
    code = work(started, request.training, failing, quiet=False, total=total) if failing else 0
    sound, count = request.without(broken), {"ended": len(failing), "total": total}
    for threads, runs in groups.items():
        runs = [run for run in runs if run.arm not in broken]
        if alone:
            code = max(code, work(started, sound.training, runs, quiet=False, **count))
        elif runs:
            number = min(workers, len(runs))
            pool = processes.Pool(sound.words, request.workdir / "logs", number, threads)
            code = max(code, processes.share(pool, sound.training, runs, **count))
        count["ended"] += len(runs)
    return max(code, _summary(request))


def _threads(run: study.RunFolder, otherwise: int) -> int:
    """The threads that a run was started with, `otherwise` if it was not started yet."""
    from cnnjax.train import folder

    with contextlib.suppress(TypeError, ValueError):
        return max(1, int(folder.resumed_settings(run.directory).get("threads", otherwise)))
    return otherwise


def _from(runs: Sequence[study.RunFolder], worker: int, workers: int) -> list[study.RunFolder]:
    """The runs, each worker beginning at another place, so that they seldom meet."""
    start = worker * len(runs) // max(workers, 1)
    return [*runs[start:], *runs[:start]]


def _load(request: Request) -> dict[str, Any]:
    """{arm: its data set} of the arms with pending runs. Raises UserError where one is missing, or
    is not the one that runs in the workdir were begun on."""
    from cnnjax import data

    loaded: dict[str, data.Loaded] = {}
    arms = {}
    for arm in dict.fromkeys(run.arm for run in request.pending):
        config = request.configs[arm].data
        key = config.model_dump_json()
        if key not in loaded:
            loaded[key] = data.load(config, request.training.data_dir)
        arms[arm] = loaded[key]
    study.check_data(request.workdir, [each.fingerprint for each in loaded.values()])
    return arms


def _images(request: Request, loaded: Mapping[str, Any]) -> dict[str, float]:
    """How many images each arm with pending runs has to train on; one that it is evaluated on
    counts as a third, for a forward pass without the gradients. `loaded` has the arms' data.

    Raises UserError where a data set is too small for an arm's batch."""
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


def _work(request: Request, images: Mapping[str, float]) -> division.Work:
    """The pending runs, as they are divided among processes."""
    return division.Work(request.training, request.words, images, len(request.pending))


def describe_data(request: Request) -> None:
    """Prints what the folders of images of pending runs hold. Raises UserError where one cannot be
    read."""
    from cnnjax import data

    arms = {run.arm for run in request.pending}
    configs = (config.data for arm, config in request.configs.items() if arm in arms)
    print("".join(f"{line}\n" for line in data.describe(configs)), end="")


def plan(request: Request, *, commands: bool, jobs: int | None = None) -> None:
    """Prints what would be done; nothing is, but a question of the command line is kept.

    Args:
      request: what is asked for.
      commands: whether commands are printed that do it.
      jobs: about how many of them; None for one for each program.
    """
    request.check()
    if commands or not (request.workdir / "study.json").exists():
        request.keep_question()
        if request.text is not None:
            print(f"the question is kept as {request.loaded.path}", file=sys.stderr)
    started, broken = session(request.training)
    for arm, text in broken.items():
        said = f"arm {arm!r} cannot be built, and its runs will fail: {text}"
        print(said, file=sys.stderr if commands else sys.stdout)
    sound = request.without(broken)
    images = {} if commands and not jobs else _images(sound, _load(sound))
    if commands:
        lines = planning.commands(sound, started, jobs, images)
        print("".join(f"{line}\n" for line in lines), end="")
    else:
        describe_data(sound)
        planning.show(sound, started, _work(sound, images), machine.threads())


def session(training: Training, *, trains: bool = False) -> tuple[Any, Mapping[str, str]]:
    """A session, and {arm: why} of arms whose network cannot be built in it, which every run of
    them will tell. All others can start. One that only checks, as it is unless it `trains`, leaves
    the memory of an accelerator to the processes that train. Raises UserError."""
    from cnnjax.train.session import Session

    broken = {}
    with contextlib.nullcontext() if trains else machine.without_preallocation():
        made = Session(
            data_dir=training.data_dir,
            levels=training.levels,
            devices=training.devices,
            trains=trains,
        )
    for arm, config in training.configs.items():
        try:
            made.check(config)
        except UserError:
            raise
        except Exception as error:
            broken[arm] = one_line(error, training.path)
    if made.note:
        print(made.note)
    return made, broken


def _summary(request: Request) -> int:
    """Prints what failed and what is left; returns 1 if anything did, or is left to this study."""
    results = {run: run.result() for run in request.runs}
    ended_as = [result.status for result in results.values() if result]
    failed = {
        run: result for run, result in results.items() if result and result.status == "failed"
    }
    open_ = [run for run, result in results.items() if result is None]
    diverged = ended_as.count("diverged")
    ended = len(results) - len(failed) - len(open_)
    count = f"{ended} of {len(results)}"
    print(f"{count} runs have ended ({diverged} diverged), {len(failed)} failed")
    for run, result in failed.items():
        said = describe(run, result, request.training.primary)
        print(f"  {said}\n    whole error: {run.directory / 'error.txt'}")
    left = 0
    fresh = [run for run in open_ if not (run.directory / "config.json").exists()]
    if fresh:
        print(f"  {len(fresh)} of them have not been started; the same command goes on from here")
    for run in open_:
        with files.lock(run.directory / ".lock", wait=False) as free:
            left += free
            if run in fresh:
                continue
            todo = "give the same command again" if free else "another process is at it"
        print(f"  {run.arm} seed {run.seed}: has not ended; {todo}")
    return 1 if failed or left else 0
