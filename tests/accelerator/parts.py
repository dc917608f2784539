"""The parts, each in its own process.

python -m tests.accelerator.parts PART OUTPUT DATA_DIR [tiny]
"""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from launch import contenders

PART, OUTPUT, DATA_DIR = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
TINY = "tiny" in sys.argv[4:]
WORK = Path(os.environ.get("TMPDIR", "/tmp")) / "cnnjax-accelerator"


def write(answer: dict[str, Any]) -> None:
    """Writes what is known so far."""
    path = OUTPUT / f"{PART}.json"
    path.with_suffix(".new").write_text(json.dumps(answer, indent=1))
    path.with_suffix(".new").replace(path)


def program(*words: str, **environment: str) -> float:
    """The seconds that `python -m launch.WORDS` takes."""
    started = time.monotonic()
    print("+", *words, flush=True)
    subprocess.run([sys.executable, "-m", *words], check=True, env={**os.environ, **environment})
    return round(time.monotonic() - started, 2)


def results(workdir: Path) -> dict[str, Any]:
    """{run: what is to be known of its result}."""
    found = {}
    for path in sorted(workdir.glob("**/result.json")):
        values = json.loads(path.read_text())
        found[f"{values['arm']} {values['seed']}"] = {
            "status": values["status"],
            "test": values["test"]["accuracy"] if values.get("test") else None,
            "seconds": values["seconds"],
            "images_per_second": values["train_images_per_second"],
            "digest": values["params_digest"][:12],
            "replicates": values["runtime"].get("replicates"),
        }
    return found


def machine() -> None:
    """What it is, and how fast it multiplies and copies."""
    import importlib.metadata

    import jax
    import jax.numpy as jnp

    answer: dict[str, Any] = {
        "devices": [device.device_kind for device in jax.devices()],
        "python": sys.version.split()[0],
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
        },
        "memory": jax.devices()[0].memory_stats(),
    }
    if shutil.which("nvidia-smi"):
        asked = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        done = subprocess.run(["nvidia-smi", *asked], capture_output=True, text=True)
        answer["driver"] = done.stdout.strip()
    write(answer)
    size = 256 if TINY else 8192

    def seconds(function: Any, *arguments: Any) -> float:
        compiled = jax.jit(function)
        jax.block_until_ready(compiled(*arguments))
        found = []
        for _ in range(5):
            started = time.perf_counter()
            for _ in range(5):
                last = compiled(*arguments)
            jax.block_until_ready(last)
            found.append((time.perf_counter() - started) / 5)
        return statistics.median(found)

    x = jax.random.normal(jax.random.key(0), (size, size))
    for name, dtype, precision in (
        ("bfloat16", jnp.bfloat16, "default"),
        ("float32, default", jnp.float32, "default"),
        ("float32, highest", jnp.float32, "highest"),
    ):
        y = x.astype(dtype)
        took = seconds(lambda a, b, p=precision: jnp.matmul(a, b, precision=p), y, y)
        answer[f"TFLOP/s, {name}"] = round(2 * size**3 / took / 1e12, 1)
        write(answer)
    big = jnp.ones(2**16 if TINY else 2**30, jnp.bfloat16)
    answer["copy GB/s"] = round(2 * big.nbytes / seconds(lambda a: a + 1, big) / 1e9)
    write(answer)


FAMILIES = {
    **{name: shape for name, shape in contenders.IMAGES.items() if max(shape) < 224},
    "lenet5": (32, 32, 1),
    "alexnet": (227, 227, 3),
}


