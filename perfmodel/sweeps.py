"""Grids of predictions: one vectorised evaluation per categorical combination.

Numeric axes (batch, context, tp, m, n, ...) become open NumPy grids, so a product that does not
depend on an axis is evaluated once for it. Models, devices, phases and data types are categorical:
each combination is one evaluation, cut along its first numeric axis into blocks that fit a cache.
Blocks are independent, so any ``concurrent.futures.Executor`` can run them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from perfmodel.answer import Estimate
from perfmodel.errors import BadValue, MissingData, PerfModelError, UnknownName, UnsupportedDtype
from perfmodel.hw.device import Device
from perfmodel.models.shape import ModelShape
from perfmodel.models.timing import step
from perfmodel.planning.running import Wish
from perfmodel.roofline.time import estimate
from perfmodel.workload import Workload, check_size

if TYPE_CHECKING:
    import pandas as pd

Subject: TypeAlias = ModelShape | Workload
Progress: TypeAlias = Callable[[int, int], None]
"""Called with the points done and the points in all."""

BLOCK = 2**18
"""Points per block: its arrays stay in a core's share of the last-level cache."""

MOST_POINTS = 2**25
"""Predictions of one sweep, about 100 bytes each; larger grids are refused before they are made."""

STEP_SIZES = ("batch", "context", "prompt", "tp", "pp", "ep")
STEP_CHOICES = ("phase", "dtype", "weight_dtype", "kv_dtype")
QUANTITIES = ("time_s", "low_s", "high_s", "lower_bound_s")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SweepResult:
    """Predictions over a grid. Every array has one dimension per axis, in the axes' order.

    ``refused`` maps a combination of categorical values to why it has no answer (NaN there).
    """

    axes: Mapping[str, NDArray[Any]]
    time_s: NDArray[np.float64]
    low_s: NDArray[np.float64]
    high_s: NDArray[np.float64]
    lower_bound_s: NDArray[np.float64]
    bound: NDArray[np.str_]
    refused: Mapping[tuple[str, ...], str]

    @property
    def size(self) -> int:
        """Number of predictions."""
        return int(self.time_s.size)

    def to_frame(self) -> pd.DataFrame:
        """One row per point: a column per axis, then the times in seconds and what binds."""
        import pandas as pd

        columns: dict[str, Any] = {}
        for place, (name, values) in enumerate(self.axes.items()):
            columns[name] = _column(pd, place, values, self.time_s.shape)
        columns |= {name: getattr(self, name).ravel() for name in QUANTITIES}
        columns["bound"] = _category(pd, self.bound.ravel())
        return pd.DataFrame(columns)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """A piece of a grid, complete in itself: it can be sent to another process."""

    subject: Subject
    device: Device
    choices: Mapping[str, str]
    sizes: Mapping[str, NDArray[np.int64]]
    where: tuple[int | slice, ...]

    @property
    def points(self) -> int:
        """Number of predictions."""
        return int(np.prod([len(v) for v in self.sizes.values()], dtype=np.int64))


def sweep(
    subjects: Subject | Sequence[Subject],
    devices: Device | Sequence[Device],
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
    **grids: Any,
) -> SweepResult:
    """Predictions over the product of models (or one workload), devices and ``grids``.

    For models, grids are ``phase`` (default decode), ``batch``, ``context``, ``prompt``, ``tp``,
    ``pp``, ``ep``, ``dtype``, ``weight_dtype`` and ``kv_dtype``; for a workload they are its own
    fields. Each is a value or a sequence of values. A device that lacks a data type or a figure
    gives NaN and a reason in ``refused``, unless all do.

    Raises:
        UnknownName: a grid that the subject does not have.
        BadValue: no subject, no device, an empty grid, values out of range, or more than
            ``MOST_POINTS`` predictions.
        ImpossibleSplit: a split that a model forbids.
    """
    subjects, devices = _several(subjects, "models"), _several(devices, "devices")
    sizes, choices = _sort_grids(subjects, grids)
    axes = _axes(subjects, devices, sizes, choices)
    _check_points(axes)
    blocks = list(_blocks(subjects, devices, sizes, choices))
    result = _empty(axes)
    refusals: dict[tuple[str, ...], PerfModelError] = {}
    done, total = 0, result.size
    for block, answer in _run(blocks, executor):
        if isinstance(answer, PerfModelError):
            refusals[(_name(block.subject), block.device.name, *block.choices.values())] = answer
        else:
            for name, values in answer.items():
                getattr(result, name)[block.where] = values
        done += block.points
        if progress is not None:
            progress(done, total)
    if refusals and bool(np.all(np.isnan(result.time_s))):
        raise next(iter(refusals.values()))
    return replace(result, refused={key: str(error) for key, error in refusals.items()})


