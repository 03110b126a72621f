// The cores built for the host: the blocks and threads of a launch, one after the other. For the tests.

#include "fractal.cuh"
#include "perlin.cuh"

#ifdef __SSE2__
#include <xmmintrin.h>
#endif

namespace {

template <class State, int COUNT>
struct Crew {  // of a block; between two barriers its threads run in an order of the caller's choice
    State states[COUNT];
    int order;
    template <class F>
    void each(F f) {
        for (int i = 0; i < COUNT; i++) {
            int thread = order == 0 ? i : order == 1 ? COUNT - 1 - i : (i * 97 + 31) % COUNT;
            f(thread, states[thread]);
        }
    }
    void sync() {}
};

struct Nothing {};

}  // namespace

extern "C" {

int perlin_sizes(int *sizes) {
    sizes[0] = sizeof(Row), sizes[1] = sizeof(Window), sizes[2] = sizeof(Launch);
    sizes[3] = THREADS, sizes[4] = PIXELS, sizes[5] = FRAMES, sizes[6] = TILE_WIDTH, sizes[7] = TERMS;
    sizes[8] = BURST, sizes[9] = sizeof(Block);
    return 10;
}

// Subnormal numbers flushed to zero from here on, as the device does, or kept; 1 where this processor can.
int host_flush(int on) {
#ifdef __SSE2__
    _mm_setcsr(on ? _mm_getcsr() | 0x8040 : _mm_getcsr() & ~0x8040u);
    return 1;
#else
    return on - on;
#endif
}

i64 perlin_blocks(const Launch *a) { return block_count(*a); }

int perlin_shared(const Launch *a) {
    Shared s;
    return carve(*a, nullptr, s);
}

// Blocks [first, last) of a launch, with `memory` in place of shared memory.
void perlin_run(const Launch *a, i64 first, i64 last, int order, char *memory) {
    auto *crew = new Crew<State, THREADS>;
    crew->order = order;
    for (i64 block = first; block < last; block++) {
        for (int i = 0; i < THREADS; i++) crew->states[i].low = __builtin_inff(), crew->states[i].high = -__builtin_inff();
        render_block(*a, block, memory, *crew);
        if (a->out) continue;
        float low = __builtin_inff(), high = -low;
        for (const State &state : crew->states) {
            low = state.low < low ? state.low : low;
            high = state.high > high ? state.high : high;
        }
        a->extremes[2 * block] = low, a->extremes[2 * block + 1] = high;
    }
    delete crew;
}

int fractal_sizes(int *sizes) {
    sizes[0] = sizeof(fractal::Row), sizes[1] = sizeof(fractal::Launch), sizes[2] = sizeof(fractal::Ends);
    sizes[3] = fractal::CHUNK, sizes[4] = fractal::CHUNKS, sizes[5] = fractal::THREADS, sizes[6] = fractal::WARM_UP;
    sizes[7] = sizeof(fractal::Maps), sizes[8] = (sizeof(fractal::Place) + 15) / 16 * 16;
    return 9;
}

i64 fractal_blocks(const fractal::Launch *a, int kernel) {
    return (i64)a->n * (kernel == 0 ? fractal::point_blocks(*a) : fractal::runs_of(*a));
}

int fractal_shared(const fractal::Launch *a, int kernel) {
    fractal::Shared s;
    return kernel == 0 ? fractal::point_memory() : fractal::carve(*a, nullptr, s);
}

// Blocks [first, last) of a kernel: 0 the points, 1 the frames.
void fractal_run(const fractal::Launch *a, int kernel, i64 first, i64 last, int order, char *memory) {
    for (i64 block = first; block < last; block++) {
        if (kernel == 0) {
            Crew<Nothing, fractal::CHUNKS> crew = {{}, order};
            fractal::draw_orbits(*a, block, memory, crew);
        } else {
            Crew<Nothing, fractal::THREADS> crew = {{}, order};
            fractal::show_frames(*a, block, memory, crew);
        }
    }
}
}
