"""The names of all levels and models, without jax.

The schema validates against these names, so that a typo is an error before jax is imported.
`tests/test_catalog.py` checks that they equal the registries in `cnnjax.nn` and `cnnjax.models`.
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
POOLINGS = ("none", "max", "average", "max_plus_average", "sum", "strided", "blur", "subsampling")
MEASURES = {
    "shift": tuple(f"shift_{pixels}" for pixels in range(1, 7)),
    "shift_consistency": ("shift_consistency",),
    "mc_dropout": ("monte_carlo", "monte_carlo_gain"),
}
"""{probe: the metrics that it measures}: shares of examples, except those in GAINS."""
GAINS = ("monte_carlo_gain",)
SIGNALS = {"activity": ("sd", "mean", "dead"), "gradients": ("gradient", "twins")}
"""{probe: the metrics that it measures of each layer}"""
OPTIMIZERS = ("sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "lars")
_ADAM = ("adam", "adamw")
OPTIMIZER_FIELDS = {
    "beta1": _ADAM,
    "beta2": _ADAM,
    "epsilon": (*_ADAM, "rmsprop"),
    "rmsprop_decay": ("rmsprop",),
}
"""{field that only some optimizers have: those optimizers}"""
SCENES = ("digit_boxes", "digit_masks")
"""The data sets with the fields of `data.scenes`."""
TASK_FIELDS = {
    "loss.class_weights": "segmentation",
    "loss.dice_weight": "segmentation",
    "evaluation.boundary_pixels": "segmentation",
    "loss.box": "localization",
    "loss.box_weight": "localization",
}
"""{field that only one built-in task has: that task}; a task of the user's own may read any"""
SCHEDULES = ("constant", "step", "exponential", "cosine", "linear", "one_cycle")

_MODERN: dict[str, Any] = {
    "activation": "relu",
    "initializer": "he_normal",
    "norm.kind": "none",
    "norm.placement": "before",
    "norm.epsilon": 1e-5,
    "dropout.keep_prob": 1.0,
    "pooling": "max",
}
_BATCH_NORM = {"norm.kind": "batch"}
_RESIDUAL = (
    _MODERN | _BATCH_NORM | {"zero_last_scale": False, "stochastic_depth": 0.0, "scan": False}
)
_SMALL_RESIDUAL = _RESIDUAL | {"pooling": "strided", "shortcut": "A"}
_LARGE_RESIDUAL = _RESIDUAL | {"shortcut": "B"}
_PLAIN = _MODERN | _BATCH_NORM | {"scan": False}
_VGG = _MODERN | {"dropout.keep_prob": 0.5, "hidden": (4096, 4096)}
_INCEPTION = _MODERN | _BATCH_NORM | {"norm.epsilon": 1e-3}
_DEPTHS = (8, 20, 32, 44, 56, 110)

MODELS: dict[str, dict[str, Any]] = {
    "mlp": _MODERN | {"pooling": "none", "hidden": (256, 256)},
    "lenet5": _MODERN
    | {"activation": "scaled_tanh", "initializer": "lenet_uniform", "pooling": "subsampling"},
    "lenet5_modern": _MODERN,
    "stack": _MODERN | {"depth": 8, "kernel": "3x3"},
    "alexnet": _VGG,
    "alexnet_grouped": _VGG,
    "vgg_small": _VGG | _BATCH_NORM | {"hidden": (128,)},
    **{f"vgg{depth}": _VGG for depth in (11, 13, 16, 19)},
    **{f"vgg{depth}_bn": _VGG | _BATCH_NORM for depth in (11, 13, 16, 19)},
    "inception_small": _INCEPTION | {"inception_block": "reduced"},
    "googlenet": _INCEPTION | {"dropout.keep_prob": 0.8, "auxiliary_weight": 0.3},
    "inception_v3": _INCEPTION
    | {"dropout.keep_prob": 0.5, "auxiliary_weight": 0.4, "count_include_pad": True},
    **{f"resnet{depth}": _SMALL_RESIDUAL for depth in _DEPTHS},
    "resnet1202": _SMALL_RESIDUAL | {"scan": True},
    **{f"plain{depth}": _PLAIN | {"pooling": "strided"} for depth in _DEPTHS},
    **{f"resnet{depth}": _LARGE_RESIDUAL for depth in (18, 34)},
    **{f"resnet{depth}": _LARGE_RESIDUAL | {"stride_on": "middle"} for depth in (50, 101, 152)},
    **{f"plain{depth}": _PLAIN for depth in (18, 34)},
}
"""{model: {field: the published choice, which replaces `default` or null}}"""

