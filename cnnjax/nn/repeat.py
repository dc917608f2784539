"""Blocks that are alike as a loop of the program: compiling takes no longer the more there are."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array


def in_a_loop(
    owner: nn.Module,
    block: nn.Module,
    names: Sequence[str],
    x: Array,
    each: Any,
    *,
    remat: bool,
    **fields: Any,
) -> Array:
    """What blocks called `names`, all made as `block` is, make of `x` one after another.

    Parameters and statistics keep their places in the tree, a subtree for each block: they are put
    together for the loop, and the statistics taken apart after it. They are initialised together
    too, from keys other than those of the blocks one by one. For use in a compact method.

    Args:
      owner: the module whose method it is.
      block: a module without parent, called as `block(x, each block's part of each, **fields)`.
      names: of the blocks in the tree.
      x: of the shape that every block takes and gives.
      each: arrays with an axis for the blocks in front.
      remat: whether the inside of each block is computed again for the gradient.
      fields: the same for all.
    """
    if owner.is_initializing():
        fresh = jax.vmap(lambda key, part: block.init(key, x, part, **fields))(
            jax.random.split(owner.make_rng("params"), len(names)), each
        )
        for kind, stacked in fresh.items():
            _take_apart(owner, kind, names, stacked)
        return x
    stored = {
        kind: jax.tree.map(lambda *leaves: jnp.stack(leaves), *(tree[name] for name in names))
        for kind, tree in owner.variables.items()
        if kind in ("params", "batch_stats") and names[0] in tree
    }
    random = owner.has_rng("dropout")
    keys = jax.random.split(owner.make_rng("dropout"), len(names)) if random else None
    changing = "batch_stats" in stored and owner.is_mutable_collection("batch_stats")

    def body(x: Array, given: Any) -> tuple[Array, Any]:
        variables, key, part = given
        rngs = {"dropout": key} if random else None
        mutable = ["batch_stats"] if changing else False
        result: Any = block.apply(variables, x, part, **fields, rngs=rngs, mutable=mutable)
        return (result[0], result[1]["batch_stats"]) if changing else (result, None)

    x, updated = jax.lax.scan(jax.checkpoint(body) if remat else body, x, (stored, keys, each))
    if changing:
        _take_apart(owner, "batch_stats", names, updated)
    return x


def _take_apart(owner: nn.Module, kind: str, names: Sequence[str], stacked: Any) -> None:
    for place, name in enumerate(names):
        own = jax.tree.map(lambda leaf, place=place: leaf[place], stacked)
        owner.put_variable(kind, name, own)
