"""`folder:PATH`: images on disk, one sub-folder per class.

Links to files are followed; links to folders are followed for the folder itself, its splits and its
classes, not inside a class. Names that begin with a dot are ignored, and so are files without the
suffix of an image.
"""

import collections
import csv
import io
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from cnnjax import cache, files, paths
from cnnjax.data import content, pictures
from cnnjax.data.spec import showable
from cnnjax.errors import UserError

T = TypeVar("T")
PREFIX = paths.FOLDER
GROUPS_FILE = "groups.csv"
SPLIT_NAMES = {"train": "train", "validation": "validation", "val": "validation"} | {
    "valid": "validation",
    "test": "test",
}
PROGRESS_BAR_FROM = 10_000  # images
CONTENTS = np.dtype(
    [
        ("mode", "U8"),
        ("height", np.int32),
        ("width", np.int32),
        ("alpha", np.bool_),
        ("frames", np.bool_),
        ("sha256", np.uint8, (32,)),
    ]
)
"""Of an image file: its `pictures.Header`."""


@dataclass(frozen=True)
class Folder:
    """A folder of images, as listed and inspected.

    Attributes:
      path: of the folder.
      key: a digest of the path and of the names, sizes and times of the files.
      class_names: one for each label, in the order of the names.
      names: of all images, relative to `path`.
      splits: {`train`, and if they exist `validation`, `test`: its slice of `names`}.
      contents: of each image, a structured array [N] with the fields of CONTENTS.
      hashed: whether the bytes of the files were read and hashed.
      content: a digest of the names and the bytes of all files; see `cnnjax.data.content`.
      groups: the group of each image for training, int [N], by `groups.csv`; None without one.
      ignored: {kind: number of files that are not images, or outside the class folders}.
      arrays: the targets, except masks, {name: [N, ...]}, as in `cnnjax.data.targets`.
      masks: one for each image; () without masks.
      mask_names: of the classes of pixels.
      mask_classes: the class of each value of a mask, int16 [256]: -1 for one that is not allowed.
      left_out: why each example that is left out cannot be used, with its file.
    """

    path: Path
    key: str
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    splits: Mapping[str, slice]
    contents: np.ndarray
    hashed: bool
    content: str
    groups: np.ndarray | None
    ignored: Mapping[str, int]
    arrays: Mapping[str, np.ndarray]
    masks: tuple[Path, ...] = ()
    mask_names: tuple[str, ...] = ()
    mask_classes: np.ndarray | None = None
    left_out: tuple[str, ...] = ()

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the targets."""
        return (*self.arrays, *(("mask",) if self.masks else ()))

    @property
    def labels(self) -> np.ndarray:
        """Of all images, int32 [N]; 0 if they have masks alone."""
        return self.arrays.get("label", np.zeros(len(self.names), np.int32))

    @property
    def channels(self) -> int:
        """1 if the first image is grey, else 3; all images are converted to that."""
        return 1 if self.contents["mode"][0] in pictures.GREY else 3

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of all images, None if they differ."""
        heights, widths = (np.unique(self.contents[side]) for side in ("height", "width"))
        return (int(heights[0]), int(widths[0])) if len(heights) == len(widths) == 1 else None


def read(name: str) -> Folder:
    """Lists and inspects the folder of `name`, `folder:PATH`.

    PATH holds one sub-folder per class, or folders `train`, `validation` and `test` that do. Each
    image is opened once: its header and digest are cached until one of the files changes, see
    `cnnjax.data.content.version`.

    `groups.csv` in PATH, with the columns `file` (relative to PATH) and `group`, says which images
    belong together, such as those of one patient: a group is never divided between splits.

    Raises UserError, naming the file, for an image that cannot be read (`cnnjax.data.pictures`),
    names with control characters, fewer than two classes, a class without training images, classes
    that only other splits have, and a `groups.csv` that does not fit.
    """
    path = path_of(name)
    ignored: collections.Counter[str] = collections.Counter()
    roots = _roots(path, ignored)
    class_names = tuple(entry.name for entry in folders(roots["train"]))
    labelled = {split: _images(root, class_names, ignored) for split, root in roots.items()}
    _check_not_empty(name, roots, class_names, labelled, ignored)
    image_files = [file for images in labelled.values() for file, _ in images]
    labels = [label for images in labelled.values() for _, label in images]
    key, sizes = key_and_sizes(path, image_files)
    names = tuple(sizes)
    hashed = sum(sizes.values()) <= content.MAX_BYTES
    contents = _contents(key, image_files, hashed)
    digests = [digest.tobytes().hex() for digest in contents["sha256"]]
    by_name = dict(zip(names, digests, strict=True)) if hashed else None
    splits = slices({split: len(images) for split, images in labelled.items()})
    return Folder(
        path=path,
        key=key,
        class_names=class_names,
        names=names,
        splits=splits,
        contents=contents,
        hashed=hashed,
        content=content.of_digests(by_name, sizes),
        groups=read_groups(path / GROUPS_FILE, names, splits),
        ignored=ignored,
        arrays={"label": np.array(labels, np.int32)},
    )