def right() -> None:
    """Losses and gradients against float64 on the CPU; ten steps in float64 on both."""
    os.environ["JAX_ENABLE_X64"] = "1"
    import jax
    import jax.numpy as jnp
    import numpy as np

    from cnnjax import models
    from cnnjax.config import RunConfig, override, resolve
    from cnnjax.data import augment
    from cnnjax.nn import operations
    from cnnjax.train import optim, state, step

    cpu, device = jax.devices("cpu")[0], jax.devices()[0]
    answer: dict[str, Any] = {"device": device.device_kind}
    draw = np.random.default_rng(0)
    for name in list(FAMILIES)[: 2 if TINY else None]:
        shape = FAMILIES[name]
        changes = {"model.name": name, "model.dropout.keep_prob": 1.0, "data.normalize": "none"}
        config = resolve(override(RunConfig(), changes))
        batch = {
            "images": draw.integers(0, 256, (16, *shape), dtype=np.uint8),
            "labels": draw.integers(0, 10, 16).astype(np.int32),
        }
        first: Any = None

        def build(where: Any, dtype: Any, name: str = name, shape: Any = shape, c: Any = config):
            platform = where.platform if where.platform != "cuda" else "gpu"
            return models.build(
                c.model, image_shape=shape, classes=10, dtype=dtype,
                param_dtype=jnp.float64 if dtype == jnp.float64 else jnp.float32,
                operations=operations.choose(platform, "xla"),
            )  # fmt: skip

        with jax.default_device(cpu):
            module = build(cpu, jnp.float32)
            first = jax.device_get(state.initial_variables(module, shape, jax.random.key(0)))

        def gradient(where: Any, dtype: Any, precision: str, batch: Any = batch, first: Any = None):
            module = build(where, dtype)
            wide = jnp.float64 if dtype == jnp.float64 else jnp.float32

            def loss(params: Any, rest: Any, images: Any, labels: Any) -> Any:
                logits, _ = module.apply(
                    {"params": params, **rest}, images.astype(wide) / 255, train=True,
                    keep_prob=1.0, rngs={"dropout": jax.random.key(1)},
                    mutable=["batch_stats", "auxiliary"],
                )  # fmt: skip
                logs = jax.nn.log_softmax(logits.astype(wide))
                return -logs[jnp.arange(16), labels].mean()

            cast = jax.tree.map(lambda leaf: np.asarray(leaf, wide), first)
            rest = {k: v for k, v in cast.items() if k != "params"}
            with jax.default_device(where), jax.default_matmul_precision(precision):
                given = jax.device_put(
                    (cast["params"], rest, batch["images"], batch["labels"]), where
                )
                value, grads = jax.jit(jax.value_and_grad(loss))(*given)
            leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(grads)]
            return float(value), np.concatenate(leaves)

        value, truth = gradient(cpu, jnp.float64, "highest", first=first)
        found = {}
        for title, where, dtype, precision in (
            ("float64", device, jnp.float64, "highest"),
            ("cpu float32", cpu, jnp.float32, "highest"),
            ("float32, highest", device, jnp.float32, "highest"),
            ("float32, default", device, jnp.float32, "default"),
            ("bfloat16", device, jnp.bfloat16, "default"),
        ):
            other, grads = gradient(where, dtype, precision, first=first)
            apart = np.linalg.norm(grads - truth) / np.linalg.norm(truth)
            found[title] = {"loss": abs(other - value) / abs(value), "gradient": float(apart)}
            answer[name] = found
            write(answer)
        print(name, found, flush=True)

        make = optim.optimizer(config.optimizer)
        ends = {}
        if name == "alexnet":
            continue
        for where in (cpu, device):
            module = build(where, jnp.float64)
            train = step.train_step(
                module, make,
                augment=augment.build(config.data.augmentation, shape, (0.0,) * shape[-1]),
                normalize=lambda images: images.astype(jnp.float64),
            )  # fmt: skip
            with jax.default_device(where):
                wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), first)
                current = state.create(wide, make, averaged=False)
                keys = state.keys(0)
                numbers = state.HParams(
                    0.02, 1e-4, 1.0, 0.0, keys["augment"], keys["dropout"]
                )  # fmt: skip
                taken = jax.jit(train)
                for _ in range(10):
                    current, metrics = taken(current, batch, numbers)
                leaves = jax.tree.leaves(current.params)
                ends[where.platform] = [np.asarray(leaf) for leaf in leaves], float(metrics["loss"])
        (a, one), (b, two) = ends["cpu"], ends[device.platform]
        found["ten steps, float64"] = {
            "parameters": float(max(np.abs(x - y).max() for x, y in zip(a, b, strict=True))),
            "loss": abs(one - two),
        }
        write(answer)
        print(found["ten steps, float64"], flush=True)