def evaluate_block(block: Block) -> dict[str, NDArray[Any]] | PerfModelError:
    """The arrays of a block, or the refusal of its device."""
    names = list(block.sizes)
    grids = dict(zip(names, np.ix_(*block.sizes.values()), strict=True)) if names else {}
    shape = tuple(len(v) for v in block.sizes.values())
    try:
        found = _predict(block.subject, block.device, dict(block.choices), grids)
    except (UnsupportedDtype, MissingData) as refusal:
        return refusal
    return {name: np.broadcast_to(getattr(found, name), shape) for name in (*QUANTITIES, "bound")}


def _predict(
    subject: Subject, device: Device, choices: dict[str, str], grids: dict[str, Any]
) -> Estimate:
    if isinstance(subject, Workload):
        follow = _following(subject) if "dtype" in choices else {}
        return estimate(replace(subject, **(follow | choices), **grids), device)
    names = ("dtype", "weight_dtype", "kv_dtype")
    dtypes = Wish(**{n: choices[n] for n in names if n in choices}).on(subject, device)
    phase: Any = choices.get("phase", "decode")
    return step(subject, device, phase=phase, dtypes=dtypes, **grids)


def _following(workload: Workload) -> dict[str, None]:
    """The data types that nobody named, so that they follow ``dtype`` along its axis."""
    free = {f.name: None for f in fields(workload) if f.name in workload.DTYPES and not f.default}
    default: Any = replace(workload, **free)
    return {name: None for name in free if getattr(default, name) == getattr(workload, name)}


def _run(
    blocks: Sequence[Block], executor: Executor | None
) -> Iterator[tuple[Block, dict[str, NDArray[Any]] | PerfModelError]]:
    if executor is None:
        for block in blocks:
            yield block, evaluate_block(block)
        return
    waiting = {executor.submit(evaluate_block, block): block for block in blocks}
    for future in as_completed(waiting):
        yield waiting[future], future.result()


