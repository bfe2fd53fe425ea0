"""Workloads on which the mixers are timed, and small ones on which they are checked."""

from __future__ import annotations

from perfmodel.workload import DeltaRule, LinearAttention, SelectiveScan, Ssd, Workload


def _scans(dtype: str, *sizes: tuple[int, int, int, int, int]) -> tuple[Workload, ...]:
    return tuple(
        SelectiveScan(batch=b, seq_len=t, channels=d, state=n, groups=g, dtype=dtype)
        for b, t, d, n, g in sizes
    )


_SCAN_SHORT = _scans("bf16", *((1, t, 40, 16, 1) for t in (1, 2, 63, 64, 65, 257)))
_SCAN_HALVES = _scans("fp16", (2, 100, 24, 32, 2), (1, 1, 8, 64, 1))
_SCAN_WIDE = _scans(
    "bf16",
    *((2, t, d, 16, 1) for t in (3, 66, 129) for d in (1, 132)),
    *((1, 97, 48, n, 2) for n in (8, 32, 64)),
)
_SCAN_UNGATED = SelectiveScan(batch=1, seq_len=70, channels=20, gated=False)


def _linear(gate: str, *sizes: tuple[int, int, int, int, int]) -> tuple[Workload, ...]:
    return tuple(
        LinearAttention(batch=b, seq_len=t, heads=h, key_dim=dk, value_dim=dv, gate=gate)  # type: ignore[arg-type]
        for b, t, h, dk, dv in sizes
    )


def _ssds(*sizes: tuple[int, int, int, int]) -> tuple[Workload, ...]:
    return tuple(
        Ssd(batch=b, seq_len=t, heads=h, head_dim=64, state=n, groups=1) for b, t, h, n in sizes
    )


def _deltas(
    *sizes: tuple[int, int, int, int, int, int], gated: bool = True
) -> tuple[Workload, ...]:
    """Batch, length, key heads, value heads, key and value dimension."""
    return tuple(
        DeltaRule(
            batch=b, seq_len=t, key_heads=k, value_heads=h, key_dim=dk, value_dim=dv, gated=gated
        )
        for b, t, k, h, dk, dv in sizes
    )


_STEP_DIMS = ((64, 64), (128, 128), (64, 192))
_GLA_SHORT = tuple((1, t, 2, dk, dv) for t in (1, 16, 63, 65) for dk, dv in ((64, 64), (128, 128)))

_SSD_WIDE = ((2, 64, 1), (1, 128, 3), (3, 257, 2), (2, 2, 8), (1, 200, 5))

MIXER_SIZES: dict[str, tuple[tuple[Workload, ...], tuple[Workload, ...]]] = {
    "selective_scan": (
        _scans("bf16", (8, 2048, 4096, 16, 1)),
        (
            *_SCAN_SHORT,
            *_scans("fp32", (2, 65, 33, 8, 1), (1, 129, 20, 64, 2), (1, 63, 130, 16, 2)),
            *_SCAN_HALVES,
            _SCAN_UNGATED,
            *_SCAN_WIDE,
        ),
    ),
    "selective_scan_16_bits": (
        _scans("bf16", (8, 2048, 4096, 16, 1), (8, 4096, 4096, 16, 1), (1, 65536, 4096, 16, 1)),
        (
            *_SCAN_SHORT,
            *_SCAN_HALVES,
            _SCAN_UNGATED,
            *_scans("bf16", (1, 500, 20, 8, 1), (2, 137, 70, 16, 2)),
            *_SCAN_WIDE,
        ),
    ),
    "selective_scan_step": (
        _scans("bf16", (256, 1, 4096, 16, 1)),
        _scans(
            "bf16",
            *((b, 1, d, n, 1) for b in (1, 3) for d in (5, 64, 132) for n in (8, 16, 32)),
            *((2, 1, d, 64, 2) for d in (2, 96)),
        ),
    ),
    "gla": (
        _linear(
            "vector", (2, 8192, 16, 128, 128), (1, 16384, 16, 128, 128), (1, 8192, 96, 128, 128)
        )
        + _linear(
            "scalar", (2, 8192, 16, 128, 128), (1, 16384, 16, 128, 128), (1, 8192, 96, 128, 128)
        ),
        (
            *_linear("vector", *_GLA_SHORT, (2, 130, 3, 64, 128)),
            *_linear("scalar", (1, 65, 2, 64, 64), (1, 200, 2, 128, 256)),
            *_linear("none", (1, 65, 2, 64, 64), (2, 129, 1, 128, 128)),
            *_linear("vector", (1, 257, 2, 128, 64), (3, 64, 1, 128, 192)),
            *_linear("scalar", (2, 1, 1, 128, 128), (1, 63, 3, 128, 64), (1, 321, 1, 64, 192)),
            *_linear("scalar", (2, 128, 2, 128, 128)),
        ),
    ),
    "gla_step": (
        _linear("vector", (256, 1, 16, 128, 128)),
        _linear(
            "vector",
            *((b, 1, h, 64, dv) for b in (1, 3) for h in (1, 2) for dv in (64, 128, 192)),
            *((b, 1, 3, 128, dv) for b in (1, 2) for dv in (64, 128, 192, 256)),
        ),
    ),
    "delta_rule": (
        (
            *_deltas((2, 8192, 16, 16, 128, 128), gated=False),
            *_deltas((1, 32768, 8, 32, 128, 128), (1, 8192, 8, 32, 128, 128)),
            *_deltas((2, 8192, 16, 16, 128, 128), (4, 8192, 8, 32, 128, 128)),
        ),
        (
            *_deltas(*((1, t, 1, 2, d, d) for t in (16, 63, 65) for d in (64, 128))),
            *_deltas((2, 130, 2, 2, 64, 128), (1, 200, 1, 5, 128, 64), (1, 64, 2, 4, 128, 256)),
            *_deltas((2, 129, 2, 2, 64, 64), (1, 321, 1, 1, 128, 128), gated=False),
            *_deltas((2, 1, 1, 1, 64, 64), (1, 2, 2, 4, 128, 128), (1, 128, 1, 3, 64, 192)),
            *_deltas((1, 257, 1, 2, 128, 128), (3, 90, 1, 2, 128, 64), (1, 64, 4, 4, 64, 64)),
            *_deltas((1, 65, 2, 4, 128, 128), (2, 100, 1, 1, 64, 128), (1, 1, 1, 1, 128, 128)),
        ),
    ),
    "delta_rule_step": (
        _deltas((256, 1, 16, 16, 128, 128), (256, 1, 8, 32, 128, 128)),
        _deltas(
            *((b, 1, k, 2, dk, dv) for b in (1, 2, 3) for k in (1, 2) for dk, dv in _STEP_DIMS)
        ),
    ),
    "ssd": (
        _ssds((8, 4096, 80, 128)),
        _ssds(
            *((1, t, 4, n) for t in (1, 16, 63, 65, 130) for n in (64, 128)),
            *((b, t, h, n) for b, t, h in _SSD_WIDE for n in (64, 128)),
        ),
    ),
    "ssd_step": (
        _ssds((256, 1, 80, 128)),
        _ssds(*((b, 1, h, n) for b in (1, 2, 3, 5, 8) for h in (1, 4) for n in (64, 128))),
    ),
}
"""Operator -> workloads that are timed, workloads that are checked."""


