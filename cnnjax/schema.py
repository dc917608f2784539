"""The fields of a run: one frozen, validated class per group. No jax.

Unknown keys are errors; every message names the dotted path, the value, what is allowed and the
nearest name. Durations have a unit in their name: `_steps` or `_epochs`.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from cnnjax import catalog, metric, paths
from cnnjax.validation import ConfigGroup, Probability, inconsistent, one_of, probability_to_keep

_MODELS = catalog.MODELS | catalog.SEGMENTATION_MODELS
MILLION, BILLION = 10**6, 10**9
LARGE = 1e9  # its square is finite in float32


class Norm(ConfigGroup):
    """Normalisation. `alpha` is the weight of the *batch* in the running statistics (the lecture's
    convention; flax's momentum is 1 - alpha)."""

    kind: Annotated[str, one_of("norm", catalog.NORMS, "default")] = "default"
    placement: Annotated[str, one_of("placement", catalog.PLACEMENTS, "default")] = "default"
    alpha: Probability = 0.1
    epsilon: float | None = Field(None, gt=0, le=1)
    statistics: Literal["global", "per_device"] = "global"
    frozen: bool = False
    groups: int = Field(8, ge=1, le=MILLION)


class Dropout(ConfigGroup):
    """Dropout. `keep_prob` is the probability to *keep* a unit (flax's rate is 1 - keep_prob);
    `spatial` drops whole channels of the feature maps."""

    keep_prob: Annotated[float | str, BeforeValidator(probability_to_keep)] = "default"
    scaling: Literal["inverted", "classic"] = "inverted"
    kind: Literal["plain", "spatial"] = "plain"


class Model(ConfigGroup):
    """The network. `default` or null is the architecture's published choice; a field that means
    nothing for it stays null.

    `hidden` are the units of the hidden dense layers, `width` multiplies all channels and units,
    `remat` computes blocks again for the gradient instead of storing their activations. Of the
    stack: `depth` (weighted layers) and `kernel` (the kernels that make up a layer). Of residual
    networks: `shortcut` (He et al. 2015: A no parameters, B projections where the shape changes, C
    everywhere), `stride_on` (the convolution of a bottleneck with the stride: the first 1x1 or the
    3x3), `zero_last_scale` (the scale of the last norm of a block starts at zero),
    `stochastic_depth` (the probability to skip the last block), `scan` (equal blocks are a loop of
    the program, so that compile time is independent of their number). `inception_block` is the
    block of inception_small; `auxiliary_weight` the weight of the auxiliary losses (0: no heads);
    `count_include_pad` whether the averages in the blocks of inception_v3 include the zeros around
    the image. Of tasks with several heads: `trunk`, whether they share the network below them or
    each has one of its own.

    With a per-pixel task the network is the encoder, and a decoder follows: `decoder` is how maps
    are made larger, `decoder_convolutions` the 3x3 convolutions after each time, `skips` how the
    encoder's maps of the same size join. Of the decoder `transposed`: `transposed_kernel`, the side
    of its kernel for a stride of 2, and `transposed_init`, its initial weights: by `initializer`,
    or `bilinear` interpolation."""

    name: Annotated[str, one_of("model", _MODELS)] = "lenet5_modern"
    activation: Annotated[str, one_of("activation", catalog.ACTIVATIONS, "default")] = "default"
    leaky_slope: float = Field(0.01, ge=-LARGE, le=LARGE)
    initializer: Annotated[str, one_of("initializer", catalog.INITIALIZERS, "default")] = "default"
    initializer_sd: float = Field(0.03, gt=0, le=LARGE)
    initializer_value: float = Field(0.01, ge=-LARGE, le=LARGE)
    pooling: Annotated[str, one_of("pooling", catalog.POOLINGS, "default")] = "default"
    hidden: tuple[Annotated[int, Field(ge=1, le=MILLION)], ...] | None = None
    width: float = Field(1.0, gt=0, le=16)
    remat: bool = False
    depth: int | None = Field(None, ge=2, le=200)
    kernel: Literal["3x3", "5x5", "two_3x3", "1x3_3x1", "two_1x3_3x1"] | None = None
    shortcut: Literal["A", "B", "C"] | None = None
    stride_on: Literal["first", "middle"] | None = None
    zero_last_scale: bool | None = None
    stochastic_depth: float | None = Field(None, ge=0, lt=1)
    scan: bool | None = None
    inception_block: Literal["naive", "reduced", "factorized_5x5", "asymmetric"] | None = None
    auxiliary_weight: float | None = Field(None, ge=0, le=LARGE)
    count_include_pad: bool | None = None
    trunk: Literal["shared", "separate"] | None = None
    decoder: Annotated[str, one_of("decoder", catalog.DECODERS)] | None = None
    decoder_convolutions: int | None = Field(None, ge=0, le=2)
    skips: Literal["none", "add", "concatenate"] | None = None
    transposed_kernel: Literal[2, 3, 4] | None = None
    transposed_init: Literal["default", "initializer", "bilinear"] | None = None
    norm: Norm = Norm()
    dropout: Dropout = Dropout()

    @model_validator(mode="after")
    def _fields_of_the_architecture(self) -> "Model":
        published = catalog.published(self.name)
        for field in catalog.CUSTOM:
            if field not in published and getattr(self, field) is not None:
                models = ", ".join(name for name in _MODELS if field in _MODELS[name])
                text = f"means nothing for {self.name}; it belongs to {models}"
                raise inconsistent(f"model.{field}", text)
        if self.zero_last_scale and self.norm.kind == "none":
            text = "true needs a norm (model.norm.kind is none)"
            raise inconsistent("model.zero_last_scale", text)
        return self

    @model_validator(mode="after")
    def _fields_of_the_decoder(self) -> "Model":
        published = catalog.published(self.name, per_pixel=True)
        for field in catalog.DECODER:
            if getattr(self, field) is not None and field not in published:
                raise inconsistent(f"model.{field}", f"means nothing for {self.name}")
        decoder = self.decoder or published.get("decoder")
        for field in catalog.TRANSPOSED_FIELDS:
            if getattr(self, field) is not None and decoder != "transposed":
                text = f"needs model.decoder=transposed (it is {decoder})"
                raise inconsistent(f"model.{field}", text)
        if self.decoder == "max_unpool":
            if self.name in _MODELS and self.name not in catalog.UNPOOLABLE:
                others = ", ".join(name for name in catalog.DECODERS if name != "max_unpool")
                text = f"max_unpool needs poolings between blocks to undo, which {self.name} does "
                text += f"not have everywhere; allowed: {others}, or a model such as vgg_small"
                raise inconsistent("model.decoder", text)
            pooling = published["pooling"] if self.pooling == "default" else self.pooling
            if pooling != "max":
                text = f"max_unpool needs model.pooling=max (it is {pooling})"
                raise inconsistent("model.decoder", text)
        return self


class Augmentation(ConfigGroup):
    """Random augmentation of the training images, on the device, inside the step. 0 turns one off.

    `flip` is the probability of a mirror image, `shift_pixels` the largest shift either way,
    `rotation_degrees` the largest angle either way, `scale` the largest relative zoom either way,
    `color` the strength of the jitter of brightness, contrast, saturation and hue (0..1),
    `cutout_pixels` the side of a square set to the mean. `random_resized_crop` is the smallest
    share of the image area in a crop; 1 is off."""

    flip: float = Field(0.0, ge=0, le=1)
    shift_pixels: int = Field(0, ge=0, le=4096)
    rotation_degrees: float = Field(0.0, ge=0, le=180)
    scale: float = Field(0.0, ge=0, lt=1)
    color: float = Field(0.0, ge=0, le=1)
    cutout_pixels: int = Field(0, ge=0, le=4096)
    random_resized_crop: float = Field(1.0, gt=0, le=1)


class Scenes(ConfigGroup):
    """The scenes of `digit_boxes` and `digit_masks` (`cnnjax.data.scenes`): `examples` training
    images of `canvas_size` pixels square, with digits of 8x8 pixels enlarged by a factor between
    `smallest` and `largest`: one, or up to `digits` of them in `digit_masks`, which may cover each
    other by the share `overlap`. `clutter` pieces of other digits belong to no class."""

    seed: int = Field(0, ge=0, le=MILLION)
    examples: int = Field(2000, ge=40, le=MILLION)
    canvas_size: int = Field(48, ge=16, le=512)
    smallest: float = Field(2.0, ge=1, le=64)
    largest: float = Field(3.0, ge=1, le=64)
    digits: int = Field(4, ge=1, le=100)
    overlap: float = Field(0.0, ge=0, le=1)
    clutter: int = Field(3, ge=0, le=1000)

    @model_validator(mode="after")
    def _consistent(self) -> "Scenes":
        if self.smallest > self.largest:
            text = f"{self.smallest:g} is larger than data.scenes.largest ({self.largest:g})"
            raise inconsistent("data.scenes.smallest", text)
        if 8 * self.largest > self.canvas_size:
            text = f"{self.largest:g} makes digits larger than data.scenes.canvas_size"
            raise inconsistent("data.scenes.largest", f"{text} ({self.canvas_size})")
        return self


class Data(ConfigGroup):
    """The data set. `name` is `digits`, `digit_boxes`, `digit_masks`, a TFDS set of images with
    labels, masks or boxes, or `folder:PATH` with one sub-folder per class, or with images and their
    masks or boxes; PATH becomes absolute. `train_examples` takes a nested subset of the training
    split. `split_seed` draws other validation and test examples; all arms and seeds share them.

    An example whose mask or box cannot be used is an error, or left out with `skip_bad`.

    Images are resized to the square `image_size`: stretched, or with `shorter_side` resized so that
    their shorter side has so many pixels, and the centre cropped. `normalize=given` takes `mean`
    and `sd`, of red, green and blue in the 0..1 scale; `bgr` reverses the channels afterwards."""

    name: Annotated[str, AfterValidator(paths.data_name)] = Field("digits", min_length=1)
    image_size: int | None = Field(None, ge=1, le=4096)
    shorter_side: int | None = Field(None, ge=1, le=4096)
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    normalize: Literal["centered", "standardize", "none", "given"] = "standardize"
    mean: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
    sd: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    channel_order: Literal["rgb", "bgr"] = "rgb"
    train_examples: int | None = Field(None, ge=1, le=BILLION)
    subset: Literal["per_seed", "fixed"] = "per_seed"
    validation_fraction: float = Field(0.1, gt=0, lt=1)
    split_seed: int | None = Field(None, ge=0)
    skip_bad: bool = False
    pipeline: Literal["auto", "memory", "stream"] = "auto"
    stream_workers: int = Field(0, ge=0, le=1024)
    augmentation: Augmentation = Augmentation()
    scenes: Scenes = Scenes()

    @model_validator(mode="after")
    def _consistent(self) -> "Data":
        if self.name not in catalog.SCENES and self.scenes != Scenes():
            default, values = Scenes(), self.scenes.model_dump().items()
            field = next(name for name, value in values if value != getattr(default, name))
            text = f"means nothing for {self.name}; it belongs to {', '.join(catalog.SCENES)}"
            raise inconsistent(f"data.scenes.{field}", text)
        needs_mean = self.normalize == "given"
        if self.shorter_side and not 0 < (self.image_size or 0) <= self.shorter_side:
            text = f"needs a data.image_size that is no larger (it is {self.image_size})"
            raise inconsistent("data.shorter_side", f"{self.shorter_side} {text}")
        if needs_mean and not 0 < len(self.mean) == len(self.sd):
            text = "given needs data.mean and data.sd, a number for each channel"
            raise inconsistent("data.normalize", text)
        if not needs_mean and (self.mean or self.sd):
            text = f"need data.normalize=given (it is {self.normalize})"
            raise inconsistent("data.mean, data.sd", text)
        return self


class ParameterGroup(ConfigGroup):
    """Parameters that are trained with settings of their own.

    `pattern` is a glob (`fnmatch`, case-sensitive) of parameter paths such as
    `stage1_block1/conv/kernel`, or of the layers above them: `stage1_block1` is everything below
    that block, `conv*` all paths that begin with `conv`, `*/bias` all biases; `*` matches `/` too.
    `rate` multiplies the learning rate. `decay: false` exempts the group from weight decay; with
    true it is decayed as the optimizer says. `frozen` parameters do not change:
    they have no gradient, no decay and no optimizer state. Batch norm whose parameters are all
    frozen normalises with its running statistics, which do not change either."""

    pattern: str = Field(min_length=1)
    rate: float = Field(1.0, ge=0, le=LARGE)
    decay: bool = True
    frozen: bool = False


def _list_of_groups(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return value
    text = 'write a list: optimizer.groups=[{"pattern": "conv1", "rate": 0.1}]'
    raise PydanticCustomError("list_of_groups", "{text}", {"text": text})


class Optimizer(ConfigGroup):
    """How the gradient becomes a step. `weight_decay` is L2 added to the gradient, except for
    adamw, where it is decoupled, and lars, which scales it with the rate of the layer. `decay_all`
    decays biases and normalisation parameters too. `clip_norm` bounds the gradient's global norm,
    over all parameters that are trained.

    Of adam and adamw: `beta1` and `beta2`, the decay rates of the averages of the gradient and of
    its square. Of rmsprop: `rmsprop_decay`, that of the average of the square. Of all three:
    `epsilon`, which is added to the root for adam and adamw, and under it for rmsprop.

    `groups` train some parameters with other settings. A parameter belongs to the first group whose
    pattern matches; parameters in no group are trained as the other fields say."""

    name: Annotated[str, one_of("optimizer", catalog.OPTIMIZERS)] = "momentum"
    learning_rate: float = Field(0.05, gt=0, le=LARGE)
    momentum: float = Field(0.9, ge=0, lt=1)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    epsilon: float = Field(1e-8, gt=0, le=1)
    rmsprop_decay: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, le=LARGE)
    decay_all: bool = False
    clip_norm: float | None = Field(None, gt=0, le=LARGE)
    groups: Annotated[tuple[ParameterGroup, ...], BeforeValidator(_list_of_groups)] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "Optimizer":
        for field, optimizers in catalog.OPTIMIZER_FIELDS.items():
            value = getattr(self, field)
            if self.name not in optimizers and value != type(self).model_fields[field].default:
                names = ", ".join(optimizers)
                text = f"{value:g} means nothing for {self.name}; it belongs to {names}"
                raise inconsistent(f"optimizer.{field}", text)
        for number, group in enumerate(self.groups):
            if group.frozen and group.rate != 1:
                text = f"{group.rate:g} means nothing for a group that is frozen; leave it out"
                raise inconsistent(f"optimizer.groups[{number}].rate", text)
        return self


class Schedule(ConfigGroup):
    """How the learning rate changes during a run. `boundaries_epochs` and `factor` belong to
    `step`, `factor` (over the whole run) to `exponential` and `linear`, `final` (share of the peak
    at the end) to `cosine`."""

    name: Annotated[str, one_of("schedule", catalog.SCHEDULES)] = "cosine"
    warmup_epochs: float = Field(0.0, ge=0, le=MILLION)
    boundaries_epochs: tuple[Annotated[float, Field(gt=0, le=MILLION)], ...] = ()
    factor: float = Field(0.1, gt=0, le=1)
    final: float = Field(0.0, ge=0, le=1)


class Training(ConfigGroup):
    """The training loop. `steps`, if set, replaces `epochs`; at most `max_examples` are seen, with
    repetitions. `parallel=jit` shards the batch over a device mesh (statistics of the global
    batch); `pmap` gives each device its part. `cpu_convolution` is the implementation of
    convolutions, max pooling and batch norm on one CPU: native code (`native`) or XLA's (`xla`);
    `auto` is native if that is possible.

    `precision` is the dtype of the network's activations; parameters, optimizer state and batch
    statistics are float32. `matmul_precision` is how an accelerator multiplies float32 numbers in
    convolutions and matrix products, as `jax_default_matmul_precision`. On a CPU it is always in
    float32. Elsewhere:

                 NVIDIA (Ampere and later)                  TPU
      default    TF32                                       one bfloat16 pass
      high       TF32; float32 in kernels made by Triton    three bfloat16 passes
      highest    float32                                    six bfloat16 passes

    `deterministic` makes programs on a GPU return the same bits every time, so that an interrupted
    run has the results of an uninterrupted one; on a CPU they always do."""

    batch_size: int = Field(64, ge=1, le=MILLION)
    epochs: float = Field(10, gt=0, le=MILLION)
    steps: int | None = Field(None, ge=1, le=BILLION)
    max_examples: int | None = Field(None, ge=1, le=MILLION * MILLION)
    parallel: Literal["jit", "pmap"] = "jit"
    precision: Literal["float32", "bfloat16"] = "float32"
    matmul_precision: Literal["default", "high", "highest"] = "high"
    deterministic: bool = False
    cpu_convolution: Literal["auto", "native", "xla"] = "auto"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    ema_decay: float | None = Field(None, gt=0, lt=1)
    log_every_steps: int = Field(10, ge=1, le=BILLION)


class Loss(ConfigGroup):
    """What the built-in tasks minimise.

    Of segmentation: `class_weights`, of the pixels of each class (`median_frequency`: Eigen and
    Fergus 2015, section 6.3.2), and `dice_weight`, the weight of the Dice loss beside the
    cross-entropy. Of localization: `box`, the loss of the box, and `box_weight`, its weight beside
    the cross-entropy of the class."""

    class_weights: Literal["none", "median_frequency"] = "none"
    dice_weight: float = Field(0.0, ge=0, le=LARGE)
    box: Literal["smooth_l1", "iou", "giou"] = "smooth_l1"
    box_weight: float = Field(1.0, ge=0, le=LARGE)


class Evaluation(ConfigGroup):
    """How often the validation split is evaluated, and in batches of what size; `test` is whether
    the test split is evaluated at the end. Of segmentation: `boundary_pixels`, how far apart the
    boundaries of prediction and truth may be for boundary F1."""

    batch_size: int = Field(500, ge=1, le=MILLION)
    every_epochs: float = Field(1, ge=1e-6, le=MILLION)
    test: bool = True
    boundary_pixels: int = Field(1, ge=0, le=64)


class Checkpointing(ConfigGroup):
    """A checkpoint is written at every evaluation and, if `every_steps` is set, also at those
    steps. The last `keep_last` and the best one on the validation split are kept."""

    keep_last: int = Field(2, ge=1, le=MILLION)
    every_steps: int | None = Field(None, ge=1, le=BILLION)


class Transfer(ConfigGroup):
    """Starts from the weights of another run. `reset` names top-level layers that keep their
    initial values, and those of the other run that the network does not have; all other entries
    must agree in name, shape and dtype."""

    init_from: Annotated[str, AfterValidator(paths.weights)] | None = None
    reset: tuple[str, ...] = ()


class RunConfig(ConfigGroup):
    """A run except for its seed. `task` is what the network is trained for: `classification`,
    `segmentation`, `localization`, or one of the user's own."""

    task: Annotated[str, one_of("task", metric.TASKS)] = "classification"
    model: Model = Model()
    data: Data = Data()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    training: Training = Training()
    loss: Loss = Loss()
    evaluation: Evaluation = Evaluation()
    checkpointing: Checkpointing = Checkpointing()
    transfer: Transfer = Transfer()

    @model_validator(mode="after")
    def _fits_the_task(self, info: ValidationInfo) -> "RunConfig":
        model = self.model
        if metric.is_per_pixel(self.task, (info.context or {}).get("levels", {})):
            if model.name == "mlp":
                text = f"mlp has no feature maps, which {self.task} needs; allowed: another network"
                raise inconsistent("model.name", text)
            return self
        if model.name in catalog.SEGMENTATION_MODELS:
            text = f"{model.name} needs a per-pixel task (task is {self.task})"
            raise inconsistent("model.name", text)
        for field in catalog.DECODER:
            if getattr(model, field) is not None:
                text = f"means nothing for {self.task}; it belongs to per-pixel tasks"
                raise inconsistent(f"model.{field}", text)
        return self

    @model_validator(mode="after")
    def _consistent(self) -> "RunConfig":
        for path, task in catalog.TASK_FIELDS.items():
            group, _, field = path.partition(".")
            fields = getattr(self, group)
            value, default = getattr(fields, field), type(fields).model_fields[field].default
            if value != default and self.task in metric.TASKS and self.task != task:
                text = f"{value} means nothing for the task {self.task}; it belongs to {task}"
                raise inconsistent(path, text)
        boundaries, training = self.schedule.boundaries_epochs, self.training
        frozen = [number for number, group in enumerate(self.optimizer.groups) if group.frozen]
        if self.model.norm.statistics == "per_device" and training.parallel != "pmap":
            text = f"per_device needs training.parallel=pmap (it is {training.parallel})"
            raise inconsistent("model.norm.statistics", text)
        if training.deterministic and training.parallel == "pmap":
            text = "true needs training.parallel=jit (it is pmap)"
            raise inconsistent("training.deterministic", text)
        if self.schedule.name == "step" and not boundaries:
            text = "() with schedule.name=step; give at least one"
            raise inconsistent("schedule.boundaries_epochs", text)
        if list(boundaries) != sorted(set(boundaries)):
            text = f"{list(boundaries)} is not valid; allowed: ascending numbers"
            raise inconsistent("schedule.boundaries_epochs", text)
        if not training.steps and self.schedule.warmup_epochs > training.epochs:
            text = f"{self.schedule.warmup_epochs:g} is more than training.epochs"
            raise inconsistent("schedule.warmup_epochs", f"{text} ({training.epochs:g})")
        if self.transfer.reset and not self.transfer.init_from:
            raise inconsistent("transfer.reset", "has no meaning without transfer.init_from")
        if self.data.train_examples and training.batch_size > self.data.train_examples:
            text = f"{training.batch_size} is larger than data.train_examples"
            raise inconsistent("training.batch_size", f"{text} ({self.data.train_examples})")
        if frozen and self.model.scan and self.model.norm.kind == "batch":
            text = "true needs model.scan=false where there is batch norm (it is true)"
            raise inconsistent(f"optimizer.groups[{frozen[0]}].frozen", text)
        return self


class ResolvedNorm(Norm):
    """Normalisation without `default`."""

    kind: Annotated[str, one_of("norm", catalog.NORMS)]
    placement: Annotated[str, one_of("placement", catalog.PLACEMENTS)]
    epsilon: float = Field(gt=0, le=1)


class ResolvedDropout(Dropout):
    """Dropout without `default`."""

    keep_prob: Probability


class ResolvedModel(Model):
    """The network without `default`: every field has a value or means nothing for it."""

    activation: Annotated[str, one_of("activation", catalog.ACTIVATIONS)]
    initializer: Annotated[str, one_of("initializer", catalog.INITIALIZERS)]
    pooling: Annotated[str, one_of("pooling", catalog.POOLINGS)]
    norm: ResolvedNorm
    dropout: ResolvedDropout


class ResolvedConfig(RunConfig):
    """A run except for its seed, without `default`."""

    model: ResolvedModel