def _blocks(
    subjects: Sequence[Subject],
    devices: Sequence[Device],
    sizes: Mapping[str, NDArray[np.int64]],
    choices: Mapping[str, tuple[str, ...]],
) -> Iterator[Block]:
    lists = (subjects, devices, *choices.values())
    inner = int(np.prod([len(v) for v in list(sizes.values())[1:]], dtype=np.int64))
    rows = max(1, BLOCK // max(1, inner))
    for place in itertools.product(*(range(len(values)) for values in lists)):
        subject, device, *chosen = (values[i] for values, i in zip(lists, place, strict=True))
        named: dict[str, Any] = dict(zip(choices, chosen, strict=True))
        for where, part in _parts(sizes, rows):
            yield Block(
                subject=subject,  # type: ignore[arg-type]  # the first list holds subjects
                device=device,  # type: ignore[arg-type]  # the second holds devices
                choices=named,
                sizes=part,
                where=(*place, *where),
            )


def _parts(
    sizes: Mapping[str, NDArray[np.int64]], rows: int
) -> Iterator[tuple[tuple[slice, ...], dict[str, NDArray[np.int64]]]]:
    """The grid cut along its first axis, ``rows`` values at a time."""
    if not sizes:
        yield (), {}
        return
    first, *others = sizes
    whole = tuple(slice(None) for _ in others)
    for start in range(0, len(sizes[first]), rows):
        cut = slice(start, start + rows)
        yield (cut, *whole), {first: sizes[first][cut], **{o: sizes[o] for o in others}}


def _sort_grids(
    subjects: Sequence[Subject], grids: Mapping[str, Any]
) -> tuple[dict[str, NDArray[np.int64]], dict[str, tuple[str, ...]]]:
    """Numeric axes and categorical axes, each in the order given."""
    known_sizes, known_choices = _known(subjects)
    sizes: dict[str, NDArray[np.int64]] = {}
    choices: dict[str, tuple[str, ...]] = {}
    for name, values in grids.items():
        if name in known_sizes:
            sizes[name] = _numbers(name, values)
        elif name in known_choices:
            choices[name] = tuple(str(v) for v in _several(values, name))
        else:
            raise UnknownName("sweep axis", name, (*known_sizes, *known_choices))
    return sizes, choices


def _known(subjects: Sequence[Subject]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    workloads = [s for s in subjects if isinstance(s, Workload)]
    if not workloads:
        return STEP_SIZES, STEP_CHOICES
    if len(subjects) > 1:
        msg = "one workload at a time, and no models beside it"
        raise BadValue(msg, field="subjects", fix="one sweep per workload")
    return tuple(workloads[0].SIZES), (*workloads[0].DTYPES, *workloads[0].CHOICES)


def _numbers(name: str, values: Any) -> NDArray[np.int64]:
    array = np.atleast_1d(np.asarray(values))
    if array.ndim != 1:
        msg = f"must be numbers in one dimension, got {array.ndim}"
        raise BadValue(msg, field=name, fix="[1, 2, 4, 8]")
    return np.asarray(check_size(array, name), dtype=np.int64)


def _several(values: Any, field: str) -> tuple[Any, ...]:
    single = isinstance(values, str) or not isinstance(values, Iterable)
    found = (values,) if single else tuple(values)
    if not found:
        msg = "has no value"
        raise BadValue(msg, field=field, fix="at least one")
    return found


def _axes(
    subjects: Sequence[Subject],
    devices: Sequence[Device],
    sizes: Mapping[str, NDArray[np.int64]],
    choices: Mapping[str, tuple[str, ...]],
) -> dict[str, NDArray[Any]]:
    """Axes in the order of the arrays' dimensions."""
    head = "op" if isinstance(subjects[0], Workload) else "model"
    names = {
        head: np.array([_name(s) for s in subjects]),
        "device": np.array([d.name for d in devices]),
    }
    return names | {k: np.array(v) for k, v in choices.items()} | dict(sizes)


def _check_points(axes: Mapping[str, NDArray[Any]]) -> None:
    points = math.prod(len(values) for values in axes.values())
    if points > MOST_POINTS:
        longest = max(axes, key=lambda name: len(axes[name]))
        msg = f"makes a grid of {points:,} predictions, more than {MOST_POINTS:,}"
        raise BadValue(msg, field=longest, fix="fewer values, or several sweeps")


def _name(subject: Subject) -> str:
    return subject.op if isinstance(subject, Workload) else subject.name


def _empty(axes: Mapping[str, NDArray[Any]]) -> SweepResult:
    shape = tuple(len(v) for v in axes.values())
    numbers = {name: np.full(shape, np.nan) for name in QUANTITIES}
    return SweepResult(axes=axes, bound=np.full(shape, "", dtype="U16"), refused={}, **numbers)


def _column(pd: Any, place: int, values: NDArray[Any], shape: tuple[int, ...]) -> Any:
    """An axis repeated over the grid; names as categories, which cost one byte each."""
    index = np.arange(len(values), dtype=np.int64 if values.dtype.kind != "U" else np.int16)
    lie = [1] * len(shape)
    lie[place] = len(values)
    spread = np.broadcast_to(index.reshape(lie), shape).ravel()
    if values.dtype.kind != "U":
        return values[spread]
    names, codes = np.unique(values, return_inverse=True)
    return pd.Categorical.from_codes(codes[spread], names.tolist())


def _category(pd: Any, values: NDArray[np.str_]) -> Any:
    """Few distinct names as codes: one comparison per name, where sorting millions is slow."""
    codes = np.full(values.shape, -1, dtype=np.int8)
    names: list[str] = []
    left = np.flatnonzero(codes < 0)[:1]
    while left.size:
        names.append(str(values[left[0]]))
        codes[values == names[-1]] = len(names) - 1
        left = np.flatnonzero(codes < 0)[:1]
    return pd.Categorical.from_codes(codes, names)
