"""What a sweep would do, before it does it: runs, time, disk, and what its seeds can show."""

import collections
import itertools
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from cnnjax.ablation import claims
from cnnjax.ablation.study import RunFolder
from launch import division
from launch.progress import duration
from launch.request import Request

BYTES_OF_LOGITS = 5.0  # a compressed float32, a little more than stored
START, COMPILE = 4.0, 4.0  # seconds, of small networks; docs/networks.md has those of each
SLOTS = {"sgd": 0, "momentum": 1, "nesterov": 1, "rmsprop": 1, "adam": 2, "adamw": 2, "lars": 1}


def show(request: Request, session: Any, work: division.Work, threads: int) -> None:
    """Prints the plan of what is pending.

    Args:
      request: what is asked for.
      session: one in which every configuration can start.
      work: the pending runs.
      threads: the threads there are.
    """
    runs, pending = request.runs, request.pending
    arms, seeds = len(request.configs), len(request.seeds)
    print(f"{arms} arms x {seeds} seeds = {len(runs)} runs, {len(pending)} of them to be done")
    print(f"groups that share a program: {len(groups(request, session))}")
    if pending:
        number, seconds = division.expected(work, threads)
        print(
            f"time: about {duration(seconds)} with {number} processes; start-up and, the first "
            f"time, compilation come on top, about {duration(_start_up(request, session))}"
        )
        print(f"disk: {_disk(request, session, pending)}")
    _show_power(request)


def commands(
    request: Request, session: Any, jobs: int | None, images: Mapping[str, float]
) -> list[str]:
    """Commands for the pending runs, fit for a shell or a scheduler. They may run at the same time,
    on machines that share the workdir.

    Args:
      request: what is asked for.
      session: one in which every configuration can start.
      jobs: about how many commands, of about equal cost; None for one for each program.
      images: of each arm that is not done, how many images it has to train on.
    """
    parts = groups(request, session)
    if jobs is not None:
        parts = divided(parts, _costs(request, session, images), jobs)
    found = []
    shared = request.words_without("--arms", "--seeds")
    for runs in parts:
        arms = ",".join(dict.fromkeys(run.arm for run in runs))
        seeds = ",".join(map(str, dict.fromkeys(run.seed for run in runs)))
        words = ["python", "-m", "launch.train", f"--arm={arms}", f"--seeds={seeds}", *shared]
        found.append(shlex.join(words))
    return found


def divided(
    groups: Sequence[Sequence[RunFolder]], costs: Mapping[str, float], jobs: int
) -> list[list[RunFolder]]:
    """Groups of runs divided into about `jobs` parts of about equal cost, each some arms with some
    seeds. A group that costs more than a part is split by seeds, then by arms; those that cost less
    are put together.

    Args:
      groups: runs that share a program.
      costs: what a run of each arm costs.
      jobs: about how many parts.
    """
    cost = [sum(costs[run.arm] for run in runs) for runs in groups]
    share = sum(cost) / jobs
    parts, small = [], []
    for runs, each in zip(groups, cost, strict=True):
        count = round(each / share)
        if count > 1:
            parts += _split(runs, count)
        else:
            small.append((each, runs))
    together: list[list[RunFolder]] = [[] for _ in range(max(1, jobs - len(parts)))]
    sums = [0.0] * len(together)
    for each, runs in sorted(small, key=lambda pair: -pair[0]):
        place = sums.index(min(sums))
        together[place] += runs
        sums[place] += each
    return [*parts, *filter(None, together)]


def _split(runs: Sequence[RunFolder], count: int) -> list[list[RunFolder]]:
    """Runs of a group in about `count` parts: by seeds, and by arms where there are too few."""
    seeds = _chunks(list(dict.fromkeys(run.seed for run in runs)), count)
    arms = _chunks(list(dict.fromkeys(run.arm for run in runs)), round(count / len(seeds)))
    parts = [
        [run for run in runs if run.seed in some and run.arm in these]
        for some in seeds
        for these in arms
    ]
    return [part for part in parts if part]


