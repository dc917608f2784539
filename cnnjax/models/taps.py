"""Named places in a network at which its features can be had."""

from collections.abc import Callable, Sequence

from jax import Array

from cnnjax.errors import unknown

EVERY = ("*",)
"""What to `capture` for all endpoints, in the order in which the network computes them."""


class Taps:
    """The endpoints of one pass through a network.

    `tap(name, x)` gives x back and keeps it where `name` was asked for.
    """

    def __init__(self, capture: str | Sequence[str]) -> None:
        self.asked = (capture,) if isinstance(capture, str) else tuple(capture)
        self.names: list[str] = []
        self.found: dict[str, Array] = {}

    def __call__(self, name: str, x: Array) -> Array:
        """x, under a name."""
        self.names.append(name)
        if name in self.asked or self.asked == EVERY:
            self.found[name] = x
        return x

    def block_and_pool(
        self, block: Callable[..., Array], pool: Callable[[Array], Array], x: Array, train: bool
    ) -> Array:
        """A block called after its name, and the pooling that follows it; the block pools itself,
        which may save work, unless its own output is asked for."""
        name = getattr(block, "name", "")
        if name in self.asked or self.asked == EVERY:
            return pool(self(name, block(x, train=train)))
        self.names.append(name)
        return block(x, train=train, pool=pool)

    def result(self, logits: Array) -> Array | tuple[Array, dict[str, Array]]:
        """What the network returns: logits, with what was captured where anything was asked for.

        Raises UserError for a name that the network does not have.
        """
        if not self.asked:
            return logits
        for name in self.asked if self.asked != EVERY else ():
            if name not in self.found:
                raise unknown("capture", name, self.names)
        return logits, self.found
