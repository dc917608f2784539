"""Which masks and boxes belong to which images of a folder, see `cnnjax.data.folder_targets`."""

import collections
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cnnjax import files
from cnnjax.data import annotations, folder
from cnnjax.data.annotations import Object
from cnnjax.data.spec import SPLITS
from cnnjax.errors import UserError, unknown

IMAGES = "images"
MASKS = ("labels", "masks")
TABLE = "annotations.csv"
XML = "annotations"
MAX_TABLE_BYTES = 1 << 30
MAX_TEXT_BYTES = 1 << 20


class ListedImage(NamedTuple):
    """An image file, the split that its folder or its table says, its mask and its objects."""

    image: Path
    split: str
    mask: Path | None
    objects: Sequence[Object]


@dataclass
class Listing:
    """What a folder holds.

    Attributes:
      path: of the folder.
      examples: the images with what belongs to them.
      problems: {image, or annotation without image: why it cannot be used}.
      tables: {name relative to `path`: SHA-256} of the files that were read as text.
      ignored: as in `cnnjax.data.folder.Folder`.
    """

    path: Path
    examples: list[ListedImage] = field(default_factory=list)
    problems: dict[Path, str] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    ignored: collections.Counter[str] = field(default_factory=collections.Counter)

    def name(self, file: Path) -> str:
        """The path of a file relative to the folder."""
        return str(file.relative_to(self.path))

    def read_text(self, file: Path, max_bytes: int) -> str:
        """The content of a file, which is noted in `tables`. Raises UserError if it is not text in
        UTF-8."""
        encoded = files.read_bytes(file, max_bytes)
        self.tables[self.name(file)] = hashlib.sha256(encoded).hexdigest()
        try:
            return encoded.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise UserError(f"{file}: is not text in UTF-8.") from None


def recognized(name: str) -> bool:
    """Whether `folder:PATH` has masks or boxes beside a folder `images`, rather than a folder for
    each class. Raises UserError if PATH is not a folder."""
    return any(map(_is_annotated, folder.split_folders(folder.path_of(name)).values()))


def _is_annotated(root: Path) -> bool:
    images = root / IMAGES
    return images.is_dir() and (
        any((root / name).is_dir() for name in (*MASKS, XML))
        or (root / TABLE).is_file()
        or any(entry.name.endswith(".xml") for entry in folder.entries(images))
    )


def read(path: Path) -> Listing:
    """The images and annotations in a folder, split by split. Raises UserError, naming the file,
    for damaged tables, and for files of which two could belong to an image."""
    listing = Listing(path)
    roots = folder.split_folders(path)
    for split, root in roots.items():
        if not (root / IMAGES).is_dir():
            raise UserError(f"{root}: has no folder {IMAGES!r}, unlike others of this data set.")
        images = sorted(folder.images_below(root / IMAGES, listing.ignored))
        masks = _masks(listing, root, images)
        objects, split_of = _table(listing, root, images)
        for image, of_image in _xml(listing, root, images).items():
            objects[image] += of_image
        for image in images:
            own = split_of.get(image, split) if root == path else split
            listing.examples.append(ListedImage(image, own, masks.get(image), objects[image]))
    listing.examples.sort(key=lambda example: SPLITS.index(example.split))
    return listing


def _by_stem(paths: Sequence[Path], base: Path) -> dict[str, Path]:
    """{name without suffix: path}. Raises UserError for two of the same name."""
    by_stem: dict[str, Path] = {}
    for path in paths:
        first = by_stem.setdefault(str(path.relative_to(base).with_suffix("")), path)
        if first != path:
            raise UserError(f"{path}: has the same name as {first.name}, except for the suffix.")
    return by_stem


def _masks(listing: Listing, root: Path, images: Sequence[Path]) -> dict[Path, Path]:
    """{image: its mask}."""
    bases = [root / name for name in MASKS if (root / name).is_dir()]
    if not bases:
        return {}
    if len(bases) > 1:
        raise UserError(f"{bases[1]}: is a second folder of masks, beside {bases[0].name}.")
    masks = sorted(folder.images_below(bases[0], listing.ignored))
    return dict(_pairs(listing, root, images, bases[0], masks))


def _pairs(
    listing: Listing, root: Path, images: Sequence[Path], base: Path, paths: Sequence[Path]
) -> Iterator[tuple[Path, Path]]:
    """Each image with the one of the `paths` below `base` that has its name; a path without image
    is a problem."""
    image_of = _by_stem(images, root / IMAGES)
    for stem, path in _by_stem(paths, base).items():
        folder.check_name(path)
        if stem in image_of:
            yield image_of[stem], path
        else:
            listing.problems[path] = f"{path}: has no image."


Objects = dict[Path, list[Object]]


def _table(listing: Listing, root: Path, images: Sequence[Path]) -> tuple[Objects, dict[Path, str]]:
    """The objects of each image in the table of a folder, and the split of each image, where the
    table has such a column. Raises UserError for a damaged table."""
    path = root / TABLE
    objects: Objects = {image: [] for image in images}
    split_of: dict[Path, str] = {}
    if not path.exists():
        return objects, split_of
    for row in annotations.read_table(path, listing.read_text(path, MAX_TABLE_BYTES)):
        image, where = root / IMAGES / row.filename, row.object.where
        if image not in objects:
            listing.problems.setdefault(
                image, f"{where}: there is no image {row.filename!r} in {image.parent}."
            )
            continue
        objects[image].append(row.object)
        if row.split is not None:
            split = folder.SPLIT_NAMES.get(row.split.lower())
            if split is None:
                raise unknown(f"{where}: split", row.split, folder.SPLIT_NAMES)
            if split_of.setdefault(image, split) != split:
                raise UserError(f"{where}: {row.filename!r} is in two splits.")
    return objects, split_of


def _xml(listing: Listing, root: Path, images: Sequence[Path]) -> Objects:
    """{image: its objects} of the files of Pascal VOC in `annotations`, or beside the images."""
    base = root / XML if (root / XML).is_dir() else root / IMAGES
    paths = sorted(path for path in base.rglob("*.xml") if not path.name.startswith("."))
    if not paths:
        return {}
    del listing.ignored[".xml"]
    objects: Objects = {}
    for image, path in _pairs(listing, root, images, base, paths):
        try:
            objects[image] = annotations.read_voc(path, listing.read_text(path, MAX_TEXT_BYTES))
        except UserError as error:
            listing.problems[image] = str(error)
    return objects
