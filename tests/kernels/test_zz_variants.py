import sys
sys.path.insert(0, "/work/wt/attn")
import pytest
from tests.kernels.test_attention_emulated import agrees, run_prefill, MASKS

from refkernels.attention import device
from refkernels.attention.naive import Form
from refkernels.sigmoid_attention.device import RUNGS as SIGMOID



@pytest.mark.parametrize("d", [dict(INTMAX=1), dict()])
@pytest.mark.parametrize("m", ["causal, fewer queries", "causal, rows without keys", "window, not causal"])
@pytest.mark.parametrize("loud", [1.0, 20.0])
def test_flash(run_prefill, d, m, loud):
    lens, form = MASKS[m]
    agrees(run_prefill, device.RUNGS["05_persistent"], lens, (2, 1), form, 64, loudness=loud, defines=d)
