// arch: sm_80 sm_90a
// registers: 255
// threads: 128
// dynamic_smem: 81920
// defines: TYPE=2 STATES=16 LANES=2
// defines: TYPE=2 STATES=16 LANES=8
// defines: TYPE=1 STATES=8 LANES=4
// defines: TYPE=0 STATES=64 LANES=8
// defines: TYPE=0 STATES=32 LANES=2
//
// Selective scan, rung 3: the states of a channel over 2, 4 or 8 lanes, for more warps per SM where
// batch * channels leave it short of them. No exponential is computed twice.
//
// Limits as rung 2; per (token, channel) in addition, for 2 / 4 / 8 lanes (N=16):
//   shuffles   2 per token and lane for dt and dt u, and kGroup - kOwn per lane and group to add y:
//              4.9 / 10.9 / 22.9 lane-shuffles at 32 per clock and SM: 0.15 / 0.34 / 0.7 clocks
//   issue      their instructions, the selects of the reduction: 125 / 145 / 185 slots, 0.98 / 1.13
//              / 1.45 clocks: 8 lanes are issue-bound, by 15 % over the special functions
// Shared memory: 2 tiles of 64 tokens * lanes * slice * 4 bytes: 20,480 at N=16 and 2 lanes, 20,480
//   at 4, 16,384 at 8; 81,920 at most (N=64).
// Predictions: B=8 L=2048: as rung 2 or 5 % better at 2 lanes (16 warps per SM instead of 8 hide
//   tile boundaries). B=1 L=65,536: rung 2 keeps 1 warp busy per SM quarter of which only 31 of 32
//   SM-quarters have one, about 6 ms; 4 lanes 4 warps per SM: 1.9 ms; 8 lanes 8 warps: 1.9 ms.
#include "selective_scan/scan.cuh"

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    selective_scan(const __grid_constant__ Problem p) {
    scan_segment(p);
}
