"""Launches the CUDA kernels of sigmoid attention; operands as for ``refkernels.attention``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from perfmodel.errors import BadValue, UnknownName
from refkernels._compile import device_capability
from refkernels.attention.device import Operands, Prepared, Rung, bind, prepare_rung
from refkernels.attention.naive import Form
from refkernels.sigmoid_attention.naive import sigmoid_form

RUNGS: dict[str, Rung] = {
    "01_mma_sync": Rung(
        source="sigmoid_attention/01_mma_sync.cu",
        entry="sigmoid_attention",
        hopper=False,
        producer=False,
    ),
    "02_persistent": Rung(
        source="sigmoid_attention/02_persistent.cu", entry="sigmoid_attention", persistent=True
    ),
}
"""Name (of the source file) -> how it is launched."""

FORMS = {"general": 0, "small": 1, "balanced": 2, "tanh": 3, "halved": 4, "modest": 5}
"""How the logistic function is computed, numbered as weights.cuh numbers it."""

SMALL_BELOW, MODEST_BELOW, BALANCED_ABOVE = -8.0, -6.0, -1.0
"""Biases: below the first nearly all weights are below 2**-6, below the second below 2**-3, from
the third on most are large."""


def sigmoid_attention(
    q: Any,
    k: Any,
    v: Any,
    form: Form | None = None,
    *,
    dtype: str = "bf16",
    kernel: str | None = None,
    weights: str = "accurate",
    q_starts: Any = None,
    kv_starts: Any = None,
) -> Any:
    """Sigmoid attention on the device, o like q; see ``flash_attention`` for the operands.

    ``weights="tanh"`` is faster where the special functions bind, and its absolute error of about
    2**-12 per weight is larger than a weight of 1/n from n = 4096 on (README.md).

    Raises:
        BadValue: operands of the wrong type or shape, or a form that is not the sigmoid's.
        UnknownName: no such rung, or no such way of computing the weights.
    """
    x = bind(q, k, v, form or sigmoid_form(), dtype=dtype, q_starts=q_starts, kv_starts=kv_starts)
    prepare_sigmoid(x, kernel, weights)()
    return x.out.reshape(q.shape)


def prepare_sigmoid(
    x: Operands,
    kernel: str | None = None,
    weights: str = "accurate",
    defines: Mapping[str, int] | None = None,
) -> Prepared:
    """Bind a rung to operands; ``defines`` override compile-time constants (see the sources)."""
    name = kernel or default_rung()
    if name not in RUNGS:
        raise UnknownName("rung", name, RUNGS)
    if weights not in ("accurate", "tanh"):
        raise UnknownName("form of the weights", weights, ("accurate", "tanh"))
    if x.form.score != "sigmoid" or x.lse is not None:
        msg = f"score is {x.form.score!r}; sigmoid attention has no log-sum-exp"
        raise BadValue(msg, field="form", fix="sigmoid_form(...)")
    form = accurate_form(RUNGS[name], x) if weights == "accurate" else weights
    return prepare_rung(RUNGS[name], x, {"FORM": FORMS[form], **dict(defines or {})})


def accurate_form(rung: Rung, x: Operands) -> str:
    """The form that the bias asks for; each computes any weight right, but not as fast.

    The balanced one relies on the scheduler, which hands out tiles again where it does not hold;
    its absolute error is good enough for bf16 only. Halved is what it becomes where scale and bias
    cost nothing: no bias, and a scale that moves the queries' exponents only.
    """
    bias = x.form.bias_of(x.kv_len)
    if bias < SMALL_BELOW:
        return "small"
    if bias < MODEST_BELOW:
        return "modest"
    if bias <= BALANCED_ABOVE or not rung.persistent or x.dtype != "bf16":
        return "general"
    mantissa, exponent = math.frexp(x.form.scale_of(x.head_dim))
    exact = mantissa == 0.5 and -32 < exponent <= 0  # and no query leaves the range of bf16
    return "halved" if exact and x.form.bias == 0.0 else "balanced"


def default_rung() -> str:
    """The fastest rung for the current device."""
    return "02_persistent" if device_capability() == "90" else "01_mma_sync"
