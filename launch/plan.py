"""The plan of a sweep: its runs, time, disk space, and what its seeds can show."""

import collections
import itertools
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cnnjax.ablation import claims
from cnnjax.ablation.study import RunFolder
from launch import division
from launch.progress import duration
from launch.request import Request

if TYPE_CHECKING:
    from cnnjax.train.session import Session

BYTES_PER_LOGIT = 5  # of a compressed float32, rounded up
# Seconds until the first step of a process, and for the compilation of each program, of small
# networks; see docs/networks.md for others.
START, COMPILE = 4.0, 4.0
SLOTS = {"sgd": 0, "momentum": 1, "nesterov": 1, "rmsprop": 1, "adam": 2, "adamw": 2, "lars": 1}


def show(request: Request, session: "Session", images: Mapping[str, float], threads: int) -> None:
    """Prints the plan of the pending runs.

    Args:
      request: the requested runs.
      session: a session in which every configuration can be built.
      images: {arm: number of images that its pending runs are trained on}.
      threads: the number of threads of this machine.
    """
    runs, pending = request.runs, request.pending
    arms, seeds = len(request.configs), len(request.seeds)
    print(f"{arms} arms x {seeds} seeds = {len(runs)} runs, {len(pending)} of them to be done")
    programs = len(groups(request, session))
    print(f"groups that share a program: {programs}")
    if pending:
        processes, seconds = division.choose(request, images, threads, verbose=False)
        print(
            f"time: about {duration(seconds)} with {processes} process{'es' * (processes > 1)}; "
            "start-up and, the first time, compilation come on top, about "
            f"{duration(START + COMPILE * programs)}"
        )
        print(f"disk: {_disk(request, session, pending)}")
    _show_power(request)


def commands(
    request: Request, session: "Session", jobs: int | None, images: Mapping[str, float]
) -> list[str]:
    """Shell commands for the pending runs. They can be run at the same time, on machines that share
    the workdir.

    Args:
      request: the requested runs.
      session: a session in which every configuration can be built.
      jobs: about how many commands of about equal cost; None for one command per program.
      images: {arm: number of images that its pending runs are trained on}.
    """
    parts = groups(request, session)
    if jobs is not None:
        parts = divide(parts, _costs(request, session, images), jobs)
    lines = []
    shared = [flag for flag in request.sweep_flags if not flag.startswith(("--arms=", "--seeds="))]
    for runs in parts:
        arms = ",".join(dict.fromkeys(run.arm for run in runs))
        seeds = ",".join(map(str, dict.fromkeys(run.seed for run in runs)))
        words = ["python", "-m", "launch.train", f"--arm={arms}", f"--seeds={seeds}", *shared]
        lines.append(shlex.join(words))
    return lines


def divide(
    groups: Sequence[Sequence[RunFolder]], costs: Mapping[str, float], jobs: int
) -> list[list[RunFolder]]:
    """Divides groups of runs into about `jobs` parts of about equal cost. Each part has some arms
    with some seeds. A group that costs more than a part is split by seeds, then by arms; cheaper
    groups are joined.

    Args:
      groups: runs that share a program.
      costs: {arm: cost of one run}.
      jobs: about how many parts.
    """
    group_costs = [sum(costs[run.arm] for run in runs) for runs in groups]
    share = sum(group_costs) / jobs
    parts, small = [], []
    for runs, cost in zip(groups, group_costs, strict=True):
        count = round(cost / share)
        if count > 1:
            parts += _split(runs, count)
        else:
            small.append((cost, runs))
    joined: list[list[RunFolder]] = [[] for _ in range(max(1, jobs - len(parts)))]
    sums = [0.0] * len(joined)
    for cost, runs in sorted(small, key=lambda pair: -pair[0]):
        cheapest = sums.index(min(sums))
        joined[cheapest] += runs
        sums[cheapest] += cost
    return [*parts, *filter(None, joined)]


