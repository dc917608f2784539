"""What a trained network says about images.

python -m launch.predict --workdir=RUN --input=FOLDER --output=DIR [--step=best|last|N]
python -m launch.predict --init_from=DIR --input=a.png,b.jpg --output=DIR [--data_dir=DIR]

RUN is the folder of one run, DIR/ARM/seed-0; --init_from is a folder of weights. The images in
--input are brought to the network's size, and to its number of channels, as the data set of the run
is. In --output each has a picture NAME_prediction.png, with the mask or the box drawn over it or
with the three most probable classes, and predictions.json has the numbers: probabilities, boxes in
pixels of the file, shares of the classes of a mask; the mask itself, at the size of the file, is
NAME_mask.png. An image that cannot be read is named and left out, and the exit code is then 1.
Files of that name which this program has not written are never overwritten.
"""

import dataclasses
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import experiments
from cnnjax import files, paths
from cnnjax.config import ResolvedConfig
from cnnjax.errors import UserError, shown
from launch import flags, trained

if TYPE_CHECKING:
    from cnnjax.data import Dataset
    from cnnjax.train.session import Program

PROGRAM = "launch.predict"
"""Written into every file by which it is known again."""
_ENDINGS = ("_prediction.png", "_mask.png")
BATCH = 32
TOP = 3
DRAWN = ("logits", "predicted_mask", "predicted_box")
"""The predictions of a task that are drawn: of classes, [B, number of classes], of a mask and of a
box."""


def main(arguments: Sequence[str]) -> int:
    """Predicts; returns the exit code."""
    values = flags.FLAGS
    changes = flags.changes(arguments)
    which, directory = trained.step(), trained.folder()
    levels = experiments.load(values.experiment).levels if values.experiment else {}
    if (directory / "study.json").is_file():
        raise UserError(f"{directory}: is a study; name one of its runs, {directory}/ARM/seed-0.")
    config = trained.config(directory, changes, levels)
    images = _images(flags.require("input"))
    names = _names(images)
    output = flags.folder("output")

    import jax

    from cnnjax.train import memory
    from cnnjax.train.session import Session

    session = Session(data_dir=values.data_dir, levels=levels)
    dataset = session.dataset(config, trained.seed(directory))
    program = session.program(config)
    batch = min(BATCH, config.evaluation.batch_size)
    inputs = jax.ShapeDtypeStruct((batch, *dataset.spec.image_shape), np.uint8)
    predicted = jax.eval_shape(program.predict, program.shapes, inputs, np.float32(1))
    if not set(predicted) & set(DRAWN):
        raise UserError(
            f"task: {config.task}: its predictions ({', '.join(predicted)}) cannot be drawn; "
            f"allowed: {', '.join(DRAWN)}."
        )
    _refuse_foreign(output, names, masks="predicted_mask" in predicted)
    step, variables = trained.restore(directory, config, session, which)
    network = _Predictor(config, dataset, program, variables, batch)
    with memory.explain(f"evaluation.batch_size: {batch}", "a smaller evaluation.batch_size"):
        records, left_out = _predict(network, images, names, output)
    if not records:
        raise UserError(f"--input: none of the {len(images)} images there can be read.")
    about = {"program": PROGRAM, "run": str(directory), "step": step, "task": config.task}
    files.write_json(output / "predictions.json", {**about, "files": records, "left_out": left_out})
    noun = "image" if len(records) == 1 else "images"
    rest = f"; {len(left_out)} left out" if left_out else ""
    print(f"{len(records)} {noun}: {output / 'predictions.json'} and pictures beside it{rest}")
    return 1 if left_out else 0


