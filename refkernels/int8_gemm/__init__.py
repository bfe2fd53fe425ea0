"""W8A8 INT8 matrix product: exact int32 sums, dequantised by row and column, LLM.int8() outliers.

``naive`` defines it (NumPy or CuPy, float64), ``host`` computes it with numba, ``device`` launches
the CUDA ladder, ``bench`` checks and times the ladder beside its peers. README.md tells the story.
"""
