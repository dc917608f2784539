"""The layers of a network gathered into what a picture of it shows: rows of units."""

import dataclasses
import itertools
import re
from collections.abc import Sequence

from cnnjax.analysis.layers import IMAGE, UPSAMPLING, Layer

_PARTS = ("conv", "norm", "dense", "activation")


@dataclasses.dataclass
class Unit:
    """A convolution (or another layer) with the normalisation and activation that follow it.

    Attributes:
      name: its path in the network.
      kind: convolution, pooling, upsampling, dense, concatenation, sum or other.
      label: a short label: window and stride (after a stroke) or factor (after an x), `pool`, `+`.
      output_shape: (height, width, channels), or (units,).
      parameters, multiply_adds: of its layers together.
      sees: the receptive field (height, width); () where there is none.
      inputs: the names of the units it takes as inputs.
      track, column: its vertical and horizontal position in the picture of the row.
    """

    name: str
    kind: str
    label: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    sees: tuple[int, ...]
    inputs: tuple[str, ...]
    track: int = 0
    column: int = 0


@dataclasses.dataclass
class Row:
    """The units of one block of a network, or of several alike that follow each other.

    `skips`: {unit: the rows, by their index, whose outputs are its inputs}, of rows before the
    previous one.
    """

    names: list[str]
    units: list[Unit]
    parameters: int
    multiply_adds: int
    skips: dict[str, list[int]] = dataclasses.field(default_factory=dict)

    @property
    def last(self) -> Unit:
        """The unit whose output is the block's."""
        return self.units[-1]

    @property
    def tracks(self) -> int:
        """The number of units beside each other."""
        return 1 + max(unit.track for unit in self.units)

    @property
    def title(self) -> str:
        """The names of its blocks."""
        first, last = self.names[0], self.names[-1]
        number = re.search(r"\d+$", last)
        return first if first == last else f"{first} to {number[0] if number else last}"


def rows(layers: Sequence[Layer]) -> list[Row]:
    """A network's layers as rows, in the order in which it computes them; blocks that are alike and
    follow each other share one. Layers that exist in training only are left out."""
    all_units = _units([layer for layer in layers if layer.output_shape])
    rows: list[Row] = []
    row_of: dict[str, int] = {}
    previous = None
    for block, group in itertools.groupby(all_units, key=lambda unit: unit.name.partition("/")[0]):
        units = _position(list(group))
        parameters = sum(unit.parameters for unit in units)
        multiply_adds = sum(unit.multiply_adds for unit in units)
        structure = _structure(block, units)
        if structure == previous:
            rows[-1].names.append(block)
            rows[-1].units = units
            rows[-1].parameters += parameters
            rows[-1].multiply_adds += multiply_adds
        else:
            rows.append(Row([block], units, parameters, multiply_adds))
        previous = structure
        row_of |= dict.fromkeys((unit.name for unit in units), len(rows) - 1)
    for index, row in enumerate(rows):
        for unit in row.units:
            sources = [row_of[name] for name in unit.inputs if row_of.get(name, index) < index - 1]
            if sources:
                row.skips[unit.name] = sources
    return rows


def _units(layers: Sequence[Layer]) -> list[Unit]:
    """Units in the order of their last layers; inputs always precede a unit."""
    unit_of = {IMAGE: IMAGE}
    gathered: dict[str, list[Layer]] = {}
    for layer in layers:
        parent, _, part = layer.name.rpartition("/")
        unit_of[layer.name] = name = parent if parent and part in _PARTS else layer.name
        gathered[name] = [*gathered.pop(name, []), layer]
    units: dict[str, Unit] = {}
    for name, parts in gathered.items():
        inputs = dict.fromkeys(unit_of[source] for part in parts for source in part.inputs)
        drawn = tuple(source for source in inputs if source in units or source == IMAGE)
        units[name] = _unit(name, parts, drawn)
    return list(units.values())


def _unit(name: str, parts: Sequence[Layer], inputs: tuple[str, ...]) -> Unit:
    leading = next((part for part in parts if part.kind in _KINDS), parts[-1])
    kind = _KINDS.get(leading.kind, "sum" if len(inputs) > 1 else "other")
    if kind == "other" and "pool" in name.rpartition("/")[2]:
        kind = "pooling"
    label = {"concatenation": "join", "sum": "+", "other": "f"}.get(kind, "")
    if kind == "upsampling":
        label = leading.kind.removeprefix("max ").removesuffix("ing")
    if leading.window and label != "unpool":
        label = "x".join(map(str, leading.window["size"]))
        stride = leading.window["stride"]
        sign = "x" if kind == "upsampling" else "/"
        label += f" {sign}{max(stride)}" if max(stride) > 1 else ""
    elif kind == "dense":
        label = f"{leading.output_shape[-1]:,}"
    elif kind == "pooling":
        label = "pool"
    return Unit(
        name,
        kind,
        label,
        parts[-1].output_shape,
        sum(part.parameters for part in parts),
        sum(part.multiply_adds for part in parts),
        parts[-1].receptive_field.get("size", ()),
        inputs,
    )


_KINDS = {
    "convolution": "convolution",
    "max pooling": "pooling",
    "average pooling": "pooling",
    "dense": "dense",
    "concatenation": "concatenation",
    **dict.fromkeys(UPSAMPLING, "upsampling"),
}


def _structure(block: str, units: Sequence[Unit]) -> list[tuple[object, ...]]:
    """What must be equal for two blocks to share a row."""
    inside = {unit.name for unit in units}
    return [
        (
            unit.name.removeprefix(block),
            unit.label,
            unit.output_shape,
            unit.parameters,
            tuple(name.removeprefix(block) if name in inside else "" for name in unit.inputs),
        )
        for unit in units
    ]


def _position(units: list[Unit]) -> list[Unit]:
    """Gives the units of a row their columns, by how many come before, and their tracks: branches
    that meet in the last unit lie beside each other."""
    by_name = {unit.name: unit for unit in units}
    for unit in units:
        before = [by_name[name].column for name in unit.inputs if name in by_name]
        unit.column = 1 + max(before, default=-1)
    track = 0
    for branch in _branches(units[:-1]):
        taken: dict[int, int] = {}
        for unit in branch:
            unit.track = track + taken.get(unit.column, 0)
            taken[unit.column] = taken.get(unit.column, 0) + 1
        track += max(taken.values())
    return units


def _branches(units: Sequence[Unit]) -> list[list[Unit]]:
    """The units that are connected with each other, in their order."""
    branches: list[list[Unit]] = []
    for unit in units:
        touching = [
            branch for branch in branches if any(other.name in unit.inputs for other in branch)
        ]
        rest = [branch for branch in branches if branch not in touching]
        merged = [*itertools.chain.from_iterable(touching), unit]
        index = branches.index(touching[0]) if touching else len(rest)
        branches = [*rest[:index], merged, *rest[index:]]
    return branches