DECODERS = ("nearest", "bilinear", "max_unpool", "transposed")
DECODER: dict[str, Any] = {
    "decoder": "bilinear",
    "decoder_convolutions": 1,
    "skips": "none",
    "transposed_kernel": 4,
    "transposed_init": "initializer",
}
"""What replaces `default` and null in the fields of decoders, which only networks of per-pixel
tasks have."""
TRANSPOSED_FIELDS = ("transposed_kernel", "transposed_init")
"""The fields that only the decoder `transposed` has."""

_FCN = _VGG | {"decoder": "transposed", "transposed_kernel": 4, "transposed_init": "bilinear"}
SEGMENTATION_MODELS: dict[str, dict[str, Any]] = {
    "naive_segmentation": _MODERN | {"pooling": "none", "depth": 8},
    "segnet_basic": _MODERN | _BATCH_NORM | DECODER | {"decoder": "max_unpool"},
    "unet": _MODERN
    | DECODER
    | {"dropout.keep_prob": 0.5, "depth": 5, "decoder": "transposed", "decoder_convolutions": 2}
    | {"skips": "concatenate", "transposed_kernel": 2},
    "fcn32s": _FCN,
    "fcn8s": _FCN,
}
"""The same of the models of per-pixel tasks. With these tasks the others are encoders."""
CLASSIFIERS = {"fcn32s": "vgg16", "fcn8s": "vgg16"}
"""{model: the classifier whose weights it can start from}"""

UNPOOLABLE = (
    "lenet5",
    "lenet5_modern",
    "stack",
    "vgg_small",
    *(f"vgg{depth}{suffix}" for suffix in ("", "_bn") for depth in (11, 13, 16, 19)),
    "inception_small",
    "segnet_basic",
    "unet",
)
"""The models that make their maps smaller by poolings between their blocks alone."""

_SMALL = {
    "mlp": (28, 28, 1),
    "lenet5": (32, 32, 1),
    "lenet5_modern": (28, 28, 1),
    **dict.fromkeys(("stack", "vgg_small", "inception_small", "resnet1202"), (32, 32, 3)),
    **{f"{kind}{depth}": (32, 32, 3) for kind in ("resnet", "plain") for depth in _DEPTHS},
}
IMAGES: dict[str, tuple[int, int, int]] = {
    **dict.fromkeys((*MODELS, *SEGMENTATION_MODELS), (224, 224, 3)),
    **_SMALL,
    "segnet_basic": (360, 480, 3),
    "unet": (572, 572, 1),
    "alexnet_grouped": (227, 227, 3),
    "inception_v3": (299, 299, 3),
}
"""(height, width, channels) of the images that each model was published for."""

CLASSES = {
    **{name: 10 if name in _SMALL else 1000 for name in MODELS},
    **dict.fromkeys(SEGMENTATION_MODELS, 21),
    "segnet_basic": 11,
    "unet": 2,
}
"""The number of classes that each model was published for."""

CUSTOM = _MODERN | {
    "hidden": (256, 256),
    "depth": 8,
    "kernel": "3x3",
    "shortcut": "A",
    "stride_on": "middle",
    "zero_last_scale": False,
    "stochastic_depth": 0.0,
    "scan": False,
    "inception_block": "reduced",
    "auxiliary_weight": 0.0,
    "count_include_pad": True,
}
"""What replaces `default` and null for a model of the user's own. Fields that are not in `_MODERN`
belong only to the architectures for which `MODELS` has them."""


def published(model: str, *, per_pixel: bool = False) -> dict[str, Any]:
    """{field: what replaces `default` or null} of a model. With `per_pixel` one of classification
    is an encoder: it has a decoder, and no dropout, which belongs to its dense layers."""
    if model in SEGMENTATION_MODELS:
        return SEGMENTATION_MODELS[model]
    fields = MODELS.get(model, CUSTOM)
    return fields | DECODER | {"dropout.keep_prob": 1.0} if per_pixel else fields
