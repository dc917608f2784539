"""What the runs of one process share: loaded data and compiled programs.

Functions and arrays are built from configurations here. `cnnjax.train.program_key` decides which
configurations share them.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cnnjax import config as schema
from cnnjax import data, machine, models
from cnnjax.data import augment, inputs
from cnnjax.errors import UserError
from cnnjax.fingerprint import Fingerprint
from cnnjax.nn import lsuv, operations
from cnnjax.nn.native import library
from cnnjax.tasks import registry
from cnnjax.tasks.task import Task
from cnnjax.train import numerics, optim, parallel, state, step, transfer
from cnnjax.train.devices import find
from cnnjax.train.groups import Groups
from cnnjax.train.program_key import data_key, program_key, steps_key

PRECISIONS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

FAST_COMPILE = {"cpu": {"xla_backend_optimization_level": 0}}
"""Compiler options for a program that runs once: it compiles four times faster."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A network with its task and its compiled functions.

    Attributes:
      module: the network.
      task: what it is trained for.
      initialize: (key) -> fresh variables.
      create: (variables) -> the state before the first step.
      normalize: images in 0..1 -> the network's inputs.
      compiled: the compiled steps.
      matmul_precision: see `cnnjax.train.numerics.resolve`.
    """

    module: nn.Module
    task: Task
    initialize: Callable[[jax.Array], Any]
    create: Callable[[Any], state.TrainState]
    normalize: step.Images
    compiled: parallel.Compiled
    matmul_precision: str

    @functools.cached_property
    def shapes(self) -> Any:
        """The shapes of the variables; only traces the network."""
        return jax.eval_shape(self.initialize, jax.eval_shape(lambda: jax.random.key(0)))

    @functools.cached_property
    def predict(self) -> step.PredictStep:
        """`cnnjax.train.step.predict_step` of the network, compiled."""
        predict = step.predict_step(self.module, self.task, normalize=self.normalize)
        return jax.jit(numerics.at_precision(self.matmul_precision, predict))


class Session:
    """Builds data and programs from configurations, each once.

    Args:
      data_dir: the folder where data sets are looked for.
      levels: the levels that the user's own file defines.
      devices: the number of devices to use; all by default.
      trains: whether anything is computed. A session that only checks configurations accepts the
        CPU instead of an accelerator that cannot be used, and says so in its `note`.

    Raises UserError where there are fewer devices, or an accelerator cannot be used.
    """

    def __init__(
        self,
        *,
        data_dir: str | None = None,
        levels: schema.Levels | None = None,
        devices: int | None = None,
        trains: bool = True,
    ):
        self.data_dir = data_dir
        self.levels: schema.Levels = levels or {}
        self.devices, self._fallback = find(devices)
        if self._fallback and trains:
            raise UserError(self._fallback)
        self.runtime: dict[str, Any] = {
            "backend": jax.default_backend(),
            "devices": len(self.devices),
            "device_kind": self.devices[0].device_kind,
            "threads": machine.threads(),
        }
        self._loaded: dict[str, data.LoadedData] = {}
        self._stores: dict[str, Mapping[str, jax.Array]] = {}
        self._programs: dict[str, Program] = {}
        self._compiled: dict[str, parallel.Compiled] = {}

    def load(self, config: schema.Data) -> data.LoadedData:
        """The data set of a configuration, loaded once. Raises UserError where it is missing."""
        key = data_key(config)
        if key not in self._loaded:
            self._loaded[key] = data.load(config, data_dir=self.data_dir)
        return dataclasses.replace(self._loaded[key], config=config)

    @property
    def fingerprints(self) -> list[Fingerprint]:
        """The fingerprints of all loaded data sets, each once for every way that it is split."""
        fingerprints: list[Fingerprint] = []
        for loaded in self._loaded.values():
            if loaded.fingerprint not in fingerprints:
                fingerprints.append(loaded.fingerprint)
        return fingerprints

    def check(self, config: schema.ResolvedConfig) -> None:
        """Raises UserError for what would make a run fail before its first step, and whatever the
        code of its network raises."""
        parallel.check_batch(config.training.batch_size, len(self.devices))
        self.dataset(config, seed=0)
        program = self.program(config)
        if config.transfer.init_from:
            source = Path(config.transfer.init_from)
            transfer.check(source, program.shapes, reset=config.transfer.reset)

    def dataset(self, config: schema.ResolvedConfig, seed: int) -> data.Dataset:
        """The data set with the order and the subset of one seed. Raises UserError where a batch is
        larger than the training split."""
        return self.load(config.data).for_seed(seed, config.training.batch_size)

    def store(self, config: schema.ResolvedConfig, program: Program) -> Mapping[str, jax.Array]:
        """The examples on the devices; empty where they are streamed. Only the last one is kept."""
        key = data_key(config.data)
        if key not in self._stores:
            self._stores = {key: program.compiled.replicate(self.dataset(config, 0).store())}
        return self._stores[key]

    def convolution(self, config: schema.ResolvedConfig, resumed: str | None = None) -> str:
        """The implementation of convolutions, `native` or `xla`; `resumed` is that which a resumed
        run was started with."""
        preferred = resumed or config.training.cpu_convolution
        on_one_cpu = self.runtime["backend"] == "cpu" and len(self.devices) == 1
        return "native" if preferred != "xla" and on_one_cpu and not library.missing() else "xla"

    def numerics(self, config: schema.ResolvedConfig) -> dict[str, Any]:
        """`cnnjax.train.numerics.resolve` of a configuration on this backend."""
        return numerics.resolve(config.training, self.runtime["backend"])

    @property
    def note(self) -> str | None:
        """A line for the user about how this process computes, or None."""
        if self._fallback:
            return f"note: {self._fallback}"
        if self.runtime["backend"] != "cpu" or len(self.devices) > 1 or not library.missing():
            return None
        return f"note: convolutions are XLA's, which are slower; {library.missing()}"

    def program(self, config: schema.ResolvedConfig, convolution: str | None = None) -> Program:
        """The program of a configuration, shared by all configurations with one `program_key`.
        Raises whatever the code of the network raises."""
        convolution = convolution or self.convolution(config)
        steps, key = steps_key(config, convolution), program_key(config, convolution)
        if key not in self._programs:
            try:
                self._programs[key] = self._build(config, convolution, self._compiled.get(steps))
            except SystemExit as error:  # from the user's own code; must not stop the other arms
                fault = RuntimeError(f"the network ended the program (SystemExit: {error})")
                raise fault.with_traceback(error.__traceback__) from None
            self._compiled[steps] = self._programs[key].compiled
        return self._programs[key]

    def steps_key(self, config: schema.ResolvedConfig) -> str:
        """The key of the compiled steps: runs that have the same key share them."""
        return steps_key(config, self.convolution(config))

    def task(self, config: schema.ResolvedConfig) -> Task:
        """The task of a configuration. Raises UserError if its data set lacks a target."""
        task = registry.find(config.task, self.levels)
        return task.for_run(config, self.load(config.data).spec)

    def groups(self, config: schema.ResolvedConfig) -> str:
        """The parameter groups of a configuration in one line, with their numbers of parameters."""
        params = self.program(config).shapes["params"]
        return Groups(config.optimizer.groups).describe(params)

    def module(self, config: schema.ResolvedConfig, **options: Any) -> nn.Module:
        """The network of a configuration. Without `options` it is in float32 and has no operations
        of a backend, so that `cnnjax.analysis.layers` can read it."""
        spec = self.load(config.data).spec
        task = self.task(config)
        try:
            task.output_shape(spec)
        except ValueError as error:
            raise UserError(f"task {config.task!r}: {error}") from None
        return models.build(
            config.model,
            image_shape=spec.image_shape,
            num_outputs=task.num_outputs(spec),
            per_pixel=task.per_pixel,
            head=registry.head(task, config.task, spec),
            levels=self.levels,
            **options,
        )

    def _build(
        self, config: schema.ResolvedConfig, convolution: str, compiled: parallel.Compiled | None
    ) -> Program:
        """Builds a program, with new compiled steps unless some are given."""
        spec, task = self.load(config.data).spec, self.task(config)
        axis_name = parallel.AXIS if config.training.parallel == "pmap" else None
        backend, resolved = self.runtime["backend"], self.numerics(config)
        precision, deterministic = resolved["matmul_precision"], resolved["deterministic"]
        options = numerics.compiler_options(backend, deterministic)
        module = self.module(
            config,
            dtype=PRECISIONS[config.training.precision],
            axis_name=axis_name if config.model.norm.statistics == "global" else None,
            operations=operations.choose(backend, convolution, deterministic=deterministic),
        )
        make_optimizer = optim.optimizer(config.optimizer)
        groups = Groups(config.optimizer.groups)
        configured = config.data.normalize == "given"
        normalize = inputs.normalizer(
            config.data.normalize,
            config.data.mean if configured else spec.mean,
            config.data.sd if configured else spec.sd,
            config.data.channel_order,
        )
        if compiled is None:
            augmentation = self.dataset(config, seed=0).augmentation
            train = step.train_step(
                module,
                task,
                make_optimizer,
                augment=augment.build(augmentation, spec.image_shape, spec.mean),
                normalize=normalize,
                ema_decay=config.training.ema_decay,
                axis_name=axis_name,
                auxiliary_weight=config.model.auxiliary_weight or 0.0,
                groups=groups,
            )
            evaluate = step.eval_step(module, task, normalize=normalize)
            compiled = parallel.Compiled(
                numerics.at_precision(precision, train),
                numerics.at_precision(precision, evaluate),
                mode=config.training.parallel,
                devices=self.devices,
                compiler_options=options,
            )
        averaged = config.training.ema_decay is not None
        program = Program(
            module,
            task,
            jax.jit(
                functools.partial(state.initial_variables, module, spec.image_shape),
                compiler_options={**FAST_COMPILE.get(backend, {}), **options} or None,
            ),
            jax.jit(
                functools.partial(
                    state.create, make_optimizer=make_optimizer, averaged=averaged, groups=groups
                )
            ),
            normalize,
            compiled,
            precision,
        )
        if groups.fields:
            groups.check(program.shapes["params"])
        if self.levels:  # the user's own code
            shape, needed = spec.image_shape, task.output_shape(spec)
            state.check_outputs(module, program.shapes, shape, needed, train=axis_name is None)
            first = self.dataset(config, seed=0).first("train", 64)
            step.check_task(task, config.task, spec, *first)
        return program

    def initial_state(
        self, config: schema.ResolvedConfig, program: Program, dataset: data.Dataset, seed: int
    ) -> state.TrainState:
        """The state before the first step: from the weights to start from, else from the seed."""
        variables = program.initialize(state.keys(seed)["params"])
        if config.model.initializer == "lsuv":
            first, _ = dataset.first("train", config.training.batch_size)
            images = inputs.to_float(first)
            with numerics.precision(program.matmul_precision):
                variables = lsuv.lsuv(program.module, variables, program.normalize(images))
        if config.transfer.init_from:
            variables = transfer.start_from(
                Path(config.transfer.init_from), variables, reset=config.transfer.reset
            )
        return program.compiled.replicate(program.create(variables))

    def hparams(self, config: schema.ResolvedConfig, seed: int, program: Program) -> state.HParams:
        """The traced numbers and the keys of a run; the learning rate is replaced at each step."""
        keys = state.keys(seed)
        return state.HParams(
            learning_rate=np.float32(config.optimizer.learning_rate),
            weight_decay=np.float32(config.optimizer.weight_decay),
            keep_prob=np.float32(config.model.dropout.keep_prob),
            label_smoothing=np.float32(config.training.label_smoothing),
            augment_key=program.compiled.replicate(keys["augment"]),
            dropout_key=program.compiled.replicate(keys["dropout"]),
            group_rates=tuple(np.float32(group.rate) for group in config.optimizer.groups),
        )
