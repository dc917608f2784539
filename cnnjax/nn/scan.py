"""Equal blocks as a `lax.scan`, so that compile time is independent of their number."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array


def scan_blocks(
    owner: nn.Module,
    block: nn.Module,
    names: Sequence[str],
    x: Array,
    inputs: Any,
    *,
    remat: bool,
    **fields: Any,
) -> Array:
    """Applies the blocks called `names`, all equal to `block`, one after another to `x`.

    The variables of each block keep their own subtree: they are stacked for the loop, and updated
    statistics are unstacked after it. They are initialised together, from other keys than the
    blocks would be one by one. For use in a compact method.

    Args:
      owner: the module that calls it.
      block: a module without parent, called as `block(x, inputs[i], **fields)`.
      names: of the blocks in the tree.
      x: of the shape that every block takes and returns.
      inputs: a tree of arrays whose first axis is the block.
      remat: whether the activations within a block are computed again for the gradient.
      fields: the same for all blocks.

    Returns the output of the last block.
    """
    if owner.is_initializing():
        initial = jax.vmap(lambda key, part: block.init(key, x, part, **fields))(
            jax.random.split(owner.make_rng("params"), len(names)), inputs
        )
        for collection, stacked in initial.items():
            _unstack(owner, collection, names, stacked)
        return x
    stacked = {
        collection: jax.tree.map(lambda *leaves: jnp.stack(leaves), *(tree[name] for name in names))
        for collection, tree in owner.variables.items()
        if collection in ("params", "batch_stats") and names[0] in tree
    }
    has_dropout = owner.has_rng("dropout")
    keys = jax.random.split(owner.make_rng("dropout"), len(names)) if has_dropout else None
    updates = "batch_stats" in stacked and owner.is_mutable_collection("batch_stats")

    def body(x: Array, args: Any) -> tuple[Array, Any]:
        variables, key, part = args
        rngs = {"dropout": key} if has_dropout else None
        mutable = ["batch_stats"] if updates else False
        result: Any = block.apply(variables, x, part, **fields, rngs=rngs, mutable=mutable)
        return (result[0], result[1]["batch_stats"]) if updates else (result, None)

    x, updated = jax.lax.scan(jax.checkpoint(body) if remat else body, x, (stacked, keys, inputs))
    if updates:
        _unstack(owner, "batch_stats", names, updated)
    return x


def _unstack(owner: nn.Module, collection: str, names: Sequence[str], stacked: Any) -> None:
    for index, name in enumerate(names):
        tree = jax.tree.map(lambda leaf, index=index: leaf[index], stacked)
        owner.put_variable(collection, name, tree)
