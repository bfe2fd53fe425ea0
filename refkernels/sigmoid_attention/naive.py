"""The definition of sigmoid attention: that of ``refkernels.attention`` with a logistic weight."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from refkernels.attention.naive import Form, attend, visible


def sigmoid_form(
    *,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    bias: float | None = None,
) -> Form:
    """A form whose weights are 1 / (1 + exp(-(s + bias))); bias None means -log(kv_len)."""
    return Form(causal=causal, window=window, scale=scale, score="sigmoid", bias=bias)


def attend_sigmoid(q: Any, k: Any, v: Any, form: Form, xp: ModuleType = np) -> Any:
    """o [q_len, heads, d] of one sequence, float64."""
    return attend(q, k, v, form, xp)[0]


def weights(q: Any, k: Any, form: Form, xp: ModuleType = np) -> Any:
    """The weights [q_len, kv_len] of one head in float64; zero where masked."""
    scores = q.astype(xp.float64) @ k.astype(xp.float64).T * form.scale_of(q.shape[-1])
    x = scores + form.bias_of(k.shape[0])
    small = xp.exp(-xp.abs(x))
    logistic = xp.where(x >= 0, 1.0, small) / (1.0 + small)
    return xp.where(visible(q.shape[0], k.shape[0], form, xp), logistic, 0.0)
