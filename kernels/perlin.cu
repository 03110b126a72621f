// The kernels that vpngen/backends/cuda.py launches. All that decides a pixel is in perlin.cuh.

#include "perlin.cuh"

extern __shared__ __align__(16) char memory[];

extern "C" __global__ void __launch_bounds__(THREADS) perlin_render(
    const Row *rows, const Window *windows, u8 *out, int n, int frames, int height, int width, int threads,
    int tile_frames, int tile_rows, int tile_columns, int pool) {
    Launch a = {rows, windows, out, nullptr, n, frames, height, width, threads, tile_frames, tile_rows, tile_columns, pool};
    Threads<State> team;
    render_block(a, blockIdx.x, memory, team);
}

extern "C" __global__ void __launch_bounds__(THREADS) perlin_extremes(
    const Row *rows, const Window *windows, float *extremes, int n, int frames, int height, int width, int threads,
    int tile_frames, int tile_rows, int tile_columns, int pool) {
    Launch a = {rows, windows, nullptr, extremes, n, frames, height, width, threads, tile_frames, tile_rows, tile_columns, pool};
    Threads<State> team;
    team.state.low = __int_as_float(0x7f800000);
    team.state.high = -team.state.low;
    render_block(a, blockIdx.x, memory, team);
    float low = team.state.low, high = team.state.high;
    for (int lane = 16; lane; lane /= 2) {
        low = fminf(low, __shfl_xor_sync(0xffffffffu, low, lane));
        high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, lane));
    }
    __syncthreads();
    float *found = (float *)memory;
    if (threadIdx.x % 32 == 0) found[threadIdx.x / 32] = low, found[THREADS / 32 + threadIdx.x / 32] = high;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < threads / 32; w++) {
            low = fminf(low, found[w]);
            high = fmaxf(high, found[THREADS / 32 + w]);
        }
        a.extremes[2 * (i64)blockIdx.x] = low;
        a.extremes[2 * (i64)blockIdx.x + 1] = high;
    }
}
