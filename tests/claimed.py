"""Studies with claims, whose runs have invented accuracies."""

import json

import numpy as np
import workdirs

from cnnjax.ablation import claims, reading, verdicts

FACTORS = ("model.activation", "model.norm.kind")
LUCK = np.array([0.004, -0.002, 0.001, -0.003, 0.0, 0.002])
RELU, TANH = 0.90 + LUCK, 0.87 + LUCK + 0.001 * np.array([1, -1, 0, 1, -1, 0])
GAIN = ({"model.norm.kind": ("none", "batch")}, {"model.activation": ("relu", "sigmoid")})
"""The gain of batch norm with relu and with sigmoid."""


def study(tmp_path, arms, *stated, late=(), overrides=None, factors=FACTORS[:1]):
    """A study in which each arm has these test accuracies by seed; None: the run diverged. The
    claims in `late` are made after there were results."""
    seeds = len(next(iter(arms.values())))
    workdirs.make(tmp_path, dict.fromkeys(arms, 0.5), seeds, overrides=overrides, factors=factors)
    for arm, values in arms.items():
        for seed, value in enumerate(values):
            if value is None:
                changes = {"status": "diverged", "test": None, "diverged_at_step": 3}
            else:
                changes = {"test": {"accuracy": value, "loss": 1 - value, "examples": 1000}}
            workdirs.edit(tmp_path, arm, seed, **changes)
    path = tmp_path / "study.json"
    values = [claims.to_dict(c) | {"post_hoc": c in late} for c in (*stated, *late)]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"claims": values}))
    return reading.load(tmp_path, "test")


def findings(*args, **kwargs):
    """The findings of such a study."""
    return verdicts.findings(study(*args, **kwargs))


def crossed_findings(tmp_path, means, *stated):
    """Findings on two activations without and with batch norm, by these means; None: all runs
    diverge."""
    names = ["relu_none", "relu_batch", "sigmoid_none", "sigmoid_batch"]
    overrides = {name: dict(zip(FACTORS, name.split("_"), strict=True)) for name in names}
    noise = np.random.default_rng(7).normal(0, 0.001, (4, 6))
    arms = {
        name: [None] * 6 if mean is None else list(mean + LUCK + residual)
        for name, mean, residual in zip(names, means, noise, strict=True)
    }
    return findings(tmp_path, arms, *stated, overrides=overrides, factors=FACTORS)
