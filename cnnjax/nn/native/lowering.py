"""Lowers primitives to calls of the native library on one CPU, else to XLA's operations."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import mlir

from cnnjax.nn.native import library

Describe = Callable[..., Mapping[str, Any] | None]
"""(shapes and dtypes of the operands, the primitive's parameters) -> the attributes of the native
call, or None if the library does not support it."""


def register(
    primitive: Primitive, function: str, reference: Callable[..., Any], describe: Describe
) -> None:
    """Lowers a primitive to the library's `function`.

    `reference`, a function of the same operands, is used on other platforms, on several devices,
    for arrays without elements, if `describe` returns None, and without the library.
    """
    plain = mlir.lower_fun(reference, multiple_results=primitive.multiple_results)
    mlir.register_lowering(primitive, plain)

    def native(context: mlir.LoweringRuleContext, *operands: Any, **params: Any) -> Any:
        avals: list[Any] = [*context.avals_in, *context.avals_out]
        usable = _devices(context) == 1 and all(0 not in aval.shape for aval in avals)
        if usable and library.missing() is None:
            attributes = describe(*context.avals_in, **params)
            if attributes is not None:
                call = jax.ffi.ffi_lowering(library.target(function))
                return call(context, *operands, **attributes)
        return plain(context, *operands, **params)

    mlir.register_lowering(primitive, native, platform="cpu")


def no_attributes(first: Any, *others: Any, **params: Any) -> Mapping[str, Any] | None:
    """A `Describe` for calls without attributes: float32 and bfloat16 are supported."""
    return {} if str(first.dtype) in ("float32", "bfloat16") else None


def _devices(context: mlir.LoweringRuleContext) -> int:
    """The number of devices that a program is compiled for."""
    axes: Any = context.module_context.axis_context
    mesh = getattr(axes, "mesh", None)
    return int(mesh.size if mesh is not None else getattr(axes, "num_devices", None) or 1)