def _chunks(values: list[Any], count: int) -> list[list[Any]]:
    """Values in so many parts of about equal length, but none that is empty."""
    count = max(1, min(count, len(values)))
    ends = [round(len(values) * place / count) for place in range(count + 1)]
    return [values[start:end] for start, end in itertools.pairwise(ends)]


def _costs(request: Request, session: Any, images: Mapping[str, float]) -> dict[str, float]:
    """What a run of each arm costs: its images, times the multiply-adds of its network."""
    from cnnjax.analysis import layers

    runs = collections.Counter(run.arm for run in request.pending)
    each: dict[str, int] = {}
    costs = {}
    for arm in runs:
        config = request.configs[arm]
        key = session.steps_key(config)
        if key not in each:
            shape = session.load(config.data).spec.image_shape
            each[key] = layers.multiply_adds(session.plain_module(config), shape)
        costs[arm] = images[arm] / runs[arm] * max(1, each[key])
    return costs


def groups(request: Request, session: Any) -> list[list[RunFolder]]:
    """The pending runs, those together that share a compiled step."""
    found = collections.defaultdict(list)
    for run in request.pending:
        found[session.steps_key(request.configs[run.arm])].append(run)
    return list(found.values())


def _start_up(request: Request, session: Any) -> float:
    """Seconds: of a process until its first step, and to compile for each group."""
    return START + COMPILE * len(groups(request, session))


def _disk(request: Request, session: Any, pending: Sequence[RunFolder]) -> str:
    """The room that checkpoints and predictions take."""
    import jax

    sizes = {}
    for arm, config in request.configs.items():
        program = session.program(config)
        numbers = sum(leaf.size for leaf in jax.tree.leaves(program.shapes))
        copies = 1 + SLOTS[config.optimizer.name] + (config.training.ema_decay is not None)
        dataset = session.dataset(config, request.seeds[0])
        examples = sum(len(split) for name, split in dataset.splits.items() if name != "train")
        logits = examples * program.task.num_outputs(dataset.spec) * BYTES_OF_LOGITS
        sizes[arm] = 4 * numbers * copies * (config.checkpointing.keep_last + 1) + logits
    return f"about {sum(sizes[run.arm] for run in pending) / 1e6:,.0f} MB"


def _show_power(request: Request) -> None:
    from cnnjax.ablation import power  # scipy takes a while to import
    from cnnjax.report import formatting

    experiment, seeds = request.loaded.experiment, len(request.seeds)
    levels = {arm: experiment.levels(arm) for arm in request.configs}
    family = sum(len(claims.blocks_of(claim, levels)) for claim in experiment.claims)
    if family:
        tests = formatting.count(family, "test")
        print(f"claims: {len(experiment.claims)}, put to {tests} (corrected together)")
    _show_shares(request, levels, family)
    print(f"smallest two-sided p of the exact permutation test: {power.smallest_p(seeds):.4g}")
    alone = power.detectable(seeds)
    if alone is None:
        print("one seed shows no difference at all: ask for at least two")
        return
    together = power.detectable(seeds, max(1, family))
    text = f"found with probability 0.8: a difference of {alone:.2g} sd of the paired differences"
    print(text + (f", {together:.2g} sd after correction" if family > 1 else ""))


def _show_shares(request: Request, levels: Mapping[str, Any], family: int) -> None:
    """What it takes to show the claims that are about a share of the runs."""
    from cnnjax.report import statements

    for claim in request.loaded.experiment.claims:
        if claim.kind not in ("diverges", "chance_level"):
            continue
        for block in claims.blocks_of(claim, levels):
            runs = len(claims.arms_of(claim.sides[0], block, levels)) * len(request.seeds)
            where = f" [{block}]" if block else ""
            said = statements.claim_text(claim, request.training.metrics)
            print(f"  {said}{where}: {statements.to_show(claim, runs, family)}")
