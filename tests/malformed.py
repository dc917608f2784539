"""Inputs that nobody should give, and what the programs answer.

python -m tests.malformed [--all | --each=N] [--kind=NAME ...] [--jobs=N] [--keep=DIR]

From every field of the configuration and from every file that is read, inputs are made that are
torn, of another type, too large, too deep or of somewhere else, and the programs are run on them,
in forked processes that have imported everything already. Every answer must be one of the
documented exit codes other than that of a fault, without a traceback, within ten seconds of
computing, and with nothing written outside the workdir. Of most reports the plots are made but not
drawn, which would take most of the time. Without --all a seeded sample is tried, of N inputs of
each kind with --each=N. Exits 1 if one failed.
"""

import argparse
import collections
import contextlib
import copy
import dataclasses
import gc
import json
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np  # noqa: E402
import workdirs  # noqa: E402

from cnnjax.report import canvas  # noqa: E402

ALLOWED = {0, 1, 2, 75}
SECONDS = 10.0
WAIT = 300.0  # after so many seconds by the clock a process hangs
BATCH = 20  # inputs that one process is given
DRAWN = 8  # of so many reports one is drawn
SAMPLE = {"set": 130, "study": 40, "result": 24, "flags": 40, "experiment": 40, "runs": 0}
REST = 8
"""How many of each kind are in the sample; of runs, which have to be trained, there are none."""

DEEP = 2000
VALUES = (
    "null", "true", "0", "-1", "1", "3", "2.5", "-0.5", "1e-9", "1e9", "1e308", "-1e308", "1e999",
    "NaN", "-Infinity", "9" * 18, "9" * 19, "1" * 400, "1" * 5000, "1e-400", '""', '"x"',
    '"relu"', f'"{"x" * 300}"', f'"{"y" * 100_000}"', '"\\u0000"', '"a\\nb"', '"\\ud800"',
    '"\\u001b[31m"', '"é<b>"', '"../../x"', '"/etc/passwd"', '"~nobody-at-all/x"', "[]", "[1]",
    '["a"]', "[null]", "[[[1]]]", "[1e308, -1e308]", "{}", '{"a": 1}', '{"a": {"b": []}}',
    "[" * 80 + "]" * 80, "[" * DEEP + "]" * DEEP, "[" * 100_000, '{"a":' * DEEP + "1" + "}" * DEEP,
)  # fmt: skip
"""JSON texts; a few are none."""
WORDS = (
    *VALUES,
    "",
    "[1,",
    "{",
    "=",
    "None",
    "1,2",
    "relu",
    "1_000",
    "0x10",
    "é",
    "\udcff",
    "default",
)
LINKS = {"/dev/null": "null", "/dev/zero": "zero", "/etc/passwd": "passwd", "/": ".."}
"""What is given in the place of a path of the machine where a program is to write there."""

TEXTS = (
    "", "x", "help", "x" * 300, "y" * 100_000, "../../x", "/dev/null", "/dev/zero", "/etc/passwd",
    "~nobody-at-all/x", "a\nb", "\x1b[31m", "é", "\udcff", "0", "-1", "1,,2", "5-2", "0-99999999",
    "1" * 5000, "a,b", ",", ".", "..", "/", " ", "w", "w/study.json", "w/relu/seed-0", "pipe",
    "loop", "dangling",
)  # fmt: skip
"""Values of flags; the last are things that lie in the folder where the programs run."""
LITERALS = (
    "None", "True", "0", "-1", "2.5", "float('nan')", "float('inf')", "10**5000", "-(10**400)",
    "''", "'x'", "'x' * 300", "'a/b'", "'../x'", "'\\ud800'", "'a\\nb'", "b'x'", "[]", "[1]",
    "['a']", "[None]", "()", "{}", "{'a': 1}", "{1: 2}", "{'relu': {}}", "{'relu': {'x.y': 1}}",
    "{'relu': {'model.activation': 10**5000}}", "{'relu': {'model.activation': [[1]]}}",
    "{'relu': {}, 'Relu': {'training.epochs': 2}}", "{'../x': {}}", "{'x' * 300: {}}", "object()",
    "lambda: 1", "__import__('numpy').float64('nan')", "__import__('numpy').arange(3)",
    "range(10**9)",
)  # fmt: skip

