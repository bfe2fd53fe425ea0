"""What a kernel class is: a pure function of workload, device and declared parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from perfmodel.errors import BadValue
from perfmodel.hw.device import Device
from perfmodel.workload import Array, Workload

Launch: TypeAlias = Literal["graph", "stream", "alone", "eager", "host"]
Values: TypeAlias = Mapping[str, float]
"""Parameter values by name, as a fit or a calibration file supplies them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a class: physical or dimensionless, with the range that makes sense.

    ``start`` is neutral: what a fit begins with, not a claim. ``prior``: log-width of a normal
    prior around ``start`` for a parameter that few rows see; 0 leaves it to the data.
    """

    name: str
    unit: str
    low: float
    high: float
    start: float
    meaning: str
    prior: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How an operator is run: replayed from a graph, launched into a stream, alone between two
    events with nothing behind it, called eagerly, or called on the processor that it runs on
    (``host``); ``warm`` when its operands were just written and may rest in the last-level cache.
    """

    launch: Launch = "graph"
    warm: bool = False

    def __post_init__(self) -> None:
        if self.launch not in get_args(Launch):
            msg = f"must be one of {', '.join(get_args(Launch))}, got {self.launch!r:.60}"
            raise BadValue(msg, field="launch", fix="graph")


def check_question(workload: Any, kernel: Any) -> None:
    """Raise BadValue where ``workload`` is no operator or ``kernel`` no name."""
    if not isinstance(workload, Workload):
        msg = f"must be an operator, got {type(workload).__name__}"
        raise BadValue(msg, field="workload", fix="perfmodel.Gemm(...); perfmodel.step for a model")
    if not isinstance(kernel, str | None):
        msg = f"must be a kernel's name, got {kernel!r:.60}"
        raise BadValue(msg, field="kernel", fix="leave the kernel out")


WORK, LONG, LONG_S = "work", "long", 1e-4
"""Regimes of predictions that the launch does not rule, and the seconds that part them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Terms:
    """A prediction: named seconds, and how they make up the time.

    ``formula`` writes ``time_s`` in the names of ``terms``; ``max+(a, b; s)`` is
    :func:`overlap`. ``details`` are inner choices worth showing (tile, splits). ``special`` marks
    what the class predicts by rules of its own, less surely than the rest, and ``regime`` names it,
    point by point where there are several.
    """

    time_s: Array
    terms: Mapping[str, Array]
    formula: str
    details: Mapping[str, Any]
    special: NDArray[np.bool_] | np.bool_ = field(default_factory=lambda: np.False_)
    regime: str | NDArray[np.str_] = ""

    @property
    def regimes(self) -> NDArray[np.str_]:
        """Where a prediction's error comes from: the class's special case, the launch where it is
        half of the time and more, or the work; long work has its fixed costs behind it."""
        time_s = np.asarray(self.time_s)
        work = np.where(time_s >= LONG_S, LONG, WORK)
        usual = np.where(np.asarray(self.terms["launch"]) >= 0.5 * time_s, "launch", work)
        return np.where(self.special, self.regime, usual)


Predict: TypeAlias = Callable[[Any, Device, Values, Run], Terms]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassModel:
    """A kernel class: its name, its parameters and its time.

    ``typical_of`` names classes of known implementations, or one such as ``"norm/torch"``: where
    nobody says which one runs, this class answers, so its fit sees their rows too and its interval
    is as wide as they differ.
    """

    name: str
    parameters: tuple[Parameter, ...]
    predict: Predict
    typical_of: tuple[str, ...] = ()

    @property
    def start(self) -> dict[str, float]:
        """Neutral values of all parameters."""
        return {p.name: p.start for p in self.parameters}


FIXED_CLK = Parameter(
    name="fixed_clk",
    unit="cycles",
    low=0.0,
    high=40_000.0,
    start=5_000.0,
    meaning="launch, prologue and epilogue of a kernel replayed from a graph, at the vector clock",
)
ALONE_S = Parameter(
    name="alone_s",
    unit="s",
    low=0.0,
    high=2e-5,
    start=5e-6,
    meaning="what the events around a single kernel add when no other kernel waits behind it",
    prior=0.3,
)
CALLED_S = replace(
    ALONE_S,
    high=1e-4,
    start=2e-5,
    meaning="what a single call through an eager framework between two events adds: the device "
    "waits for the host's path to the kernel",
)
EAGER_S = Parameter(
    name="eager_s",
    unit="s",
    low=0.0,
    high=1e-4,
    start=2e-5,
    meaning="host path of an eager framework call, added to each operator",
)
DRAM_FRACTION = Parameter(
    name="dram_fraction",
    unit="1",
    low=0.3,
    high=1.0,
    start=0.85,
    meaning="share of main-memory bandwidth that streaming reaches",
)
TENSOR_FRACTION = Parameter(
    name="tensor_fraction",
    unit="1",
    low=0.1,
    high=1.0,
    start=0.9,
    meaning="share of the dense peak that the inner loop reaches where power does not limit it",
)
UNHIDDEN = Parameter(
    name="unhidden",
    unit="1",
    low=0.0,
    high=1.0,
    start=0.07,
    meaning="share of the shorter of arithmetic and memory time that the longer does not hide",
)
OWN = (replace(FIXED_CLK, prior=0.3), EAGER_S, replace(DRAM_FRACTION, prior=0.1))
"""What a class of this repository's kernels begins with: few rows tell these apart."""


