"""Keys of what runs share: loaded data, compiled steps, programs, and steps taken together.

Each key is the whole configuration without the fields listed here, of which a test shows that they
make no difference to what is shared. A field that is not listed can cost a compilation, but no run
is ever given a program that was compiled for another value of it.
"""

import json
from collections.abc import Set
from typing import Any

from cnnjax.config import Data, ResolvedConfig, flat_json

TRACED = {
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "training.label_smoothing",
    "model.dropout.keep_prob",  # except for 1, a network without dropout
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
"""Like INITIALIZER, these affect only the state before the first step."""

SCALING = {"data.normalize", "data.mean", "data.sd", "data.channel_order"}
SUBSET = {"data.train_examples", "data.subset"}
"""Which of the loaded examples a run is trained on; the host chooses their indices."""

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

_AUGMENTATION = {
    f"data.augmentation.{name}"
    for name in ("flip", "shift_pixels", "rotation_degrees", "scale", "color", "cutout_pixels")
}


def data_key(data: Data) -> str:
    """The key of the loaded arrays. Of the augmentation they depend only on crops, which are made
    while an image is decoded."""
    values = flat_json(data.model_dump(mode="json"), "data.")
    if data.pipeline == "memory":
        values["data.augmentation.random_resized_crop"] = 1.0
    return _key(values, _AUGMENTATION | SCALING | SUBSET)


def steps_key(config: ResolvedConfig, convolution: str) -> str:
    """The key of the compiled steps.

    Args:
      config: a resolved configuration.
      convolution: the implementation of convolutions, `native` or `xla`.
    """
    return _key(_values(config, convolution), TRACED | SCHEDULE | INITIALIZER | TRANSFER | _HOST)


def program_key(config: ResolvedConfig, convolution: str) -> str:
    """The key of the compiled steps and of the functions that create the state before the first."""
    return _key(_values(config, convolution), TRACED | SCHEDULE | TRANSFER | _HOST)


def replica_key(config: ResolvedConfig) -> str:
    """The key of runs that can take their steps together: they have the same compiled steps and are
    evaluated and saved at the same steps, but may differ in initial weights and traced numbers."""
    return _key(_values(config), TRACED | SCHEDULE | INITIALIZER | TRANSFER)


_HOST = SUBSET | DURATION


def _values(config: ResolvedConfig, convolution: str | None = None) -> dict[str, Any]:
    values = flat_json(config.model_dump(mode="json"))
    for group in values["optimizer.groups"]:
        del group["rate"]
    values["dropout"] = config.model.dropout.keep_prob != 1
    if convolution:
        values["training.cpu_convolution"] = convolution
    return values


def _key(values: dict[str, Any], excluded: Set[str]) -> str:
    included = {path: value for path, value in values.items() if path not in excluded}
    return json.dumps(included, sort_keys=True)
