"""Files of weights as named arrays, read without running code in them."""

import contextlib
import importlib
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnjax import files
from cnnjax.errors import UserError

Shape = tuple[int, ...]
MAX_ARRAYS = 100_000
"""The limit of arrays, or of groups in HDF5: no network has more."""
MAX_DEPTH = 100
"""The limit of nested groups in HDF5: the time to open one grows with the depth."""
MIN_TORCH = (2, 6)
"""Before this version torch.load could run code even with weights_only=True."""
FLOATS = ("float16", "bfloat16", "float32", "float64", "F16", "BF16", "F32", "F64")


class Stored(NamedTuple):
    """An array in a file: its shape, the name of its dtype in the file, and a function that reads
    it as float32."""

    shape: Shape
    dtype: str
    read: Callable[[], np.ndarray]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[dict[str, Stored]]:
    """The arrays of a weights file by name, which can be read in the context.

    The content of the file, not its name, decides the format: safetensors; a PyTorch state dict,
    possibly under `state_dict` or `model` or with names that begin with `module.` (tensors only:
    pickled code is an error); Keras `.weights.h5` or legacy `.h5`. The arrays of a Keras layer are
    called `LAYER/0`, `LAYER/1`, ... in the order in which Keras stores them.

    Raises UserError: a file that is missing, not regular, truncated, in another format, or that
    would run code.
    """
    with contextlib.ExitStack() as stack:
        with _one_line_errors(path):
            with files.open_regular(path) as file:
                start = file.read(16)
            if start.startswith(b"\x89HDF\r\n\x1a\n"):
                arrays = _keras(path, stack)
            elif _is_keras_archive(path):
                raise UserError(
                    f"{path}: is a whole Keras model; load it and save its weights: "
                    "model.save_weights('NAME.weights.h5')"
                )
            elif start.startswith((b"PK\x03\x04", b"\x80")):
                arrays = _torch(path)
            elif start[8:9] == b"{":
                arrays = _safetensors(path, stack)
            else:
                raise UserError(
                    f"{path}: is not a file of weights; allowed: .safetensors, a PyTorch state "
                    "dict, Keras .weights.h5 or .h5"
                )
        for name in arrays:
            if not name.isprintable():
                raise UserError(f"{path}: {name!r} is not valid as the name of an array.")
        yield {name: _checked(path, name, stored) for name, stored in arrays.items()}


