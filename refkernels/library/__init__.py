"""What people call through torch, timed over a grid of shapes: ``python -m refkernels.library``."""
