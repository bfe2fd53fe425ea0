"""Time the grid within a budget: gates first, then rows in an order whose prefixes are balanced.

Rows already in the output folder are kept and not timed again, so that a run can be resumed. A
row that fails (no kernel for the shape, no memory, too long) is noted with its reason.
"""

from __future__ import annotations

import json
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from perfmodel.errors import PerfModelError
from perfmodel.workload import workload_from_dict
from refkernels._check import Gate
from refkernels._clocks import Load, LoadMonitor
from refkernels._record import gpu_device, kernel_time, measurement_file, write_json
from refkernels._timing import Timing, rotation_sets, time_kernel
from refkernels.library import calls, oracles
from refkernels.library.cases import ROWS, Case, gate_cases, gate_key, schedule
from refkernels.library.pools import Pools

TIMED_S = 0.02
"""Device seconds of timed replays of one row."""
ROW_LIMIT_S = 15.0
"""Wall seconds after which a row is given up: compilation and tuning included."""
LONGEST_CALL_S = 0.05
SAVE_EVERY_S = 20.0
FAMILY_SHARE = 0.3
"""The most of the time that one family may take."""

Entry = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Grid:
    """What has been measured so far, by family, and what was left out and why."""

    entries: dict[str, list[Entry]] = field(default_factory=dict)
    skipped: list[dict[str, object]] = field(default_factory=list)

    def keys(self) -> set[tuple[object, ...]]:
        """The cases that need no timing."""
        return {entry_key(e) for rows in self.entries.values() for e in rows}

    @property
    def rows(self) -> int:
        """Rows of all families."""
        return sum(len(rows) for rows in self.entries.values())

    def skip(self, case: Case, reason: str) -> None:
        """Note a case that has no time."""
        self.skipped.append(
            {
                "family": case.family,
                "kernel": case.kernel,
                "workload": case.workload.to_dict(),
                "launch": case.launch,
                "reason": reason[:300],
            }
        )


def entry_key(entry: Mapping[str, Any]) -> tuple[object, ...]:
    """A recorded row's :attr:`Case.key`."""
    return entry["kernel"], entry["launch"], workload_from_dict(entry["workload"]).key()


def file_name(device: str, family: str) -> str:
    """The file of one family."""
    return f"{device}-library-{family}.json"


def load(folder: Path, device: str) -> Grid:
    """What earlier runs left in ``folder``."""
    grid = Grid()
    for family in ROWS:
        path = folder / file_name(device, family)
        if path.is_file():
            grid.entries[family] = json.loads(path.read_text())["measurements"]
    return grid


def save(grid: Grid, folder: Path, device: Mapping[str, object]) -> None:
    """Every family's file, and what was left out."""
    for family, rows in grid.entries.items():
        path = folder / file_name(str(device["name"]), family)
        content = measurement_file(device, rows)
        skipped = [s for s in grid.skipped if s["family"] == family]
        write_json(path, content | ({"skipped": skipped} if skipped else {}))


