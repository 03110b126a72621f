// The cores built for the host: the blocks and threads of a launch, one after the other. For the tests.

#include "clouds.cuh"
#include "drift.cuh"
#include "fractal.cuh"
#include "leaves.cuh"
#include "perlin.cuh"

#include <vector>

#ifdef __SSE2__
#include <xmmintrin.h>
#endif

namespace {

template <class State>
struct Crew {  // of a block; between two barriers its threads run in an order of the caller's choice
    std::vector<State> states;
    int order;
    template <class F>
    void each(F f) {
        const int count = (int)states.size();
        for (int i = 0; i < count; i++) {
            int thread = order == 0 ? i : order == 1 ? count - 1 - i : (i * 97 + 31) % count;
            f(thread, states[thread]);
        }
    }
    void sync() {}
    int first() { return 0; }
    u32 uniform(u32 value) { return value; }
};

struct Nothing {};

}  // namespace

extern "C" {

int perlin_sizes(int *sizes) {
    sizes[0] = sizeof(Row), sizes[1] = sizeof(Window), sizes[2] = sizeof(Launch);
    sizes[3] = THREADS, sizes[4] = PIXELS, sizes[5] = ROWS, sizes[6] = TERMS;
    sizes[7] = sizeof(Block), sizes[8] = sizeof(Frame), sizes[9] = sizeof(Columns), sizes[10] = sizeof(Line);
    sizes[11] = sizeof(Cell), sizes[12] = sizeof(Gradients);
    return 13;
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

// Grey levels, times LEVEL, to n words of bytes.
void perlin_levels(const float *grey, u32 *words, i64 n, int as_halves) {
    for (i64 i = 0; i < n; i++)
        words[i] = as_halves ? four_levels<true>(grey + PIXELS * i) : four_levels<false>(grey + PIXELS * i);
}

i64 perlin_blocks(const Launch *a) { return block_count(*a); }

int perlin_shared(const Launch *a) {
    Shared s;
    return carve(*a, nullptr, s);
}

// Blocks [first, last) of a launch, with `memory` in place of shared memory.
void perlin_run(const Launch *a, i64 first, i64 last, int order, char *memory) {
    Crew<State> crew = {std::vector<State>(a->threads), order};
    for (i64 block = first; block < last; block++) {
        float low = __builtin_inff(), high = -low;
        for (State &state : crew.states) state.low = low, state.high = high;
        render_block(*a, (u32)block, memory, crew);
        if (a->out) continue;
        for (const State &state : crew.states) {
            low = state.low < low ? state.low : low;
            high = state.high > high ? state.high : high;
        }
        a->extremes[2 * block] = low, a->extremes[2 * block + 1] = high;
    }
}

int drift_sizes(int *sizes) {
    sizes[0] = sizeof(drift::Row), sizes[1] = sizeof(drift::Launch), sizes[2] = drift::THREADS, sizes[3] = drift::PIXELS;
    sizes[4] = drift::GROUPS, sizes[5] = sizeof(drift::Block), sizes[6] = sizeof(drift::Point), sizes[7] = sizeof(drift::Cell);
    return 8;
}

i64 drift_blocks(const drift::Launch *a) { return drift::block_count(*a); }

int drift_shared(const drift::Launch *a) {
    drift::Shared s;
    return drift::carve(*a, nullptr, s);
}

// Blocks [first, last) of a launch.
void drift_run(const drift::Launch *a, i64 first, i64 last, int order, char *memory) {
    Crew<drift::State> crew = {std::vector<drift::State>(drift::THREADS), order};
    for (i64 block = first; block < last; block++) drift::render_block(*a, (u32)block, memory, crew);
}

int clouds_sizes(int *sizes) {
    sizes[0] = sizeof(clouds::Row), sizes[1] = sizeof(clouds::Launch), sizes[2] = clouds::THREADS, sizes[3] = clouds::ROWS;
    sizes[4] = clouds::STRIP, sizes[5] = clouds::CHUNK, sizes[6] = (sizeof(clouds::Block) + 15) / 16 * 16;
    return 7;
}

i64 clouds_blocks(const clouds::Launch *a) { return clouds::block_count(*a); }

int clouds_shared(const clouds::Launch *a) {
    clouds::Shared s;
    return clouds::carve(*a, nullptr, s);
}

// Blocks [first, last) of a launch.
void clouds_run(const clouds::Launch *a, i64 first, i64 last, int order, char *memory) {
    Crew<clouds::State> crew = {std::vector<clouds::State>(clouds::THREADS), order};
    for (i64 block = first; block < last; block++) clouds::render_block(*a, (u32)block, memory, crew);
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
            Crew<Nothing> crew = {std::vector<Nothing>(fractal::CHUNKS), order};
            fractal::draw_orbits(*a, block, memory, crew);
        } else {
            Crew<Nothing> crew = {std::vector<Nothing>(fractal::THREADS), order};
            fractal::show_frames(*a, block, memory, crew);
        }
    }
}

int leaves_sizes(int *sizes) {
    sizes[0] = sizeof(leaves::Row), sizes[1] = sizeof(leaves::Launch), sizes[2] = sizeof(leaves::Leaf);
    sizes[3] = leaves::THREADS, sizes[4] = leaves::COLUMNS, sizes[5] = leaves::ROWS;
    return 6;
}

i64 leaves_blocks(const leaves::Launch *a, int kernel) {
    const i64 frames = (i64)a->n * a->frames;
    return frames * (kernel == 0 ? leaves::shape_blocks(*a) : leaves::tiles_across(*a) * leaves::tiles_down(*a));
}

int leaves_shared(const leaves::Launch *a, int kernel) {
    leaves::Shared s;
    return kernel == 0 ? 0 : leaves::carve(*a, nullptr, s);
}

// Blocks [first, last) of a kernel: 0 the shapes, 1 the frames.
void leaves_run(const leaves::Launch *a, int kernel, i64 first, i64 last, int order, char *memory) {
    for (i64 block = first; block < last; block++) {
        Crew<Nothing> crew = {std::vector<Nothing>(leaves::THREADS), order};
        if (kernel == 0) {
            leaves::place_shapes(*a, (u32)block, crew);
        } else {
            leaves::paint_tile(*a, (u32)block, memory, crew);
        }
    }
}
}
