// arch: sm_80 sm_90a
// registers: 255
// threads: 128
// dynamic_smem: 81920
// defines: TYPE=2 STATES=16 LANES=1 POLY=3
// defines: TYPE=2 STATES=16 LANES=2 POLY=3
// defines: TYPE=0 STATES=16 LANES=2 POLY=3
//
// Selective scan, rung 4: POLY of 16 exponentials by Cody and Waite's reduction and a polynomial on
// the FMA pipe, the rest on the special-function unit, so that both end at the same time.
//
// Per (token, channel), N=16, z, one lane a channel, k = POLY of 16 on the FMA pipe: special
// (20 - k) / 16 clocks; issue (108 + 8 k) / 128 clocks: a polynomial of degree 4 takes 10 slots (mul,
// max, 2 additions, subtraction, 4 fma, shift-and-add) for the 2 of mul and ex2.
//     k = 0: 1.25, 0.84    k = 2: 1.13, 0.97    k = 3: 1.06, 1.03    k = 4: 1.00, 1.09
// Prediction: k = 3 takes 15 % off the special-function bound: 321 -> 273 us at B=8 L=2048, and as
// much off the time, if rung 3 runs at its bound; where it does not, less.
#include "selective_scan/scan.cuh"

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    selective_scan(const __grid_constant__ Problem p) {
    scan_segment(p);
}
