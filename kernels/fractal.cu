// The kernels that vpngen/backends/cuda.py launches, one after the other. All that decides a pixel is in fractal.cuh.

#include "fractal.cuh"

using namespace fractal;

extern __shared__ __align__(16) char memory[];

struct Nothing {};  // a thread keeps no state between two barriers

extern "C" __global__ void __launch_bounds__(CHUNKS) fractal_points(
    const Row *rows, const Window *windows, u8 *out, Pair *points, u16 *patches, Ends *ends, int n, int frames,
    int height, int width, int places, int run) {
    Launch a = {rows, windows, out, points, patches, ends, n, frames, height, width, places, run};
    Threads<Nothing> team;
    draw_orbits(a, blockIdx.x, memory, team);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) fractal_frames(
    const Row *rows, const Window *windows, u8 *out, Pair *points, u16 *patches, Ends *ends, int n, int frames,
    int height, int width, int places, int run) {
    Launch a = {rows, windows, out, points, patches, ends, n, frames, height, width, places, run};
    Threads<Nothing> team;
    show_frames(a, blockIdx.x, memory, team);
}
