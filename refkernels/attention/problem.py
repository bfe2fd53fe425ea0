"""Attention as tests and benchmarks see it: inputs from a seed, a run, a gate."""

from __future__ import annotations

from typing import Any

import numpy as np

from perfmodel.workload import Attention
from refkernels._check import Gate, generator, judge, random_normal
from refkernels.attention import naive
from refkernels.attention.cases import DecodeCase, draw
from refkernels.attention.naive import Form


def form_of(w: Attention) -> Form:
    """The mask and the weights of a workload; the sigmoid's bias is -log(kv_len)."""
    window = None if w.window is None else int(np.asarray(w.window))
    return Form(causal=bool(w.causal), window=window, score=w.score)


def size(value: Any) -> int:
    """One number of a workload."""
    return int(np.asarray(value))


def shapes(w: Attention) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of q and of k: [batch, length, heads, d]."""
    batch, d = size(w.batch), size(w.head_dim)
    return (batch, size(w.q_len), size(w.heads), d), (batch, size(w.kv_len), size(w.kv_heads), d)


class PrefillProblem:
    """One rung of the softmax or the sigmoid ladder on ``sets`` independent inputs."""

    def __init__(self, workload: Attention, seed: int, sets: int, rung: str) -> None:
        import cupy

        from refkernels.attention.device import bind, prepare
        from refkernels.sigmoid_attention.device import prepare_sigmoid

        self.sets = sets
        rng = generator(seed, cupy)
        q_shape, kv_shape = shapes(workload)
        form, dtype = form_of(workload), str(workload.dtype)
        make = prepare if form.score == "softmax" else prepare_sigmoid
        self.operands = []
        for _ in range(sets):
            q, k, v = (draw(rng, s, dtype) for s in (q_shape, kv_shape, kv_shape))
            self.operands.append(bind(q, k, v, form, dtype=dtype))
        self.launches = [make(x, rung) for x in self.operands]

    def run(self, i: int) -> None:
        """Launch set ``i``."""
        self.launches[i]()

    def gate(self) -> Gate:
        """The first set against the oracle, on a few rows of each end where it is large."""
        from refkernels.attention.gates import check_sampled

        return check_sampled(self.operands[0], self.launches[0])


class DecodeProblem:
    """Split-KV decoding on ``sets`` independent inputs, contiguous or in pages."""

    def __init__(self, workload: Attention, seed: int, sets: int) -> None:
        import cupy

        from refkernels.attention.decode import prepare_decode
        from refkernels.attention.gates import draw_decode

        self.sets, self.seed = sets, seed
        self.case = decode_case(workload)
        rng = generator(seed, cupy)
        self.operands = [draw_decode(self.case, rng) for _ in range(sets)]
        self.launches = [prepare_decode(x) for x in self.operands]

    def run(self, i: int) -> None:
        """Launch set ``i``."""
        self.launches[i]()

    def gate(self) -> Gate:
        """Fresh inputs of the same shape against the oracle."""
        from refkernels.attention.gates import check_decode

        return check_decode(self.case, self.seed).gate


def decode_case(w: Attention) -> DecodeCase:
    """A workload of few queries as a decoding case."""
    return DecodeCase(
        kv_lens=(size(w.kv_len),) * size(w.batch),
        q_len=size(w.q_len),
        heads=size(w.heads),
        kv_heads=size(w.kv_heads),
        head_dim=size(w.head_dim),
        form=form_of(w),
        dtype=str(w.dtype),
        kv_dtype=str(w.kv_dtype),
        page=w.page_size or 0,
        layout="bshd" if w.page_size else "bhsd",
    )


class HostProblem:
    """The numba kernel, softmax or sigmoid, in fp32, sequence by sequence."""

    def __init__(self, workload: Attention, seed: int, sets: int) -> None:
        rng = generator(seed)
        self.sets, self.form = sets, form_of(workload)
        q_shape, kv_shape = shapes(workload)
        self.q_starts, self.kv_starts = (
            np.arange(s[0] + 1, dtype=np.int64) * s[1] for s in (q_shape, kv_shape)
        )
        self.inputs = [
            [random_normal(rng, s).reshape(-1, *s[2:]) for s in (q_shape, kv_shape, kv_shape)]
            for _ in range(sets)
        ]
        self.out: Any = None

    def run(self, i: int) -> None:
        """Compute set ``i``."""
        from refkernels.attention.host import flash_attention

        q, k, v = self.inputs[i]
        self.out, _ = flash_attention(q, k, v, self.form, self.q_starts, self.kv_starts)

    def gate(self) -> Gate:
        """The first set against the oracle, the whole of one head."""
        self.run(0)
        q, k, v = self.inputs[0]
        head, kv_head = q.shape[1] - 1, k.shape[1] - 1
        exact, _ = naive.attend_packed(
            q[:, head:],
            k[:, kv_head:],
            v[:, kv_head:],
            self.form,
            self.q_starts,
            self.kv_starts,
        )
        return judge("attention", "fp32", self.out[:, head:], exact)
