// The Perlin core built for the host: the blocks and threads of a launch, one after the other. For the tests.

#include "perlin.cuh"

#ifdef __SSE2__
#include <xmmintrin.h>
#endif

namespace {

struct Crew {  // of a block; between two barriers its threads run in an order of the caller's choice
    State states[THREADS];
    int order;
    template <class F>
    void each(F f) {
        for (int i = 0; i < THREADS; i++) {
            int thread = order == 0 ? i : order == 1 ? THREADS - 1 - i : (i * 97 + 31) % THREADS;
            f(thread, states[thread]);
        }
    }
    void sync() {}
};

}  // namespace

extern "C" {

int perlin_sizes(int *sizes) {
    sizes[0] = sizeof(Row), sizes[1] = sizeof(Window), sizes[2] = sizeof(Launch);
    sizes[3] = THREADS, sizes[4] = PIXELS, sizes[5] = FRAMES, sizes[6] = TILE_WIDTH, sizes[7] = TERMS;
    sizes[8] = BURST, sizes[9] = sizeof(Block);
    return 10;
}

// Subnormal numbers flushed to zero from here on, as the device does, or kept; 1 where this processor can.
int perlin_flush(int on) {
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
    Crew *crew = new Crew;
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
}
