"""What is wrong is refused before the device sees it; what is right reaches the kernel."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("cupy", reason="arrays on the device are CuPy's: pip install 'perfmodel[gpu]'")

from perfmodel.errors import BadValue, UnknownName
from refkernels._check import generator, narrow_bf16, random_int8, random_normal, widen
from refkernels._compile import KernelResources, compile_kernel
from refkernels._launch import (
    Kernel,
    as_device_array,
    launch,
    load_kernel,
    params_struct,
    tensor_map,
)
from refkernels._sources import kernel_source
from refkernels.roofs.operands import e4m3_bits

WRAPPERS = Path(__file__).with_name("wrappers.cu")


def test_params_have_c_layout():
    """Order, sizes and padding are a C compiler's: a pointer after an int is aligned to 8."""

    class Struct(ctypes.Structure):
        _fields_ = (
            ("m", ctypes.c_int),
            ("out", ctypes.c_uint64),
            ("scale", ctypes.c_float),
            ("big", ctypes.c_int64),
            ("last", ctypes.c_int),
        )

    params = params_struct(m=3, out=np.uint64(2**40), scale=0.5, big=np.int64(-7), last=-1)

    assert params.nbytes == ctypes.sizeof(Struct)
    read = Struct.from_buffer_copy(params.tobytes())
    assert (read.m, read.out, read.scale, read.big, read.last) == (3, 2**40, 0.5, -7, -1)


@pytest.mark.parametrize("value", ["text", None, 2**31, [1]])
def test_params_refuse_what_a_struct_cannot_hold(value):
    """A value that no parameter can be, or an int that 32 bits cannot hold, is named."""
    with pytest.raises(BadValue) as caught:
        params_struct(n=value)

    assert caught.value.field == "n"


def fake_kernel(cluster=1):
    calls = []

    class Function:
        max_dynamic_shared_size_bytes = 0

        def __call__(self, grid, block, args, *, shared_mem):
            calls.append((grid, block, args, shared_mem, self.max_dynamic_shared_size_bytes))

    resources = KernelResources(
        name="k", registers=1, stack_bytes=0, spill_bytes=0, static_smem_bytes=0
    )
    kernel = Kernel(
        name="k", function=Function(), resources=resources, arch="sm_90a", cluster=cluster
    )
    return kernel, calls


def test_launch_passes_params_then_maps_and_raises_the_limit():
    """Dynamic shared memory above the default is requested before the launch."""
    kernel, calls = fake_kernel()
    params, tile = params_struct(n=1), np.zeros(1, "V128")

    launch(kernel, (4,), (128,), params, tile, smem=200_000)

    assert calls == [((4,), (128,), (params, tile), 200_000, 200_000)]


@pytest.mark.parametrize("grid", [(3,), (0,), (2, 0)])
def test_launch_refuses_a_grid_that_is_no_whole_number_of_clusters(grid):
    """The grid must be positive and a multiple of the cluster."""
    kernel, calls = fake_kernel(cluster=2)

    with pytest.raises(BadValue, match="cluster of 2"):
        launch(kernel, grid, (128,), params_struct(n=1))
    assert calls == []


@pytest.mark.parametrize("params", [3, np.zeros(2), [1]])
def test_launch_refuses_loose_parameters(params):
    """Only size-1 NumPy arrays travel by value."""
    kernel, _ = fake_kernel()

    with pytest.raises(BadValue, match="size 1"):
        launch(kernel, (1,), (32,), params)


def test_host_memory_is_refused_with_the_fix():
    """A NumPy array is not in device memory."""
    with pytest.raises(BadValue, match=r"is not in device memory.*cupy.asarray") as caught:
        as_device_array(np.zeros(4, np.float32), "x", dtype="fp32", shape=(4,))

    assert caught.value.field == "x"


def fake_array(shape=(256, 128), dtype="uint16", pointer=1024, strides=None):
    plain = np.empty((1,) * len(shape), dtype)
    strides = strides or tuple(
        int(np.prod(shape[i + 1 :])) * plain.itemsize for i in range(len(shape))
    )
    return SimpleNamespace(
        shape=shape, strides=strides, dtype=plain.dtype, data=SimpleNamespace(ptr=pointer)
    )


@pytest.mark.parametrize(
    ("array", "box", "options", "rule"),
    [
        (fake_array(), (64,), {}, "1 to 5 dimensions"),
        (fake_array(dtype="complex64"), (64, 16), {}, "an element type"),
        (fake_array(), (257, 64), {}, "box sizes of 1 to 256"),
        (fake_array(strides=(256, 4)), (64, 64), {}, "a last stride of one element"),
        (fake_array(strides=(258, 2)), (64, 64), {}, "outer strides that are multiples of 16"),
        (fake_array(pointer=1032), (64, 64), {}, "an address that is a multiple of 16"),
        (fake_array(), (64, 3), {}, "an inner box of a multiple of 16 bytes"),
        (fake_array(), (64, 64), {"swizzle": 48}, "a swizzle of 0, 32, 64 or 128"),
        (fake_array(), (64, 128), {}, "an inner box no wider than the swizzle"),
    ],
)
def test_a_descriptor_that_breaks_a_rule_names_it(array, box, options, rule):
    """Each rule of the driver's interface is checked by name before it is called."""
    with pytest.raises(BadValue, match=rule):
        tensor_map(array, box, **options)


