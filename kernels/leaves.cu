// The kernels that vpngen/backends/cuda.py launches, one after the other. All that decides a pixel is in leaves.cuh.

#include "leaves.cuh"

using namespace leaves;

extern __shared__ __align__(16) char memory[];

struct Nothing {};  // a thread keeps no state between two barriers

extern "C" __global__ void __launch_bounds__(THREADS) leaves_shapes(
    const Row *rows, const Window *windows, u8 *out, Leaf *found, int n, int frames, int height, int width, int places) {
    Launch a = {rows, windows, out, found, n, frames, height, width, places};
    Threads<Nothing> team;
    place_shapes(a, blockIdx.x, team);
}

extern "C" __global__ void __launch_bounds__(THREADS) leaves_frames(
    const Row *rows, const Window *windows, u8 *out, Leaf *found, int n, int frames, int height, int width, int places) {
    Launch a = {rows, windows, out, found, n, frames, height, width, places};
    Threads<Nothing> team;
    paint_tile(a, blockIdx.x, memory, team);
}
