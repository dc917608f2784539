"""The names of all levels and models, without jax.

The schema validates against these names, so that a typo is answered before jax is imported.
`tests/test_catalog.py` holds them equal to the registries in `cnnjax.nn` and `cnnjax.models`.
"""

from typing import Any

ACTIVATIONS = (
    "sigmoid",
    "tanh",
    "scaled_tanh",
    "relu",
    "leaky_relu",
    "prelu",
    "elu",
    "selu",
    "gelu",
    "silu",
    "softplus",
    "identity",
)

INITIALIZERS = (
    "zeros",
    "constant",
    "small_normal",
    "small_truncated_normal",
    "lecun_normal",
    "lecun_truncated_normal",
    "lecun_uniform",
    "xavier_normal",
    "xavier_truncated_normal",
    "xavier_uniform",
    "he_normal",
    "he_truncated_normal",
    "he_uniform",
    "lenet_uniform",
    "orthogonal",
    "lsuv",
)

NORMS = ("none", "batch", "layer", "group")
PLACEMENTS = ("before", "after")
POOLINGS = ("none", "max", "average", "max_plus_average", "strided", "blur", "subsampling")
OPTIMIZERS = ("sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "lars")
SCHEDULES = ("constant", "step", "exponential", "cosine", "linear", "one_cycle")

_MODERN: dict[str, Any] = {
    "activation": "relu",
    "initializer": "he_normal",
    "norm.kind": "none",
    "norm.placement": "before",
    "dropout.keep_prob": 1.0,
    "pooling": "max",
}
_RESIDUAL = _MODERN | {"norm.kind": "batch", "pooling": "strided"}

MODELS: dict[str, dict[str, Any]] = {
    "mlp": _MODERN | {"pooling": "none"},
    "lenet5": _MODERN
    | {"activation": "scaled_tanh", "initializer": "lenet_uniform", "pooling": "subsampling"},
    "lenet5_modern": _MODERN,
    "vgg_small": _MODERN | {"norm.kind": "batch", "dropout.keep_prob": 0.5},
    **{f"resnet{depth}": _RESIDUAL for depth in (20, 32, 44, 56, 110)},
    **{f"plain{depth}": _RESIDUAL for depth in (20, 32, 44, 56, 110)},
}
"""Every model with the published choice that `default` stands for in each ingredient field."""
