"""Makes a folder of weights to start from out of a file that others have published.

python -m launch.convert --source=torchvision|timm|keras|pytorch_cifar --model=NAME --file=PATH
    --output=DIR [--set path=value ...]

PATH is .safetensors, a PyTorch state dict, Keras .weights.h5 or .h5, or hub:OWNER/NAME for a
safetensors file on the Hugging Face hub. `--model=help` lists the networks of a source. With --set
fields of the network or of the data that differ from what is published: data.image_size=160 for
example. DIR gets checkpoints/, config.json (network and preprocessing) and weights.json:

python -m launch.evaluate --init_from=DIR
python -m launch.train --init_from=DIR --experiment=...
"""

from collections.abc import Sequence

from cnnjax import files
from cnnjax.errors import UserError, unknown
from launch import flags


def main(arguments: Sequence[str]) -> int:
    """Converts; returns the exit code."""
    source, model, changes = flags.need("source"), flags.need("model"), flags.changes(arguments)
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
    file, output = flags.need("file"), flags.path("output")
    if output.exists():
        raise UserError(f"--output: {output} exists already; name a new folder.")
    path = hub.fetch(file) if file.startswith(hub.PREFIX) else flags.path("file")
    found = pretrained.convert(source, model, path, changes=changes)
    about = {
        "source": source,
        "model": model,
        "file": file if file.startswith(hub.PREFIX) else path.name,
        "sha256": files.sha256(path),
        "parameters": pretrained.parameters(found),
        "num_classes": found.num_classes,
        "image_size": found.config.data.image_size,
        "preprocessing": found.preprocessing,
    }
    transfer.write(found.variables, found.config, output, about)
    print(
        f"written: {output}: {model}, {about['parameters']:,} parameters, "
        f"{found.num_classes} classes, images of {found.config.data.image_size} pixels; "
        f"preprocessing: {found.preprocessing}"
    )
    return 0


SOURCES = ("torchvision", "timm", "keras", "pytorch_cifar")

if __name__ == "__main__":
    flags.define("convert")
    flags.start(main)
