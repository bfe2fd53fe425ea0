"""From arrays of any library to a launched kernel: checks, TMA descriptors, parameters, streams.

Everything that can be wrong is refused here with a message, before the device sees it.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.errors import BadValue, MissingData, MissingExtra, UnknownName
from refkernels._compile import GPU_EXTRA, Compiled, KernelResources
from refkernels._sources import read_spec

STORAGE: dict[str, str] = {
    "fp64": "float64",
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "uint16",
    "fp8": "uint8",
    "int8": "int8",
    "int32": "int32",
}
"""Data type names and the NumPy type that stores them here (bf16 and fp8 as raw bits)."""

_SAME_BITS: dict[str, tuple[str, ...]] = {
    "bf16": ("uint16", "bfloat16"),
    "fp8": ("uint8", "float8_e4m3fn"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A loaded kernel of the current device."""

    name: str
    function: Any
    resources: KernelResources
    arch: str
    cluster: int


@cache
def _module(cubin: str, cooperative: bool, device: int) -> Any:
    import cupy

    return cupy.RawModule(path=cubin, enable_cooperative_groups=cooperative)


def load_kernel(compiled: Compiled, name: str, *, cooperative: bool = False) -> Kernel:
    """The kernel ``name`` of a compiled source, loaded on the current device.

    Raises:
        UnknownName: the source has no ``extern "C"`` kernel of that name.
    """
    import cupy

    if name not in compiled.resources:
        raise UnknownName(f"kernel in {compiled.source.name}", name, compiled.resources)
    module = _module(str(compiled.cubin), cooperative, cupy.cuda.Device().id)
    return Kernel(
        name=name,
        function=module.get_function(name),
        resources=compiled.resources[name],
        arch=compiled.arch,
        cluster=read_spec(compiled.source).cluster,
    )


def launch(
    kernel: Kernel,
    grid: tuple[int, ...],
    block: tuple[int, ...],
    params: NDArray[Any],
    *maps: NDArray[Any],
    smem: int = 0,
    stream: Any = None,
) -> None:
    """Launch on ``stream`` (default: CuPy's current one); the call does not wait.

    ``params`` is a structured NumPy scalar array of size 1 laid out as the kernel's parameter
    struct (see :func:`params_struct`); ``maps`` are TMA descriptors from :func:`tensor_map`, in
    the order of the kernel's remaining parameters. ``smem`` is dynamic shared memory in bytes.

    Raises:
        BadValue: a grid that is not a multiple of the kernel's cluster, a bad parameter array.
    """
    for argument in (params, *maps):
        if not isinstance(argument, np.ndarray) or argument.size != 1:
            msg = f"kernel parameters are NumPy arrays of size 1, got {type(argument).__name__}"
            raise BadValue(msg, field="params", fix="params_struct(...) or tensor_map(...)")
    if grid[0] % kernel.cluster or min(grid) < 1:
        msg = f"the grid {grid} is not a positive multiple of the cluster of {kernel.cluster}"
        raise BadValue(msg, field="grid")
    if smem > 0 and kernel.function.max_dynamic_shared_size_bytes < smem:
        kernel.function.max_dynamic_shared_size_bytes = smem
    with stream if stream is not None else contextlib.nullcontext():
        kernel.function(grid, block, (params, *maps), shared_mem=smem)


def params_struct(**fields: Any) -> NDArray[Any]:
    """One parameter struct with C layout, in the order given.

    A CuPy array becomes its 64-bit address, an int ``int`` (32 bits), a float ``float``; NumPy
    scalars keep their own type (``np.int64`` for ``long long``).

    Raises:
        BadValue: a value that is none of these.
    """
    items = {name: _scalar(name, value) for name, value in fields.items()}
    dtype = np.dtype([(name, item.dtype) for name, item in items.items()], align=True)
    struct = np.zeros(1, dtype)
    for name, item in items.items():
        struct[name] = item
    return struct


