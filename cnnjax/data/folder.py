"""`folder:PATH`: images on disk, one sub-folder per class.

Links to files are followed wherever they lead; links to folders are followed for the folder itself,
its splits and its classes, not inside a class. Names that begin with a dot are ignored, and files
that are not called as an image is.
"""

import collections
import contextlib
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cnnjax import cache, files, paths
from cnnjax.data import content, groups, pictures
from cnnjax.data.spec import showable
from cnnjax.errors import UserError

PREFIX = paths.FOLDER
SPLIT_NAMES = {"train": "train", "validation": "validation", "val": "validation"} | {
    "valid": "validation",
    "test": "test",
}
MANY = 10_000  # images that are inspected under a progress bar
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
"""What an image file holds: its `pictures.Header` and the SHA-256 of its bytes."""


@dataclass(frozen=True)
class Folder:
    """A folder of images, as listed and inspected.

    Attributes:
      path: of the folder.
      key: stands for its place and the names, sizes and times of its images.
      class_names: one for each label, in the order of the names.
      names: of all images, relative to `path`.
      bytes: the size of each file, int64 [N].
      labels: of all images, int32 [N].
      splits: {`train`, and where they exist `validation`, `test`: its part of the list}.
      contents: what the files hold, a structured array [N] of the fields in CONTENTS.
      groups: of each image, int [N], by `groups.csv`; None without one.
      ignored: how many files of each kind are no images, or lie elsewhere.
    """

    path: Path
    key: str
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    bytes: np.ndarray
    labels: np.ndarray
    splits: Mapping[str, slice]
    contents: np.ndarray
    groups: np.ndarray | None
    ignored: Mapping[str, int]

    @property
    def channels(self) -> int:
        """1 if the first image is grey, else 3; all images are converted to that."""
        return 1 if self.contents["mode"][0] in pictures.GREY else 3

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of all images, None if they differ."""
        heights, widths = (np.unique(self.contents[side]) for side in ("height", "width"))
        return (int(heights[0]), int(widths[0])) if len(heights) == len(widths) == 1 else None

    @property
    def whole(self) -> bool:
        """Whether the files were read whole, so that their digests are known."""
        return int(self.bytes.sum()) <= content.MOST_BYTES

    @property
    def content(self) -> str:
        """A digest of the names and the bytes of all images; see `cnnjax.data.content`."""
        digests = [digest.tobytes().hex() for digest in self.contents["sha256"]]
        by_name = dict(zip(self.names, digests, strict=True)) if self.whole else None
        return content.of_digests(by_name, dict(zip(self.names, self.bytes.tolist(), strict=True)))


def read(name: str) -> Folder:
    """The folder that `name`, `folder:PATH`, stands for.

    PATH holds one sub-folder per class, or `train`, `validation` and `test` folders of such ones.
    Each image is opened once; what it holds is kept in the cache folder as long as the images stay
    the same files, see `cnnjax.data.content.version`.

    `groups.csv` beside those folders, with the columns `file` (relative to PATH) and `group`, names
    images that belong together, such as those of one patient: no group is ever divided between
    splits.

    Raises UserError, naming the file, for whatever cannot be read as an image (`cnnjax.data.
    pictures`), names with control characters, fewer than two classes, a class without training
    images, classes that only other splits have, and a `groups.csv` that does not fit.
    """
    if name == PREFIX:
        raise UserError("data.name: 'folder:' is not valid; write folder:PATH.")
    path = paths.typed("data.name", name.removeprefix(PREFIX))
    if not os.path.isdir(path):
        raise UserError(f"data.name: {str(path)!r} is not a folder.")
    ignored: collections.Counter[str] = collections.Counter()
    roots = _roots(path, ignored)
    class_names = tuple(entry.name for entry in _folders(roots["train"]))
    listed = {split: _images(root, class_names, ignored) for split, root in roots.items()}
    _check_filled(name, roots, class_names, listed, ignored)
    every_file = [file for images in listed.values() for file, _ in images]
    states = [_state(file) for file in every_file]
    names = tuple(str(file.relative_to(path)) for file in every_file)
    versions = [(file, *content.version(state)) for file, state in zip(names, states, strict=True)]
    key = cache.digest([str(path.resolve()), versions])
    sizes = np.array([state.st_size for state in states], np.int64)
    splits, start = {}, 0
    for split, images in listed.items():
        splits[split] = slice(start, start := start + len(images))
    return Folder(
        path=path,
        key=key,
        class_names=class_names,
        names=names,
        bytes=sizes,
        labels=np.array([label for images in listed.values() for _, label in images], np.int32),
        splits=splits,
        contents=_contents(key, every_file, whole=int(sizes.sum()) <= content.MOST_BYTES),
        groups=groups.read(path / groups.FILE, names, splits),
        ignored=ignored,
    )


def _roots(path: Path, ignored: collections.Counter[str]) -> dict[str, Path]:
    """{split: its folder}, or {"train": path} where there is no folder of that name."""
    inner = _folders(path)
    roots: dict[str, Path] = {}
    for entry in inner:
        split = SPLIT_NAMES.get(entry.name.lower())
        if split in roots:
            raise UserError(f"{entry}: is a second folder for the split {split}.")
        if split:
            roots[split] = entry
    if "train" not in roots:
        roots = {"train": path}
    elif others := len(inner) - len(roots):
        ignored["unused folder"] += others
    for place in {path, *roots.values()}:
        for file in _entries(place):
            if file.name != groups.FILE and not os.path.isdir(file.path):
                ignored[f"{_kind(file.name)} outside the class folders"] += 1
    return roots


def _entries(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({files.reason(error)}).") from None


def _folders(path: Path) -> list[Path]:
    inner = [
        Path(entry.path)
        for entry in _entries(path)
        if os.path.isdir(entry.path) and not entry.name.startswith(".")
    ]
    for entry in inner:
        _check_name(entry)
    return sorted(inner)


def _images(
    root: Path, class_names: tuple[str, ...], ignored: collections.Counter[str]
) -> list[tuple[Path, int]]:
    listed = []
    for entry in _folders(root):
        if entry.name not in class_names:
            raise UserError(
                f"{entry}: is not one of the training classes {', '.join(class_names)}."
            )
        label = class_names.index(entry.name)
        listed += [(file, label) for file in sorted(_images_below(entry, ignored))]
    return listed


def _images_below(path: Path, ignored: collections.Counter[str]) -> Iterator[Path]:
    waiting = [path]
    while waiting:
        for entry in _entries(waiting.pop()):
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                waiting.append(Path(entry.path))
            elif os.path.isdir(entry.path):
                hidden = entry.name.startswith(".")
                ignored["hidden folder" if hidden else "linked folder"] += 1
            elif _kind(entry.name) in pictures.SUFFIXES:
                _check_name(Path(entry.path))
                yield Path(entry.path)
            else:
                ignored[_kind(entry.name)] += 1


def _kind(name: str) -> str:
    """What a file is counted as: its suffix, where it has a plain one."""
    if name.startswith("."):
        return name if name == ".DS_Store" else "hidden file"
    suffix = Path(name).suffix.lower()
    return suffix if suffix.isascii() and suffix.isprintable() and suffix[1:9] else "other file"


def _check_name(path: Path) -> None:
    """Raises UserError for names that cannot be shown."""
    if not showable(path.name):
        raise UserError(
            f"{str(path.parent)!r}: {path.name!r} has control characters in its name, or is not "
            "UTF-8; rename it."
        )


def _check_filled(
    name: str,
    roots: Mapping[str, Path],
    class_names: tuple[str, ...],
    listed: Mapping[str, Sequence[tuple[Path, int]]],
    ignored: Mapping[str, int],
) -> None:
    allowed = ", ".join(pictures.SUFFIXES)
    for split, images in listed.items():
        if not images:
            seen = f" (there are {counted(ignored)})" if ignored else ""
            raise UserError(
                f"data.name: {name!r}: {roots[split]} holds no images in sub-folders, one for each "
                f"class; allowed: {allowed}{seen}."
            )
    if len(class_names) < 2:
        raise UserError(
            f"data.name: {name!r}: needs images in at least two sub-folders, one for each class "
            "(or train, validation, test folders of such ones)."
        )
    filled = {label for _, label in listed["train"]}
    for label, class_name in enumerate(class_names):
        if label not in filled:
            raise UserError(
                f"{roots['train'] / class_name}: holds no images of its class; allowed: {allowed}."
            )


def counted(ignored: Mapping[str, int], most: int = 6) -> str:
    """Counts of kinds as words: `12 .txt, 1 .DS_Store`, the most frequent first."""
    ordered = sorted(ignored.items(), key=lambda item: -item[1])
    words = []
    for kind, count in ordered[:most]:
        first, ending, rest = re.split(r"( file\b| folder\b|$)", kind, maxsplit=1)
        words.append(f"{count} {first}{ending}{'s' if ending and count > 1 else ''}{rest}")
    if others := sum(count for _, count in ordered[most:]):
        words.append(f"{others} of other kinds")
    return ", ".join(words)


def _state(file: Path) -> os.stat_result:
    try:
        state = file.stat()
    except FileNotFoundError:
        raise UserError(f"{file}: is a link to a file that does not exist.") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({files.reason(error)}).") from None
    if not stat.S_ISREG(state.st_mode):
        raise UserError(f"{file}: is called as an image is, but is not a regular file.")
    return state


def _contents(key: str, paths: Sequence[Path], whole: bool) -> np.ndarray:
    """What the files hold, from the cache where they have been inspected before."""

    def write(folder: Path) -> None:
        contents = np.zeros(len(paths), CONTENTS)
        quiet = True if len(paths) < MANY else None  # None: a bar only on a terminal
        bar = tqdm(paths, desc="inspecting images", unit="img", disable=quiet, leave=False)
        for position, path in enumerate(bar):
            header, digest = pictures.inspect(path, whole)
            contents[position] = (*header, np.frombuffer(digest, np.uint8) if whole else 0)
        np.save(folder / "contents.npy", contents)

    def kept(again: bool) -> np.ndarray:
        contents = np.load(cache.folder(f"folders/{key}", write, again) / "contents.npy")
        if contents.shape != (len(paths),) or contents.dtype != CONTENTS:
            raise ValueError("not of these files")
        return np.asarray(contents)

    with contextlib.suppress(OSError, ValueError, EOFError):
        return kept(again=False)
    return kept(again=True)
