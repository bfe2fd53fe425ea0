"""Kernel classes: for each, a pure function of workload, device and parameters, and the data that
declares its parameters. Nothing here knows a file, a fit or a measurement."""

from __future__ import annotations

from perfmodel.roofline.classes.attention import (
    DECODE,
    FLASH_DECODE,
    FLASH_PREFILL,
    PLAIN_DECODE,
    PREFILL,
)
from perfmodel.roofline.classes.collective import COLLECTIVE, CUSTOM, TRTLLM
from perfmodel.roofline.classes.conv import CONV, CONV_ROWS
from perfmodel.roofline.classes.norm import NORM
from perfmodel.roofline.classes.own_attention import OWN_DECODE, OWN_PREFILL, OWN_SIGMOID
from perfmodel.roofline.classes.own_gemm import (
    GEMM_LANES,
    GEMM_PAIRED,
    GEMM_ROWS,
    GEMM_SQUARE,
    GEMM_WARPS,
    GEMM_WIDE,
)
from perfmodel.roofline.classes.pointwise import COPY, GENERATED, POINTWISE, REDUCTION, SYNCHRONOUS
from perfmodel.roofline.classes.product import (
    GEMM,
    GEMM_FP32,
    GEMM_INT8,
    GEMM_NARROW,
    GEMM_WEIGHT_ONLY,
)
from perfmodel.roofline.classes.recurrent import CHUNK, OWN_STEP, STEP
from perfmodel.roofline.classes.scans import SCAN
from perfmodel.roofline.classes.walks import BESIDE, HOPPER, PREPARED, SEGMENTS, WHOLE
from perfmodel.roofline.model import ClassModel, Launch, Parameter, Run, Terms, Values

__all__ = ["CLASS_MODELS", "ClassModel", "Launch", "Parameter", "Run", "Terms", "Values"]

CLASS_MODELS: dict[str, ClassModel] = {
    model.name: model
    for model in (
        GEMM,
        GEMM_NARROW,
        GEMM_INT8,
        GEMM_LANES,
        GEMM_WARPS,
        GEMM_ROWS,
        GEMM_SQUARE,
        GEMM_WIDE,
        GEMM_PAIRED,
        GEMM_WEIGHT_ONLY,
        GEMM_FP32,
        PREFILL,
        DECODE,
        FLASH_PREFILL,
        FLASH_DECODE,
        PLAIN_DECODE,
        OWN_PREFILL,
        OWN_SIGMOID,
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
