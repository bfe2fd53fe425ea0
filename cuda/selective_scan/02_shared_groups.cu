// arch: sm_80 sm_90a
// registers: 255
// threads: 128
// dynamic_smem: 18432
// defines: TYPE=2 STATES=16 LANES=1
//
// Selective scan, rung 2: tokens in groups of a sector, B and C once per block through shared
// memory. One thread per channel as in rung 1, but its rows are read 32 bytes at a time and one
// group ahead, and B and C are 16-byte reads of shared memory that all lanes share.
//
// Limits, B=8 L=2048 D=4096 N=16, z, bf16 (see rung 1), per (token, channel):
//   special    20 results: 1.25 clocks, 321 us. This binds
//   issue      16 * (2 mul, 2 fma, 1 ex2) + 8 shared reads + about 20 for dt, silu, conversions:
//              108 slots, 0.84 clocks
//   shared     8 wavefronts per warp and token if a uniform 16-byte read is one: 0.25 clocks
//   memory     8.25 bytes: 0.54 clocks at 4.0 TB/s
// Registers: 16 states, 16 decays, 24 words of the group in work and 24 of the next, 16 sums, 32 of
//   B and C; two blocks per SM leave 255. Threads: 248 per SM at this shape, so registers are plenty and the overlap
//   within a warp (16 independent exponentials per token) must hide all latency.
// Shared memory: 2 tiles of 64 tokens * 36 * 4 bytes = 18,432.
// Prediction: 770 -> 420 us: from the loads' wavefronts to the special functions, at 75 % of them.
#include "selective_scan/scan.cuh"

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    selective_scan(const __grid_constant__ Problem p) {
    scan_segment(p);
}
