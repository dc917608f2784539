"""`folder:PATH` with images in `images`, and beside them a mask or boxes for each.

    [train|validation|test/]images/NAME.jpg
    [train|validation|test/]labels/NAME.png         the class of each pixel (or in `masks`)
    [train|validation|test/]annotations.csv         boxes: filename, label, xmin, ymin, xmax, ymax,
                                                    and maybe width, height, split
    [train|validation|test/]annotations/NAME.xml    boxes in the format of Pascal VOC (or beside the
                                                    images)
    classes.txt                                     the names of the classes of masks, one a line
    groups.csv                                      as in `cnnjax.data.folder`

The values of a mask, of a palette its indices, are line numbers of `classes.txt` from 0. The value
255 and a line with a name in IGNORED become IGNORE, and the lines after it move up. Without
`classes.txt` the classes are the values that occur, other than 255.

Boxes are in pixels (`cnnjax.data.annotations`). Where an image has several objects, the one with
the largest box is its target. The column `split` counts where there are no folders of splits.
"""

import collections
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnjax import cache, files
from cnnjax.data import annotations, boxes, content, folder, folder_listing, pictures
from cnnjax.data.annotations import Object
from cnnjax.data.folder_listing import MAX_TEXT_BYTES, ListedImage, Listing
from cnnjax.data.spec import SPLITS, bad_examples, showable
from cnnjax.data.targets import IGNORE, class_of_value
from cnnjax.errors import MachineError, UserError

CLASSES = "classes.txt"
IGNORED = ("unlabelled", "unlabeled", "void", "ignore")
"""Names in `classes.txt`, in small or capital letters, of pixels whose class is not known."""
MASK_CONTENTS = np.dtype(
    [
        ("height", np.int32),
        ("width", np.int32),
        ("values", np.bool_, (IGNORE + 1,)),
        ("sha256", np.uint8, (32,)),
    ]
)
"""Of a mask: its size, which values occur in it, and the SHA-256 of its bytes."""


@dataclass(frozen=True)
class Inspected:
    """What is known of files that were opened.

    Attributes:
      images: of each image, a structured array [N] as `cnnjax.data.folder.CONTENTS`.
      masks: of each mask, [N] as MASK_CONTENTS; zeros where there is none.
      errors: {index of an example: why its image or its mask cannot be read}.
    """

    images: np.ndarray
    masks: np.ndarray
    errors: Mapping[int, str]

    def digests(self, listing: Listing) -> dict[str, str]:
        """{name: SHA-256} of the files of all examples."""
        return {
            listing.name(file): known["sha256"].tobytes().hex()
            for example, image, mask in zip(listing.examples, self.images, self.masks, strict=True)
            for file, known in ((example.image, image), (example.mask, mask))
            if file
        }


