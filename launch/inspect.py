"""What is inside a network, layer by layer.

python -m launch.inspect --model=NAME [--input=H,W,C] [--num_classes=N] [--set path=value ...]
    [--format=table|json|html] [--output=FILE]
python -m launch.inspect --experiment=NAME --arm=NAME [--data_dir=DIR] [...]

Shows the output, parameters, multiply-adds (with and without those on zero padding), activation
memory and receptive field of each layer; then the totals, and the parameters of fully connected
layers in place of the convolutions. The page (html) begins with a picture of the network.
With a decoder (--set model.decoder=max_unpool) a network of classification is the encoder of one
that classifies every pixel. `--model=help` lists the networks. --input and --num_classes are by
default those of the published network, or those of the arm's data.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import experiments
from cnnjax import catalog, files, metric
from cnnjax.config import Levels, ResolvedConfig, RunConfig, override, resolve
from cnnjax.errors import UserError, one_line, shown, unknown
from launch import flags

if TYPE_CHECKING:
    from cnnjax.analysis.layers import Layer

FORMATS = ("table", "json", "html")


def main(arguments: Sequence[str]) -> int:
    """Prints or writes the layers; returns the exit code."""
    values = flags.FLAGS
    if values.model == "help":
        print("\n".join((*catalog.MODELS, *catalog.SEGMENTATION_MODELS)))
        return 0
    if values.format not in FORMATS:
        raise unknown("--format", values.format, FORMATS)
    inspected = _arm(arguments) if values.experiment else _published(arguments)
    name, config, levels, path, sizes = inspected
    if values.format == "html" and not values.output:
        raise UserError(f"--output: is missing; a page is written to a file: --output={name}.html")
    shape, outputs = sizes()
    from cnnjax import models
    from cnnjax.analysis import layers
    from cnnjax.report import architecture, html

    try:
        module = models.build(config.model, image_shape=shape, levels=levels, **outputs)
        rows = layers.layers(module, shape)
    except Exception as error:
        if not levels:
            raise
        raise UserError(f"{name}: {one_line(error, path)}") from error
    total = layers.totals(rows)
    if values.format == "json":
        description = {
            "model": config.model.model_dump(mode="json"),
            "input": shape,
            "total": total,
            "layers": [dataclasses.asdict(layer) for layer in rows],
        }
        text = json.dumps(description, indent=2)
    elif values.format == "html":
        text = html.write(architecture.document(name, rows, shape, _describe(**outputs)))
    else:
        text = _table([architecture.HEAD, *map(architecture.cells, rows)], rows, total)
        if config.optimizer.groups:
            text += f"\n{_groups(module, config, shape)}"
    if values.output:
        files.write_text(flags.path("output"), f"{text}\n")
        print(f"written: {values.output}")
    else:
        print(text)
    return 0


class InspectedModel(NamedTuple):
    """A network to be shown, with the user's own levels and their file; `sizes` returns the shape
    of its images, and its outputs as arguments of `models.build`."""

    name: str
    config: ResolvedConfig
    levels: Levels
    path: Path
    sizes: Callable[[], tuple[tuple[int, int, int], dict[str, Any]]]


def _published(arguments: Sequence[str]) -> InspectedModel:
    """The network that --model names, as published except for --set."""
    values, name, changes = flags.FLAGS, flags.require("model"), flags.changes(arguments)
    if "model.name" in changes:
        raise UserError("--set model.name: --model names the network.")
    if other := next((path for path in changes if not path.startswith("model.")), None):
        raise UserError(f"--set {other}: is not of the network; allowed: model.* fields.")
    decoded = any(f"model.{field}" in changes for field in catalog.DECODER)
    if name in catalog.SEGMENTATION_MODELS or decoded:
        changes["task"] = "segmentation"
    config = resolve(override(RunConfig(), {"model.name": name, **changes}))
    shape = _shape(values.input) if values.input else catalog.IMAGES[name]
    num_outputs = values.num_classes or catalog.CLASSES[name]
    outputs = {"num_outputs": num_outputs, "per_pixel": config.task in metric.PER_PIXEL}
    return InspectedModel(name, config, {}, Path(), lambda: (shape, outputs))


def _arm(arguments: Sequence[str]) -> InspectedModel:
    """The network of an arm, for its data unless --input and --num_classes are given."""
    values, arm = flags.FLAGS, flags.require("arm")
    if values.model:
        raise UserError("--model: the arm of --experiment names the network; leave one out.")
    loaded = experiments.load(values.experiment)
    config = loaded.experiment.config(arm, flags.changes(arguments), loaded.levels)
    shape = _shape(values.input) if values.input else None

    def sizes() -> tuple[tuple[int, int, int], dict[str, Any]]:
        from cnnjax import data
        from cnnjax.tasks import registry

        task = registry.find(config.task, loaded.levels)
        outputs = {"num_outputs": values.num_classes, "per_pixel": task.per_pixel}
        if shape and values.num_classes and task.head is None:
            return shape, outputs
        spec = data.load(config.data, values.data_dir).spec
        outputs["num_outputs"] = values.num_classes or task.num_outputs(spec)
        outputs["head"] = registry.head(task, config.task, spec)
        return shape or spec.image_shape, outputs

    return InspectedModel(arm, config, loaded.levels, loaded.path, sizes)


def _describe(num_outputs: Any, per_pixel: bool = False, **_: Any) -> str:
    """The outputs of a network as text: `10 outputs`."""
    if isinstance(num_outputs, Mapping):
        heads = ", ".join(f"{name} {number}" for name, number in num_outputs.items())
        return f"{sum(num_outputs.values())} outputs ({heads})"
    return f"{num_outputs} outputs{' for each pixel' if per_pixel else ''}"


def _shape(text: str) -> tuple[int, int, int]:
    if not re.fullmatch(r"[1-9]\d{0,4},[1-9]\d{0,4},[1-9]\d{0,2}", text):
        raise UserError(
            f"--input: {shown(text)} is not valid; write height,width,channels, none above "
            "99999,99999,999: 224,224,3."
        )
    height, width, channels = map(int, text.split(","))
    return height, width, channels


def _groups(module: Any, config: ResolvedConfig, shape: tuple[int, int, int]) -> str:
    """The parameter groups of an arm in one line. Raises UserError for one without parameters."""
    import jax

    from cnnjax.train import groups, state

    fresh = jax.eval_shape(lambda: state.initial_variables(module, shape, jax.random.key(0)))
    params = fresh["params"]
    parameter_groups = groups.Groups(config.optimizer.groups)
    parameter_groups.check(params)
    return parameter_groups.describe(params)


def _table(rows: list[tuple[str, ...]], layers: Sequence["Layer"], total: dict[str, int]) -> str:
    sums = (f"{total[name]:,}" for name in list(total)[:3])
    rows.append(("total", "", "", *sums, f"{total['activation_bytes'] / 1e6:,.2f}", "", ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    formats = [f"<{width}" for width in widths[:3]] + [f">{width}" for width in widths[3:]]
    lines = ["  ".join(map(format, row, formats)).rstrip() for row in rows]
    dense = sum(layer.dense_parameters or 0 for layer in layers)
    if dense:
        lines.append(f"with fully connected layers for its convolutions: {dense:,} parameters more")
    return "\n".join(lines)


if __name__ == "__main__":
    flags.start("inspect", main)
