"""Gated linear attention: ``naive`` (float64), ``host`` (numba), ``device`` (CUDA)."""
