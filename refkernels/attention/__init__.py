"""Softmax attention: prefill (flash) and decoding, of any length, window and grouping of heads.

``naive`` defines it (NumPy or CuPy, float64), ``host`` computes it with numba, ``device`` launches
the CUDA ladder of prefill and ``decode`` split-KV decoding, ``bench`` checks and times both beside
their peers. README.md tells the story.
"""
