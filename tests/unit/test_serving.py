"""The steady state of one replica: its formulas, edges and limits."""

import numpy as np
import pytest

import perfmodel as pm
from perfmodel.models.flow import Dtypes
from perfmodel.models.parallel import Split
from perfmodel.models.timing import step
from perfmodel.planning.demand import Demand
from perfmodel.planning.serving import serve

LLAMA = pm.model("llama-3-8b")
H100 = pm.device("h100-sxm-80gb")


def served(batch, *, pp=1, chunk=2048, **demand):
    asked = {"users": 1, "prompt": 4096, "output": 256} | demand
    return serve(
        LLAMA,
        H100,
        Demand(**asked),
        split=Split(tp=1, pp=pp),
        dtypes=Dtypes(),
        batch=np.asarray(batch, dtype=np.float64),
        chunk=chunk,
    )


def test_a_lone_user_decodes_undisturbed():
    """Nobody else's prompt rides on its steps."""
    found = served([1.0])
    alone = step(LLAMA, H100, phase="decode", batch=1, context=4096 + 128)

    assert found.mixed_share[0] == 0
    assert found.tpot.value[0] == alone.time_s


def test_a_lone_users_first_token():
    """Its two chunks, one after the other, within the decode of one more sequence."""
    found = served([1.0])
    prefill = step(LLAMA, H100, phase="prefill", prompt=4096, chunk=2048)

    assert found.chunks == 2
    assert float(prefill.time_s) < found.ttft.value[0] < 1.1 * float(prefill.time_s)


def test_mixing():
    """TPOT = phi mixed + (1 - phi) decode with phi = (B - 1) n / (n + output - 1)."""
    found = served([8.0])
    phi = 7 * 2 / (2 + 255)

    expected = phi * found.mixed.time_s[0] + (1 - phi) * found.decode.time_s[0]
    assert found.tpot.value[0] == pytest.approx(expected, rel=1e-12)
    assert found.ttft.value[0] == pytest.approx(2 * found.mixed.time_s[0], rel=1e-12)


def test_littles_law():
    """Requests per second are users in flight over the time of a whole request."""
    found = served(np.arange(1.0, 65.0))
    request = found.ttft.value + 255 * found.tpot.value

    assert np.allclose(found.latency.value, request, rtol=1e-12)
    assert np.allclose(found.requests_per_s * request, found.batch, rtol=1e-12)


def test_prefill_saturates():
    """With one output token per long prompt, all steps carry chunks: more users in flight wait,
    and throughput is one request per n chunks.
    """
    found = served(np.array([4.0, 8.0, 16.0]), output=2, prompt=16384)

    assert found.saturated.all()
    per_request = 8 * np.asarray(found.mixed.time_s)
    assert np.allclose(found.requests_per_s * per_request, 1.0, rtol=0.02)
    assert (np.diff(found.ttft.value) > 0).all()


def test_saturation_joins_smoothly():
    """At the edge, life = B n, both expressions of TTFT agree: the waiting request is one."""
    found = served(np.array([2.0]), prompt=8192, output=5, chunk=2048)

    assert not found.saturated[0]
    assert found.mixed_share[0] == pytest.approx(4 / 8)
    assert found.ttft.value[0] == pytest.approx(4 * found.mixed.time_s[0])


def test_prefix_hits_shorten_the_first_token():
    """Fewer tokens to prefill, the same to attend to."""
    none, half, most = (served([4.0], prefix_hit=h) for h in (0.0, 0.5, 0.9))

    assert none.ttft.value > half.ttft.value > most.ttft.value
    assert none.decode.time_s == half.decode.time_s == most.decode.time_s


def test_whole_prompts():
    """Without chunks a prompt is one step."""
    found = served([4.0], chunk=None)

    assert (found.chunks, found.chunk) == (1, 4096)


def test_pipeline_stages_share_a_step():
    """Two stages serve two micro-batches of half the users, one pass each per token, and a
    prompt's chunks follow each other through them.
    """
    found = served([8.0], pp=2)
    micro = step(LLAMA, H100, phase="decode", batch=4, context=4096 + 128, pp=2)

    assert found.decode.time_s[0] == micro.time_s
    assert found.slots[0] == 2 + 2 - 1


def test_intervals_hold_their_times():
    """low <= value <= high, for every time."""
    found = served(np.array([1.0, 8.0, 64.0]))

    for times in (found.ttft, found.tpot, found.latency):
        assert (times.low <= times.value).all()
        assert (times.value <= times.high).all()
