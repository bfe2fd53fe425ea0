"""Nothing that was measured beat physics: every committed time lies above its lower bound."""

import pytest

from perfmodel import catalog
from perfmodel.errors import PerfModelError
from perfmodel.hw.load import load_device
from perfmodel.measure.readers import read_measurements
from perfmodel.roofline.time import estimate


@pytest.mark.parametrize("name", catalog.names("measured"))
def test_no_measurement_beats_its_lower_bound(name):
    """A time under its bound would mean a wrong count, a wrong label or a wrong clock."""
    beaten = []
    for row in read_measurements(catalog.find("measured", name)):
        if row.workload is None or row.quantity != "latency":
            continue
        try:
            bound = float(estimate(row.workload, load_device(row.device)).lower_bound_s)
        except PerfModelError:
            continue  # a type that the device has no published rate for
        if row.value < bound:
            beaten.append((row.kernel, row.workload.to_dict(), row.value, bound))

    assert beaten == []
