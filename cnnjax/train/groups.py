"""Parameter groups: which parameters are trained, at what rate, and which are decayed.

A group is named by a pattern on parameter paths, see `cnnjax.schema.ParameterGroup`. Patterns,
decay and freezing are part of the structure of the compiled step; the rates are numbers that it
receives.
"""

import collections
import contextlib
import dataclasses
import difflib
import fnmatch
from collections.abc import Callable, Collection, Iterable
from typing import Any

import flax.linen as nn
import jax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.typing import ArrayLike

from cnnjax.config import ParameterGroup
from cnnjax.errors import UserError, shown
from cnnjax.nn.native import normalization as native

Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Groups:
    """The groups of a run. The first whose pattern matches a parameter has it; a parameter that
    none has is trained at the learning rate itself, with weight decay as configured."""

    fields: tuple[ParameterGroup, ...] = ()

    def number(self, path: str) -> int | None:
        """The place of the group that has the parameter of a path, `conv1/kernel`; None where none
        has."""
        numbers = (n for n, group in enumerate(self.fields) if _matches(group.pattern, path))
        return next(numbers, None)

    def check(self, params: Any) -> None:
        """Raises UserError for a group without parameters, and where all parameters are frozen.
        `params` may hold shapes."""
        paths = ["/".join(path) for path in flatten_dict(params)]
        numbers = {self.number(path) for path in paths}
        for number, group in enumerate(self.fields):
            if number in numbers:
                continue
            where = f"optimizer.groups[{number}].pattern: {shown(group.pattern)}"
            near = ", ".join(_nearest(group.pattern, paths))
            text = f"matches no parameter; nearest: {near}."
            if any(_matches(group.pattern, path) for path in paths):
                text = "matches only parameters of earlier groups; the first match wins."
            raise UserError(f"{where} {text}", path="optimizer.groups")
        if all(number is not None and self.fields[number].frozen for number in numbers):
            text = "optimizer.groups: all parameters are frozen; nothing is left to train."
            raise UserError(text, path="optimizer.groups")

    def split(self, params: Any) -> tuple[Any, dict[str, Any]]:
        """The parameters that are trained and those that are frozen, as two trees with the paths of
        the one; `merge` puts them together."""
        return _divided(params, self._is_frozen)

    def kept_statistics(self, params: Any, batch_stats: Any) -> dict[str, Any]:
        """The running statistics that do not move: those of layers all of whose own parameters are
        frozen (of layers that have none: those that a frozen group's pattern matches)."""
        own = collections.defaultdict[Path, list[bool]](list)
        for path in flatten_dict(params):
            own[path[:-1]].append(self._is_frozen(path))
        return _divided(
            batch_stats,
            lambda path: all(own[path[:-1]]) if path[:-1] in own else self._is_frozen(path),
        )[1]

    def decayed(self, params: Any) -> Any:
        """True for parameters that are in no group or in one with weight decay, else False."""
        return self._map(lambda number, _: number is None or self.fields[number].decay, params)

    def scaled(self, updates: Any, rates: tuple[ArrayLike, ...]) -> Any:
        """The updates of parameters times the rate of their group; `rates` has one for each group.
        Since updates are proportional to the learning rate, this is a learning rate of the group's
        own, with decoupled weight decay and momentum too."""
        if not self.fields:
            return updates

        def scale(number: int | None, leaf: Any) -> Any:
            return leaf if number is None else rates[number] * leaf

        return self._map(scale, updates)

    def describe(self, params: Any) -> str:
        """The groups in a line, with the number of parameters of each. `params` may hold shapes."""
        sizes = collections.Counter[int | None]()
        for path, tree in flatten_dict(params).items():
            sizes[self.number("/".join(path))] += sum(leaf.size for leaf in jax.tree.leaves(tree))
        parts = []
        for number, group in enumerate(self.fields):
            said = ["frozen"] if group.frozen else [f"rate {group.rate:g}"]
            said += [] if group.decay or group.frozen else ["no decay"]
            parts.append(f"{group.pattern} {sizes[number]:,} ({', '.join(said)})")
        return f"parameter groups: {'; '.join([*parts, f'others {sizes[None]:,}'])}"

    def _is_frozen(self, path: Path) -> bool:
        number = self.number("/".join(path))
        return number is not None and self.fields[number].frozen

    def _map(self, function: Callable[[int | None, Any], Any], tree: Any) -> Any:
        """The tree of function(place of the group that has the leaf, leaf)."""

        def of_leaf(path: Any, leaf: Any) -> Any:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            return function(self.number(name), leaf)

        return jax.tree_util.tree_map_with_path(of_leaf, tree)


NO_GROUPS = Groups()


def merge(tree: Any, kept: dict[str, Any]) -> Any:
    """`tree` with the entries of `kept`, which win."""
    if not kept:
        return tree
    return unflatten_dict({**_flat(tree), **_flat(kept)})


def with_running_statistics(kept: dict[str, Any]) -> contextlib.AbstractContextManager[Any]:
    """A context in which batch norm normalises with its running statistics, and leaves them alone,
    in the layers that have their statistics in `kept`. It holds for flax's `BatchNorm` and for that
    of `cnnjax.nn`, in networks of the user's own too."""
    layers = {path[:-1] for path in flatten_dict(kept)}

    def call(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        layer = context.module
        is_norm = isinstance(layer, nn.BatchNorm | native.BatchNorm)
        if not is_norm or context.method_name != "__call__" or layer.path not in layers:
            return call(*args, **kwargs)
        x = args[0] if args else kwargs["x"]
        return layer.clone(use_running_average=True, parent=None).apply(layer.variables, x)

    return nn.intercept_methods(call) if layers else contextlib.nullcontext()


def _divided(tree: Any, apart: Callable[[Path], bool]) -> tuple[Any, dict[str, Any]]:
    """The tree without the entries that are to be `apart`, and those; the tree itself where there
    are none."""
    flat = _flat(tree)
    kept = {path: leaf for path, leaf in flat.items() if apart(path)}
    if not kept:
        return tree, {}
    rest = {path: leaf for path, leaf in flat.items() if path not in kept}
    return unflatten_dict(rest), unflatten_dict(kept)


def _flat(tree: Any) -> dict[Path, Any]:
    return dict(flatten_dict(tree, keep_empty_nodes=True))


def _matches(pattern: str, path: str) -> bool:
    """Whether a pattern matches the path of a parameter, or that of a layer above it."""
    return any(fnmatch.fnmatchcase(path, each) for each in (pattern, f"{pattern}/*"))


def _nearest(pattern: str, paths: Collection[str]) -> list[str]:
    """The three paths of parameters or of layers that are most like a pattern."""
    known = dict.fromkeys(_with_layers(paths))
    return difflib.get_close_matches(pattern, list(known), n=3, cutoff=0.0)


def _with_layers(paths: Iterable[str]) -> Iterable[str]:
    for path in paths:
        parts = path.split("/")
        yield from ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