def read(name: str, skip_bad: bool = False) -> folder.Folder:
    """Lists and inspects the folder of `name`, `folder:PATH`; one without masks and boxes as
    `cnnjax.data.folder.read` does.

    Every image and mask is opened once: what was found is cached until one of the files changes.

    Args:
      name: as in `data.name`.
      skip_bad: leave out examples that cannot be used, rather than raise.

    Raises UserError, naming the file, for an image or a mask that cannot be read, a mask that is
    of another size than its image or has values outside the classes, a box that is empty or outside
    its image, an image without annotation, an annotation without image, and damaged tables.
    """
    if not folder_listing.recognized(name):
        return folder.read(name)
    listing = folder_listing.read(folder.path_of(name))
    examples = listing.examples
    if not any(example.mask or example.objects for example in examples):
        if listing.problems:
            raise bad_examples(list(listing.problems.values()))
        raise UserError(f"data.name: {name!r}: no image has a mask or a box.")
    class_names = _read_classes(listing) if any(example.mask for example in examples) else None
    files_of = [file for example in examples for file in (example.image, example.mask) if file]
    key, sizes = folder.key_and_sizes(listing.path, files_of, listing.tables)
    hashed = sum(sizes.values()) <= content.MAX_BYTES
    inspected = _inspect(key, examples, hashed, decode=skip_bad)
    digests = inspected.digests(listing) | listing.tables if hashed else None
    mask_names, mask_classes = _mask_classes(name, class_names, inspected.masks)
    problems = _problems(listing, inspected, mask_classes)
    if problems and not skip_bad:
        raise bad_examples(list(problems.values()))
    kept = [i for i, example in enumerate(examples) if example.image not in problems]
    contents, examples = inspected.images[kept], [examples[index] for index in kept]
    names = tuple(listing.name(example.image) for example in examples)
    splits = _splits(name, [example.split for example in examples])
    objects = (example.objects for example in examples if example.objects)
    chosen = [max(of_image, key=lambda each: each.area) for of_image in objects]
    labels = sorted({each.label for each in chosen})
    label_of = np.array([labels.index(each.label) for each in chosen], np.int32)
    return folder.Folder(
        path=listing.path,
        key=key,
        class_names=tuple(labels),
        names=names,
        splits=splits,
        contents=contents,
        hashed=hashed,
        content=content.of_digests(digests, {**sizes, **listing.tables}),
        groups=folder.read_groups(listing.path / folder.GROUPS_FILE, names, splits),
        ignored=listing.ignored,
        arrays={"label": label_of, "box": _shares(chosen, contents)} if chosen else {},
        masks=tuple(example.mask for example in examples if example.mask),
        mask_names=mask_names,
        mask_classes=mask_classes,
        left_out=tuple(text.replace(f"{listing.path}/", "") for text in problems.values()),
    )


def _inspect(key: str, examples: Sequence[ListedImage], hashed: bool, decode: bool) -> Inspected:
    """Opens the files of the examples, unless they have been inspected before. Of an image the
    header is read; `decode` finds those that are torn further on."""

    def write(target: Path) -> None:
        images = np.zeros(len(examples), folder.CONTENTS)
        masks = np.zeros(len(examples), MASK_CONTENTS)
        errors = {}
        for index, example in enumerate(folder.progress(examples)):
            try:
                images[index] = pictures.inspect(example.image, hashed)
                if decode:
                    pictures.read(example.image, channels=3)
                if example.mask:
                    masks[index] = _inspect_mask(example.mask, hashed)
            except MachineError:
                raise
            except UserError as error:
                errors[str(index)] = str(error)
        np.save(target / "images.npy", images)
        np.save(target / "masks.npy", masks)
        files.write_json(target / "errors.json", errors)

    def load(path: Path) -> Inspected:
        images, masks = np.load(path / "images.npy"), np.load(path / "masks.npy")
        if not len(images) == len(masks) == len(examples) or masks.dtype != MASK_CONTENTS:
            raise ValueError("not of these files")
        errors = json.loads((path / "errors.json").read_text())
        return Inspected(images, masks, {int(index): text for index, text in errors.items()})

    return cache.load(f"folders/{key}{'-decoded' if decode else ''}", write, load)


def _inspect_mask(path: Path, hashed: bool) -> tuple[int, int, np.ndarray, np.ndarray]:
    values = pictures.read_mask(path)
    occurs = np.bincount(values.ravel(), minlength=IGNORE + 1) > 0
    digest = bytes.fromhex(content.sha256(path)) if hashed else bytes(32)
    return (*values.shape, occurs, np.frombuffer(digest, np.uint8))


def _read_classes(listing: Listing) -> list[str] | None:
    """The lines of `classes.txt`; None if there is none. Raises UserError for one that cannot be
    used."""
    path = listing.path / CLASSES
    if not path.exists():
        return None
    names = [line.strip() for line in listing.read_text(path, MAX_TEXT_BYTES).rstrip().split("\n")]
    for number, name in enumerate(names, 1):
        if not name or not showable(name):
            raise UserError(f"{path}: line {number} is no name of a class: {name[:100]!r}.")
        if name in names[: number - 1]:
            raise UserError(f"{path}: line {number}: {name!r} is named twice.")
    if len(names) > IGNORE:
        raise UserError(f"{path}: names {len(names)} classes; allowed: at most {IGNORE}.")
    return names