def resumed() -> None:
    """Bits of a run that was stopped and went on, with and without deterministic operations."""
    answer: dict[str, Any] = {}
    steps = 200 if TINY else 2000
    for name, flags in (("default", ""), ("deterministic", "--xla_gpu_deterministic_ops=true")):
        environment = {"XLA_FLAGS": flags}
        words = [
            "launch.train", "--experiment=quickstart", "--arm=relu_bn", "--seeds=0",
            f"--set=training.steps={steps}", "--set=model.name=resnet20",
            "--set=evaluation.every_epochs=10",
        ]  # fmt: skip
        for run in ("whole", "again"):
            workdir = WORK / f"resumed-{name}-{run}"
            shutil.rmtree(workdir, ignore_errors=True)
            answer[f"{name} {run} s"] = program(*words, f"--workdir={workdir}", **environment)
            answer[f"{name} {run}"] = results(workdir)
            write(answer)
        workdir = WORK / f"resumed-{name}-stopped"
        shutil.rmtree(workdir, ignore_errors=True)
        process = subprocess.Popen(
            [sys.executable, "-m", *words, f"--workdir={workdir}"],
            env={**os.environ, **environment},
        )
        for _ in range(600):
            time.sleep(0.1)
            logged = list(workdir.glob("**/metrics.jsonl"))
            if logged and logged[0].read_text().count("\n") > steps // 25:
                break
        process.send_signal(signal.SIGTERM)
        answer[f"{name} stopped, exit"] = process.wait()
        program(*words, f"--workdir={workdir}", **environment)
        answer[f"{name} resumed"] = results(workdir)
        write(answer)


def sweeps(name: str, *extra: str) -> None:
    """A sweep as it is, one by one, and with seeds together."""
    answer: dict[str, Any] = {}
    for title, words in {"alone": ["--replicates=1"], "replicates": ["--replicates=8"]}.items():
        workdir = WORK / f"{name}-{title.replace(' ', '-')}"
        shutil.rmtree(workdir, ignore_errors=True)
        took = program(
            "launch.sweep", f"--experiment={name}", f"--workdir={workdir}", *words, *extra
        )
        answer[title] = {"seconds": took, "runs": results(workdir)}
        write(answer)


def quickstart() -> None:
    """The first study."""
    sweeps("quickstart", *(["--seeds=0,1", "--set=training.steps=5"] if TINY else []))


def mnist() -> None:
    """The reference recipe, three seeds."""
    sweeps("mnist", f"--data_dir={DATA_DIR}", *(["--set=training.steps=5"] if TINY else []))


def benchmark(networks: str, *extra: str) -> None:
    """Times the networks against their peers."""
    workdir = OUTPUT / f"benchmark-{PART}"
    program("launch.benchmark", f"--workdir={workdir}", f"--networks={networks}", *extra)


def small() -> None:
    """Small networks."""
    rounds = ["--rounds=1", "--batch_size=8"] if TINY else ["--rounds=3"]
    benchmark("lenet5_modern,resnet20", *rounds)


def large() -> None:
    """ResNet-50 at 224 pixels."""
    rounds = ["--rounds=1", "--batch_size=2"] if TINY else ["--rounds=3", "--batch_size=256"]
    one = "--contenders=cnnjax xla,flax,torch,torch compiled"
    benchmark("resnet50", one, f"--precision={os.environ.get('LARGE', 'bfloat16')}", *rounds)


def cifar10() -> None:
    """The full recipe."""
    workdir = OUTPUT / "cifar10"
    words = os.environ.get("CIFAR10", "--arms=resnet20 --seeds=0").split()
    program(
        "launch.sweep", "--experiment=cifar10", f"--workdir={workdir}", f"--data_dir={DATA_DIR}",
        *words, *(["--set=training.steps=5"] if TINY else []),
    )  # fmt: skip
    write(results(workdir))


if __name__ == "__main__":
    {f.__name__: f for f in (machine, right, resumed, quickstart, mnist, small, large, cifar10)}[
        PART
    ]()
