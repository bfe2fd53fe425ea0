"""Clock and power of the GPU, sampled in the background while something runs on it."""

from __future__ import annotations

import statistics
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Medians over a run; None where the driver library cannot be asked."""

    sm_clock_hz: float | None
    power_w: float | None


class LoadMonitor:
    """``with LoadMonitor() as monitor: ...`` then ``monitor.load()``.

    Samples every 2 ms from a thread; needs ``nvidia-ml-py`` and answers None without it. The
    device is found by PCI address, so that CUDA's device order does not matter.
    """

    def __init__(self) -> None:
        self._nvml, self._handle = _open()
        self._stop = threading.Event()
        self._samples: list[tuple[float, float]] = []
        self._thread: threading.Thread | None = None

    def __enter__(self) -> LoadMonitor:
        if self._handle is not None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            clock = self._nvml.nvmlDeviceGetClockInfo(self._handle, self._nvml.NVML_CLOCK_SM)
            self._samples.append((clock * 1e6, _power_w(self._nvml, self._handle)))
            self._stop.wait(0.002)

    def load(self) -> Load:
        """The medians of the later half of the samples (the driver's figures lag the load)."""
        late = self._samples[len(self._samples) // 2 :]
        if not late:
            return Load(sm_clock_hz=None, power_w=None)
        return Load(
            sm_clock_hz=statistics.median(clock for clock, _ in late),
            power_w=statistics.median(power for _, power in late),
        )


def _power_w(nvml: Any, handle: Any) -> float:
    """Power now; the plain query averages over a second, longer than most measurements last."""
    field = nvml.nvmlDeviceGetFieldValues(handle, [nvml.NVML_FI_DEV_POWER_INSTANT])[0]
    if field.nvmlReturn == nvml.NVML_SUCCESS:
        return float(field.value.uiVal) / 1e3
    return float(nvml.nvmlDeviceGetPowerUsage(handle)) / 1e3


def _open() -> tuple[Any, Any]:
    try:
        import pynvml
    except ImportError:
        return None, None
    import cupy

    address = cupy.cuda.Device().pci_bus_id
    try:
        pynvml.nvmlInit()
        return pynvml, pynvml.nvmlDeviceGetHandleByPciBusId(address.encode())
    except pynvml.NVMLError:
        return None, None