def _mask_classes(
    name: str, class_names: Sequence[str] | None, masks: np.ndarray
) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of the classes by the lines of `classes.txt`, or without it by the values that
    occur, and the class of each value."""
    if class_names is None:
        occurring = np.flatnonzero(masks["values"][:, :IGNORE].any(axis=0)).tolist()
        lines = {value: str(value) for value in occurring}
    else:
        lines = dict(enumerate(class_names))
    names = {value: line for value, line in lines.items() if line.lower() not in IGNORED}
    if masks["values"].any() and len(names) < 2:
        raise UserError(
            f"data.name: {name!r}: the masks have fewer than two classes "
            f"({', '.join(names.values()) or 'none'}); the value {IGNORE} says that the class is "
            "not known."
        )
    mask_classes = class_of_value(names)
    mask_classes[list(lines.keys() - names.keys())] = IGNORE
    return tuple(names.values()), mask_classes


def _problems(listing: Listing, inspected: Inspected, mask_classes: np.ndarray) -> dict[Path, str]:
    """{image, or annotation without image: why it cannot be used}."""
    examples, problems = listing.examples, dict(listing.problems)
    masked = any(example.mask for example in examples)
    boxed = any(example.objects for example in examples)
    for index, example in enumerate(examples):
        if example.image in problems:
            continue
        if masked and example.mask is None:
            text: str | None = f"{example.image}: has no mask."
        elif boxed and not example.objects:
            text = f"{example.image}: has no annotation."
        else:
            text = inspected.errors.get(index) or _problem(
                example, inspected.images[index], inspected.masks[index], mask_classes
            )
        if text:
            problems[example.image] = text
    return problems


def _problem(
    example: ListedImage, image: np.void, mask: np.void, mask_classes: np.ndarray
) -> str | None:
    """Why an example cannot be used; None if it can.

    Args:
      example: with a mask or objects.
      image, mask: what is known of its image (`folder.CONTENTS`) and its mask (MASK_CONTENTS).
      mask_classes: the class of each value of a mask.
    """
    height, width = int(image["height"]), int(image["width"])
    if example.mask:
        if (mask["height"], mask["width"]) != (height, width):
            return (
                f"{example.mask}: is {mask['height']}x{mask['width']}, but its image is "
                f"{height}x{width}."
            )
        if (wrong := np.flatnonzero(mask["values"] & (mask_classes < 0))).size:
            return (
                f"{example.mask}: has the value {wrong[0]}; allowed: 0 to "
                f"{np.flatnonzero(mask_classes[:IGNORE] >= 0)[-1]}, the lines of {CLASSES}, and "
                f"{IGNORE}."
            )
    reasons = (annotations.problem(each, example.image, height, width) for each in example.objects)
    return next(filter(None, reasons), None)


def _shares(chosen: Sequence[Object], contents: np.ndarray) -> np.ndarray:
    """The boxes of objects as shares of the images, float32 [N, 4]."""
    corners = np.array([each.corners for each in chosen], np.float64).reshape(-1, 4)
    sides = np.stack([contents["width"], contents["height"]] * 2, axis=-1)
    return boxes.from_corners(*np.clip(corners / sides, 0, 1).T).astype(np.float32)


def _splits(name: str, split_of: Sequence[str]) -> dict[str, slice]:
    """{split: its slice} of examples in the order of SPLITS. Raises UserError if none is for
    training."""
    counts = collections.Counter(split_of)
    if not counts["train"]:
        raise UserError(f"data.name: {name!r}: there are no images for training.")
    return folder.slices({split: counts[split] for split in SPLITS if counts[split]})
