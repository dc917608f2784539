"""How fast it trains: against flax and PyTorch, with replicas, in whole runs.

Train steps are timed by `launch.benchmark`, whose contenders take turns; whole runs by
`launch.train`.
"""

import json
import re
import statistics
from typing import Any

from tests.accelerator import summary
from tests.accelerator.part import Part, results

PEERS, FASTEST = "cnnjax xla,flax,torch,torch compiled", "cnnjax xla,torch compiled"
LARGE = (  # all contenders of a row share the memory of the device
    ("bfloat16", 256, FASTEST),
    ("bfloat16", 128, PEERS),
    ("float32", 128, PEERS),
    ("bfloat16", 256, "flax,torch"),
    ("float32", 256, FASTEST),
)
"""Precision, batch size and contenders of the large network, dearest to know first."""
CEILING = {"bfloat16": "bfloat16", "float32": "float32, default"}
SMALL = ("resnet20", "lenet5_modern", "vgg_small", "resnet18", "inception_small")
REPLICAS, CALLS = ((32, 8), (128,)), (1, 8, 32)


def speed_large(part: Part) -> None:
    """ResNet-50 on images of 224 pixels; the share of the ceiling that its products take."""
    network = "resnet18" if part.tiny else "resnet50"  # 64 pixels, for the rehearsal
    adds = part.attempt("multiply-adds", _multiply_adds, part, network)
    ratios = []
    for precision, batch, contenders in LARGE[: 1 if part.tiny else None]:
        found = part.attempt(
            f"{network}, {precision}, batch {batch}, {contenders}",
            benchmark, part, "Large networks", network, precision, batch, contenders, adds,
        )  # fmt: skip
        if precision == "bfloat16" and {"cnnjax xla", "torch compiled"} <= set(found or ()):
            ratios.append(found["cnnjax xla"] / found["torch compiled"])
            part.goal("resnet50", min(ratios))


def speed_small(part: Part) -> None:
    """The small networks."""
    networks = SMALL[1:2] if part.tiny else SMALL
    for precision in ("float32", "bfloat16"):
        for network in networks:
            part.attempt(
                f"{network}, {precision}",
                benchmark, part, "Small networks", network, precision, 128, PEERS,
            )  # fmt: skip


def speed_replicas(part: Part) -> None:
    """Replicas that are trained together, against one by one."""
    cases = [(network, some) for some in REPLICAS for network in ("lenet5_modern", "resnet20")]
    for network, some in cases[: 1 if part.tiny else None]:
        names = ["cnnjax xla", *(f"cnnjax {number} replicas" for number in some)]
        found = part.attempt(
            f"{network}, {some} replicas",
            benchmark, part, None, network, "float32", 128, ",".join(names),
        ) or {}  # fmt: skip
        for name, speed in found.items():
            number = int(re.sub(r"\D", "", name) or 1)
            times = speed / found["cnnjax xla"]
            part.row("Replicas", network=network, precision="float32", replicas=number,
                     images_per_second=speed, times_one_by_one=times)  # fmt: skip
            if network == "lenet5_modern" and number == 32:
                part.goal("replicas", times)


def speed_loop(part: Part) -> None:
    """Whole runs of the loop: several steps a call; input from memory and streamed."""
    for network in ("lenet5_modern", "resnet20")[: 1 if part.tiny else 2]:
        for calls in CALLS[:2] if part.tiny else CALLS:
            part.attempt(f"{network}, {calls} steps a call", _run, part, network, calls, "memory")
        part.attempt(f"{network}, streamed", _run, part, network, CALLS[-1], "stream")


def benchmark(
    part: Part,
    table: str | None,
    network: str,
    precision: str,
    batch: int,
    contenders: str,
    multiply_adds: int | None = None,
) -> dict[str, float]:
    """{contender: its images per second}, by `launch.benchmark`, and a row of a table for each."""
    batch = 4 if part.tiny else batch
    title = f"{network}-{precision}-{batch}"
    workdir = part.work / title
    part.program(
        "launch.benchmark", f"--workdir={workdir}", f"--networks={network}",
        f"--precision={precision}", f"--batch_size={batch}", f"--contenders={contenders}",
        f"--rounds={1 if part.tiny else 3}",
    )  # fmt: skip
    (measured,) = json.loads((workdir / "benchmark.json").read_text())["networks"].values()
    found = {
        name: statistics.median(figures["images_per_second"]) for name, figures in measured.items()
    }
    for name, speed in found.items() if table else ():
        cells: dict[str, Any] = {
            "network": network, "precision": precision, "batch": batch, "contender": name,
            "images_per_second": speed, "peak_GB": measured[name]["peak_bytes"] / 1e9,
        }  # fmt: skip
        for peer in ("torch", "torch compiled"):
            cells[f"times_{peer}"] = speed / found[peer] if peer in found else ""
        ceiling = _ceiling(part, precision)
        if multiply_adds and ceiling:  # forward, and two gradients of about the same work
            cells["share_of_the_ceiling"] = 6 * multiply_adds * speed / ceiling
        part.row(table or "", **cells)
    return found


def _multiply_adds(part: Part, network: str) -> int:
    """Of the forward pass of one image."""
    output = part.work / "layers.json"
    words = ["--num_classes=10", *(["--input=64,64,3"] if part.tiny else [])]
    part.program(
        "launch.inspect", f"--model={network}", *words, "--format=json", f"--output={output}",
        JAX_PLATFORMS="cpu",
    )  # fmt: skip
    return int(json.loads(output.read_text())["total"]["multiply_adds"])


def _ceiling(part: Part, precision: str) -> float | None:
    """What the machine part measured for a matrix product, in operations a second."""
    for row in summary.figures(part.output, "machine")["tables"].get("Ceilings", []):
        if row["of"].startswith(f"product, {CEILING[precision]}"):
            return float(row["value"]) * 1e12
    return None


def _run(part: Part, network: str, calls: int, pipeline: str) -> None:
    workdir = part.work / f"{network}-{calls}-{pipeline}"
    steps = 64 if part.tiny else 960
    took = part.program(
        "launch.train", "--experiment=quickstart", "--arm=relu", "--seeds=0", "--replicas=1",
        f"--steps_per_call={calls}", f"--workdir={workdir}", f"--set=model.name={network}",
        f"--set=training.steps={steps}", f"--set=data.pipeline={pipeline}",
        f"--set=training.batch_size={8 if part.tiny else 128}",
        "--set=evaluation.every_epochs=1000", "--set=training.log_every_steps=96",
    )  # fmt: skip
    ((result),) = results(workdir).values()
    part.row("Whole runs", network=network, steps_a_call=calls, input=pipeline, steps=steps,
             images_per_second=result["train_images_per_second"], seconds=took)  # fmt: skip
