"""Workdirs as a sweep writes them, with invented figures."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

SPLITS = ("validation", "test")
VERSIONS = {"python": "3.11.9", "jax": "0.10.2", "flax": "0.12.8"}


def make(
    workdir: Path,
    arms: dict[str, float | None],
    seeds: int = 8,
    *,
    overrides: dict[str, dict[str, Any]] | None = None,
    factors: tuple[str, ...] = ("model.activation",),
    experiment: dict[str, str] | None = None,
    spread: float = 0.006,
    claims: list[dict[str, Any]] | None = None,
    only: tuple[int, ...] | None = None,
) -> Path:
    """Every arm (mean test accuracy; None: all runs diverge) with every seed, and study.json."""
    random = np.random.default_rng(3)
    arm_infos: dict[str, Any] = {}
    luck = random.normal(0, spread, seeds)
    for name, mean in arms.items():
        block = name.partition(".")[0] if "." in name else ""
        changes = (overrides or {}).get(name, {factors[0]: name.rpartition(".")[2]})
        config = nested({"model.name": block or "lenet5_modern", "training.epochs": 5} | changes)
        arm_infos[name] = {
            "block": block,
            "baseline": not any(info["block"] == block for info in arm_infos.values()),
            "overrides": changes,
            "config": config,
        }
        for seed in only or range(seeds):
            if mean is None:
                accuracy = math.nan
            else:
                accuracy = mean + luck[seed % len(luck)] + random.normal(0, spread / 3)
                accuracy = round(min(accuracy, 1.0) * 360) / 360
            run(workdir, name, block, seed, accuracy, config)
    texts = {
        "name": "activations",
        "question": "Which activation suits a small convolutional network?",
        "lecture": "Sigmoid saturates, is not zero-centred, and exp costs; ReLU is fast.",
        "published": "ReLU .471, tanh .401, ELU .488 (caffenet-benchmark, single runs).",
        "expected": "ReLU and its smooth relatives ahead of tanh, tanh ahead of sigmoid.",
        "notes": "",
    }
    command = f"python -m launch.sweep --experiment=activations --workdir={workdir.name}"
    git = {"revision": "0123456789abcdef", "dirty": False}
    study = {
        "experiment": texts | (experiment or {}),
        "factors": list(factors),
        "claims": claims or [],
        "arms": arm_infos,
        "seeds": list(only or range(seeds)),
        "command": command,
        "set": ["training.epochs=5"],
        "created": "2025-03-04T10:00:00+00:00",
        "extensions": [
            {
                "date": "2025-03-04T10:00:00+00:00",
                "command": command,
                "arms": list(arms),
                "seeds": list(only or range(seeds)),
                "versions": VERSIONS,
                "git": git,
            }
        ],
        "machine": {"platform": "Linux-6.1-x86_64", "processor": "A processor, 2 cores"},
    }
    (workdir / "study.json").write_text(json.dumps(study))
    return workdir


def run(
    workdir: Path, arm: str, block: str, seed: int, accuracy: float, config: dict[str, Any]
) -> None:
    """One run's files; a NaN accuracy is a run that diverged in its third epoch."""
    folder = workdir / arm / f"seed-{seed}"
    folder.mkdir(parents=True)
    diverged = math.isnan(accuracy)
    lines = []
    for epoch in range(1, 4 if diverged else 6):
        reached = 0.3 + 0.1 * epoch if diverged else 0.1 + (accuracy - 0.1) * (1 - 2.0**-epoch)
        step = 23 * epoch
        train = {"step": step, "epoch": epoch, "split": "train", "loss": 1 / epoch}
        train |= {"accuracy": reached, "learning_rate": 0.05, "images_per_second": 7000.0}
        validation = {"step": step, "epoch": epoch, "split": "validation", "loss": 1 / epoch}
        lines += [train, validation | {"accuracy": reached}]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 1150, "spl'
    (folder / "metrics.jsonl").write_text(text)
    (folder / "config.json").write_text(json.dumps(config))
    split = None if diverged else {"accuracy": accuracy, "loss": 0.1, "examples": 360}
    result: dict[str, Any] = {
        "arm": arm,
        "block": block,
        "seed": seed,
        "status": "diverged" if diverged else "finished",
        "validation": split and split | {"examples": 144},
        "test": split,
        "best_validation": None if diverged else {"step": 92, "accuracy": accuracy},
        "steps": 69 if diverged else 115,
        "examples_seen": 7360,
        "seconds": 12.5 + seed,
        "train_images_per_second": 7000.0 + seed,
        "compilations": 1,
        "params_digest": "ab" * 32,
        "parameters": 61706,
        "chance": {split: {"accuracy": 0.1, "loss": math.log(10)} for split in SPLITS},
    }
    result |= {"diverged_at_step": 69} if diverged else {}
    (folder / "result.json").write_text(json.dumps(result))


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """{"a.b": 1} as {"a": {"b": 1}}."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *groups, leaf = path.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[leaf] = value
    return tree


def edit(workdir: Path, arm: str, seed: int, **changes: Any) -> None:
    """Changes fields of one result."""
    path = workdir / arm / f"seed-{seed}" / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
