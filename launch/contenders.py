"""What the contenders of a benchmark are given: networks, images and first weights."""

import json
from pathlib import Path
from typing import Any

CLASSES = 10
LEARNING_RATE = 0.01
IMAGES = {  # network: the shape of its images
    "lenet5_modern": (28, 28, 1),
    "vgg_small": (32, 32, 3),
    "resnet20": (32, 32, 3),
    "inception_small": (32, 32, 3),
    "resnet18": (64, 64, 3),
    "resnet50": (224, 224, 3),
}


def task(folder: Path, network: str, batch_size: int, precision: str, threads: int) -> Path:
    """Writes what all contenders of a network are given into `folder`; returns its JSON file.

    The arrays are `images` (uint8 [B, H, W, C]), `labels` (int32 [B]) and, under `p/` and their
    names in cnnjax, the first weights.
    """
    import jax
    import numpy as np

    jax.config.update("jax_platforms", "cpu")  # an accelerator is left to the contenders
    from cnnjax import models
    from cnnjax.train import session, state
    from launch import contender

    values = {
        "network": network,
        "num_classes": CLASSES,
        "learning_rate": LEARNING_RATE,
        "batch_size": batch_size,
        "precision": precision,
        "threads": threads,
        "arrays": str(folder / "arrays.npz"),
    }
    shape = IMAGES[network]
    model = contender.configuration(values).model
    module = models.build(model, image_shape=shape, num_outputs=CLASSES)
    fresh = jax.jit(
        lambda key: state.initial_variables(module, shape, key),
        compiler_options=session.FAST_COMPILE["cpu"],
    )
    variables = fresh(jax.random.key(0))
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "images": rng.integers(0, 256, (batch_size, *shape), dtype=np.uint8),
        "labels": rng.integers(0, CLASSES, batch_size).astype(np.int32),
    }
    weights = state.flat(variables["params"])
    arrays |= {f"p/{path}": np.asarray(leaf) for path, leaf in weights.items()}
    np.savez(folder / "arrays.npz", **arrays)
    path = folder / "task.json"
    path.write_text(json.dumps(values))
    return path