_LINEAR_GRID = (
    *((16384 // t, t, 16, 128, 128) for t in (1024, 2048, 4096)),
    *((1, t, 16, 128, 128) for t in (2048, 4096, 8192, 32768)),
    *((1, 8192, h, 128, 128) for h in (4, 8, 32, 64)),
    *((2, 4096, 32, dk, dv) for dk, dv in ((64, 64), (64, 128), (128, 64), (128, 256))),
    (8, 2048, 32, 128, 128),
)

GRIDS: dict[str, tuple[Workload, ...]] = {
    "delta_rule": (
        *_deltas(*((1, t, 8, 32, 128, 128) for t in (512, 1024, 2048, 4096, 16384, 65536))),
        *_deltas(*((1, 8192, k, h, 128, 128) for k, h in ((1, 4), (2, 8), (4, 16), (16, 32)))),
        *_deltas(*((b, 2048, 8, 32, 128, 128) for b in (1, 2, 3, 4, 8, 16))),
        *_deltas(*((16384 // t, t, 16, 16, 128, 128) for t in (1024, 2048, 4096, 16384))),
        *_deltas(*((16384 // t, t, 32, 32, 64, 64) for t in (1024, 4096, 16384))),
        *_deltas((2, 8192, 16, 16, 64, 128), (2, 8192, 8, 8, 128, 256)),
        *_deltas(*((16384 // t, t, 16, 16, 128, 128) for t in (2048, 16384)), gated=False),
        *_deltas((4, 4096, 32, 32, 64, 64), gated=False),
    ),
    "delta_rule_step": (
        *_deltas(*((b, 1, 8, 32, 128, 128) for b in (1, 8, 32, 64, 128, 512))),
        *_deltas(*((b, 1, 16, 16, 128, 128) for b in (1, 32, 128))),
        *_deltas((256, 1, 32, 32, 64, 64)),
        *_deltas((256, 1, 16, 16, 128, 128), gated=False),
    ),
    "gla": (
        *_linear("vector", *_LINEAR_GRID),
        *_linear("scalar", *_LINEAR_GRID),
        *_linear("none", *_LINEAR_GRID[:6]),
    ),
    "ssd": _ssds(
        *((8, t, 80, 128) for t in (512, 1024, 2048)),
        *((1, t, 80, 128) for t in (2048, 8192, 32768)),
        *((2, 8192, h, 128) for h in (24, 48, 128)),
        *((8, 4096, h, 64) for h in (24, 80)),
        (4, 8192, 80, 128),
    ),
    "selective_scan": (
        *_scans("bf16", *((16384 // t, t, 4096, 16, 1) for t in (256, 1024, 4096, 8192, 16384))),
        *_scans("bf16", *((1, t, 4096, 16, 1) for t in (1024, 2048, 4096, 8192, 32768))),
        *_scans("bf16", *((4, 2048, d, 16, 1) for d in (1024, 1536, 2048, 3072, 5120, 8192))),
        *_scans("bf16", *((8, 2048, 4096, n, 1) for n in (8, 32, 64)), (2, 4096, 8192, 16, 8)),
        *_scans("fp16", (8, 2048, 4096, 16, 1), (1, 16384, 4096, 16, 1)),
        *_scans("fp32", (8, 2048, 4096, 16, 1), (1, 16384, 4096, 16, 1), (4, 2048, 4096, 8, 1)),
        SelectiveScan(batch=8, seq_len=2048, channels=4096, gated=False),
        SelectiveScan(batch=1, seq_len=16384, channels=4096, gated=False),
    ),
    "selective_scan_step": (
        *_scans("bf16", *((b, 1, 4096, 16, 1) for b in (1, 8, 32, 64, 128, 512))),
        *_scans("bf16", (256, 1, 2048, 16, 1), (128, 1, 8192, 16, 1), (64, 1, 4096, 64, 1)),
        *_scans("fp16", (256, 1, 4096, 16, 1)),
        *_scans("fp32", (256, 1, 4096, 16, 1)),
    ),
}
"""Operator -> workloads timed shortly, by the rung that the launcher chooses."""
