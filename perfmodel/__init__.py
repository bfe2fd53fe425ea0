"""perfmodel: how fast, how many, what binds, at what cost, and how sure."""

from importlib import metadata

try:
    __version__ = metadata.version("perfmodel")
except metadata.PackageNotFoundError:  # run from a source tree that nobody installed
    __version__ = "0.0.0+source"
