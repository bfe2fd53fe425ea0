"""This machine's roofs, measured by small kernels of our own: what every later figure divides by.

``device.py`` runs the CUDA sources in ``cuda/roofs/``, ``host.py`` the numba kernels; both return
roof records as measurement files store them (``python -m refkernels.probe`` writes one).
"""