Make = Callable[[Path], None]


@dataclasses.dataclass(frozen=True)
class Case:
    """A program with its words, what is done to the files before, and how it is called."""

    kind: str
    what: str
    words: Sequence[str]
    make: Make = lambda folder: None
    anywhere: bool = False  # whether it says itself where to write


@dataclasses.dataclass
class Answer:
    """How a program answered."""

    case: Case
    code: int
    seconds: float
    text: str
    strays: list[str]

    @property
    def faults(self) -> list[str]:
        """What is wrong with it."""
        found = []
        if "Traceback (most recent call last)" in self.text or "internal: " in self.text:
            found.append("fault")
        elif self.code not in ALLOWED:
            found.append(f"code {self.code}")
        if self.seconds > SECONDS:
            found.append("slow")
        return found + (["strays"] if self.strays and not self.case.anywhere else [])


# What the inputs are made from.


def base(folder: Path) -> None:
    """A study, another to compare it with, and things that lie about; no training is needed."""
    from cnnjax.ablation import claims
    from cnnjax.config import RunConfig, override, resolve

    def whole(values: dict[str, Any]) -> dict[str, Any]:
        return resolve(override(RunConfig(), values)).model_dump(mode="json")

    stated = [
        claims.to_dict(claims.better("relu", "tanh", by=1, source="x")) | {"post_hoc": False},
        claims.to_dict(claims.diverges("tanh")) | {"post_hoc": True},
    ]
    random = np.random.default_rng(5)
    for name in ("w", "v"):
        study = workdirs.make(folder / name, {"relu": 0.9, "tanh": 0.8}, 2, claims=stated)
        about = json.loads((study / "study.json").read_text())
        for arm, own in about["arms"].items():
            own |= {"config": whole(own["overrides"]), "levels": own["overrides"], "defined": "aa"}
            for seed in range(2):
                run = study / arm / f"seed-{seed}"
                (run / "config.json").write_text(json.dumps(own["config"]))
                (run / "checkpoints").mkdir()
                numbers = {"conv1": {"gradient": 0.1, "sd": 1.0}, "head": {"gradient": 0.2}}
                measures = {s: {"shift_1": 0.5, "shift_2": 0.4, "shift_3": 0.3} for s in SPLITS}
                workdirs.edit(
                    study, arm, seed, signals={"start": numbers, "end": numbers},
                    measures=measures, runtime={"threads": 1, "backend": "cpu"}, error="",
                )  # fmt: skip
                np.savez_compressed(run / "examples_validation.npz", **EXAMPLES)  # type: ignore[arg-type]
                for split in SPLITS:
                    np.savez_compressed(
                        run / f"predictions_{split}.npz", ids=np.arange(20),
                        labels=random.integers(0, 3, 20), logits=random.normal(0, 1, (20, 3)),
                    )  # fmt: skip
        about["extensions"][0] |= {"planned": {"relu": "aa", "tanh": "aa"}, "after_results": False}
        about |= {"looks_at_test": [{"date": "x", "command": "y"}], "source": {"path": "x.py"}}
        (study / "study.json").write_text(json.dumps(about))
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere")
    for path, name in LINKS.items():
        if name != "..":
            (folder / name).symlink_to(path)
    (folder / "empty").mkdir()
    _images(folder / "images")
    _weights(folder)


SPLITS = ("validation", "test")


