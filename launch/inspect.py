"""What is inside a network, layer by layer.

python -m launch.inspect --model=NAME [--input=H,W,C] [--classes=N] [--set path=value ...]
    [--format=table|json|html] [--output=FILE]

For each layer its output, parameters, multiply-adds (with and without those on the zeros of
borders), activation memory and receptive field; then the totals, and what fully connected layers
in the place of its convolutions would learn. The page (html) begins with a picture of the network.
`--model=help` lists the networks. Without --input and --classes: those it was published for.
"""

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any

from cnnjax import catalog, files
from cnnjax.config import RunConfig, override, resolve
from cnnjax.errors import UserError, unknown
from launch import flags

FORMATS = ("table", "json", "html")


def main(arguments: Sequence[str]) -> int:
    """Prints or writes; returns the exit code."""
    asked = flags.FLAGS
    name = flags.need("model")
    if name == "help":
        print("\n".join(catalog.MODELS))
        return 0
    if asked.format not in FORMATS:
        raise unknown("--format", asked.format, FORMATS)
    if asked.format == "html" and not asked.output:
        raise UserError(f"--output: is missing; a page is written to a file: --output={name}.html")
    changes = {"model.name": name, **flags.changes(arguments)}
    if other := next((path for path in changes if not path.startswith("model.")), None):
        raise UserError(f"--set {other}: is not of the network; allowed: model.* fields.")
    if "model.name" in flags.changes(arguments):
        raise UserError("--set model.name: --model names the network.")
    config = resolve(override(RunConfig(), changes))
    shape = _shape(asked.input) if asked.input else catalog.IMAGES[name]
    classes = asked.classes or catalog.CLASSES[name]
    from cnnjax import models
    from cnnjax.analysis import layers
    from cnnjax.report import architecture, html

    module = models.build(config.model, image_shape=shape, classes=classes)
    found = layers.layers(module, shape)
    total = layers.totals(found)
    if asked.format == "json":
        values = {
            "model": config.model.model_dump(mode="json"),
            "input": shape,
            "total": total,
            "layers": [dataclasses.asdict(layer) for layer in found],
        }
        text = json.dumps(values, indent=2)
    elif asked.format == "html":
        text = html.write(architecture.document(name, found, shape, classes))
    else:
        text = _table([architecture.HEAD, *map(architecture.cells, found)], found, total)
    if asked.output:
        files.write_bytes(flags.path("output"), f"{text}\n".encode())
        print(f"written: {asked.output}")
    else:
        print(text)
    return 0


def _shape(text: str) -> tuple[int, int, int]:
    if not re.fullmatch(r"[1-9]\d{0,4},[1-9]\d{0,4},[1-9]\d{0,2}", text):
        raise UserError(f"--input: {text!r} is not valid; write height,width,channels: 224,224,3.")
    height, width, channels = map(int, text.split(","))
    return height, width, channels


def _table(rows: list[tuple[str, ...]], found: Sequence[Any], total: dict[str, int]) -> str:
    sums = (f"{total[name]:,}" for name in list(total)[:3])
    rows.append(("total", "", "", *sums, f"{total['activation_bytes'] / 1e6:,.2f}", "", ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if place < 3 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    dense = sum(layer.dense_parameters or 0 for layer in found)
    if dense:
        lines.append(f"with fully connected layers for its convolutions: {dense:,} parameters more")
    return "\n".join(lines)


if __name__ == "__main__":
    flags.define("inspect")
    flags.start(main)
