"""Sigmoid attention: each key weighed on its own by a logistic function of its score.

``naive`` defines it, ``host`` computes it with numba, ``device`` launches the CUDA kernels.
README.md has the derivation and the error of each form.
"""