def _scalar(name: str, value: Any) -> np.generic:
    if hasattr(value, "__cuda_array_interface__"):
        return np.uint64(value.data.ptr)
    if isinstance(value, np.generic):
        return value
    if isinstance(value, bool | int) and -(2**31) <= int(value) < 2**31:
        return np.int32(value)
    if isinstance(value, float):
        return np.float32(value)
    msg = f"cannot be a kernel parameter: {value!r:.60}"
    raise BadValue(
        msg, field=name, fix="a CuPy array, an int of 32 bits, a float or a NumPy scalar"
    )


def as_device_array(
    x: Any,
    name: str,
    *,
    dtype: str,
    shape: Sequence[int | None],
    alignment: int = 16,
) -> Any:
    """``x`` as a C-contiguous CuPy array on the current device, sharing its memory.

    ``x`` is a CuPy array, a torch tensor or anything with DLPack or
    ``__cuda_array_interface__``. bf16 and fp8 come back as raw bits (:data:`STORAGE`). ``None``
    in ``shape`` allows any size there.

    Raises:
        BadValue: wrong device, data type, shape, strides or alignment; names ``name`` and the fix.
        MissingExtra: CuPy is not installed.
    """
    array = _imported(x, name)
    _check_dtype(array, name, dtype)
    if array.ndim != len(shape) or any(
        want is not None and want != got for want, got in zip(shape, array.shape, strict=False)
    ):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        msg = f"must have shape ({wanted}), got {tuple(array.shape)}"
        raise BadValue(msg, field=name)
    if not array.flags.c_contiguous:
        msg = f"must be contiguous in row-major order, got strides {tuple(array.strides)} bytes"
        raise BadValue(msg, field=name, fix="make it contiguous first")
    if array.data.ptr % alignment:
        msg = f"must start at a multiple of {alignment} bytes"
        raise BadValue(msg, field=name, fix="copy it")
    return array.view(STORAGE[dtype])


def _imported(x: Any, name: str) -> Any:
    try:
        import cupy
    except ImportError:
        msg = "CuPy is not installed"
        raise MissingExtra(msg, field=name, fix=GPU_EXTRA) from None
    array = x if isinstance(x, cupy.ndarray) else _foreign(x, name, cupy)
    here = cupy.cuda.Device().id
    if array.device.id != here:
        msg = f"is on device {array.device.id}, the current device is {here}"
        raise BadValue(msg, field=name, fix="move it, or make its device the current one")
    return array


def _foreign(x: Any, name: str, cupy: Any) -> Any:
    x = _torch_bits(x)
    if hasattr(x, "__dlpack_device__") and x.__dlpack_device__()[0] in _CUDA_DEVICES:
        return cupy.from_dlpack(x)
    if hasattr(x, "__cuda_array_interface__"):
        return cupy.asarray(x)
    msg = f"is not in device memory: {type(x).__module__}.{type(x).__name__}"
    raise BadValue(msg, field=name, fix="cupy.asarray(x), or a CUDA tensor")


_CUDA_DEVICES = (2, 13)
"""DLPack's kDLCUDA and kDLCUDAManaged."""


