"""Parameter groups: which parameters are trained, at what rate, and which are decayed.

A group is defined by a pattern on parameter paths, see `cnnjax.schema.ParameterGroup`. Patterns,
decay and freezing are part of the structure of the compiled step; the rates are traced.
"""

import collections
import contextlib
import dataclasses
import difflib
import fnmatch
from collections.abc import Callable, Collection
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
    """The groups of a run. A parameter is in the first group whose pattern matches it; one in no
    group is trained at the learning rate itself, with weight decay as configured."""

    fields: tuple[ParameterGroup, ...] = ()

    def index(self, path: str) -> int | None:
        """The index of the group of the parameter at a path such as `conv1/kernel`; None if it
        belongs to no group."""
        indices = (i for i, group in enumerate(self.fields) if _matches(group.pattern, path))
        return next(indices, None)

    def check(self, params: Any) -> None:
        """Raises UserError for a group without parameters, and where all parameters are frozen.
        The leaves of `params` may be shapes."""
        paths = ["/".join(path) for path in flatten_dict(params)]
        indices = {self.index(path) for path in paths}
        for index, group in enumerate(self.fields):
            if index in indices:
                continue
            field = f"optimizer.groups[{index}].pattern: {shown(group.pattern)}"
            nearest = ", ".join(_nearest(group.pattern, paths))
            text = f"matches no parameter; nearest: {nearest}."
            if any(_matches(group.pattern, path) for path in paths):
                text = "matches only parameters of earlier groups; the first match wins."
            raise UserError(f"{field} {text}", path="optimizer.groups")
        if all(index is not None and self.fields[index].frozen for index in indices):
            text = "optimizer.groups: all parameters are frozen; nothing is left to train."
            raise UserError(text, path="optimizer.groups")

    def split(self, params: Any) -> tuple[Any, dict[str, Any]]:
        """The trained and the frozen parameters as two trees, which `merge` joins again."""
        return _partition(params, self._is_frozen)

    def frozen_statistics(self, params: Any, batch_stats: Any) -> dict[str, Any]:
        """The running statistics that do not move: those of layers whose parameters are all frozen,
        and, in layers without parameters, those that the pattern of a frozen group matches."""
        frozen = collections.defaultdict[Path, list[bool]](list)
        for path in flatten_dict(params):
            frozen[path[:-1]].append(self._is_frozen(path))
        return _partition(
            batch_stats,
            lambda path: all(frozen[path[:-1]]) if path[:-1] in frozen else self._is_frozen(path),
        )[1]

    def decayed(self, params: Any) -> Any:
        """True for parameters that are in no group or in one with weight decay, else False."""
        return self._map(lambda index, _: index is None or self.fields[index].decay, params)

    def scaled(self, updates: Any, rates: tuple[ArrayLike, ...]) -> Any:
        """The updates of parameters times the rate of their group; `rates` has one for each group.
        Since updates are proportional to the learning rate, this multiplies the learning rate of
        the group, also with decoupled weight decay and momentum."""

        def scale(index: int | None, leaf: Any) -> Any:
            return leaf if index is None else rates[index] * leaf

        return self._map(scale, updates)

    def describe(self, params: Any) -> str:
        """The groups in one line, with their numbers of parameters. The leaves of `params` may be
        shapes."""
        sizes = collections.Counter[int | None]()
        for path, tree in flatten_dict(params).items():
            sizes[self.index("/".join(path))] += sum(leaf.size for leaf in jax.tree.leaves(tree))
        parts = []
        for index, group in enumerate(self.fields):
            options = ["frozen"] if group.frozen else [f"rate {group.rate:g}"]
            options += [] if group.decay or group.frozen else ["no decay"]
            parts.append(f"{group.pattern} {sizes[index]:,} ({', '.join(options)})")
        return f"parameter groups: {'; '.join([*parts, f'others {sizes[None]:,}'])}"

    def _is_frozen(self, path: Path) -> bool:
        index = self.index("/".join(path))
        return index is not None and self.fields[index].frozen

    def _map(self, function: Callable[[int | None, Any], Any], tree: Any) -> Any:
        """The tree of function(index of the group of the leaf, leaf)."""

        def map_leaf(path: Any, leaf: Any) -> Any:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            return function(self.index(name), leaf)

        return jax.tree_util.tree_map_with_path(map_leaf, tree)


NO_GROUPS = Groups()


def merge(tree: Any, overrides: dict[str, Any]) -> Any:
    """`tree` with the entries of `overrides` added or replaced."""
    if not overrides:
        return tree
    return unflatten_dict({**_flat(tree), **_flat(overrides)})


def with_running_statistics(frozen: dict[str, Any]) -> contextlib.AbstractContextManager[Any]:
    """A context in which layers whose statistics are in `frozen` normalise with them and do not
    update them. It applies to the `BatchNorm` of flax and to that of `cnnjax.nn`, also in the
    user's own networks."""
    layers = {path[:-1] for path in flatten_dict(frozen)}

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        layer = context.module
        is_norm = isinstance(layer, nn.BatchNorm | native.BatchNorm)
        if not is_norm or context.method_name != "__call__" or layer.path not in layers:
            return call(*args, **kwargs)
        x = args[0] if args else kwargs["x"]
        return layer.clone(use_running_average=True, parent=None).apply(layer.variables, x)

    return nn.intercept_methods(intercept) if layers else contextlib.nullcontext()


def _partition(tree: Any, predicate: Callable[[Path], bool]) -> tuple[Any, dict[str, Any]]:
    """The tree without the entries whose paths satisfy `predicate`, and a tree of those; the same
    tree and {} where none does."""
    flat = _flat(tree)
    selected = {path: leaf for path, leaf in flat.items() if predicate(path)}
    if not selected:
        return tree, {}
    rest = {path: leaf for path, leaf in flat.items() if path not in selected}
    return unflatten_dict(rest), unflatten_dict(selected)


def _flat(tree: Any) -> dict[Path, Any]:
    return dict(flatten_dict(tree, keep_empty_nodes=True))


def _matches(pattern: str, path: str) -> bool:
    """Whether a pattern matches the path of a parameter, or of a layer that contains it."""
    return any(fnmatch.fnmatchcase(path, glob) for glob in (pattern, f"{pattern}/*"))


def _nearest(pattern: str, paths: Collection[str]) -> list[str]:
    """The three paths of parameters or of layers that are most similar to a pattern."""
    prefixes: dict[str, str] = {}
    for path in paths:
        parts = path.split("/")
        layers = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
        prefixes.update((layer.lower(), layer) for layer in layers)
    near = difflib.get_close_matches(pattern.lower(), list(prefixes), n=3, cutoff=0.0)
    return [prefixes[name] for name in near]
