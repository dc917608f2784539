"""Which examples are for training, for validation and for the test: fixed, whatever the seed."""

from collections.abc import Mapping

import numpy as np

from cnnjax.data import keys
from cnnjax.errors import UserError

TEST_SHARE = 0.2


def parts(
    counts: Mapping[str, int], validation_fraction: float
) -> dict[str, tuple[str, np.ndarray]]:
    """{split: (split of the source it is drawn from, positions in it, ascending int32)}.

    A source's own validation and test splits are used as they are. Otherwise
    `validation_fraction` of its training split becomes validation; a source with neither a test nor
    a validation split gives a fifth of its examples to the test first. All of it is drawn with
    fixed keys: seeds, subsets and arms share it, and a larger validation part contains a smaller.

    Raises UserError if the training split is too small to give something away.
    """
    found = {name: (name, np.arange(count, dtype=np.int32)) for name, count in counts.items()}
    rest = found["train"][1]
    if set(counts) == {"train"}:
        held, rest = _hold_out(rest, TEST_SHARE, "test")
        found["test"] = ("train", held)
    if "validation" not in counts:
        held, rest = _hold_out(rest, validation_fraction, "validation")
        found["validation"] = ("train", held)
    found["train"] = ("train", rest)
    return {name: found[name] for name in ("train", "validation", "test") if name in found}


def subset(examples: int, wanted: int | None, seed: int | None) -> np.ndarray | None:
    """Positions of `wanted` of the training examples, int32 in the order drawn; None for all.

    Nested: the subset of n is the beginning of that of n + 1. It depends on `seed` alone, so all
    arms of a seed share it; with None it is the same for all seeds.

    Raises UserError if there are fewer than `wanted`.
    """
    if wanted is None:
        return None
    if wanted > examples:
        raise UserError(
            f"data.train_examples: {wanted} is more than the {examples} training examples there "
            "are."
        )
    return keys.permutation(examples, "subset", "fixed" if seed is None else seed)[:wanted]


def _hold_out(positions: np.ndarray, share: float, key: str) -> tuple[np.ndarray, np.ndarray]:
    count = max(1, round(share * len(positions)))
    if count >= len(positions):
        field = "data.validation_fraction" if key == "validation" else "data.name"
        raise UserError(
            f"{field}: the training split has {len(positions)} examples, too few to hold "
            f"{count} ({share:g} of them) out for {key}."
        )
    order = positions[keys.permutation(len(positions), "split", key)]
    return np.sort(order[:count]), np.sort(order[count:])
