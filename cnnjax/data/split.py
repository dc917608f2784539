"""Which examples are for training, validation and test: the same for every seed, so that all runs
are compared on the same images."""

from collections.abc import Mapping

import numpy as np

from cnnjax.data import keys
from cnnjax.data.spec import SPLITS
from cnnjax.errors import UserError

TEST_SHARE = 0.2


def parts(
    counts: Mapping[str, int],
    validation_fraction: float,
    seed: int | None = None,
    groups: np.ndarray | None = None,
) -> dict[str, tuple[str, np.ndarray]]:
    """{split: (split of the source it is drawn from, positions in it, ascending int32)}.

    A source's own validation and test splits are used as they are. Otherwise
    `validation_fraction` of its training split becomes validation. If there is neither a test nor
    a validation split, a fifth of the examples become the test split first. Keys are fixed: seeds,
    subsets and arms share the splits, and a larger validation split contains a smaller one.

    Args:
      counts: {split of the source: number of examples}.
      validation_fraction: share of the training split.
      seed: `data.split_seed`; None for the fixed draw, each number for another.
      groups: the group of each training example, int [N]. Examples of one group stay together:
        whole groups are drawn until the share is reached, so it is approximate.

    Raises UserError if the training split is too small to hold examples out, or a seed is given
    although nothing is drawn.
    """
    if seed is not None and "validation" in counts:
        raise UserError(
            f"data.split_seed: {seed}, but the data set has a validation split of its own and "
            "nothing is drawn; set it to null."
        )
    draw = () if seed is None else (seed,)
    if groups is None:
        groups = np.arange(counts["train"])
    positions = {name: (name, np.arange(count, dtype=np.int32)) for name, count in counts.items()}
    rest = positions["train"][1]
    if set(counts) == {"train"}:
        held, rest = _hold_out(rest, groups, TEST_SHARE, "test", *draw)
        positions["test"] = ("train", held)
    if "validation" not in counts:
        held, rest = _hold_out(rest, groups, validation_fraction, "validation", *draw)
        positions["validation"] = ("train", held)
    positions["train"] = ("train", rest)
    return {name: positions[name] for name in SPLITS if name in positions}


def subset(examples: int, count: int | None, seed: int | None) -> np.ndarray | None:
    """Positions of `count` of the training examples, int32 in the order drawn; None for all.

    Nested: the subset of n examples is the beginning of that of n + 1. It depends on `seed` alone,
    so all arms of a seed share it; with None it is the same for all seeds.

    Raises UserError if there are fewer than `count`.
    """
    if count is None:
        return None
    if count > examples:
        raise UserError(
            f"data.train_examples: {count} is more than the {examples} training examples there are."
        )
    return keys.permutation(examples, "subset", "fixed" if seed is None else seed)[:count]


def _hold_out(
    positions: np.ndarray, groups: np.ndarray, share: float, key: str, *draw: int
) -> tuple[np.ndarray, np.ndarray]:
    """The positions to hold out, whole groups that make up `share` of all, and the others."""
    count = max(1, round(share * len(positions)))
    names, group_of, sizes = np.unique(groups[positions], return_inverse=True, return_counts=True)
    order = keys.permutation(len(names), "split", key, *draw)
    needed = int(np.searchsorted(np.cumsum(sizes[order]), count)) + 1
    if needed >= len(names):
        field = "data.validation_fraction" if key == "validation" else "data.name"
        grouped = f" in {len(names)} groups" if len(names) < len(positions) else ""
        raise UserError(
            f"{field}: the training split has {len(positions)} examples{grouped}, too few to hold "
            f"{count} ({share:g} of them) out for {key}."
        )
    held = np.isin(group_of, order[:needed])
    return positions[held], positions[~held]
