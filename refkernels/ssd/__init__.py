"""SSD (Mamba-2): ``naive`` (float64), ``host`` (numba) and ``device`` (CUDA, on GLA's chunks)."""
