import sys
sys.path.insert(0, "/work/wt/attn")
import pytest
from tests.kernels.test_attention_emulated import agrees, run_prefill, MASKS

from refkernels.attention import device
from refkernels.attention.naive import Form
from refkernels.sigmoid_attention.device import RUNGS as SIGMOID
@pytest.mark.parametrize("d", [dict(TILE_N=192, CONSUMERS=2), dict(TILE_N=64, CONSUMERS=4)])
@pytest.mark.parametrize("m", ["causal, fewer queries", "all keys"])
def test_flash(run_prefill, d, m):
    lens, form = MASKS[m]
    agrees(run_prefill, device.RUNGS["05_persistent"], lens, (2, 1), form, 64, defines=d)
@pytest.mark.parametrize("bias", [None, 0.0, 3.0, -9.0])
@pytest.mark.parametrize("d", [dict(FORM=3), dict(FORM=2, RCP_EVERY=4)])
def test_sig(run_prefill, bias, d):
    form = Form(causal=True, score="sigmoid", bias=bias)
    agrees(run_prefill, SIGMOID["02_persistent"], (140, 500), (2, 1), form, 64, defines=d)

@pytest.mark.parametrize("bias", [None, 0.0])
@pytest.mark.parametrize("d", [dict(FORM=3, AHEAD=1, TILE_N=80, CONSUMERS=2), dict(FORM=2, AHEAD=1, TILE_N=64, CONSUMERS=2)])
@pytest.mark.parametrize("causal", [True, False])
def test_ahead(run_prefill, bias, d, causal):
    form = Form(causal=causal, score="sigmoid", bias=bias)
    agrees(run_prefill, SIGMOID["02_persistent"], (140, 500), (2, 1), form, 64, defines=d)