@pytest.mark.gpu
def test_wrong_arrays_are_refused():
    """Data type, shape, strides and alignment, each with the argument's name."""
    import cupy

    x = cupy.zeros((8, 16), cupy.float32)
    wrong = {
        "must be int8": (x, {"dtype": "int8", "shape": (8, 16)}),
        r"must have shape \(8, 17\)": (x, {"dtype": "fp32", "shape": (8, 17)}),
        "must have shape": (x, {"dtype": "fp32", "shape": (None,)}),
        "must be contiguous": (x.T, {"dtype": "fp32", "shape": (16, 8)}),
        "must start at a multiple": (x.ravel()[1:], {"dtype": "fp32", "shape": (None,)}),
    }
    for message, (array, options) in wrong.items():
        with pytest.raises(BadValue, match=message):
            as_device_array(array, "x", **options)
    with pytest.raises(UnknownName):
        as_device_array(x, "x", dtype="fp7", shape=(8, 16))


@pytest.mark.gpu
def test_arrays_of_other_libraries_share_memory():
    """torch tensors arrive without a copy, bf16 and fp8 as raw bits."""
    torch = pytest.importorskip("torch")
    for dtype, name in (
        (torch.float32, "fp32"),
        (torch.bfloat16, "bf16"),
        (torch.int8, "int8"),
        (torch.float8_e4m3fn, "fp8"),
    ):
        tensor = torch.ones(4, 32, device="cuda").to(dtype)
        array = as_device_array(tensor, "x", dtype=name, shape=(4, 32))
        assert array.data.ptr == tensor.data_ptr()


TILES = [("bf16", 8), ("bf16", 128), ("bf16", 256), ("f16", 64), ("e4m3", 64), ("s8", 256)]


def operands(kind, n):
    rng = generator(17)
    if kind == "s8":
        a, b = random_int8(rng, (64, 128)), random_int8(rng, (n, 128))
        return (a, b), (a.astype(float), b.astype(float))
    width = 128 if kind == "e4m3" else 64
    bits = {
        "bf16": narrow_bf16,
        "f16": lambda x: x.astype(np.float16).view(np.uint16),
        "e4m3": e4m3_bits,
    }[kind]
    stored = tuple(bits(random_normal(rng, (rows, width))) for rows in (64, n))
    return stored, tuple(value(s, kind) for s in stored)


def value(bits, kind):
    if kind == "bf16":
        return widen(bits, "bf16").astype(float)
    if kind == "f16":
        return bits.view(np.float16).astype(float)
    sign = np.where(bits >> 7, -1.0, 1.0)
    return sign * (1 + (bits & 7) / 8) * 2.0 ** ((bits >> 3 & 15).astype(float) - 7)


def test_e4m3_bits_by_hand():
    """1.0 is exponent 7 with mantissa 0; -448 is the largest; tiny values clamp to 2**-6."""
    bits = e4m3_bits(np.array([1.0, -448.0, 1.25, 1e-9], np.float32))

    assert bits.tolist() == [0x38, 0xFE, 0x3A, 0x08]
    assert value(bits, "e4m3").tolist() == [1.0, -448.0, 1.25, 2**-6]


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", ["product", "product_registers"])
@pytest.mark.parametrize(("kind", "n"), TILES)
def test_wrappers_multiply(kernel, kind, n):
    """TMA, the descriptors and wgmma give the product of a 64-row tile, element by element."""
    import cupy

    if cupy.cuda.Device().compute_capability != "90":
        pytest.skip("wgmma is Hopper's")
    (a, b), (wide_a, wide_b) = operands(kind, n)
    a, b = cupy.asarray(a), cupy.asarray(b)
    out = cupy.full((64, n), cupy.nan, cupy.float32)
    compiled = compile_kernel(WRAPPERS, defines={"TYPE": kind, "TILE_N": n})
    maps = [tensor_map(x, (x.shape[0], x.shape[1])) for x in (a, b)]

    launch(load_kernel(compiled, kernel), (1,), (128,), params_struct(a=a, b=b, out=out), *maps)

    expected = wide_a @ wide_b.T
    # e4m3 products are summed with fewer bits than fp32; the others are exact to fp32 rounding.
    limit = 1e-3 if kind == "e4m3" else 1e-6
    error = np.abs(out.get() - expected).max() / np.abs(expected).max()
    assert error <= limit


@pytest.mark.gpu
@pytest.mark.parametrize("chunks", [1, 7, 132, 1000, 5001])
def test_bulk_copy_moves_every_byte(chunks):
    """The ring of bulk loads and stores delivers each chunk once, whatever the count."""
    import cupy

    if int(cupy.cuda.Device().compute_capability) < 90:
        pytest.skip("bulk copies came with Hopper")
    size = chunks * 16384
    source = cupy.random.default_rng(chunks).integers(0, 2**31, size=size // 4).astype(cupy.uint32)
    target = cupy.zeros_like(source)
    kernel = load_kernel(compile_kernel(kernel_source("roofs/bulk.cu")), "copy_bulk")
    params = params_struct(
        source=source, target=target, bytes=np.uint64(size), rounds=1, elapsed=np.uint64(0)
    )

    launch(kernel, (132,), (32,), params, smem=196608)

    assert bool((source == target).all())
