"""What runs share: loaded data, compiled steps, whole programs, and the steps that are taken at
the same time.

Each key is the whole configuration without the fields that are named here, because a test shows
that they make no difference to what is shared. A field that is not named can cost a compilation,
but no run ever gets a program that was compiled for another value of it.
"""

import json
from collections.abc import Set
from typing import Any

from cnnjax.config import Data, RunConfig, flat_json

KEEP_PROB = "model.dropout.keep_prob"

TRACED = {
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "training.label_smoothing",
    KEEP_PROB,  # but 1 is a network without dropout
}
"""The numbers that the compiled steps receive as arrays, `state.HParams`; the rates of parameter
groups are such numbers too."""

SCHEDULE = {
    "schedule.name",
    "schedule.warmup_epochs",
    "schedule.boundaries_epochs",
    "schedule.factor",
    "schedule.final",
}
"""What the learning rates are computed from, on the host."""

INITIALIZER = {"model.initializer", "model.initializer_sd", "model.initializer_value"}
TRANSFER = {"transfer.init_from", "transfer.reset"}
"""With INITIALIZER, what only the state before the first step depends on."""

SCALING = {"data.normalize", "data.mean", "data.sd", "data.channel_order"}
SUBSET = {"data.train_examples", "data.subset"}
"""Which of the loaded examples a run is trained on: the host chooses their indices."""

DURATION = {
    "training.epochs",
    "training.steps",
    "training.max_examples",
    "training.log_every_steps",
    "evaluation.every_epochs",
    "evaluation.test",
    "checkpointing.keep_last",
    "checkpointing.every_steps",
}
"""How many steps there are, and what the host does between them."""

_CROP = "data.augmentation.random_resized_crop"
_AUGMENTATION = {
    f"data.augmentation.{name}"
    for name in ("flip", "shift_pixels", "rotation_degrees", "scale", "color", "cutout_pixels")
}


def data_key(data: Data) -> str:
    """What decides the loaded arrays. Of the augmentation, it is crops that are cut out while an
    image is decoded."""
    values = flat_json(data.model_dump(mode="json"), "data.")
    if data.pipeline == "memory":
        values[_CROP] = 1.0
    return _key(values, _AUGMENTATION | SCALING | SUBSET)


def steps_key(config: RunConfig, convolution: str) -> str:
    """What decides the compiled steps.

    Args:
      config: a resolved configuration.
      convolution: what computes convolutions, `native` or `xla`.
    """
    return _key(_values(config, convolution), TRACED | SCHEDULE | INITIALIZER | TRANSFER | _HOST)


def program_key(config: RunConfig, convolution: str) -> str:
    """What decides the compiled steps and the functions that make the state before the first."""
    return _key(_values(config, convolution), TRACED | SCHEDULE | TRANSFER | _HOST)


def lockstep_key(config: RunConfig) -> str:
    """What has to be the same for runs to take their steps together: they have the same steps and
    are looked at at the same times, but each starts from weights and has numbers of its own."""
    return _key(_values(config), TRACED | SCHEDULE | INITIALIZER | TRANSFER)


_HOST = SUBSET | DURATION


def _values(config: RunConfig, convolution: str | None = None) -> dict[str, Any]:
    values = flat_json(config.model_dump(mode="json"))
    for group in values["optimizer.groups"]:
        del group["rate"]
    values["dropout"] = config.model.dropout.keep_prob != 1
    if convolution:
        values["training.cpu_convolution"] = convolution
    return values


def _key(values: dict[str, Any], without: Set[str]) -> str:
    kept = {path: value for path, value in values.items() if path not in without}
    return json.dumps(kept, sort_keys=True)
