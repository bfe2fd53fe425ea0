"""The public functions: names become objects, and each question goes where it is answered."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from perfmodel.answer import Estimate
from perfmodel.hw.device import Device
from perfmodel.models.shape import ModelShape
from perfmodel.workload import Workload

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import pandas as pd

    from perfmodel.planning.answers import PlanAnswer
    from perfmodel.planning.compare import Comparison
    from perfmodel.planning.memory import CapacityAnswer
    from perfmodel.planning.planner import Rank
    from perfmodel.sweeps import Progress, SweepResult

DeviceLike: TypeAlias = Device | str | Path
ModelLike: TypeAlias = ModelShape | str | Path


def device(name: DeviceLike) -> Device:
    """A device by name, alias or path of a spec of your own.

    Raises:
        UnknownName: no such device; offers the nearest names.
        MissingFile, MalformedFile: the path is no file, or no device spec.
    """
    from perfmodel.hw.load import load_device

    return name if isinstance(name, Device) else load_device(name)


def model(name: ModelLike) -> ModelShape:
    """A model by name, alias or path of a ``config.json``.

    Raises:
        UnknownName: no such model or model type; says what is known.
        MissingFile, MalformedFile: the path is no file, or no configuration.
    """
    from perfmodel.models.hf import load_model

    return name if isinstance(name, ModelShape) else load_model(name)


def estimate(
    workload: Workload,
    on: DeviceLike,
    *,
    kernel: str | None = None,
    launch: Literal["graph", "stream", "eager"] = "graph",
) -> Estimate:
    """How long one operator takes; see :func:`perfmodel.roofline.time.estimate`."""
    from perfmodel.roofline import time

    return time.estimate(workload, device(on), kernel=kernel, launch=launch)


def step(
    of: ModelLike,
    on: DeviceLike,
    *,
    phase: Literal["prefill", "decode", "mixed", "encode"],
    dtype: str | None = None,
    weight_dtype: str | None = None,
    kv_dtype: str | None = None,
    **sizes: Any,
) -> Estimate:
    """How long a model step takes; sizes as :func:`perfmodel.models.phases.step` names them."""
    from perfmodel.models import phases
    from perfmodel.planning.running import Wish

    shape, where = model(of), device(on)
    wish = Wish(dtype=dtype, weight_dtype=weight_dtype, kv_dtype=kv_dtype)
    types = wish.on(shape, where)
    return phases.step(shape, where, phase=phase, dtypes=types, **sizes)


def capacity(
    of: ModelLike,
    on: DeviceLike,
    *,
    context: int,
    tp: int = 1,
    pp: int = 1,
    ep: int = 1,
    dtype: str | None = None,
    weight_dtype: str | None = None,
    kv_dtype: str | None = None,
    **settings: Any,
) -> CapacityAnswer:
    """How many users fit; settings as :func:`perfmodel.planning.memory.capacity` names them."""
    from perfmodel.models.parallel import Split
    from perfmodel.planning import memory
    from perfmodel.planning.running import Wish

    shape, where = model(of), device(on)
    wish = Wish(dtype=dtype, weight_dtype=weight_dtype, kv_dtype=kv_dtype)
    types = wish.on(shape, where)
    split = Split(tp=tp, pp=pp, ep=ep)
    return memory.capacity(shape, where, context=context, split=split, dtypes=types, **settings)


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
    rank: Rank = "cost",
    price: float | None = None,
    **search: Any,
) -> PlanAnswer:
    """What serves the load; ``search`` as :class:`perfmodel.planning.layouts.Search` names it."""
    from perfmodel.planning import planner
    from perfmodel.planning.demand import Demand
    from perfmodel.planning.layouts import Search
    from perfmodel.planning.running import Wish

    demand = Demand(
        users=users,
        rate=rate,
        prompt=prompt,
        output=output,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        prefix_hit=prefix_hit,
    )
    lists = [_several(d) or [None] for d in (dtype, weight_dtype, kv_dtype)]
    wishes = tuple(
        Wish(dtype=act, weight_dtype=weight, kv_dtype=kv)
        for act, weight, kv in itertools.product(*lists)
    )
    return planner.plan(
        model(of),
        [device(d) for d in _several(on)],
        demand,
        search=Search(dtypes=wishes, **search),
        rank=rank,
        price=price,
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

    Grids as :func:`perfmodel.sweeps.sweep` names them.
    """
    from perfmodel import sweeps

    subjects = [s if isinstance(s, Workload) else model(s) for s in _several(of)]
    devices = [device(d) for d in _several(on)]
    found = sweeps.sweep(subjects, devices, executor=executor, progress=progress, **grids)
    return found if lean else found.to_frame()


def compare(
    of: ModelLike | Workload,
    on: Sequence[DeviceLike],
    *,
    price: float | None = None,
    **question: Any,
) -> Comparison:
    """The same question on two to six devices: keywords of :func:`estimate` or :func:`step`."""
    from perfmodel.planning import compare as comparing
    from perfmodel.planning.running import Wish

    devices = [device(d) for d in on]
    if isinstance(of, Workload):
        return comparing.compare(of, devices, price=price, **question)
    names = ("dtype", "weight_dtype", "kv_dtype")
    wish = Wish(**{n: question.pop(n) for n in names if n in question})
    return comparing.compare_steps(model(of), devices, wish=wish, price=price, **question)


def explain(answer: Estimate | CapacityAnswer | PlanAnswer) -> str:
    """The derivation of an answer, from the terms that made it."""
    from perfmodel.report.explain import explain as told

    return told(answer)


def _several(values: Any) -> list[Any]:
    """One value or many, as a list; none for None."""
    if values is None:
        return []
    single = isinstance(values, str | Path | Device | ModelShape | Workload)
    return [values] if single else list(values)
