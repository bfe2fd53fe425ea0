"""Sigmoid attention on the CPU: the tiles of ``refkernels.attention.host``, logistic weights."""

from __future__ import annotations

from typing import Any

from refkernels.attention.host import flash_attention
from refkernels.attention.naive import Form
from refkernels.sigmoid_attention.naive import sigmoid_form


def sigmoid_attention(
    q: Any,
    k: Any,
    v: Any,
    form: Form | None = None,
    q_starts: Any = None,
    kv_starts: Any = None,
) -> Any:
    """o in fp32; shapes as in ``attention.naive.attend_packed``, one sequence without starts."""
    return flash_attention(q, k, v, form or sigmoid_form(), q_starts, kv_starts)[0]
