"""Selective scan (Mamba-1): ``naive`` (float64), ``host`` (numba) and ``device`` (CUDA ladder)."""