def slices(counts: Mapping[str, int]) -> dict[str, slice]:
    """{split: its slice of examples} in the order of `counts`, {split: number of examples}."""
    parts, start = {}, 0
    for split, count in counts.items():
        parts[split] = slice(start, start := start + count)
    return parts


def path_of(name: str) -> Path:
    """PATH of `folder:PATH`. Raises UserError if that is not a folder."""
    if name == PREFIX:
        raise UserError("data.name: 'folder:' is not valid; write folder:PATH.")
    path = paths.parse("data.name", name.removeprefix(PREFIX))
    if not os.path.isdir(path):
        raise UserError(f"data.name: {str(path)!r} is not a folder.")
    return path


def split_folders(path: Path) -> dict[str, Path]:
    """{split: its folder}, or {"train": path} if there is no folder `train`. Raises UserError for
    two folders of one split."""
    roots: dict[str, Path] = {}
    for entry in folders(path):
        split = SPLIT_NAMES.get(entry.name.lower())
        if split in roots:
            raise UserError(f"{entry}: is a second folder for the split {split}.")
        if split:
            roots[split] = entry
    return roots if "train" in roots else {"train": path}


def _roots(path: Path, ignored: collections.Counter[str]) -> dict[str, Path]:
    """`split_folders`; counts what is ignored beside them."""
    roots = split_folders(path)
    if path not in roots.values() and (unused := len(folders(path)) - len(roots)):
        ignored["unused folder"] += unused
    for folder in {path, *roots.values()}:
        for file in entries(folder):
            if file.name != GROUPS_FILE and not os.path.isdir(file.path):
                ignored[f"{_kind(file.name)} outside the class folders"] += 1
    return roots


def entries(path: Path) -> list[os.DirEntry[str]]:
    """What is in a folder. Raises UserError if it cannot be read."""
    try:
        with os.scandir(path) as iterator:
            return list(iterator)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({files.reason(error)}).") from None


def folders(path: Path) -> list[Path]:
    """The visible folders in `path`, sorted by name."""
    visible = [
        Path(entry.path)
        for entry in entries(path)
        if os.path.isdir(entry.path) and not entry.name.startswith(".")
    ]
    for entry in visible:
        check_name(entry)
    return sorted(visible)


def _images(
    root: Path, class_names: tuple[str, ...], ignored: collections.Counter[str]
) -> list[tuple[Path, int]]:
    """(file, label) of each image of a split."""
    images = []
    for entry in folders(root):
        if entry.name not in class_names:
            raise UserError(
                f"{entry}: is not one of the training classes {', '.join(class_names)}."
            )
        label = class_names.index(entry.name)
        images += [(file, label) for file in sorted(images_below(entry, ignored))]
    return images


def images_below(path: Path, ignored: collections.Counter[str]) -> Iterator[Path]:
    """The images in a folder and those below it, except in hidden folders and linked ones. Counts
    what is ignored by its kind."""
    pending = [path]
    while pending:
        for entry in entries(pending.pop()):
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                pending.append(Path(entry.path))
            elif os.path.isdir(entry.path):
                hidden = entry.name.startswith(".")
                ignored["hidden folder" if hidden else "linked folder"] += 1
            elif _kind(entry.name) in pictures.SUFFIXES:
                check_name(Path(entry.path))
                yield Path(entry.path)
            else:
                ignored[_kind(entry.name)] += 1


def _kind(name: str) -> str:
    """The kind that a file is counted as: its suffix, if it has a printable one."""
    if name.startswith("."):
        return name if name == ".DS_Store" else "hidden file"
    suffix = Path(name).suffix.lower()
    return suffix if suffix.isascii() and suffix.isprintable() and suffix[1:9] else "other file"


def check_name(path: Path) -> None:
    """Raises UserError for a name that cannot be printed."""
    if not showable(path.name):
        raise UserError(
            f"{str(path.parent)!r}: {path.name!r} has control characters in its name, or is not "
            "UTF-8; rename it."
        )


def _check_not_empty(
    name: str,
    roots: Mapping[str, Path],
    class_names: tuple[str, ...],
    labelled: Mapping[str, Sequence[tuple[Path, int]]],
    ignored: Mapping[str, int],
) -> None:
    """Raises UserError for a split without images, or a class without training images."""
    allowed = ", ".join(pictures.SUFFIXES)
    for split, images in labelled.items():
        if not images:
            others = f" (there are {format_counts(ignored)})" if ignored else ""
            raise UserError(
                f"data.name: {name!r}: {roots[split]} holds no images in sub-folders, one for each "
                f"class; allowed: {allowed}{others}."
            )
    if len(class_names) < 2:
        raise UserError(
            f"data.name: {name!r}: needs images in at least two sub-folders, one for each class "
            "(or train, validation, test folders of such ones)."
        )
    with_images = {label for _, label in labelled["train"]}
    for label, class_name in enumerate(class_names):
        if label not in with_images:
            raise UserError(
                f"{roots['train'] / class_name}: holds no images of its class; allowed: {allowed}."
            )


