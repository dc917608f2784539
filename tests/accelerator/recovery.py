"""Checkpoints between devices, runs that were killed, and memory over many steps."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.accelerator.part import Part, results

CPU = {"JAX_PLATFORMS": "cpu"}
TRAIN = ("launch.train", "--experiment=quickstart", "--arm=relu_bn", "--seeds=0")
HIGHEST = "--set=training.matmul_precision=highest"


def checkpoints(part: Part) -> None:
    """Trains on the device and on the CPU, and evaluates both on both."""
    worst = 0.0
    for made in ("device", "CPU"):
        found = part.attempt(f"made on the {made}", _read_on_both, part, made)
        if found is None:
            return
        here, there = found["device"], found["CPU"]
        apart = abs(here["loss"] - there["loss"]) / abs(there["loss"])
        part.row("Checkpoints", made_on=made, loss_on_the_device=here["loss"],
                 loss_on_the_CPU=there["loss"], relative_difference=apart,
                 accuracies_equal=here["accuracy"] == there["accuracy"])  # fmt: skip
        worst = max(worst, apart)
    part.goal("restored", worst)


def _read_on_both(part: Part, made: str) -> dict[str, dict[str, Any]]:
    workdir, steps = part.work / f"made-{made}", 12 if part.tiny else 300
    part.program(*TRAIN, f"--set=training.steps={steps}", f"--workdir={workdir}",
                 **(CPU if made == "CPU" else {}))  # fmt: skip
    found = {}
    for where, environment in {"device": {}, "CPU": CPU}.items():
        output = part.work / f"{made}-{where}.json"
        part.program("launch.evaluate", f"--workdir={workdir}", f"--output={output}", HIGHEST,
                     **environment)  # fmt: skip
        found[where] = json.loads(output.read_text())
    return found


def resumed(part: Part) -> None:
    """Whole twice, and killed and resumed; with deterministic operations and without."""
    speeds = {}
    for way in ("deterministic", "default"):
        done = part.attempt(way, _three_runs, part, way)
        if done is None:
            continue
        digests, speeds[way] = done
        same = {name: digests[name] == digests["whole"] for name in ("again", "resumed")}
        cells = {f"{run}_has_the_same_bits": equal for run, equal in same.items()}
        part.row("Bits", operations=way, images_per_second=speeds[way], **cells)
        if way == "deterministic":
            part.goal("bits", sum(same.values()) / len(same))
    if len(speeds) == 2:
        part.note(
            f"deterministic operations take {speeds['default'] / speeds['deterministic']:.2f} "
            "times as long"
        )


def _three_runs(part: Part, way: str) -> tuple[dict[str, str], float]:
    """{run: the digest of its parameters}, and the images per second of the first."""
    steps, save = (30, 8) if part.tiny else (1500, 300)
    words = [
        *TRAIN, "--set=model.name=resnet8", f"--set=training.steps={steps}", "--replicas=1",
        f"--set=checkpointing.every_steps={save}", "--set=evaluation.every_epochs=1000",
        f"--set=training.deterministic={'true' if way == 'deterministic' else 'false'}",
    ]  # fmt: skip
    found = {}
    for run in ("whole", "again", "resumed"):
        workdir = part.work / f"{way}-{run}"
        if run == "resumed" and not _kill([*words, f"--workdir={workdir}"], workdir, part.left):
            part.note(f"{way}: the run had ended before it could be killed")
        part.program(*words, f"--workdir={workdir}")
        (found[run],) = results(workdir).values()
    digests = {run: result["params_digest"] for run, result in found.items()}
    return digests, found["whole"]["train_images_per_second"]


def _kill(words: list[str], workdir: Path, seconds: float) -> bool:
    """Starts a run and kills it after its first checkpoint; whether it was still running."""
    process = subprocess.Popen([sys.executable, "-m", *words], env=os.environ)
    ends = time.monotonic() + seconds
    try:
        while process.poll() is None and time.monotonic() < ends:
            if list(workdir.glob("*/seed-0/checkpoints/[0-9]*")):
                return True
            time.sleep(0.02)
        return False
    finally:
        process.kill()
        process.wait()


def memory(part: Part) -> None:
    """Many steps of a run, as the loop takes them: neither device nor host may grow."""
    import jax

    from cnnjax.config import RunConfig, override, resolve
    from cnnjax.train.session import Session
    from launch import grouping

    fields = {"data.image_size": 32, "model.norm.kind": "batch", "data.augmentation.flip": 0.5}
    config = resolve(override(RunConfig(), fields))
    step = grouping.step_function(Session(), config, [0])
    total = 200 if part.tiny else 2000
    found = []
    for number in range(1, total + 1):
        step()
        if number % (total // 5) == 0:
            stats = jax.devices()[0].memory_stats() or {}
            device = stats.get("bytes_in_use", 0) / 1e6
            found.append((device, _resident() / 1e6))
            part.row("Memory", steps=number, host_MB=found[-1][1],
                     device_MB=device if stats else "not told")  # fmt: skip
    part.goal("growth", max(last - first for first, last in zip(found[0], found[-1], strict=True)))


def _resident() -> int:
    """The bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