def collect(
    cases: Sequence[Case],
    grid: Grid,
    *,
    measure: Callable[[Case], Entry],
    deadline_s: float,
    clock: Callable[[], float] = time.monotonic,
    keep: Callable[[], None] = lambda: None,
) -> None:
    """Measure ``cases`` in order into ``grid`` until the clock passes ``deadline_s``.

    A family whose rows have taken :data:`FAMILY_SHARE` of the time is left alone from then on, so
    that slow tuning of one does not cost the others. ``keep`` is called now and then, and at the
    end, to put what there is on disk.
    """
    known, start = grid.keys(), clock()
    spent: dict[str, float] = dict.fromkeys(ROWS, 0.0)
    saved = start
    for case in cases:
        began = clock()
        if began >= deadline_s:
            break
        if case.key in known or spent[case.family] > FAMILY_SHARE * (deadline_s - start):
            continue
        try:
            with limited(ROW_LIMIT_S):
                grid.entries.setdefault(case.family, []).append(measure(case))
        except (PerfModelError, RuntimeError, TimeoutError, ValueError, AssertionError) as error:
            grid.skip(case, f"{type(error).__name__}: {error}")
        spent[case.family] += clock() - began
        if clock() - saved > SAVE_EVERY_S:
            keep()
            saved = clock()
    keep()


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises TimeoutError inside after ``seconds`` of wall time."""

    def give_up(signum: int, frame: FrameType | None) -> None:
        msg = f"took longer than {seconds:g} s"
        raise TimeoutError(msg)

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """The device under measurement: pools of inputs, and the verdicts of the gates."""

    pools: Pools
    gates: Mapping[tuple[str, str], Gate | str]
    framework: str

    def measure(self, case: Case) -> Entry:
        """One row; raises RuntimeError where its gate is not green or it would take too long."""
        verdict = self.gates.get(gate_key(case), "no case of this kernel passed its gate")
        if isinstance(verdict, str) or not verdict.passed:
            msg = f"gate: {verdict}"
            raise RuntimeError(msg)
        sets = rotation_sets(case.moved_bytes)
        call = calls.build(case, self.pools, sets)
        about_s = rough(call, sets, self.pools.torch)
        if about_s > LONGEST_CALL_S:
            msg = f"one call takes {about_s:.3g} s"
            raise RuntimeError(msg)
        if case.launch == "eager":
            timing = eager(call, sets, self.pools.torch)
        else:
            timing = replayed(call, sets, about_s, self.pools.torch)
        return kernel_time(
            case.workload,
            case.kernel,
            timing,
            flops=case.flops,
            moved_bytes=case.moved_bytes,
            gate=verdict,
            framework=self.framework,
            launch=case.launch,
        )


def check(cases: Sequence[Case], pools: Pools) -> dict[tuple[str, str], Gate | str]:
    """The verdict on every kernel and data type, or why there is none."""
    found: dict[tuple[str, str], Gate | str] = {}
    for key, case in gate_cases(cases).items():
        try:
            with limited(4 * ROW_LIMIT_S):
                found[key] = oracles.gate(case, pools)
        except (PerfModelError, RuntimeError, TimeoutError, ValueError, AssertionError) as error:
            found[key] = f"{type(error).__name__}: {error}"[:300]
        sys.stderr.write(f"gate {key[0]} {key[1]}: {found[key]}\n")
    return found


def rough(call: calls.Call, sets: int, torch: Any) -> float:
    """About how long a call takes, warm-up and compilation behind it."""
    call(0)
    torch.cuda.synchronize()
    count, start = 3, time.perf_counter()
    for i in range(count):
        call(i % sets)
    torch.cuda.synchronize()
    return max((time.perf_counter() - start) / count, 2e-6)


def replayed(call: calls.Call, sets: int, about_s: float, torch: Any) -> Timing:
    """Kernel time: replays of a graph that goes through the sets."""
    import cupy

    from refkernels.int8_gemm.peers import capture_torch

    def on_current(i: int) -> None:
        with torch.cuda.stream(torch.cuda.ExternalStream(cupy.cuda.get_current_stream().ptr)):
            call(i)

    return time_kernel(
        on_current, sets=sets, budget_s=TIMED_S, capture=capture_torch, rough_s=about_s
    )


def eager(call: calls.Call, sets: int, torch: Any, samples: int = 7) -> Timing:
    """Time per call of a loop in Python, as an eager program has it."""
    count, times = 200, []
    with LoadMonitor() as monitor:
        for _ in range(samples + 2):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for i in range(count):
                call(i % sets)
            torch.cuda.synchronize()
            times.append((time.perf_counter() - start) / count)
    return quartiles(times[2:], monitor.load())


def quartiles(times: list[float], load: Load) -> Timing:
    """A Timing of host-paced samples."""
    p25, median, p75 = statistics.quantiles(times, n=4)
    return Timing(
        time_s=median,
        p25_s=p25,
        p75_s=p75,
        samples_s=tuple(times),
        stream_time_s=None,
        sm_clock_hz=load.sm_clock_hz,
        power_w=load.power_w,
    )


def run(folder: Path, device_name: str | None, budget_s: float) -> Grid:
    """Gates, then the grid, until ``budget_s`` seconds after the start; files in ``folder``."""
    calls.require_torch()
    import torch

    start = time.monotonic()
    torch.backends.cuda.matmul.allow_tf32 = False
    device = gpu_device(device_name)
    pools, cases = Pools(), schedule()
    gates = check(cases, pools)
    sys.stderr.write(f"gates after {time.monotonic() - start:.0f} s\n")
    stand = Stand(pools=pools, gates=gates, framework=f"torch-{torch.__version__}")
    grid = load(folder, str(device["name"]))

    def keep() -> None:
        save(grid, folder, device)
        torch.cuda.empty_cache()
        sys.stderr.write(f"{grid.rows} rows after {time.monotonic() - start:.0f} s\n")

    collect(cases, grid, measure=stand.measure, deadline_s=start + budget_s, keep=keep)
    return grid
