"""Primitives that are calls of the native library on one CPU, else XLA's operations."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from cnnjax.nn.native import library

Describe = Callable[..., Mapping[str, Any] | None]
"""(shapes and dtypes of the operands, the primitive's parameters) -> the attributes of the native
call, or None if the library does not support it."""


def no_attributes(first: Any, *others: Any, **params: Any) -> Mapping[str, Any] | None:
    """A `Describe` for calls without attributes: float32 and bfloat16 are supported."""
    return {} if str(first.dtype) in ("float32", "bfloat16") else None


def primitive(
    name: str,
    reference: Callable[..., Any],
    function: str | None = None,
    describe: Describe = no_attributes,
    *,
    static: tuple[str, ...] = (),
    multiple_results: bool = False,
) -> Primitive:
    """A primitive `native_NAME` that is lowered to the library's `function`.

    `reference`, a function of the same operands and of the parameters `static`, is used on other
    platforms, on several devices, under `jax.vmap`, for arrays without elements, if `describe`
    returns None, without the library, and without a `function`.
    """
    result = Primitive(f"native_{name}")
    result.multiple_results = multiple_results
    result.def_impl(jax.jit(result.bind, static_argnames=static))

    def batch(operands: Any, axes: Any, **params: Any) -> Any:
        results = jax.vmap(functools.partial(reference, **params), in_axes=axes)(*operands)
        return results, jax.tree.map(lambda _: 0, results)

    batching.primitive_batchers[result] = batch
    plain = mlir.lower_fun(reference, multiple_results=multiple_results)
    mlir.register_lowering(result, plain)

    def native(context: mlir.LoweringRuleContext, *operands: Any, **params: Any) -> Any:
        avals: list[Any] = [*context.avals_in, *context.avals_out]
        usable = _devices(context) == 1 and all(0 not in aval.shape for aval in avals)
        if function is not None and usable and library.missing() is None:
            attributes = describe(*context.avals_in, **params)
            if attributes is not None:
                call = jax.ffi.ffi_lowering(library.target(function))
                return call(context, *operands, **attributes)
        return plain(context, *operands, **params)

    mlir.register_lowering(result, native, platform="cpu")
    return result


def _devices(context: mlir.LoweringRuleContext) -> int:
    """The number of devices that a program is compiled for."""
    axes: Any = context.module_context.axis_context
    mesh = getattr(axes, "mesh", None)
    return int(mesh.size if mesh is not None else getattr(axes, "num_devices", None) or 1)