def _torch_bits(x: Any) -> Any:
    """A torch tensor of a type that NumPy lacks, as raw bits; anything else as it is."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(x, torch.Tensor):
        return x
    bits = {torch.bfloat16: torch.uint16, torch.float8_e4m3fn: torch.uint8}
    plain = x.detach()
    return plain.view(bits[x.dtype]) if x.dtype in bits else plain


def _check_dtype(array: Any, name: str, dtype: str) -> None:
    allowed = _SAME_BITS.get(dtype, (STORAGE.get(dtype, ""),))
    if dtype not in STORAGE:
        raise UnknownName("kernel dtype", dtype, STORAGE)
    if array.dtype.name not in allowed:
        msg = f"must be {dtype} (stored as {' or '.join(allowed)}), got {array.dtype.name}"
        raise BadValue(msg, field=name)


_MAP_TYPES = {
    "uint8": 0,
    "int8": 0,
    "uint16": 1,
    "uint32": 2,
    "int32": 3,
    "float16": 6,
    "float32": 7,
    "float64": 8,
    "bf16": 9,
}
"""CUtensorMapDataType; signed bytes travel as unsigned ones, TMA only moves them."""

_SWIZZLE = {0: 0, 32: 1, 64: 2, 128: 3}
_PROMOTION = {0: 0, 64: 1, 128: 2, 256: 3}


def tensor_map(
    array: Any,
    box: Sequence[int],
    *,
    swizzle: int = 128,
    shape: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    element: str | None = None,
    promotion: int = 256,
) -> NDArray[Any]:
    """A TMA descriptor over ``array`` whose loads move tiles of ``box`` elements.

    ``box``, ``shape`` and ``strides`` (bytes) are in array order, outermost first; the last
    stride is one element. ``shape`` and ``strides`` default to the array's own; give them to see
    it as something else, e.g. (cols / 64, rows, 64). ``element`` overrides the element type
    ("bf16" matters to reductions only). Elements outside ``shape`` read as zero.

    Raises:
        BadValue: a rule of ``cuTensorMapEncodeTiled`` is broken; names it.
        MissingData: there is no CUDA driver.
    """
    sizes = tuple(shape if shape is not None else array.shape)
    steps = tuple(strides if strides is not None else array.strides)
    kind = element or array.dtype.name
    _check_map(array, tuple(box), sizes, steps, swizzle, kind)
    rank = len(sizes)
    encoded = _aligned_map()
    code = _encode()(
        ctypes.c_void_p(encoded.ctypes.data),
        ctypes.c_uint(_MAP_TYPES[kind]),
        ctypes.c_uint(rank),
        ctypes.c_void_p(int(array.data.ptr)),
        (ctypes.c_uint64 * rank)(*reversed(sizes)),
        (ctypes.c_uint64 * max(rank - 1, 1))(*reversed(steps[:-1])),
        (ctypes.c_uint32 * rank)(*reversed(tuple(box))),
        (ctypes.c_uint32 * rank)(*([1] * rank)),
        ctypes.c_uint(0),
        ctypes.c_uint(_SWIZZLE[swizzle]),
        ctypes.c_uint(_PROMOTION[promotion]),
        ctypes.c_uint(0),
    )
    if code != 0:
        msg = f"the driver refused the descriptor (error {code}): shape {sizes}, strides {steps}"
        raise BadValue(msg, field="tensor_map")
    return encoded.view("V128")


def _aligned_map() -> NDArray[np.uint8]:
    """128 bytes at a multiple of 64, as the driver's interface asks."""
    raw = np.zeros(128 + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + 128]


def _check_map(
    array: Any,
    box: tuple[int, ...],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    swizzle: int,
    element: str,
) -> None:
    itemsize = int(array.dtype.itemsize)
    inner = box[-1] * itemsize
    rules = {
        "1 to 5 dimensions, the same in box, shape and strides": 1 <= len(shape) <= 5
        and len(shape) == len(box) == len(strides),
        f"an element type of {', '.join(_MAP_TYPES)}": element in _MAP_TYPES,
        "box sizes of 1 to 256": all(1 <= b <= 256 for b in box),
        "a last stride of one element": strides[-1] == itemsize,
        "outer strides that are multiples of 16 bytes": all(s % 16 == 0 for s in strides[:-1]),
        "an address that is a multiple of 16": int(array.data.ptr) % 16 == 0,
        "an inner box of a multiple of 16 bytes": inner % 16 == 0,
        "a swizzle of 0, 32, 64 or 128 bytes": swizzle in _SWIZZLE,
        "an inner box no wider than the swizzle": swizzle == 0 or inner <= swizzle,
    }
    for rule, holds in rules.items():
        if not holds:
            msg = f"a TMA descriptor needs {rule}: box {box}, shape {shape}, strides {strides}"
            raise BadValue(msg, field="tensor_map")


@cache
def _encode() -> Any:
    try:
        return ctypes.CDLL("libcuda.so.1").cuTensorMapEncodeTiled
    except (OSError, AttributeError):
        msg = "there is no CUDA driver with cuTensorMapEncodeTiled (12.0 or newer) here"
        raise MissingData(msg, field="tensor_map", fix="run on a machine with a GPU") from None
