"""How the runs of a sweep become commands."""

from pathlib import Path

import pytest

from cnnjax.ablation import study
from launch import plan


def runs(arms, seeds):
    return study.runs(Path("w"), arms, seeds)


def is_product(part):
    """Whether a part is a product of arms and seeds, which one command can name."""
    arms, seeds = {run.arm for run in part}, {run.seed for run in part}
    return len(part) == len(arms) * len(seeds)


@pytest.mark.parametrize(("jobs", "size"), [(1, 40), (4, 10), (8, 5), (40, 1)])
def test_runs_of_one_program_are_split_by_seeds_then_by_arms(jobs, size):
    group = runs(["a", "b", "c", "d", "e"], range(8))
    parts = plan.divide([group], dict.fromkeys("abcde", 1.0), jobs)
    assert [len(part) for part in parts] == [size] * jobs
    assert {run for part in parts for run in part} == set(group)
    assert all(map(is_product, parts))
    if jobs <= 8:
        assert all(len({run.arm for run in part}) == 5 for part in parts)


def test_small_groups_are_joined_and_large_ones_split():
    groups = [runs([arm], range(4)) for arm in "abcdef"]
    costs = {"a": 10.0, "b": 1.0, "c": 1.0, "d": 1.0, "e": 1.0, "f": 1.0}
    parts = plan.divide(groups, costs, 3)
    assert all(map(is_product, parts))
    assert [sum(costs[run.arm] for run in part) for part in parts] == [20, 20, 20]
    assert {run.arm for run in parts[-1]} == set("bcdef")
    assert len(plan.divide(groups, dict.fromkeys("abcdef", 1.0), 2)) == 2
    assert len(plan.divide(groups, dict.fromkeys("abcdef", 1.0), 1)) == 1
