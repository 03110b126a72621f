// The kernel that vpngen/backends/cuda.py launches. All that decides a pixel is in clouds.cuh.

#include "clouds.cuh"

extern __shared__ __align__(16) char memory[];

extern "C" __global__ void __launch_bounds__(clouds::THREADS) clouds_render(
    const clouds::Row *rows, const Window *windows, u8 *out, int n, int frames, int height, int width, int room) {
    clouds::Launch a = {rows, windows, out, n, frames, height, width, room};
    Threads<clouds::State> team;
    clouds::render_block(a, blockIdx.x, memory, team);
}
