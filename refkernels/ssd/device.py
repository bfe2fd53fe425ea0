"""Launches SSD on the chunked kernels that it shares with gated linear attention."""

from __future__ import annotations

from typing import Any

from refkernels._launch import as_device_array
from refkernels._matrix_state import check_dims, checked_state, empty_outputs
from refkernels.gla.device import prepare
from refkernels.gla.sequence import Sequence
from refkernels.ssd.naive import Inputs, check_shapes


def ssd(s: Inputs, *, initial: Any = None, rung: str | None = None) -> tuple[Any, Any]:
    """``(y, final state)``; x, delta, B, C in bf16 (as uint16 bits), A, D, bias, states in fp32.

    Raises:
        BadValue: an array of the wrong type or shape, dimensions that are not compiled.
        UnknownName: no such rung of ``gla.device.RUNGS``.
    """
    x = bind(s, initial)
    out, final = empty_outputs(x)
    prepare(x, out, final=final, rung=rung)()
    return out, final


def bind(s: Inputs, initial: Any = None) -> Sequence:
    """The arrays checked, as the sequence that the chunked kernels take."""
    check_shapes(s)
    check_dims(s.b.shape[3], s.x.shape[3])
    wide = {"a", "skip", "bias"}
    checked = {
        name: as_device_array(
            array,
            name,
            dtype="fp32" if name in wide else "bf16",
            shape=tuple(array.shape),
            alignment=4 if name in wide else 16,
        )
        for name in ("x", "delta", "a", "b", "c", "skip", "bias")
        if (array := getattr(s, name)) is not None
    }
    return Sequence(
        q=checked["c"],
        k=checked["b"],
        v=checked["x"],
        g=checked["delta"],
        scale=1.0,
        initial=checked_state(initial, (s.x.shape[0], s.x.shape[2], s.b.shape[3], s.x.shape[3])),
        a=checked["a"],
        bias=checked.get("bias"),
        skip=checked.get("skip"),
        softplus=s.softplus,
    )
