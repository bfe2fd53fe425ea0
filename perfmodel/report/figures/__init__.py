"""Figures: pure functions from answers to pictures, each with its text for those who cannot see it.

Plotly is needed here alone (extra ``dash``).
"""

from perfmodel.report.figures.base import Picture

__all__ = ["Picture"]
