// The kernel that vpngen/backends/cuda.py launches. All that decides a pixel is in drift.cuh.

#include "drift.cuh"

extern __shared__ __align__(16) char memory[];

extern "C" __global__ void __launch_bounds__(drift::THREADS) drift_render(
    const drift::Row *rows, const Window *windows, u8 *out, int n, int frames, int height, int width, int tile_rows,
    int tile_columns, int room) {
    drift::Launch a = {rows, windows, out, n, frames, height, width, tile_rows, tile_columns, room};
    Threads<drift::State> team;
    drift::render_block(a, blockIdx.x, memory, team);
}
