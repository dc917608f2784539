import numpy as np
import pytest

from cnnjax.data import split
from cnnjax.errors import UserError


def test_validation_is_disjoint_fixed_and_complete():
    parts = split.parts({"train": 100, "test": 20}, 0.1)
    assert {name: origin for name, (origin, _) in parts.items()} == {
        "train": "train",
        "validation": "train",
        "test": "test",
    }
    train, validation = parts["train"][1], parts["validation"][1]
    assert len(validation) == 10
    assert sorted([*train, *validation]) == list(range(100))
    again = split.parts({"train": 100, "test": 20}, 0.1)["validation"][1]
    np.testing.assert_array_equal(validation, again)
    larger = split.parts({"train": 100, "test": 20}, 0.3)["validation"][1]
    assert set(validation) < set(larger)
    assert len(set(np.diff(validation))) > 1, "drawn, not a block"


def test_the_splits_of_the_source_are_used():
    parts = split.parts({"train": 9, "validation": 4, "test": 5}, 0.5)
    assert [(name, len(positions)) for name, (_, positions) in parts.items()] == [
        ("train", 9),
        ("validation", 4),
        ("test", 5),
    ]
    assert list(split.parts({"train": 9, "validation": 4}, 0.5)) == ["train", "validation"]


def test_a_source_of_one_split_gives_a_fifth_to_the_test():
    parts = split.parts({"train": 50}, 0.25)
    assert [len(parts[name][1]) for name in ("train", "validation", "test")] == [30, 10, 10]
    assert sorted(np.concatenate([positions for _, positions in parts.values()])) == list(range(50))


def test_subsets_are_nested_and_drawn_per_seed_or_fixed():
    small, large = split.subset(100, 10, seed=1), split.subset(100, 40, seed=1)
    np.testing.assert_array_equal(small, large[:10])
    assert set(small) != set(split.subset(100, 10, seed=2))
    assert len(set(large)) == 40
    assert split.subset(100, None, seed=1) is None
    np.testing.assert_array_equal(split.subset(100, 5, None), split.subset(100, 9, None)[:5])


def test_more_examples_than_there_are():
    with pytest.raises(UserError, match=r"data\.train_examples: 101 is more than the 100 train"):
        split.subset(100, 101, seed=0)


def test_too_few_examples_to_hold_out():
    with pytest.raises(UserError, match="the training split has 1 examples, too few"):
        split.parts({"train": 1, "test": 5}, 0.1)


def test_split_seed_draws_the_same_shares_and_needs_something_to_draw():
    counts = {"train": 50}
    drawn = [split.parts(counts, 0.25, seed) for seed in (None, 0, 1)]
    for parts in drawn:
        assert [len(parts[name][1]) for name in ("train", "validation", "test")] == [30, 10, 10]
        assert sorted(np.concatenate([positions for _, positions in parts.values()])) == list(
            range(50)
        )
    for name in ("validation", "test"):
        assert len({tuple(parts[name][1]) for parts in drawn}) == 3
    with_test = [split.parts({"train": 50, "test": 9}, 0.25, seed) for seed in (None, 1)]
    np.testing.assert_array_equal(with_test[0]["test"][1], with_test[1]["test"][1])
    assert set(with_test[0]["validation"][1]) != set(with_test[1]["validation"][1])
    with pytest.raises(UserError, match=r"data\.split_seed: 1, but the data set has a validation"):
        split.parts({"train": 50, "validation": 5}, 0.25, 1)


def test_groups_stay_together():
    groups = np.repeat([4, 2, 7, 0, 9, 5], [10, 1, 12, 8, 9, 10])
    for seed in (None, 0, 1, 2):
        parts = split.parts({"train": 50}, 0.1, seed, groups)
        groups_of = {name: set(groups[positions]) for name, (_, positions) in parts.items()}
        assert sum(map(len, groups_of.values())) == 6, "no group is in two splits"
        assert len(parts["test"][1]) >= 10
        larger = split.parts({"train": 50}, 0.3, seed, groups)
        assert set(parts["validation"][1]) <= set(larger["validation"][1])
    alone = split.parts({"train": 50}, 0.1, None, np.arange(50))
    for name, (_, positions) in split.parts({"train": 50}, 0.1).items():
        np.testing.assert_array_equal(alone[name][1], positions)
    with pytest.raises(UserError, match=r"50 examples in 2 groups, too few to hold 5 .* for valid"):
        split.parts({"train": 50, "test": 5}, 0.1, None, np.arange(50) // 49)
