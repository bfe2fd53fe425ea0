import sys
sys.path.insert(0, "/work/wt/attn")
import pytest
from tests.kernels.test_attention_emulated import agrees, run_prefill, MASKS

from refkernels.attention import device
from refkernels.attention.naive import Form
from refkernels.sigmoid_attention.device import RUNGS as SIGMOID


@pytest.mark.parametrize("bias", [None, 0.0, 3.0, -9.0])
@pytest.mark.parametrize("d", [dict(), dict(AHEAD=1, TILE_N=80, CONSUMERS=2)])
@pytest.mark.parametrize("causal", [True, False])
def test_sig(run_prefill, bias, d, causal):
    form = Form(causal=causal, score="sigmoid", bias=bias)
    agrees(run_prefill, SIGMOID["02_persistent"], (140, 500), (2, 1), form, 64, defines=dict(d, FORM=0))

@pytest.mark.parametrize("d", [dict(), dict(AHEAD=1, TILE_N=80, CONSUMERS=2)])
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_long(run_prefill, d, dtype):
    form = Form(score="sigmoid")
    agrees(run_prefill, SIGMOID["02_persistent"], (64, 5000), (1, 1), form, 64, dtype, defines=dict(d, FORM=0))
