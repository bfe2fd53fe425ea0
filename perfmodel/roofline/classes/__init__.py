"""Kernel classes: for each, a pure function of workload, device and parameters, and the data that
declares its parameters. Nothing here knows a file, a fit or a measurement."""

from __future__ import annotations

from perfmodel.roofline.classes.attention import (
    DECODE,
    FLASH_DECODE,
    FLASH_PREFILL,
    OWN_DECODE,
    OWN_PREFILL,
    PREFILL,
)
from perfmodel.roofline.classes.collective import COLLECTIVE, CUSTOM, TRTLLM
from perfmodel.roofline.classes.conv import CONV, CONV_ROWS
from perfmodel.roofline.classes.norm import NORM
from perfmodel.roofline.classes.pointwise import COPY, GENERATED, POINTWISE, REDUCTION, SYNCHRONOUS
from perfmodel.roofline.classes.product import (
    GEMM,
    GEMM_FP32,
    GEMM_INT8,
    GEMM_NARROW,
    GEMM_RUNGS,
    GEMM_WEIGHT_ONLY,
)
from perfmodel.roofline.classes.recurrent import CHUNK, OWN_STEP, SCAN, STEP
from perfmodel.roofline.classes.walks import BESIDE, HOPPER, PREPARED, SEGMENTS, WHOLE
from perfmodel.roofline.model import ClassModel, Launch, Parameter, Run, Terms, Values

__all__ = ["CLASS_MODELS", "ClassModel", "Launch", "Parameter", "Run", "Terms", "Values"]

CLASS_MODELS: dict[str, ClassModel] = {
    model.name: model
    for model in (
        GEMM,
        GEMM_NARROW,
        GEMM_INT8,
        GEMM_RUNGS,
        GEMM_WEIGHT_ONLY,
        GEMM_FP32,
        PREFILL,
        DECODE,
        FLASH_PREFILL,
        FLASH_DECODE,
        OWN_PREFILL,
        OWN_DECODE,
        CHUNK,
        STEP,
        WHOLE,
        SEGMENTS,
        HOPPER,
        PREPARED,
        BESIDE,
        SCAN,
        OWN_STEP,
        POINTWISE,
        NORM,
        GENERATED,
        REDUCTION,
        COPY,
        SYNCHRONOUS,
        CONV,
        CONV_ROWS,
        COLLECTIVE,
        CUSTOM,
        TRTLLM,
    )
}
"""Every kernel class by name."""