def cycles(
    name: str, high: float, start: float, meaning: str, *, prior: float = 0.7, low: float = 0.0
) -> Parameter:
    """A latency at the vector clock that few rows see."""
    return Parameter(
        name=name, unit="cycles", low=low, high=high, start=start, meaning=meaning, prior=prior
    )


def wave_count(share: Array, tail: float) -> Array:
    """Rounds of so many blocks to a place: between an even share and its ceiling by ``tail``."""
    waves: Array = np.maximum(share + np.float64(tail) * (np.ceil(share) - share), 1.0)
    return waves


def overlap(a: Array, b: Array, unhidden: Array | float) -> Array:
    """Two activities that run side by side: the longer, plus what it fails to hide.

    ``(a + b + sqrt((a - b)^2 + 4 s a b)) / 2``: ``max(a, b)`` at s = 0, ``a + b`` at s = 1,
    ``a + s b`` for b far below a. Never below the maximum, monotone in both, homogeneous of degree
    one, and made of operations that IEEE 754 rounds correctly, so that one point and a grid agree
    bit for bit.
    """
    gap = a - b
    joint: Array = (a + b + np.sqrt(gap * gap + (4.0 * unhidden) * a * b)) * 0.5
    return joint


def beside_memory(
    start: Array, name: str, work: Array, memory: Array, unhidden: float, /, **details: Any
) -> Terms:
    """``launch + max+(name, memory; unhidden)``: a launch, then work beside its traffic."""
    return Terms(
        time_s=start + overlap(work, memory, unhidden),
        terms={"launch": start, name: work, "memory": memory},
        formula=f"launch + max+({name}, memory; {unhidden:.3g})",
        details=details,
    )


def launch_s(device: Device, values: Values, run: Run) -> np.float64:
    """Fixed time of one kernel: cycles at the vector clock, and what the way of launching adds.

    Into a stream: the difference between the device's stream and graph launch times, where both
    are known. Eagerly: the framework's host path on top.
    """
    fixed = np.float64(values["fixed_clk"]) / np.float64(device.compute.clock_vector_hz)
    if run.launch in ("graph", "host"):
        return fixed
    if run.launch == "alone":
        return fixed + np.float64(values.get("alone_s", ALONE_S.start))
    if device.launch_stream_s is not None and device.launch_graph_s is not None:
        fixed = fixed + np.float64(max(device.launch_stream_s - device.launch_graph_s, 0.0))
    return fixed if run.launch == "stream" else fixed + np.float64(values.get("eager_s", 0.0))


def host_bound(predict: Predict) -> Predict:
    """``max(host, ...)`` of what ``predict`` says of a stream when the operator is called eagerly.

    An eager program runs ahead of the device: where its path through the framework is longer than
    the kernel the device waits for it, else the kernel hides it.
    """
    return partial(_beside_host, predict)


def _beside_host(predict: Predict, w: Any, device: Device, values: Values, run: Run) -> Terms:
    if run.launch != "eager":
        return predict(w, device, values, run)
    found = predict(w, device, values, replace(run, launch="stream"))
    host = np.float64(values["eager_s"])
    return replace(
        found,
        time_s=np.maximum(found.time_s, host),
        terms={**found.terms, "host": host},
        formula=f"max(host, {found.formula})",
        special=np.asarray(host >= found.time_s)[()],
        regime="host",
    )
