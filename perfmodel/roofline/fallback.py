"""The estimate where no kernel was measured: roofs at assumed shares of their peaks."""

from __future__ import annotations

import numpy as np

from perfmodel.hw.device import Device
from perfmodel.ops import Cost
from perfmodel.roofline.bounds import Bound
from perfmodel.roofline.model import Terms, overlap
from perfmodel.roofline.parameters import Analytic
from perfmodel.workload import Array


def predict_analytic(cost: Cost, bound: Bound, device: Device, assumed: Analytic) -> Terms:
    """``launch + roofs``, each roof at its assumed share, joined by :func:`overlap`."""
    fractions = {
        "tensor": assumed.tensor_fraction,
        "vector": assumed.vector_fraction,
        "special": assumed.special_fraction,
        "memory": assumed.memory_fraction,
        "link": assumed.link_fraction,
    }
    terms: dict[str, Array] = {
        "launch": cost.launches * np.float64(assumed.launch_clk / device.compute.clock_vector_hz)
    }
    terms |= {name: roof / np.float64(fractions[name]) for name, roof in bound.roofs.items()}
    names = list(bound.roofs)
    joint: Array = np.float64(0.0)
    for name in names:
        joint = overlap(joint, terms[name], assumed.unhidden)
    return Terms(
        time_s=terms["launch"] + joint,
        terms=terms,
        formula=f"launch + max+({', '.join(names)}; {assumed.unhidden:g})",
        details={},
    )
