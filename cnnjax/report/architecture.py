"""The page of a network: a picture, its convolutions beside dense layers, and every layer."""

from collections.abc import Sequence
from typing import Any

from cnnjax.analysis.layers import IN_TRAINING, UPSAMPLING, Layer, totals
from cnnjax.report import diagram, graph
from cnnjax.report.canvas import Drawing
from cnnjax.report.document import Document, Element, Figure, Paragraph, Section, Table


def document(
    name: str, layers: Sequence[Layer], image_shape: tuple[int, int, int], outputs: str
) -> Document:
    """The page of a network.

    Args:
      name: the name of the network.
      layers: see `cnnjax.analysis.layers.layers`.
      image_shape: (height, width, channels).
      outputs: those for an image as text.
    """
    total = totals(layers)
    rows = graph.rows(layers)
    height, width, channels = image_shape
    multiply_adds = diagram.three_digits(total["multiply_adds"], ("billion", "million", "thousand"))
    summary = (
        f"{total['parameters']:,} parameters, {multiply_adds} multiply-adds for "
        f"an image of {height} x {width} x {channels}, {outputs}"
    )
    picture = Figure(
        "network",
        Drawing(diagram.draw(rows, image_shape)),
        f"The network from the image to the logits, block by block: {summary}.",
        "Slabs are feature maps: as high as the share of the image's side that is left, as wide as "
        "their channels on a logarithmic scale. Blue boxes are convolutions (window, and stride "
        "after a stroke) with the normalisation and activation that follow them, grey ones "
        "pooling, black ones dense layers; circles add or join, red lines are shortcuts without "
        f"weights.{_decoder_words(layers)} Bars: the row's share of the largest row. Blocks that "
        "are alike and follow each other are drawn once, with their numbers added up.",
        wide=True,
    )
    trained = sum(layer.parameters for layer in layers if layer.kind == IN_TRAINING)
    note = (
        f"{trained:,} of the parameters are in auxiliary heads, which only training has: not drawn."
    )
    notes = (Paragraph(note, kind="note"),) if trained else ()
    sections = [
        Section("The network", (picture, *notes)),
        *_replaced(layers),
        _table(layers, total),
    ]
    return Document("architecture", name, summary, tuple(sections))


def _decoder_words(layers: Sequence[Layer]) -> str:
    """The legend of what only a decoder has."""
    if not any(layer.kind in UPSAMPLING for layer in layers):
        return ""
    return (
        " White boxes make maps larger (window, and factor after an x); red lines on the right "
        "lead from the encoder's maps to the decoder."
    )


def _replaced(layers: Sequence[Layer]) -> list[Section]:
    """Its convolutions beside the fully connected layers between the same maps."""
    convolutions = [layer for layer in layers if layer.dense_parameters and layer.parameters]
    if not convolutions:
        return []
    first: dict[tuple[str, ...], str] = {}
    for layer in convolutions:
        dense = layer.dense_parameters or 0
        row = (
            "x".join(map(str, layer.window["size"])),
            " x ".join(map(str, layer.output_shape)),
            f"{layer.parameters:,}",
            f"{dense:,}",
            f"{dense / layer.parameters:,.0f}",
        )
        first.setdefault(row, layer.name)
    learned = sum(layer.parameters for layer in convolutions)
    if_dense = sum(layer.dense_parameters or 0 for layer in convolutions)
    elements: tuple[Element, ...] = (
        Paragraph(
            f"A convolution is a fully connected layer most of whose weights are zero and the rest "
            f"shared. With fully connected layers between the same maps, the {len(convolutions)} "
            f"convolutions, which learn {learned:,} numbers, would learn {if_dense:,}: "
            f"{if_dense / learned:,.0f} times as many."
        ),
        Table(
            "Convolutions, each kind once, and the fully connected layers they stand for",
            ("first such layer", "window", "output", "parameters", "if fully connected", "times"),
            tuple((name, *row) for row, name in first.items()),
            labels=3,
        ),
    )
    return [Section("What the convolutions replace", elements)]


def _table(layers: Sequence[Layer], total: dict[str, int]) -> Section:
    rows = [cells(layer) for layer in layers]
    sums = [f"{total[name]:,}" for name in ("parameters", "multiply_adds", "multiply_adds_inside")]
    table = Table(
        "Every layer, for one image; inside: without multiply-adds with the zeros of borders",
        HEAD,
        (*rows, ("total", "", "", *sums, f"{total['activation_bytes'] / 1e6:,.1f}", "", "")),
        labels=3,
        strong=(len(rows),),
    )
    return Section("Layers", (table,))


HEAD = ("layer", "kind", "output", "parameters", "multiply-adds", "inside", "MB", "sees", "stride")


def cells(layer: Layer) -> tuple[str, ...]:
    """A row of the table of layers, under `HEAD`; MB are those of its output in float32."""
    field: dict[str, Any] = layer.receptive_field
    counted = bool(layer.multiply_adds)
    return (
        layer.name,
        layer.kind,
        "x".join(map(str, layer.output_shape)),
        f"{layer.parameters:,}" if layer.parameters else "",
        f"{layer.multiply_adds:,}" if counted else "",
        f"{layer.multiply_adds_inside:,}" if counted else "",
        f"{layer.activation_bytes / 1e6:.2f}" if layer.output_shape else "",
        _pair(field["size"]) if field else "",
        _pair(field["stride"]) if field and any(field["stride"]) else "",
    )


def _pair(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(set(numbers)) == 1 else "x".join(map(str, numbers))
