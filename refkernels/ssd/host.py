"""SSD on the CPU: linear attention's numba recurrence with q = C, k = dt B, v = x, gate dt A."""

from __future__ import annotations

from typing import Any

import numpy as np

from refkernels.gla import host
from refkernels.ssd.naive import Inputs, check_shapes


def ssd(s: Inputs, initial: Any = None) -> tuple[Any, Any]:
    """``(y, final state)`` in fp32; arrays of ``s`` are fp32."""
    check_shapes(s)
    delta = s.delta if s.bias is None else s.delta + s.bias
    dt = np.logaddexp(np.float32(0.0), delta) if s.softplus else delta
    repeats = s.x.shape[2] // s.b.shape[2]
    b, c = (np.repeat(m, repeats, axis=2) for m in (s.b, s.c))
    y, state = host.gla(c, b * dt[..., None], s.x, dt * s.a, scale=1.0, initial=initial)
    return (y if s.skip is None else y + s.skip[:, None] * s.x), state
