"""The delta rule: ``naive`` (float64), ``host`` (numba), ``device`` (CUDA)."""
