"""The emulator keeps the device's rules: what is right runs, what would hang or race is named."""

from __future__ import annotations

import numpy as np
import pytest

from refkernels._launch import params_struct

from . import emulator

THREADS, LANE = np.arange(64), np.arange(64) % 32


@pytest.fixture
def run():
    """Runs one case of ``cases.cu`` in either order of threads; returns what it wrote."""
    text = (emulator.HERE / "cases.cu").read_text()
    kernels = {
        blocks: emulator.Kernel("cases.cu", "cases", 1, {"CLUSTER": blocks}, sized=True, text=text)
        for blocks in (1, 2)
    }

    def one(which, downwards=False, blocks=1):
        given, out = np.arange(256, dtype=np.float32), np.full(64 * blocks, np.nan, np.float32)
        params = params_struct(
            **{"in": np.uint64(given.ctypes.data), "out": np.uint64(out.ctypes.data)}, which=which
        )
        tile = emulator.tile_map(given[:48].reshape(3, 16), (4, 16), swizzle=0)
        kernels[blocks].run((blocks,), params, [tile], downwards=downwards)
        return out

    return one


ROWS = np.arange(64).reshape(4, 16)
RIGHT = {
    "xor": (0, THREADS ^ 5),
    "up": (1, np.where(LANE >= 3, THREADS - 3, THREADS)),
    "segments": (2, THREADS // 8 * 8 + 2),
    "half-warps": (3, THREADS ^ 1),
    "ballot": (4, np.full(64, 0xAAAA)),
    "bulk bytes": (5, THREADS),
    "cp.async": (6, THREADS),
    "tile": (7, np.where((ROWS // 16 < 2) & (ROWS % 16 < 12), ROWS + 20, 0).ravel()),
    "poll": (8, THREADS),
}


@pytest.mark.parametrize("downwards", [False, True])
@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_runs(run, name, downwards):
    """Shuffles, votes and late copies give the device's values, whoever runs first."""
    which, expected = RIGHT[name]

    assert (run(which, downwards) == expected).all()


IN_CLUSTERS = {
    "a tile for both": (11, np.tile(RIGHT["tile"][1], 2)),
    "each at the other's barrier": (12, np.tile(THREADS, 2)),
}


@pytest.mark.parametrize("downwards", [False, True])
@pytest.mark.parametrize("name", IN_CLUSTERS)
def test_blocks_of_a_cluster_meet(run, name, downwards):
    """Tiles and arrivals reach the other block's shared memory."""
    which, expected = IN_CLUSTERS[name]

    assert (run(which, downwards, blocks=2) == expected).all()


@pytest.mark.parametrize(
    ("which", "message"),
    [(41, "nobody can go on.*barrier.cluster"), (42, "the cluster has no block 7")],
)
def test_what_a_cluster_would_hang_at_is_named(run, which, message):
    """A barrier that one block alone comes to, a block that is not there."""
    with pytest.raises(emulator.EmulationError, match=message):
        run(which, blocks=2)


WRONG = {
    "warp_index in a branch": (20, "divided"),
    "warp_index in a branch that the others skip to the end": (21, "ended"),
    "elect in a branch": (22, "divided.*elect_one|divided.*__syncwarp"),
    "a vote without a lane": (23, "ended"),
    "two barriers in one warp": (24, "divided"),
    "a shuffle after a lane returned": (25, "ended"),
    "a lane outside its own mask": (26, "not in the mask"),
    "two branches with a shuffle each": (27, "divided"),
    "a barrier that waits for too many": (28, "nobody can go on; 32 threads .* bar.sync"),
    "a barrier of two sizes": (29, "takes (64|96) threads for one, (64|96) for another"),
    "an mbarrier not initialised": (30, "never initialised"),
    "bytes that nobody sends": (31, "nobody can go on; 64 threads .* an mbarrier"),
    "an mbarrier overwritten": (32, "overwritten"),
    "too many arrivals": (33, "more arrivals"),
    "more shared memory than asked for": (34, "byte 1.* was written, 1.* asked for"),
    "an end before a copy's": (35, "before its copies arrived"),
    "a store not waited for": (36, "store that nobody waited for"),
    "a misaligned copy": (37, "misaligned"),
    "half a warp at wgmma.fence": (38, "ended"),
    "a poll without end": (39, "nobody can go on"),
    "a shuffle from another's mask": (40, "outside its mask"),
}


@pytest.mark.parametrize("downwards", [False, True])
@pytest.mark.parametrize("name", WRONG)
def test_what_a_device_would_hang_at_is_named(run, name, downwards):
    """A message instead of a hang, a race or a result that is right by luck."""
    which, message = WRONG[name]
    with pytest.raises(emulator.EmulationError, match=message):
        run(which, downwards)


def test_after_an_error_the_next_launch_is_clean(run):
    """Nothing of a block that failed is left to the next."""
    with pytest.raises(emulator.EmulationError):
        run(35)

    assert (run(5) == THREADS).all()