def _split(runs: Sequence[RunFolder], count: int) -> list[list[RunFolder]]:
    """Splits the runs of a group into about `count` parts: by seeds, and also by arms if there are
    too few seeds."""
    seeds = _chunks(list(dict.fromkeys(run.seed for run in runs)), count)
    arms = _chunks(list(dict.fromkeys(run.arm for run in runs)), round(count / len(seeds)))
    parts = (
        [run for run in runs if run.seed in part_seeds and run.arm in part_arms]
        for part_seeds, part_arms in itertools.product(seeds, arms)
    )
    return list(filter(None, parts))


def _chunks(values: list[Any], count: int) -> list[list[Any]]:
    """Splits values into `count` parts of about equal length, or fewer so that none is empty."""
    count = max(1, min(count, len(values)))
    ends = [round(len(values) * index / count) for index in range(count + 1)]
    return [values[start:end] for start, end in itertools.pairwise(ends)]


def _costs(request: Request, session: "Session", images: Mapping[str, float]) -> dict[str, float]:
    """{arm: cost of one run}: its images times the multiply-adds of its network."""
    from cnnjax.analysis import layers

    runs = collections.Counter(run.arm for run in request.pending)
    multiply_adds: dict[str, int] = {}
    costs = {}
    for arm in runs:
        config = request.configs[arm]
        key = session.steps_key(config)
        if key not in multiply_adds:
            shape = session.load(config.data).spec.image_shape
            multiply_adds[key] = layers.multiply_adds(session.module(config), shape)
        costs[arm] = images[arm] / runs[arm] * max(1, multiply_adds[key])
    return costs


def groups(request: Request, session: "Session") -> list[list[RunFolder]]:
    """The pending runs, grouped by their compiled steps."""
    by_steps = collections.defaultdict(list)
    for run in request.pending:
        by_steps[session.steps_key(request.configs[run.arm])].append(run)
    return list(by_steps.values())


def _disk(request: Request, session: "Session", pending: Sequence[RunFolder]) -> str:
    """The disk space of checkpoints and predictions."""
    import jax

    sizes = {}
    for arm, config in request.configs.items():
        program = session.program(config)
        numbers = sum(leaf.size for leaf in jax.tree.leaves(program.shapes))
        copies = 1 + SLOTS[config.optimizer.name] + (config.training.ema_decay is not None)
        dataset = session.dataset(config, request.seeds[0])
        examples = sum(len(split) for name, split in dataset.splits.items() if name != "train")
        # Predictions are a class for each pixel, or a logit for each output.
        height, width, _ = dataset.spec.image_shape
        outputs = program.task.num_outputs(dataset.spec)
        logits = sum(outputs.values()) if isinstance(outputs, Mapping) else outputs
        each = height * width if program.task.per_pixel else BYTES_PER_LOGIT * logits
        weights = 4 * numbers * copies * (config.checkpointing.keep_last + 1)
        sizes[arm] = weights + examples * each
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
    detectable = power.detectable(seeds)
    if detectable is None:
        print("one seed shows no difference at all: ask for at least two")
        return
    corrected = power.detectable(seeds, max(1, family))
    print(
        f"found with probability 0.8: a difference of {detectable:.2g} sd of the paired differences"
        + (f", {corrected:.2g} sd after correction" if family > 1 else "")
    )


def _show_shares(request: Request, levels: Mapping[str, Any], family: int) -> None:
    """Prints how many runs it takes to show the claims about a share of the runs."""
    from cnnjax.report import statements

    for claim in request.loaded.experiment.claims:
        if claim.kind not in ("diverges", "chance_level"):
            continue
        for block in claims.blocks_of(claim, levels):
            runs = len(claims.arms_of(claim.sides[0], block, levels)) * len(request.seeds)
            in_block = f" [{block}]" if block else ""
            statement = statements.claim_text(claim, request.training.metrics)
            print(f"  {statement}{in_block}: {statements.to_show(claim, runs, family)}")