def _images(folder: Path) -> None:
    from PIL import Image

    random = np.random.default_rng(6)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            pixels = random.integers(0, 255, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    Image.fromarray(pixels).save(folder / "cat" / "0.jpg")
    Image.fromarray(pixels).save(folder / "cat" / "0.bmp")


def _weights(folder: Path) -> None:
    with contextlib.suppress(ImportError):
        import h5py
        import safetensors.numpy

        arrays = {f"conv{n}.weight": np.ones((2, 2), np.float32) for n in range(3)}
        safetensors.numpy.save_file(arrays, folder / "weights.safetensors")
        with h5py.File(folder / "weights.weights.h5", "w") as file:
            for name, array in arrays.items():
                file[f"layers/{name}/vars/0"] = array


# The inputs, by kind.


def of_set() -> Iterator[Case]:
    """Every field of the configuration with every word."""
    from cnnjax.config import RunConfig, flat

    for path in [*flat(RunConfig()), "model", "model.x", "x" * 300, "model..name", "é", "\udcff"]:
        for word in WORDS:
            words = ("request", "--experiment=quickstart", "--workdir=w2", f"--set={path}={word}")
            yield Case("set", f"--set={path}={_short(word)}", words)


def of_flags() -> Iterator[Case]:
    """Every flag that takes text with every text."""
    takes = {
        "report": ("workdir", "output"),
        "publish": ("output",),
        "evaluate": ("workdir", "init_from", "arm", "seeds", "step", "split", "data_dir", "output"),
        "request": (
            *("workdir", "experiment", "arms", "seeds", "data_dir", "init_from", "base", "vary"),
            *("on", "set", "examples", "max_minutes", "threads", "replicas"),
        ),
        "inspect": ("model", "input", "num_classes", "format", "output"),
        "convert": ("source", "model", "file", "output"),
        "prepare": ("data", "data_dir"),
    }
    usual = {
        "report": {"workdir": "w"},
        "publish": {"output": "empty"},
        "evaluate": {"workdir": "w", "data_dir": "nowhere"},
        "request": {"workdir": "w2", "experiment": "quickstart"},
        "inspect": {"model": "mlp"},
        "convert": {"source": "pytorch_cifar", "model": "vgg16_bn", "file": "weights.safetensors"}
        | {"output": "w/new"},
        "prepare": {"data": "digits"},
    }
    for program, names in takes.items():
        for name in names:
            for text in TEXTS:
                if name == "output":
                    text = LINKS.get(text, text)
                given = {**usual[program], name: text}
                if name == "init_from" and program == "evaluate":
                    del given["workdir"]
                if name in ("vary", "on", "base"):
                    del given["experiment"]
                if name in ("on", "base"):
                    given["vary"] = "model.activation=relu,tanh"
                flags = tuple(f"--{flag}={value}" for flag, value in given.items())
                more = ("w",) if program == "publish" else ()
                what = f"launch.{program} --{name}={_short(text)}"
                yield Case("flags", what, (program, *flags, *more), anywhere=name == "output")


def of_json(
    kind: str, path: str, words: Sequence[str], deepest: int, values: Sequence[str] = VALUES
) -> Iterator[Case]:
    """Every field of a JSON file removed and replaced, the file torn, and not one at all."""
    with tempfile.TemporaryDirectory() as folder:
        base(Path(folder))
        good = json.loads((Path(folder) / path).read_text())
    for place in _places(good, deepest):
        named = ".".join(map(str, place))
        yield Case(kind, f"{path}: {named} removed", words, _writes(path, _without(good, place)))
        for value in values:
            text = _replaced(good, place, value)
            yield Case(kind, f"{path}: {named} = {_short(value)}", words, _writes(path, text))
    for value in values:
        yield Case(kind, f"{path}: {_short(value)}", words, _writes(path, value.encode()))
    yield from of_bytes(kind, path, words, json.dumps(good).encode(), flips=20)


def of_bytes(
    kind: str, path: str, words: Sequence[str], content: bytes | None = None, flips: int = 60
) -> Iterator[Case]:
    """A file cut at several places, with bytes changed, or something else in its place."""
    if content is None:
        with tempfile.TemporaryDirectory() as folder:
            base(Path(folder))
            content = (Path(folder) / path).read_bytes()
    seeded = random.Random(path)
    for part in range(8):
        cut = content[: len(content) * part // 8]
        yield Case(kind, f"{path}: cut at {len(cut)}", words, _writes(path, cut))
    for _ in range(flips):
        where, mask = seeded.randrange(len(content)), seeded.randrange(1, 256)
        changed = bytearray(content)
        changed[where] ^= mask
        what = f"{path}: byte {where} xor {mask}"
        yield Case(kind, what, words, _writes(path, bytes(changed)))
    junk = (b"\xff\xfe\x00", b"\x00" * 4096, seeded.randbytes(5000), "é".encode("latin-1"))
    for number, other in enumerate(junk):
        yield Case(kind, f"{path}: junk {number}", words, _writes(path, other))
    for what, make in _STRANGE.items():
        yield Case(kind, f"{path}: is {what}", words, _made(path, make))


def of_lines() -> Iterator[Case]:
    """metrics.jsonl: lines with other values."""
    path, words = "w/relu/seed-0/metrics.jsonl", ("report", "--workdir=w")
    good = {"step": 23, "epoch": 1, "split": "validation", "loss": 1.0, "accuracy": 0.5}
    for name in good:
        for value in VALUES:
            text = _replaced(good, (name,), value) + b'\n{"step": 46, "epoch": 2}\n'
            yield Case("lines", f"{path}: {name} = {_short(value)}", words, _writes(path, text))
    yield from of_bytes("lines", path, words)


ARRAYS = (
    np.array(3), np.arange(0), np.ones((20, 3, 2)), np.array(["a"] * 20), np.full(20, np.nan),
    np.ones((20, 0)), np.array([{}] * 20, object), np.ones(20, complex), np.arange(19),
    np.zeros(20, "M8[s]"), np.zeros(20, [("a", int)]), np.full((20, 3), 1e308),
)  # fmt: skip
EXAMPLES = {
    "kind": np.array(["best", "median", "worst", "mistake"] * 5), "ids": np.arange(20),
    "images": np.zeros((20, 8, 8, 3), np.uint8), "target.label": np.arange(20) % 3,
    "prediction.logits": np.ones((20, 3), np.float32), "metric.accuracy": np.ones(20),
    "class_names": np.array(["a", "b", "c"]), "mask_names": np.array([], str),
}  # fmt: skip


def of_predictions() -> Iterator[Case]:
    """predictions_validation.npz with other arrays, cut and changed."""
    path, words = "w/relu/seed-0/predictions_validation.npz", ("report", "--workdir=w")
    older = {"ids": np.arange(20), "labels": np.arange(20) % 3, "logits": np.ones((20, 3))}
    newer = {"ids": np.arange(20), "outcome": np.ones(20)}
    yield from _of_arrays("predictions", path, words, older)
    yield from _of_arrays("predictions", path, words, newer)
    yield from of_bytes("predictions", path, words)


def of_examples() -> Iterator[Case]:
    """examples_validation.npz with other arrays, cut and changed."""
    path, words = "w/relu/seed-0/examples_validation.npz", ("report", "--workdir=w")
    yield from _of_arrays("examples", path, words, EXAMPLES)
    yield from of_bytes("examples", path, words)


def _of_arrays(
    kind: str, path: str, words: tuple[str, ...], good: dict[str, np.ndarray]
) -> Iterator[Case]:
    """An npz with each array replaced by others, and removed."""

    def writes(arrays: dict[str, np.ndarray]) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            (folder / path).unlink()
            np.savez(folder / path, **arrays)  # type: ignore[arg-type]

        return make

    for name in good:
        where = f"{path}: {name} of {', '.join(good)}"
        for number, other in enumerate(ARRAYS):
            yield Case(kind, f"{where} is array {number}", words, writes({**good, name: other}))
        left = {key: own for key, own in good.items() if key != name}
        yield Case(kind, f"{where} removed", words, writes(left))


def of_experiments() -> Iterator[Case]:
    """Experiment files: each field of an experiment with each literal, and torn ones."""
    words = ("request", "--experiment=mine.py", "--workdir=w2")
    good = {
        "name": "'mine'", "question": "'?'", "arms": "{'relu': {}, 'tanh': {'training.epochs': 2}}",
        "base": "{}", "seeds": "(0, 1)", "claims": "[]", "probes": "()", "tune": "None",
        "lecture": "''", "published": "''", "expected": "''", "notes": "''",
    }  # fmt: skip
    claims = ("better({0}, 'tanh')", "better('relu', 'tanh', by={0})", "monotone({0})")
    claims += ("better('relu', 'tanh', source={0})", "diverges('relu', share={0})")
    claims += ("equivalent('relu', 'tanh', within=1, reason={0})", "interaction({0}, {0})")
    claims += ("better('relu', 'tanh', blocks={0})", "better('relu', 'tanh', metric={0})")

    def text(fields: dict[str, str]) -> bytes:
        given = "".join(f"    {name}={value},\n" for name, value in fields.items())
        head = "from cnnjax.ablation.experiment import Experiment, Tune\n"
        head += "from cnnjax.ablation.claims import *\n"
        return f"{head}EXPERIMENT = Experiment(\n{given})\n".encode(errors="surrogatepass")

    for literal in LITERALS:
        tries = dict.fromkeys(good, literal)
        for name, value in tries.items():
            what = f"experiment file: {name} = {literal}"
            yield Case("experiment", what, words, _writes("mine.py", text(good | {name: value})))
        forms = [f"[{claim.format(literal)}]" for claim in claims]
        for form in forms:
            made = _writes("mine.py", text(good | {"claims": form}))
            yield Case("experiment", f"experiment file: claims = {form}", words, made)
        tune = f"Tune({literal})", f"Tune({{'optimizer.learning_rate': (0.1, 0.2)}}, {literal})"
        for form in (*tune, f"Tune({{'optimizer.learning_rate': {literal}}})"):
            made = _writes("mine.py", text(good | {"tune": form}))
            yield Case("experiment", f"experiment file: tune = {form}", words, made)
    yield from of_bytes("experiment", "mine.py", words, text(good), flips=60)


def of_images() -> Iterator[Case]:
    """A folder of images, one of which is not what its name says."""
    for name in ("cat/0.png", "cat/0.jpg", "cat/0.bmp"):
        yield from of_bytes("images", f"images/{name}", ("data", "folder:images"), flips=40)
    for text in ("folder:", "folder:pipe", "folder:loop", "folder:empty", "folder:" + "x" * 300):
        yield Case("images", f"data.name={_short(text)}", ("data", text))


def of_weights() -> Iterator[Case]:
    """Files of weights, cut and changed."""
    named = {
        "weights.safetensors": ("--source=pytorch_cifar", "--model=vgg16_bn"),
        "weights.weights.h5": ("--source=keras", "--model=help"),
    }
    for path, flags in named.items():
        words = ("convert", *flags, f"--file={path}", "--output=w/new")
        with contextlib.suppress(FileNotFoundError):  # the packages are optional
            yield from of_bytes("weights", path, words)


def of_prepared() -> Iterator[Case]:
    """Prepared TFDS folders with torn descriptions."""
    info = {"name": "mnist", "version": "3.0.1", "fileFormat": "array_record", "splits": []}
    info |= {"supervisedKeys": {"tuple": {"items": [{"featureKey": "image"}]}}}
    for place in [(), *_places(info, 4)]:
        for value in VALUES:
            text = _replaced(info, place, value) if place else value.encode()
            what = f"dataset_info.json: {'.'.join(map(str, place))} = {_short(value)}"
            path = "tfds/mnist/3.0.1/dataset_info.json"
            yield Case("prepared", what, ("data", "mnist", "tfds"), _writes(path, text))


TRAINED = """
from cnnjax.ablation.experiment import Experiment
EXPERIMENT = Experiment(
    name="trained",
    question="?",
    base={"model.name": "mlp", "model.hidden": (8,), "training.batch_size": 50,
          "training.steps": 6, "checkpointing.every_steps": 2},
    arms={"a": {}},
    seeds=(0,),
    probes=("gradients",),
)
"""
TRAIN = ("train", "--experiment=trained.py", "--arm=a", "--seeds=0", "--workdir=t", "--threads=1")


def trained(folder: Path) -> None:
    """A run that was stopped after its last checkpoint."""
    (folder / "trained.py").write_text(TRAINED)
    words = [sys.executable, "-m", f"launch.{TRAIN[0]}", *TRAIN[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(words, cwd=folder, env=environment, check=True, capture_output=True)
    (folder / "t/a/seed-0/result.json").unlink()


def of_runs() -> Iterator[Case]:
    """The files that a run goes on from: replaced, cut, and something else in their place."""
    run = "t/a/seed-0"
    for name in ("config.json", "runtime.json", "signals.json", "metrics.jsonl"):
        for value in VALUES:
            made = _writes(f"{run}/{name}", value.encode())
            yield Case("runs", f"{run}/{name}: {_short(value)}", TRAIN, made)
        for what, make in _STRANGE.items():
            yield Case("runs", f"{run}/{name}: is {what}", TRAIN, _made(f"{run}/{name}", make))
    for fields in ({"threads": "x"}, {"replica_axis": 3}, {"replica_axis": [[]]}, {"replicas": 2}):
        for value in VALUES[:12]:

            def change(folder: Path, fields: Any = fields, value: str = value) -> None:
                path = folder / run / "runtime.json"
                name, other = next(iter(fields.items()))
                kept = json.loads(path.read_text()) | {name: other, "devices": "@here@"}
                path.unlink()
                path.write_text(json.dumps(kept).replace('"@here@"', value))

            yield Case("runs", f"{run}/runtime.json: {fields}, {_short(value)}", TRAIN, change)
    for number in range(40):

        def spoil(folder: Path, number: int = number) -> None:
            """Cuts or changes a file of a checkpoint."""
            found = sorted(p for p in (folder / run / "checkpoints").rglob("*") if p.is_file())
            path = found[number % len(found)]
            content = path.read_bytes()
            path.unlink()
            changed = bytes([content[0] ^ 255]) + content[1:] if content else b"x"
            junk = (content[: len(content) // 2], changed, b"null")[number % 3]
            path.write_bytes(junk)

        yield Case("runs", f"{run}/checkpoints: file {number} spoilt", TRAIN, spoil)


def kinds() -> dict[str, Callable[[], Iterator[Case]]]:
    """The inputs of each kind."""
    report, run = ("report", "--workdir=w"), "w/relu/seed-0"
    evaluate = ("evaluate", f"--workdir={run}", "--data_dir=nowhere")
    return {
        "set": of_set,
        "flags": of_flags,
        "study": lambda: of_json("study", "w/study.json", report, 4),
        "result": lambda: of_json("result", f"{run}/result.json", report, 3),
        "lines": of_lines,
        "predictions": of_predictions,
        "examples": of_examples,
        "config": lambda: of_json("config", f"{run}/config.json", evaluate, 3, VALUES[::4]),
        "compare": lambda: of_json(
            "compare", "v/study.json", ("report", "--compare", "w", "v"), 2, VALUES[::3]
        ),
        "publish": lambda: of_json(
            "publish", "w/study.json", ("publish", "--output=w-published", "w"), 2, VALUES[::3]
        ),
        "experiment": of_experiments,
        "images": of_images,
        "weights": of_weights,
        "prepared": of_prepared,
        "runs": of_runs,
    }


_STRANGE: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "not to be read": lambda path: (path.write_text("{}"), path.chmod(0)),
    "not there": lambda path: None,
}


def _writes(path: str, content: bytes) -> Make:
    def make(folder: Path) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).unlink(missing_ok=True)  # it is shared with the other cases
        (folder / path).write_bytes(content)

    return make


def _made(path: str, how: Callable[[Path], object]) -> Make:
    def make(folder: Path) -> None:
        (folder / path).unlink(missing_ok=True)
        how(folder / path)

    return make


def _places(tree: Any, deepest: int, so_far: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if so_far:
        yield so_far
    if len(so_far) < deepest and (not so_far or so_far[-1] not in ("config", "overrides")):
        items = (
            tree.items()
            if isinstance(tree, dict)
            else enumerate(tree[:1] if isinstance(tree, list) else [])
        )
        for key, child in items:
            yield from _places(child, deepest, (*so_far, key))


def _at(tree: Any, place: tuple[Any, ...]) -> tuple[Any, Any]:
    tree = whole = copy.deepcopy(tree)
    for key in place[:-1]:
        tree = tree[key]
    return whole, tree


def _without(tree: Any, place: tuple[Any, ...]) -> bytes:
    whole, parent = _at(tree, place)
    del parent[place[-1]]
    return json.dumps(whole).encode()


def _replaced(tree: Any, place: tuple[Any, ...], text: str) -> bytes:
    whole, parent = _at(tree, place)
    parent[place[-1]] = "@here@"
    return json.dumps(whole).replace('"@here@"', text).encode()


def _short(text: str) -> str:
    return repr(text) if len(text) < 60 else f"{text[:20]!r}... ({len(text)} characters)"


# How they are tried.


def answers(cases: Sequence[Case], jobs: int, keep: Path | None) -> Iterator[Answer]:
    """The answers to all cases, from `jobs` processes at a time that take some each."""
    sandbox = Path(tempfile.mkdtemp(prefix="malformed-"))
    base(sandbox / "base")
    if any(case.kind == "runs" for case in cases):
        trained(sandbox / "base")
    running: dict[int, tuple[list[tuple[Case, Path]], float]] = {}
    left, number = list(cases)[::-1], 0
    gc.freeze()
    try:
        while left or running:
            while left and len(running) < jobs:
                some = []
                while left and len(some) < BATCH:
                    case, place = left.pop(), sandbox / f"case-{(number := number + 1)}"
                    shutil.copytree(sandbox / "base", place / "here", True, copy_function=os.link)
                    case.make(place / "here")
                    (place / "before").write_text("\n".join(sorted(_outside(place))))
                    some.append((case, place))
                running[_start(some)] = some, time.monotonic()
            time.sleep(0.003)
            for pid, (some, began) in list(running.items()):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if not ended and time.monotonic() - began > WAIT:
                    os.kill(pid, signal.SIGKILL)
                    ended, status = os.waitpid(pid, 0)
                if not ended:
                    continue
                del running[pid]
                taken = [place for _, place in some if (place / "said").exists()]
                for case, place in some:
                    if place not in taken:  # an earlier one ended the process
                        left.append(case)
                    else:
                        answer = _answer(case, place, os.waitstatus_to_exitcode(status))
                        yield answer
                        if keep and answer.faults:
                            shutil.move(place, keep / place.name)
                    shutil.rmtree(place, ignore_errors=True)
    finally:
        shutil.rmtree(sandbox, ignore_errors=True)


def _answer(case: Case, place: Path, status: int) -> Answer:
    text = (place / "said").read_text(errors="replace")
    code, seconds = status, WAIT
    if (place / "ended").exists():
        code, seconds = json.loads((place / "ended").read_text())
    before = set((place / "before").read_text().splitlines())
    return Answer(case, code, seconds, text, sorted(_outside(place) - before))


def _outside(place: Path) -> set[str]:
    """What lies beside the workdirs, but for what the programs were asked to write."""
    asked = ("w", "w2", "t", "empty", "w-published", "cache", "tmp", "said", "before", "ended")
    found = set()
    for folder, inner, files in os.walk(place):
        inner[:] = [name for name in inner if name not in asked]
        found |= {os.path.relpath(os.path.join(folder, name), place) for name in (*inner, *files)}
    return found - set(asked)


def _start(some: Sequence[tuple[Case, Path]]) -> int:
    """A process that answers some cases, one after another."""
    pid = os.fork()
    if pid:
        return pid
    try:
        from absl import flags

        usual, drawn = set(flags.FLAGS), canvas.draw
        for case, place in some:
            draws = zlib.crc32(case.what.encode(errors="replace")) % DRAWN == 0
            canvas.draw = drawn if draws else lambda figure: canvas.Drawing(_BLANK)
            began = time.process_time()
            code = _try(case, place)
            (place / "ended").write_text(json.dumps([code, time.process_time() - began]))
            flags.FLAGS.remove_flag_values(set(flags.FLAGS) - usual)
            flags.FLAGS.unparse_flags()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(99)


def _try(case: Case, place: Path) -> int:
    """Runs one program as its user would, and returns the exit code."""
    for name in ("cache", "tmp"):
        (place / name).mkdir()
    os.chdir(place / "here")
    os.environ |= {"CNNJAX_CACHE": str(place / "cache"), "TMPDIR": str(place / "tmp")}
    os.environ["TFDS_DATA_DIR"] = str(place / "here" / "nowhere")
    tempfile.tempdir = None
    for number, name, how in ((0, os.devnull, os.O_RDONLY), (1, place / "said", _NEW)):
        handle = os.open(name, how)
        os.dup2(handle, number)
        os.close(handle)
    os.dup2(1, 2)
    program, *words = case.words
    sys.argv = [str(ROOT / "launch" / f"{program}.py"), *words]
    code = 99
    try:
        _OWN.get(program, lambda: runpy.run_module(f"launch.{program}", run_name="__main__"))()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


_NEW = os.O_WRONLY | os.O_CREAT
_BLANK = '<svg xmlns="http://www.w3.org/2000/svg" width="1pt" height="1pt" viewBox="0 0 1 1"/>'


def _request() -> None:
    """What launch.sweep does before it needs jax."""
    from launch import flags, request

    def main(words: Sequence[str]) -> None:
        request.from_flags(flags.FLAGS.arms, words, stage="plan").check()

    flags.start("sweep", main)


def _data() -> None:
    """What a program does to load a data set."""
    from cnnjax import data
    from cnnjax.config import Data
    from launch import flags

    def main(words: Sequence[str]) -> None:
        data.load(Data(name=words[0]), *words[1:] or (None,))

    flags.start("prepare", main)


_OWN: dict[str, Callable[[], object]] = {"request": _request, "data": _data}


def _import_all() -> None:
    """What the programs import, once for all of them."""
    import importlib
    import warnings

    warnings.filterwarnings("ignore", message=".*fork.*")
    for name in ("cnnjax.data", "cnnjax.pretrained", "cnnjax.train.session", "launch.request"):
        importlib.import_module(name)
    for name in ("ablation", "comparison", "index"):
        importlib.import_module(f"cnnjax.report.{name}")
    for name in ("safetensors", "h5py", "tensorflow_datasets"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def main() -> int:
    """Tries them and prints a table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.malformed")
    parser.add_argument("--all", action="store_true", help="all inputs, not a sample")
    parser.add_argument("--each", type=int, help="how many of each kind")
    parser.add_argument("--kind", action="append", choices=sorted(kinds()), help="only these")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, help="where the folders of those that failed go")
    asked = parser.parse_args()
    if asked.keep:
        asked.keep.mkdir(parents=True, exist_ok=True)
    cases = []
    for kind, make in kinds().items():
        if asked.kind and kind not in asked.kind:
            continue
        every = list(make())
        number = SAMPLE.get(kind, REST) if asked.each is None else asked.each
        number = len(every) if asked.all else min(number, len(every))
        cases += random.Random(kind).sample(every, number)
    _import_all()
    tried, failed = collections.Counter[str](), collections.Counter[tuple[str, str]]()
    for answer in answers(cases, asked.jobs, asked.keep):
        tried[answer.case.kind] += 1
        for fault in answer.faults:
            failed[answer.case.kind, fault.split()[0]] += 1
        if answer.faults:
            last = (answer.text.strip().splitlines() or [""])[-1][:300]
            words = " ".join(_short(word) for word in answer.case.words)
            print(f"{', '.join(answer.faults)}: {answer.case.what}\n    {words}\n    {last}")
            print(f"    {answer.seconds:.1f} s; {answer.strays[:5]}", flush=True)
    faults = ("fault", "code", "slow", "strays")
    print(f"{'kind':12}{'tried':>8}" + "".join(f"{fault:>8}" for fault in faults))
    for kind, count in tried.items():
        print(f"{kind:12}{count:8}" + "".join(f"{failed[kind, fault]:8}" for fault in faults))
    print(f"{'together':12}{tried.total():8}{failed.total():8} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
