"""Gated linear attention: ``naive`` (float64), ``twin`` (the chunked form), ``host``, ``device``."""
