"""Reference kernels: for each operator a float64 oracle, a numba host kernel and CUDA kernels.

The kernels state what they count (operations, bytes), are checked against their oracle before
they are timed, and are timed with the conditions recorded. Importing this package needs numpy
only; numba and CuPy load when a kernel is first asked for.
"""
