"""The original archives of the data sets that cnnjax prepares itself: finds, downloads and verifies
them."""

import hashlib
import http.client
import os
import shutil
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnjax import cache, files, paths
from cnnjax.errors import UserError


@dataclass(frozen=True)
class Original:
    """A data set in MNIST's or CIFAR's format: {file name: (URL, SHA-256)}, as TFDS has them."""

    format: str
    files: Mapping[str, tuple[str, str]]
    class_names: tuple[str, ...] = ()


def _mnist(base: str, digests: Sequence[str], class_names: Sequence[str]) -> Original:
    names = [
        f"{part}-{kind}-ubyte.gz"
        for part in ("train", "t10k")
        for kind in ("images-idx3", "labels-idx1")
    ]
    files = {name: (base + name, sha) for name, sha in zip(names, digests, strict=True)}
    return Original("mnist", files, tuple(class_names))


def _cifar(name: str, digest: str) -> Original:
    return Original("cifar", {name: (f"https://www.cs.toronto.edu/~kriz/{name}", digest)})


ORIGINALS: Mapping[str, Original] = {
    "mnist": _mnist(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
        "0123456789",
    ),
    "fashion_mnist": _mnist(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        (
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
        (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
    ),
    "cifar10": _cifar(
        "cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
    "cifar100": _cifar(
        "cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    ),
}
"""CIFAR in its binary form: unpickling the Python form could run code in it."""


def fetch(name: str, data_dir: Path | None) -> dict[str, Path]:
    """{file name: path} of the verified originals of `name`, downloaded if not found.

    Raises:
      UserError: a file with the right name has the wrong content, or one is missing and cannot be
        downloaded.
    """
    originals = {}
    for file, (url, sha) in ORIGINALS[name].files.items():
        candidates = [folder / file for folder in manual_folders(name, data_dir)]
        existing = [path for path in candidates if path.is_file()]
        verified = next((path for path in existing if _sha256(path) == sha), None)
        if verified is None and existing:
            raise UserError(
                f"{existing[0]}: is not the original {file} of {name} (its SHA-256 is "
                f"{_sha256(existing[0])[:12]}..., expected {sha[:12]}...); remove or replace it."
            )
        originals[file] = verified or _download(name, file, url, sha)
    return originals


def tfds_folders(data_dir: Path | None) -> list[Path]:
    """The folders of TFDS: D, D/tfds, $TFDS_DATA_DIR and ~/tensorflow_datasets."""
    given = [data_dir, data_dir / "tfds"] if data_dir else []
    defaults = filter(None, (os.environ.get("TFDS_DATA_DIR"), "~/tensorflow_datasets"))
    return given + [paths.parse("TFDS_DATA_DIR", name) for name in defaults]


def manual_folders(name: str, data_dir: Path | None) -> list[Path]:
    """The folders in which original archives of `name` are looked for."""
    manual = [root / "downloads" / "manual" for root in tfds_folders(data_dir)]
    parents = [data_dir, *manual] if data_dir else manual
    return [folder for parent in parents for folder in (parent / name, parent)]


def _download(name: str, file: str, url: str, sha: str) -> Path:
    def write(folder: Path) -> None:
        archive = folder / file
        print(f"Downloading {url} ...", file=sys.stderr)
        try:
            with urllib.request.urlopen(url, timeout=20) as response, open(archive, "wb") as out:
                shutil.copyfileobj(response, out)
        except (OSError, http.client.HTTPException) as error:
            raise UserError(
                f"data.name: {name} was not found and {url} cannot be downloaded "
                f"({getattr(error, 'reason', error)}). Put {', '.join(ORIGINALS[name].files)} "
                f"into a folder D/{name} and pass --data_dir=D."
            ) from error
        if _sha256(archive) != sha:
            raise UserError(f"{url}: the download is damaged or has changed (wrong SHA-256).")

    return cache.folder(f"downloads/{name}/{sha[:16]}", write) / file


def _sha256(path: Path) -> str:
    with files.open_regular(path) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
