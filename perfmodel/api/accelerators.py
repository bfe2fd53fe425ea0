"""Questions about accelerators: an operator, a step, what fits, what serves, grids, comparisons."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from perfmodel.answer import Estimate
from perfmodel.api.names import DeviceLike, ModelLike, device, model, several
from perfmodel.planning.defaults import (
    MOST_DEVICES,
    PAGE_SIZE,
    PREFILL_CHUNK,
    RESERVE_BYTES,
)
from perfmodel.workload import Size, Workload

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import pandas as pd

    from perfmodel.models.phases import Phase
    from perfmodel.planning.answers import PlanAnswer
    from perfmodel.planning.compare import Comparison
    from perfmodel.planning.crossover import Crossover, Mixed
    from perfmodel.planning.memory import CapacityAnswer
    from perfmodel.planning.planner import Rank
    from perfmodel.roofline.model import Launch
    from perfmodel.sweeps import Progress, SweepResult


def estimate(
    workload: Workload,
    on: DeviceLike,
    *,
    kernel: str | None = None,
    launch: Launch = "graph",
) -> Estimate:
    """How long one operator takes on a device.

    Fields of ``workload`` that are arrays broadcast, and so do the answer's: seconds of that
    shape, an interval, what binds, the terms. ``kernel`` names a known implementation; ``launch``
    is how it is started (``"graph"``, ``"stream"``, ``"eager"``, ...).

    Raises:
        UnsupportedDtype, MissingFigure: the device lacks a rate or a figure that is needed.
        UnknownName: no such device, or nobody measured a kernel of that name.
        BadValue: no operator, or a kernel or a launch that is none.

    Source: :func:`perfmodel.roofline.time.estimate`.
    """
    from perfmodel.roofline import time

    return time.estimate(workload, device(on), kernel=kernel, launch=launch)


def step(
    of: ModelLike,
    on: DeviceLike,
    *,
    phase: Phase,
    batch: Size = 1,
    prompt: Size | None = None,
    context: Size | None = None,
    tp: Size = 1,
    pp: Size = 1,
    ep: Size = 1,
    sequence_parallel: bool = False,
    dtype: str | None = None,
    weight_dtype: str | None = None,
    kv_dtype: str | None = None,
    chunk: Size | None = None,
    engine: str | None = None,
) -> Estimate:
    """How long one step of a model takes, or a whole prefill, in seconds; sizes may be arrays.

    ``batch`` sequences of ``context`` tokens decode one token each, or ``prompt`` tokens each are
    read in pieces of ``chunk``. Data types follow the model's where none are named.

    Raises:
        ImpossibleSplit: the model does not divide by ``tp``, ``pp`` or ``ep``.
        UnknownName, UnsupportedDtype, MissingFigure, BadValue: as :func:`estimate`.

    Source: :func:`perfmodel.models.timing.step`; types by :class:`perfmodel.planning.running.Wish`.
    """
    from perfmodel.models import timing
    from perfmodel.planning.running import Wish

    shape, where = model(of), device(on)
    wish = Wish(dtype=dtype, weight_dtype=weight_dtype, kv_dtype=kv_dtype)
    return timing.step(
        shape,
        where,
        phase=phase,
        batch=batch,
        prompt=prompt,
        context=context,
        tp=tp,
        pp=pp,
        ep=ep,
        sequence_parallel=sequence_parallel,
        dtypes=wish.on(shape, where),
        chunk=chunk,
        engine=engine,
    )


def capacity(
    of: ModelLike,
    on: DeviceLike,
    *,
    context: int,
    users: int = 1,
    tp: int = 1,
    pp: int = 1,
    ep: int = 1,
    dtype: str | None = None,
    weight_dtype: str | None = None,
    kv_dtype: str | None = None,
    page_size: int | None = PAGE_SIZE,
    reserve_bytes: float = RESERVE_BYTES,
    memory_bytes: float | None = None,
    chunk: int | None = PREFILL_CHUNK,
) -> CapacityAnswer:
    """How many users of ``context`` tokens fit beside the weights; sizes in exact bytes.

    ``reserve_bytes`` is what the framework keeps of each device's memory (``memory_bytes`` where
    the spec's capacity is not meant), ``page_size`` the tokens of a page of the cache.

    Raises:
        ImpossibleSplit, UnknownName, UnsupportedDtype, MissingFigure, BadValue: as :func:`step`.

    Source: :func:`perfmodel.planning.memory.capacity`.
    """
    from perfmodel.models.parallel import Split
    from perfmodel.planning import memory
    from perfmodel.planning.running import Wish

    shape, where = model(of), device(on)
    wish = Wish(dtype=dtype, weight_dtype=weight_dtype, kv_dtype=kv_dtype)
    return memory.capacity(
        shape,
        where,
        context=context,
        users=users,
        split=Split(tp=tp, pp=pp, ep=ep),
        dtypes=wish.on(shape, where),
        page_size=page_size,
        reserve_bytes=reserve_bytes,
        memory_bytes=memory_bytes,
        chunk=chunk,
    )


def plan(
    of: ModelLike,
    on: DeviceLike | Sequence[DeviceLike],
    *,
    prompt: int,
    output: int,
    users: int | None = None,
    rate: float | None = None,
    ttft_s: float | None = None,
    tpot_s: float | None = None,
    prefix_hit: float = 0.0,
    dtype: str | Sequence[str] | None = None,
    weight_dtype: str | Sequence[str] | None = None,
    kv_dtype: str | Sequence[str] | None = None,
    tp: int | Sequence[int] | None = None,
    pp: int | Sequence[int] | None = None,
    ep: int = 1,
    max_devices: int = MOST_DEVICES,
    chunk: int | None = PREFILL_CHUNK,
    page_size: int | None = PAGE_SIZE,
    reserve_bytes: float = RESERVE_BYTES,
    memory_bytes: float | None = None,
    rank: Rank = "cost",
    price: float | None = None,
    relax: bool = True,
) -> PlanAnswer:
    """What serves the load within its service levels, best by ``rank`` first.

    The load is ``users`` requests in flight or ``rate`` requests per second, each of ``prompt`` and
    ``output`` tokens; ``ttft_s`` and ``tpot_s`` are means in seconds, ``price`` US dollars per
    device and hour. A sequence of devices, data types or degrees is a choice. ``relax`` asks easier
    questions too where nothing serves.

    Raises:
        ImpossibleSplit, UnknownName, UnsupportedDtype, MissingFigure, BadValue: as :func:`step`.

    Source: :func:`perfmodel.planning.planner.plan`; the load
    :class:`perfmodel.planning.demand.Demand`, the choices
    :class:`perfmodel.planning.layouts.Search`.
    """
    from perfmodel.planning import planner
    from perfmodel.planning.demand import Demand
    from perfmodel.planning.layouts import Search
    from perfmodel.planning.running import Wish

    types = itertools.product(*(several(d) or [None] for d in (dtype, weight_dtype, kv_dtype)))
    demand = Demand(
        users=users,
        rate=rate,
        prompt=prompt,
        output=output,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        prefix_hit=prefix_hit,
    )
    search = Search(
        dtypes=tuple(Wish(dtype=a, weight_dtype=w, kv_dtype=kv) for a, w, kv in types),
        tp=None if tp is None else tuple(several(tp)),
        pp=None if pp is None else tuple(several(pp)),
        ep=ep,
        max_devices=max_devices,
        chunk=chunk,
        page_size=page_size,
        reserve_bytes=reserve_bytes,
        memory_bytes=memory_bytes,
    )
    return planner.plan(
        model(of),
        [device(d) for d in several(on)],
        demand,
        search=search,
        rank=rank,
        price=price,
        relax=relax,
    )


def sweep(
    of: ModelLike | Workload | Sequence[ModelLike],
    on: DeviceLike | Sequence[DeviceLike],
    *,
    lean: bool = False,
    executor: Executor | None = None,
    progress: Progress | None = None,
    **grids: Any,
) -> pd.DataFrame | SweepResult:
    """Predictions over a grid, as a data frame or, ``lean``, as arrays with their axes.

    ``grids`` are sequences by name (``batch=[1, 8]``): numbers become axes of one evaluation, names
    a loop, which ``executor`` may share out. Times are seconds.

    Raises:
        UnknownName: no such axis, device or model.
        BadValue: a grid without entries, or of values that are none.
        UnsupportedDtype, MissingFigure, ImpossibleSplit: as :func:`step`.

    Source: :func:`perfmodel.sweeps.sweep`.
    """
    from perfmodel import sweeps

    subjects = [s if isinstance(s, Workload) else model(s) for s in several(of)]
    devices = [device(d) for d in several(on)]
    found = sweeps.sweep(subjects, devices, executor=executor, progress=progress, **grids)
    return found if lean else found.to_frame()


def compare(
    of: ModelLike | Workload,
    on: Sequence[DeviceLike],
    *,
    price: float | None = None,
    **question: Any,
) -> Comparison:
    """The same question on two to six devices: keywords of :func:`estimate` or :func:`step`.

    ``price`` is US dollars per device and hour, for all of them, in place of their specs'.

    Raises:
        BadValue: too few or too many devices; else as the question asked.

    Source: :mod:`perfmodel.planning.compare`.
    """
    from perfmodel.planning import compare as comparing
    from perfmodel.planning.running import Wish

    devices = [device(d) for d in several(on)]
    if isinstance(of, Workload):
        return comparing.compare(of, devices, price=price, **question)
    names = ("dtype", "weight_dtype", "kv_dtype")
    wish = Wish(**{n: question.pop(n) for n in names if n in question})
    return comparing.compare_steps(model(of), devices, wish=wish, price=price, **question)


def crossover(
    on: DeviceLike,
    *,
    phase: Mixed = "decode",
    batch: int = 1,
    heads: int = 32,
    kv_heads: int | None = None,
    head_dim: int = 128,
    shortest: int = 64,
    longest: int = 131_072,
    dtype: str = "bf16",
    price: float | None = None,
) -> Crossover:
    """Token mixers of one width by context, doubling from ``shortest`` to ``longest`` tokens.

    Seconds of a whole mixer on ``batch`` sequences, and from which length on each is the fastest.

    Raises:
        BadValue: lengths or heads that do not go together.
        UnknownName, UnsupportedDtype, MissingFigure: as :func:`estimate`.

    Source: :func:`perfmodel.planning.crossover.crossover`.
    """
    from perfmodel.planning import crossover as crossing

    mixing = crossing.Mixing(
        phase=phase,
        batch=batch,
        heads=heads,
        head_dim=head_dim,
        kv_heads=heads if kv_heads is None else kv_heads,
        dtype=dtype,
    )
    contexts = crossing.doubling(shortest, longest)
    return crossing.crossover(device(on), mixing, contexts, price=price)