def _is_keras_archive(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return "model.weights.h5" in archive.namelist()


def _checked(path: Path, name: str, stored: Stored) -> Stored:
    """`stored`, whose `read` raises UserError for values that are not finite."""

    def read() -> np.ndarray:
        with _one_line_errors(path), np.errstate(over="ignore"):
            array = stored.read().astype(np.float32)
        if not np.isfinite(array).all():
            raise UserError(f"{path}: {name} holds numbers that are not finite in float32.")
        return array

    return stored._replace(read=read)


def _safetensors(path: Path, stack: contextlib.ExitStack) -> dict[str, Stored]:
    import ml_dtypes  # noqa: F401  (adds bfloat16 to numpy)
    from safetensors import safe_open

    file = stack.enter_context(safe_open(path, framework="numpy"))

    def stored(name: str) -> Stored:
        view = file.get_slice(name)
        return Stored(tuple(view.get_shape()), view.get_dtype(), lambda: file.get_tensor(name))

    names = file.keys()
    _check_count(path, len(names))
    return _without_prefix({name: stored(name) for name in names})


def _check_count(path: Path, count: int) -> None:
    if count > MAX_ARRAYS:
        raise UserError(f"{path}: has more than {MAX_ARRAYS:,} arrays.")


def _torch(path: Path) -> dict[str, Stored]:
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        raise UserError(
            f"{path}: is a PyTorch file, which needs torch to be read; pip install torch, or save "
            "it as .safetensors."
        ) from None
    version = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if not version or tuple(map(int, version.groups())) < MIN_TORCH:
        raise UserError(
            f"{path}: is a PyTorch file, which torch {torch.__version__} may run code from; "
            f"allowed: {'.'.join(map(str, MIN_TORCH))} and newer (pip install -U torch), or save "
            "it as .safetensors."
        )
    with warnings.catch_warnings():  # torch warns of pickles, which are errors below
        warnings.simplefilter("ignore")
        content = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if isinstance(content, Mapping):
        _check_count(path, len(content))
    if not isinstance(content, Mapping) or not all(map(torch.is_tensor, content.values())):
        raise UserError(f"{path}: is not a state dict (a dict of names and tensors).")

    def stored(tensor: Any) -> Stored:
        dtype = str(tensor.dtype).removeprefix("torch.")
        return Stored(tuple(tensor.shape), dtype, lambda: tensor.detach().float().numpy())

    return _without_prefix({str(name): stored(tensor) for name, tensor in content.items()})


def _without_prefix(arrays: dict[str, Stored]) -> dict[str, Stored]:
    """Removes the prefix that torch's DataParallel gives all names."""
    if arrays and all(name.startswith("module.") for name in arrays):
        return {name.removeprefix("module."): stored for name, stored in arrays.items()}
    return arrays


def _keras(path: Path, stack: contextlib.ExitStack) -> dict[str, Stored]:
    import h5py

    file = stack.enter_context(h5py.File(path, "r"))
    _refuse_links(path, file)
    if "layers" in file:
        layers = _keras_layers(path, file["layers"])
    else:
        layers = _legacy_layers(path, file.get("model_weights", file))

    def stored(data: Any) -> Stored:
        if not isinstance(data, h5py.Dataset) or data.is_virtual or data.external:
            raise UserError(f"{path}: {data.name} is not a plain array.")
        return Stored(tuple(data.shape), str(data.dtype), lambda: data[()])

    return {
        f"{layer}/{index}": stored(data)
        for layer, arrays in layers.items()
        for index, data in enumerate(arrays)
    }


def _refuse_links(path: Path, file: Any) -> None:
    """Raises UserError if a part of the file is a link, such as to another file. A group with
    several names is visited once."""
    import h5py

    pending, visited, count = [(file, 0)], {file}, 0
    while pending:
        group, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise UserError(f"{path}: is nested more than {MAX_DEPTH} groups deep.")
        _check_count(path, count := count + len(group))
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise UserError(
                    f"{path}: {f'{group.name}/{name}'!r} is a link; only plain files are read."
                )
            member = group[name]
            if isinstance(member, h5py.Group) and member not in visited:
                visited.add(member)
                pending.append((member, depth + 1))


def _keras_layers(path: Path, group: Any) -> dict[str, list[Any]]:
    """The arrays of each layer of a Keras 3 file, where layers are numbered by class, in any order,
    and their names are attributes."""
    layers = {}
    for kind, layer in group.items():
        arrays = layer.get("vars", {})
        if len(arrays):
            name = arrays.attrs.get("name")
            if name is None:
                raise UserError(
                    f"{path}: layers/{kind} has no name, as an older Keras wrote it. Load "
                    "and save it with a current Keras, or as legacy .h5."
                )
            layers[str(name)] = [arrays[key] for key in sorted(arrays, key=int)]
    return layers


def _legacy_layers(path: Path, group: Any) -> dict[str, list[Any]]:
    if "layer_names" not in group.attrs:
        raise UserError(f"{path}: is an HDF5 file, but not one of Keras weights.")
    return {
        name: [group[name][_text(key)] for key in group[name].attrs["weight_names"]]
        for name in map(_text, group.attrs["layer_names"])
    }


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


@contextlib.contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    """Turns whatever a reader of damaged files raises into a UserError of one line."""
    try:
        yield
    except (UserError, MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:
        text = str(error)
        if "GLOBAL" in text or "weights_only" in text:
            start = text.find("GLOBAL")
            blocked = text[start:].split(" whose")[0].splitlines()[0][:80] if start >= 0 else "code"
            raise UserError(
                f"{path}: holds something besides tensors, which could run code, and is not read "
                f"({blocked})."
            ) from None
        reason = (text.strip().splitlines() or [""])[0][:160]
        raise UserError(f"{path}: cannot be read ({type(error).__name__}: {reason}).") from None
