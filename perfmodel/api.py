"""The public functions: names become objects, and each question goes where it is answered."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from perfmodel.answer import Estimate
from perfmodel.hw.device import Device
from perfmodel.models.shape import ModelShape
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

    from perfmodel.mcu.arena import ArenaPlan
    from perfmodel.mcu.network import Network
    from perfmodel.models.phases import Phase
    from perfmodel.planning.answers import PlanAnswer
    from perfmodel.planning.compare import Comparison
    from perfmodel.planning.crossover import Crossover, Mixed
    from perfmodel.planning.memory import CapacityAnswer
    from perfmodel.planning.planner import Rank
    from perfmodel.roofline.model import Launch
    from perfmodel.sweeps import Progress, SweepResult
    from perfmodel.validation import FileReport

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
    launch: Launch = "graph",
) -> Estimate:
    """How long one operator takes; see :func:`perfmodel.roofline.time.estimate`."""
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
    """How long one step of a model takes, or a whole prefill; sizes may be arrays.

    See :func:`perfmodel.models.phases.step` for what they mean, and
    :class:`perfmodel.planning.running.Wish` for the data types when none are named.
    """
    from perfmodel.models import phases
    from perfmodel.planning.running import Wish

    shape, where = model(of), device(on)
    wish = Wish(dtype=dtype, weight_dtype=weight_dtype, kv_dtype=kv_dtype)
    return phases.step(
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
    """How many users of ``context`` tokens fit; see :func:`perfmodel.planning.memory.capacity`."""
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

    See :class:`perfmodel.planning.demand.Demand` for the load,
    :class:`perfmodel.planning.layouts.Search` for what may be chosen (a sequence of data types
    or degrees is a choice), and :func:`perfmodel.planning.planner.plan`. ``relax`` asks easier
    questions too.
    """
    from perfmodel.planning import planner
    from perfmodel.planning.demand import Demand
    from perfmodel.planning.layouts import Search
    from perfmodel.planning.running import Wish

    types = itertools.product(*(_several(d) or [None] for d in (dtype, weight_dtype, kv_dtype)))
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
        tp=None if tp is None else tuple(_several(tp)),
        pp=None if pp is None else tuple(_several(pp)),
        ep=ep,
        max_devices=max_devices,
        chunk=chunk,
        page_size=page_size,
        reserve_bytes=reserve_bytes,
        memory_bytes=memory_bytes,
    )
    return planner.plan(
        model(of),
        [device(d) for d in _several(on)],
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

    devices = [device(d) for d in _several(on)]
    if isinstance(of, Workload):
        return comparing.compare(of, devices, price=price, **question)
    names = ("dtype", "weight_dtype", "kv_dtype")
    wish = Wish(**{n: question.pop(n) for n in names if n in question})
    return comparing.compare_steps(model(of), devices, wish=wish, price=price, **question)


def arena(
    of: Network | str | Path,
    on: DeviceLike,
    *,
    inplace: bool = True,
    fuse: bool = True,
    stream: bool = True,
    overwrite: bool = True,
    depthwise: bool = False,
    reorder: bool = True,
    rows: int = 1,
    external_ram: bool = False,
    reserve_bytes: int | None = None,
    code_bytes: int | None = None,
    align: int | None = None,
) -> ArenaPlan:
    """Whether a network fits a microcontroller, and where every tensor lies.

    ``of`` is a network, a built-in name or a ``.tflite`` or ``.onnx`` file. See
    :class:`perfmodel.mcu.access.Moves` for what may be done to save bytes and
    :func:`perfmodel.mcu.arena.plan_arena` for the answer.
    """
    from perfmodel.mcu import arena as planner
    from perfmodel.mcu.access import Moves
    from perfmodel.mcu.network import Network
    from perfmodel.mcu.networks import alternatives, find_network
    from perfmodel.mcu.reserves import load_reserves

    moves = Moves(
        inplace=inplace,
        fuse=fuse,
        stream=stream,
        overwrite=overwrite,
        depthwise=depthwise,
        reorder=reorder,
        rows=rows,
    )
    network, others = (of, ()) if isinstance(of, Network) else (find_network(of), alternatives(of))
    return planner.plan_arena(
        network,
        device(on),
        moves=moves,
        external_ram=external_ram,
        reserves=load_reserves(reserve_bytes=reserve_bytes, code_bytes=code_bytes, align=align),
        alternatives=others,
    )


def latency(
    of: Network | str | Path,
    on: DeviceLike,
    *,
    runtime: str | None = None,
    dtype: str | None = None,
    clock_hz: float | None = None,
) -> Estimate:
    """How long one inference takes on a microcontroller; see :func:`perfmodel.mcu.cycles.latency`.

    ``of`` is a network, a built-in name or a ``.tflite`` or ``.onnx`` file.
    """
    from perfmodel.mcu import cycles

    return cycles.latency(of, device(on), runtime, dtype, clock_hz)


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
    """Token mixers of one width by context length, doubling from ``shortest`` to ``longest``.

    See :func:`perfmodel.planning.crossover.crossover`.
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


def validate(*files: str | Path) -> list[FileReport]:
    """Predictions beside measurements, one report per file.

    Tidy CSV, pytest-benchmark JSON or Measurement JSON. ``report.factor`` is
    exp(mean |ln(predicted / measured)|), averaged over scenarios and time ranges; rows that cannot
    be predicted are counted in ``report.refused_by_reason``.

    Raises:
        BadValue: an argument is no path.
        MissingFile, MalformedFile: a file is absent or cannot be read.
    """
    from perfmodel.catalog import name_or_path
    from perfmodel.validation import validate_files

    return validate_files([Path(name_or_path(f, "file")) for f in files])


def explain(answer: Estimate | CapacityAnswer | PlanAnswer) -> str:
    """The derivation of an answer, from the terms that made it."""
    from perfmodel.report.explain import explain as told

    return told(answer)


def _several(values: Any) -> list[Any]:
    """One value or many, as a list; none for None."""
    if values is None:
        return []
    single = isinstance(values, str | int | Path | Device | ModelShape | Workload)
    return [values] if single else list(values)
