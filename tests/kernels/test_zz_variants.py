import sys
sys.path.insert(0, "/work/wt/attn")
import pytest
from tests.kernels.test_attention_emulated import agrees, run_prefill, MASKS

from refkernels.attention import device
from refkernels.attention.naive import Form
from refkernels.sigmoid_attention.device import RUNGS as SIGMOID

@pytest.mark.parametrize("d", [dict(), dict(QUERY_STAGES=2), dict(TILE_N=64, CONSUMERS=2)])
@pytest.mark.parametrize("m", MASKS)
def test_flash(run_prefill, d, m):
    lens, form = MASKS[m]
    agrees(run_prefill, device.RUNGS["05_persistent"], lens, (2, 1), form, 64, defines=d)

def test_d128(run_prefill):
    lens, form = MASKS["causal, fewer queries"]
    agrees(run_prefill, device.RUNGS["05_persistent"], lens, (2, 1), form, 128, defines=dict(QUERY_STAGES=2))