def format_counts(counts: Mapping[str, int], max_kinds: int = 6) -> str:
    """Counts of kinds in words: `12 .txt, 1 .DS_Store`, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    phrases = []
    for kind, count in ordered[:max_kinds]:
        head, ending, tail = re.split(r"( file\b| folder\b|$)", kind, maxsplit=1)
        phrases.append(f"{count} {head}{ending}{'s' if ending and count > 1 else ''}{tail}")
    if rest := sum(count for _, count in ordered[max_kinds:]):
        phrases.append(f"{rest} of other kinds")
    return ", ".join(phrases)


def key_and_sizes(path: Path, files: Sequence[Path], *more: Any) -> tuple[str, dict[str, int]]:
    """A digest of a folder, the names and versions of files in it and `more`; and the sizes of the
    files by name. Raises UserError if one is not a regular file."""
    statuses = {str(file.relative_to(path)): _status(file) for file in files}
    versions = [(name, *content.version(status)) for name, status in statuses.items()]
    key = cache.digest([str(path.resolve()), versions, *more])
    return key, {name: status.st_size for name, status in statuses.items()}


def _status(file: Path) -> os.stat_result:
    try:
        status = file.stat()
    except FileNotFoundError:
        raise UserError(f"{file}: is a link to a file that does not exist.") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({files.reason(error)}).") from None
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{file}: has the suffix of an image, but is not a regular file.")
    return status


def _contents(key: str, paths: Sequence[Path], hashed: bool) -> np.ndarray:
    """The headers and digests of files, from the cache if they have been inspected before."""

    def write(folder: Path) -> None:
        contents = np.zeros(len(paths), CONTENTS)
        for index, path in enumerate(progress(paths)):
            contents[index] = pictures.inspect(path, hashed)
        np.save(folder / "contents.npy", contents)

    def load(folder: Path) -> np.ndarray:
        contents = np.load(folder / "contents.npy")
        if contents.shape != (len(paths),) or contents.dtype != CONTENTS:
            raise ValueError("not of these files")
        return np.asarray(contents)

    return cache.load(f"folders/{key}", write, load)


def progress(items: Sequence[T]) -> Iterable[T]:
    """The items, with a bar on a terminal if they are many."""
    disable = True if len(items) < PROGRESS_BAR_FROM else None  # None: a bar only on a terminal
    return tqdm(items, desc="inspecting images", unit="img", disable=disable, leave=False)


def read_groups(path: Path, names: Sequence[str], splits: Mapping[str, slice]) -> np.ndarray | None:
    """The group of each image for training, int [N], numbered in the order of the groups' names;
    None if there is no such file.

    Args:
      path: of the table, with the columns `file` and `group`. Other lines and columns are ignored.
      names: of the images, as in `file`.
      splits: {split that the folder has: its slice of `names`}.

    Raises UserError if the table is damaged, gives an image no group or two, or has a group in two
    of the `splits`.
    """
    if not os.path.lexists(path):
        return None
    table = _group_table(path)
    for name in names:
        if name not in table:
            raise UserError(f"{path}: names no group for {name!r}; every image needs one.")
    _, groups = np.unique([table[name] for name in names], return_inverse=True)
    split_of: dict[str, str] = {}
    for split, part in splits.items():
        for name in names[part]:
            first = split_of.setdefault(table[name], split)
            if first != split:
                raise UserError(
                    f"{path}: the group {table[name]!r} is in {first} and in {split}; {name!r} is "
                    "one of its images."
                )
    return groups[splits["train"]]


def _group_table(path: Path) -> dict[str, str]:
    """{file: group}."""
    table: dict[str, str] = {}
    with files.open_regular(path) as file:
        try:
            rows = csv.DictReader(io.TextIOWrapper(file, "utf-8-sig", newline=""), strict=True)
            if not {"file", "group"} <= set(rows.fieldnames or ()):
                raise UserError(f"{path}: needs a first line with the columns file,group.")
            for row in rows:
                name, group = row["file"], (row["group"] or "").strip()
                if not name or not group:
                    raise UserError(f"{path}: line {rows.line_num} lacks a file or a group.")
                if table.setdefault(name, group) != group:
                    raise UserError(f"{path}: line {rows.line_num}: {name!r} has two groups.")
        except (csv.Error, OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: is no table in UTF-8 ({files.reason(error)}).") from None
    return table
