"""How many clusters of a kernel a device holds at once (``cuOccupancyMaxActiveClusters``).

A persistent kernel launches exactly that many: one more would start only after another has
finished. SMs over clusters is too high where a GPC's SMs are no multiple of the cluster.
"""

from __future__ import annotations

import ctypes
from functools import cache

from perfmodel.errors import MissingData
from refkernels._launch import Kernel

_CLUSTER_DIMENSION = 4
"""CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION."""


class _Attribute(ctypes.Structure):
    """CUlaunchAttribute: an identifier, padding to 8 bytes, a union of 64 bytes."""

    _fields_ = (("id", ctypes.c_uint), ("pad", ctypes.c_uint), ("value", ctypes.c_uint * 16))


class _Config(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("smem", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(_Attribute)),
        ("attribute_count", ctypes.c_uint),
    )


def resident_clusters(kernel: Kernel, *, threads: int, smem: int) -> int:
    """Clusters of ``kernel`` that fit on the current device together, at least 1.

    Raises:
        MissingData: the driver does not answer.
    """
    if kernel.function.max_dynamic_shared_size_bytes < smem:
        kernel.function.max_dynamic_shared_size_bytes = smem
    return _query(int(kernel.function.kernel.ptr), kernel.cluster, threads, smem)


@cache
def _query(function: int, cluster: int, threads: int, smem: int) -> int:
    attribute = _Attribute(id=_CLUSTER_DIMENSION, value=(cluster, 1, 1))
    config = _Config(
        grid=(cluster, 1, 1),
        block=(threads, 1, 1),
        smem=smem,
        stream=None,
        attributes=ctypes.pointer(attribute),
        attribute_count=1,
    )
    found = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        code = driver.cuOccupancyMaxActiveClusters(
            ctypes.byref(found), ctypes.c_void_p(function), ctypes.byref(config)
        )
    except (OSError, AttributeError):
        code = -1
    if code != 0 or found.value < 1:
        msg = f"the driver does not say how many clusters of {cluster} fit (error {code})"
        raise MissingData(msg, field="cluster", fix="a driver for CUDA 12 or newer")
    return found.value
