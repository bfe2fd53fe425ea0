"""Laws of collectives on any topology: more bytes, more ranks, more nodes never help."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.errors import BadValue
from perfmodel.hw.load import load_device
from perfmodel.ops.collective import link_bytes
from perfmodel.roofline.classes.nccl import Line, chosen
from perfmodel.roofline.time import estimate
from perfmodel.workload import Collective

DEVICES = (
    "a100-sxm-80gb", "a100-pcie-80gb", "v100-sxm2-32gb", "h100-sxm-80gb", "h200-sxm", "b200-sxm",
    "l40s", "a40", "gb200",
)  # fmt: skip
KINDS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv")
SIZES = np.unique(np.rint(2.0 ** np.arange(0.0, 36.0, 0.125))).astype(np.int64)
SAME_NODE = [2, 3, 4, 6, 8]

devices = st.sampled_from(DEVICES).map(load_device)
networked = st.sampled_from(("a100-sxm-80gb", "h100-sxm-80gb", "h200-sxm")).map(load_device)
kinds = st.sampled_from(KINDS)


@given(
    device=devices, kind=kinds, ranks=st.integers(2, 8), launch=st.sampled_from(["graph", "eager"])
)
def test_more_bytes_never_take_less(device, kind, ranks, launch):
    """From one byte to 64 GB, through every protocol, limit and switch."""
    work = Collective(bytes=SIZES, ranks=ranks, kind=kind)
    kernels = (None, "nccl/NCCL")
    if kind == "all_reduce":
        kernels += ("vllm/vLLM_custom_graph", "vllm/vLLM_custom_eager", "trtllm/TRTLLM")
    for kernel in kernels:
        assert np.all(np.diff(estimate(work, device, kernel=kernel, launch=launch).time_s) >= 0.0)


@given(device=networked, kind=kinds, nodes=st.integers(2, 64), each=st.sampled_from([1, 2, 4, 8]))
def test_more_bytes_between_nodes_never_take_less(device, kind, nodes, each):
    """The same where a network joins the ranks."""
    work = Collective(bytes=SIZES, ranks=nodes * each, kind=kind, ranks_per_node=each)
    assert np.all(np.diff(estimate(work, device).time_s) >= 0.0)


@given(device=devices, kind=kinds, ranks=st.integers(1, 8), size=st.integers(1, 10**11))
def test_never_faster_than_the_link(device, kind, ranks, size):
    """Bytes over the link's rate: those of a ring, or the buffer once where switches add it up."""
    work = Collective(bytes=size, ranks=ranks, kind=kind)
    found = estimate(work, device)
    link = device.peer_link or device.host_link
    sent = float(link_bytes(work))
    if link.reduction and kind == "all_reduce":
        sent = min(sent, size)

    assert found.lower_bound_s >= sent / link.bandwidth_bytes_per_s * (1 - 1e-12)
    assert found.time_s >= found.lower_bound_s


@pytest.mark.parametrize("size", [256, 2**32])
@pytest.mark.parametrize("kind", KINDS[:4])
@given(device=devices)
def test_more_ranks_of_a_node_never_take_less_in_one_protocol(device, kind, size):
    """A few bytes go by LL, gigabytes by Simple, however many ranks; where switches add up, that
    takes no ring. In between NCCL changes protocols with the ranks, and two may take longer than
    four."""
    linked = device.peer_link and replace(device.peer_link, reduction=0.0)
    work = Collective(bytes=size, ranks=np.array(SAME_NODE), kind=kind)
    assert np.all(np.diff(estimate(work, replace(device, peer_link=linked)).time_s) > 0.0)


@given(device=networked, kind=st.sampled_from(KINDS[:3]), size=st.integers(1, 10**10))
def test_more_nodes_never_take_less(device, kind, size):
    """Twice the nodes: more steps, more bytes."""
    work = Collective(bytes=size, ranks=8 * 2 ** np.arange(1, 9), kind=kind, ranks_per_node=8)
    assert np.all(np.diff(estimate(work, device).time_s) >= 0.0)


@given(device=networked)
def test_a_tree_of_nodes_grows_by_a_level(device):
    """A few bytes climb a tree: every doubling of many nodes costs the same."""
    work = Collective(bytes=8, ranks=8 * 2 ** np.arange(5, 12), ranks_per_node=8)
    levels = np.diff(estimate(work, device).time_s)
    assert levels == pytest.approx(levels[0], rel=1e-6)


@given(size=st.integers(2**28, 2**36), ranks=st.integers(5, 8))
def test_switches_that_add_up_spare_bytes(size, ranks):
    """Large all-reduces are faster; other collectives are the same."""
    device = load_device("h200-sxm")
    rings = replace(device, peer_link=replace(device.peer_link, reduction=0.0))
    reduce, gather = (
        Collective(bytes=size, ranks=ranks, kind=k) for k in ("all_reduce", "all_gather")
    )
    assert estimate(reduce, device).time_s < estimate(reduce, rings).time_s
    assert estimate(gather, device).time_s == estimate(gather, rings).time_s


def line(asked, slowness, fixed, per_byte):
    return Line(*(np.float64(x) for x in (asked, slowness, fixed, per_byte)))


def test_the_table_chooses_and_the_fit_tells_how_long():
    """Asked 1 + 4 S, 3 + 2 S, 7 + S: left at 1 and at 4 bytes, whatever the choice then takes."""
    lines = [line(1, 4, 10, 1), line(3, 2, 20, 1), line(7, 1, 5, 1)]
    sizes = np.array([0.5, 0.999, 1.0, 3.999, 4.0, 25.0])
    fixed, moving = chosen(lines, sizes, np.float64(1.0))
    assert (fixed + moving).tolist() == [10.5, 10.999, 21.0, 23.999, 24.0, 30.0]


def test_a_protocol_that_is_never_the_least_is_never_run():
    """The middle one asks for more than either of the others at every size."""
    lines = [line(1, 4, 10, 1), line(6, 3, 1000, 1), line(3, 2, 20, 1)]
    fixed, _ = chosen(lines, np.array([0.5, 1.5, 2.5, 100.0]), np.float64(1.0))
    assert fixed.tolist() == [10.0, 20.0, 20.0, 20.0]


def test_kernels_that_read_peers_do_not_leave_the_node():
    """A named one over two nodes is refused, not answered as if NVLink reached there."""
    work = Collective(bytes=1024, ranks=16, ranks_per_node=8)
    with pytest.raises(BadValue, match="one node"):
        estimate(work, load_device("a100-sxm-80gb"), kernel="vllm/vLLM_custom_graph")


@pytest.mark.parametrize(
    ("kernel", "limit"), [("vllm/x_custom", 8 * 2**20), ("trtllm/trtllm", 3 * 2**19)]
)
def test_large_all_reduces_of_engines_are_left_to_nccl(kernel, limit):
    """The last byte before the limit is their own kernel's, and cheaper than NCCL's first."""
    device = load_device("a100-sxm-80gb")
    before, after = (
        estimate(Collective(bytes=size, ranks=2), device, kernel=kernel).time_s
        for size in (limit - 1, limit)
    )
    assert after > 1.2 * before