@dataclasses.dataclass(frozen=True)
class _Predictor:
    """A network, and how images become its inputs and its outputs what is said of them."""

    config: ResolvedConfig
    dataset: "Dataset"
    program: "Program"
    variables: Any
    batch: int

    def __call__(self, images: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """The predictions of each of at most `batch` images, uint8 [h, w, C]."""
        inputs = np.zeros((self.batch, *self.dataset.spec.image_shape), np.uint8)
        for number, image in enumerate(images):
            inputs[number] = self.dataset.loaded.resize.image(image)
        keep_prob = np.float32(self.config.model.dropout.keep_prob)
        predicted = self.program.predict(self.variables, inputs, keep_prob)
        arrays = {name: np.asarray(values) for name, values in predicted.items()}
        return [{name: each[i] for name, each in arrays.items()} for i in range(len(images))]


def _predict(
    network: _Predictor, images: Sequence[Path], names: Sequence[str], output: Path
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Writes the pictures. Returns what is said of each image, and of which there is nothing."""
    from tqdm import tqdm

    from cnnjax.data import pictures

    channels = network.dataset.spec.image_shape[2]
    records: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    with tqdm(total=len(images), unit="img", disable=None, leave=False) as bar:
        for start in range(0, len(images), network.batch):
            part = slice(start, start + network.batch)
            readable = []
            for path, name in zip(images[part], names[part], strict=True):
                try:
                    inputs = pictures.read(path, channels)
                    original = inputs if channels == 3 else pictures.read(path, 3)
                    readable.append((path, name, inputs, original))
                except UserError as error:
                    tqdm.write(f"left out: {error}")
                    left_out.append({"file": str(path), "reason": str(error)})
            predictions = network([inputs for _, _, inputs, _ in readable]) if readable else []
            for (path, name, _, original), predicted in zip(readable, predictions, strict=True):
                about = _describe(network.dataset, original, predicted, f"{output}/{name}")
                records.append({"file": str(path), **about})
            bar.update(len(images[part]))
    return records, left_out


def _describe(
    dataset: "Dataset", original: np.ndarray, predicted: Mapping[str, np.ndarray], prefix: str
) -> dict[str, Any]:
    """What is said of one image, of which the pictures are written: `prefix` begins their paths."""
    from PIL import Image

    from cnnjax.report import annotated, palette

    (height, width), resize = original.shape[:2], dataset.loaded.resize
    picture_path, mask_path = (Path(f"{prefix}{ending}") for ending in _ENDINGS)
    about: dict[str, Any] = {"width": width, "height": height, "picture": picture_path.name}
    legend: list[tuple[str | None, str]] = []
    box = mask = None
    if "logits" in predicted:
        classes = _probabilities(predicted["logits"], dataset.spec.class_names)
        about["class"], about["probabilities"] = classes[0]["class"], classes
        legend = [(None, f"{each['class']}  {_percent(each['probability'])}") for each in classes]
        legend = legend[:TOP]
    if "predicted_box" in predicted:
        box = resize.original_box(predicted["predicted_box"], height, width)
        edges = ("left", "top", "right", "bottom")
        about["box"] = dict(zip(edges, (round(edge, 2) for edge in box), strict=True))
        legend = [(palette.PREDICTED_BOX, legend[0][1] if legend else "box")]
    if "predicted_mask" in predicted:
        mask = resize.original_mask(predicted["predicted_mask"], height, width)
        about["mask"] = mask_path.name
        about["classes"] = _shares(mask, dataset.spec.mask_names)
        legend = [
            (palette.color(each["value"]), f"{each['class']}  {_percent(each['share'])}")
            for each in about["classes"]
        ]
        picture = Image.fromarray(mask)
        picture.putpalette(palette.table().tobytes())
        _write_png(mask_path, picture)
    _write_png(picture_path, annotated.draw(original, legend, mask=mask, box=box))
    return about


def _probabilities(logits: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """The classes, the most probable first; a probability is None if the logits are not finite."""
    with np.errstate(invalid="ignore"):
        exponentials = np.exp(logits.astype(np.float64) - logits.max())
        probabilities = exponentials / exponentials.sum()
    order = np.argsort(-probabilities, kind="stable").tolist()
    values = [each if np.isfinite(each) else None for each in probabilities.tolist()]
    return [{"class": names[number], "probability": values[number]} for number in order]


def _shares(mask: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """The classes in a mask with their values and shares of its pixels, the largest first; what was
    cut away from the image, so that the network did not see it, last."""
    from cnnjax.data.targets import IGNORE

    numbers, counts = np.unique(mask, return_counts=True)
    shares = [
        {
            "class": "not seen" if number == IGNORE else names[number],
            "value": number,
            "share": count / mask.size,
        }
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)
    ]
    return sorted(shares, key=lambda each: (each["value"] == IGNORE, -each["share"]))


def _percent(share: float | None) -> str:
    return "not finite" if share is None else f"{100 * share:.1f} %"


def _write_png(path: Path, picture: Any) -> None:
    from PIL.PngImagePlugin import PngInfo

    info, buffer = PngInfo(), io.BytesIO()
    info.add_text("Software", PROGRAM)
    picture.save(buffer, "png", pnginfo=info)
    files.write_bytes(path, buffer.getvalue())


def _images(text: str) -> list[Path]:
    """The images that --input names: those in a folder, by name, except what this program has
    written there; or files separated by commas.

    Raises UserError if there is no such file, or no image in the folder."""
    from cnnjax.data import pictures

    path = paths.parse("--input", text)
    if path.is_dir():
        images = sorted(
            each
            for each in path.iterdir()
            if each.suffix.lower() in pictures.SUFFIXES
            and not each.name.startswith(".")
            and not (each.name.endswith(_ENDINGS) and _written_here(each))
        )
        if not images:
            allowed = ", ".join(pictures.SUFFIXES)
            raise UserError(f"--input: {path} holds no image ({allowed}).")
        return images
    if path.exists():
        return [path]
    images = [paths.parse("--input", part.strip()) for part in text.split(",")]
    for image in images:
        if not image.is_file():
            raise UserError(f"--input: {shown(str(image))}: there is no such file or folder.")
    return images


def _names(images: Sequence[Path]) -> list[str]:
    """The beginnings of the names of what is written for each image: that of its file, with a
    number where several have it."""
    names: list[str] = []
    taken: set[str] = set()
    for image in images:
        choices = itertools.chain([image.stem], (f"{image.stem}-{n}" for n in itertools.count(2)))
        name = next(choice for choice in choices if choice.casefold() not in taken)
        taken.add(name.casefold())
        names.append(name)
    return names


def _refuse_foreign(output: Path, names: Sequence[str], masks: bool) -> None:
    """Raises UserError if a file that would be written exists and is not of this program."""
    endings = _ENDINGS if masks else _ENDINGS[:1]
    pictures = [output / f"{name}{ending}" for name in names for ending in endings]
    for path in (output / "predictions.json", *pictures):
        if path.exists() and not _written_here(path):
            raise UserError(
                f"--output: {path} exists and was not written by {PROGRAM}; name another folder."
            )


def _written_here(path: Path) -> bool:
    from PIL import Image

    try:
        if path.suffix == ".json":
            stored = files.read_json(path)
            return isinstance(stored, dict) and stored.get("program") == PROGRAM
        with files.open_regular(path) as file, Image.open(file, formats=("PNG",)) as picture:
            return picture.info.get("Software") == PROGRAM
    except (UserError, OSError, ValueError, SyntaxError):
        return False


if __name__ == "__main__":
    flags.start("predict", main)
