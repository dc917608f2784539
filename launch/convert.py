"""Converts a file of published weights to a folder of weights to start from.

python -m launch.convert --source=torchvision|timm|keras|pytorch_cifar --model=NAME --file=PATH
    --output=DIR [--set path=value ...]

PATH is .safetensors, a PyTorch state dict, Keras .weights.h5 or .h5, or hub:OWNER/NAME for a
safetensors file on the Hugging Face hub. `--model=help` lists the networks of a source. --set
changes fields of the network or of the data that differ from what is published, for example
data.image_size=160. DIR gets checkpoints/, config.json (network, preprocessing) and weights.json:

python -m launch.evaluate --init_from=DIR
python -m launch.train --init_from=DIR --experiment=...
"""

from collections.abc import Sequence

from cnnjax import files
from cnnjax.errors import UserError, unknown
from launch import flags


def main(arguments: Sequence[str]) -> int:
    """Converts; returns the exit code."""
    source, model = flags.require("source"), flags.require("model")
    changes = flags.changes(arguments)
    if source not in SOURCES:
        raise unknown("--source", source, SOURCES)
    if other := next((path for path in changes if not path.startswith(("model.", "data."))), None):
        raise UserError(f"--set {other}: is not of the weights; allowed: model.* and data.* fields")
    from cnnjax import pretrained
    from cnnjax.pretrained import hub
    from cnnjax.train import transfer

    assert set(SOURCES) == set(pretrained.SOURCES)
    if model == "help":
        print("\n".join(pretrained.SOURCES[source].models))
        return 0
    file, output = flags.require("file"), flags.path("output")
    if output.exists():
        raise UserError(f"--output: {output} exists already; name a new folder.")
    path = hub.fetch(file) if file.startswith(hub.PREFIX) else flags.path("file")
    converted = pretrained.convert(source, model, path, changes=changes)
    about = {
        "source": source,
        "model": model,
        "file": file if file.startswith(hub.PREFIX) else path.name,
        "sha256": files.sha256(path),
        "parameters": pretrained.parameters(converted),
        "num_classes": converted.num_classes,
        "image_size": converted.config.data.image_size,
        "preprocessing": converted.preprocessing,
    }
    transfer.write(converted.variables, converted.config, output, about)
    print(
        f"written: {output}: {model}, {about['parameters']:,} parameters, "
        f"{converted.num_classes} classes, images of {converted.config.data.image_size} pixels; "
        f"preprocessing: {converted.preprocessing}"
    )
    return 0


SOURCES = ("torchvision", "timm", "keras", "pytorch_cifar")

if __name__ == "__main__":
    flags.start("convert", main)
