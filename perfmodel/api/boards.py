"""Questions about microcontrollers: whether a network fits, and how long it takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perfmodel.answer import Estimate
from perfmodel.api.names import DeviceLike, device

if TYPE_CHECKING:
    from perfmodel.mcu.arena import ArenaPlan
    from perfmodel.mcu.network import Network


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
    """Whether a network fits a microcontroller, and where every tensor lies, in bytes.

    ``of`` is a network, a built-in name or a ``.tflite`` or ``.onnx`` file. The switches say what
    may be done to save bytes (:class:`perfmodel.mcu.access.Moves`); ``rows`` is how many rows of an
    image are streamed at a time.

    Raises:
        UnknownName, MissingFile, MalformedFile: no such network or device, or a file that is none.
        BadValue: the device is no microcontroller, or a switch has no such value.

    Source: :func:`perfmodel.mcu.arena.plan_arena`.
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
    """How long one inference takes on a microcontroller, in seconds, with an interval.

    ``of`` is a network, a built-in name or a ``.tflite`` or ``.onnx`` file; ``runtime`` a known
    inference library, the typical one if None; ``clock_hz`` replaces the board's clock.

    Raises:
        UnknownName, MissingFile, MalformedFile: as :func:`arena`; or no such runtime.
        UnsupportedDtype, BadValue: the core has no rate for ``dtype``; the device is no board.

    Source: :func:`perfmodel.mcu.cycles.latency`.
    """
    from perfmodel.mcu import cycles

    return cycles.latency(of, device(on), runtime, dtype, clock_hz)
