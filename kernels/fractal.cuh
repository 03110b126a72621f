// The Video Fractal core, for the device and for the host. It follows vpngen/generators/fractal.py name by name; read that
// first.
//
// Two kernels. In the first a thread draws a chunk of an orbit: its points, the words of their patches and its least and
// greatest x and y go to memory. In the second a block has a run of the pixels of a window in shared memory and shows one
// frame after the other: it draws the points of the frame, then copies the run out. What is drawn in a frame has one
// value, so its points may come in any order; frames are kept apart by barriers. There are no atomics.
//
// No byte may hang on whether subnormal numbers are flushed to zero: an orbit that shrinks into them and grows out again
// is a system that a table can hold. CuPy compiles with -ftz=true, so the arithmetic of points is written in instructions
// that do not heed it. A test reads the assembly.

#include "common.cuh"

namespace fractal {

enum {
    MAPS = 7,
    CHUNK = 256,
    WARM_UP = 32,
    ORBIT = 5 << 16,    // vpngen.rng.PURPOSE_ORBIT
    PATCH = 6 << 16,    // vpngen.rng.PURPOSE_PATCH
    CHUNKS = 128,       // of a block of the first kernel: one a thread
    THREADS = 512,      // of a block of the second
    AHEAD = 2,          // points that a thread reads before it draws them
    FOR_EVER = 0        // a trail
};

constexpr float BOUND = 1024, LEAST_EXTENT = 0x1p-100f;

// One video: vpngen.generators.fractal.Fractal.row_dtype.
struct Row {
    u32 key[2];
    float maps[MAPS][6];
    u32 thresholds[MAPS - 1];
    int count, frames, height, width, points_per_frame, trail, pad, patch, level, flips, variant;
    int reserved[3];
};

struct alignas(8) Pair {
    float a, b;
};

struct alignas(16) Pairs {
    Pair at[2];
};

struct alignas(16) Ends {
    float low_x, high_x, low_y, high_y;
};

// One launch: n windows of (frames, height, width), cut into blocks by vpngen/backends/cuda.py.
struct Launch {
    const Row *rows;
    const Window *windows;
    u8 *out;        // n * frames * height * width bytes
    Pair *points;   // n * places: x and y
    u16 *patches;   // n * places: the word of each point
    Ends *ends;     // n * places / CHUNK: of each chunk
    int n, frames, height, width;
    int places;     // for the points of a window, a multiple of CHUNK
    int run;        // pixels of a block, at most
};

// --- arithmetic that keeps subnormal numbers, whatever the compiler is told

HD float fused(float a, float b, float c) {
#ifdef __CUDA_ARCH__
    return __fmaf_ieee_rn(a, b, c);
#else
    return __builtin_fmaf(a, b, c);
#endif
}

#ifdef __CUDA_ARCH__
#define ONE_INSTRUCTION(name, code, otherwise)              \
    HD float name(float a, float b) {                       \
        float c;                                            \
        asm(code " %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b)); \
        return c;                                           \
    }
#else
#define ONE_INSTRUCTION(name, code, otherwise) \
    HD float name(float a, float b) { return otherwise; }
#endif
ONE_INSTRUCTION(difference, "sub.rn.f32", a - b)
ONE_INSTRUCTION(product, "mul.rn.f32", a * b)
ONE_INSTRUCTION(quotient, "div.rn.f32", a / b)
ONE_INSTRUCTION(lesser, "min.f32", a < b ? a : b)
ONE_INSTRUCTION(greater, "max.f32", a > b ? a : b)

HD bool within(float a) {  // what is no number is not
#ifdef __CUDA_ARCH__
    return fabsf(a) < BOUND;
#else
    return __builtin_fabsf(a) < BOUND;
#endif
}

// --- the first kernel: orbits

// The maps of a row as a step reads them: threads of a warp take different maps, and no two of these share a bank.
struct Maps {
    Pair ab[MAPS + 1], cd[MAPS + 1], ef[MAPS + 1];
    Keys keys;
};

HD int chunks_of(const Row &row) { return (row.frames * row.points_per_frame + CHUNK - 1) / CHUNK; }
HD int last_frame(const Launch &a, const Window &window) { return window.t0 + (a.frames - 1) * window.step; }
HD int first_frame(const Row &row, const Window &window) {
    return row.trail == FOR_EVER ? 0 : greatest(window.t0 - row.trail + 1, 0);
}
HD int point_blocks(const Launch &a) { return (a.places / CHUNK + CHUNKS - 1) / CHUNKS; }  // of a window

HD void orbit(const Launch &a, int n, int chunk, const Maps &maps) {
    const Row &row = a.rows[n];
    const int points = row.frames * row.points_per_frame, last = row.count - 1, patch = row.patch;
    const int used = least(CHUNK, points - chunk * CHUNK);
    u32 thresholds[MAPS - 1];  // those that there are; no word is below 0
    UNROLL
    for (int k = 0; k < MAPS - 1; k++) thresholds[k] = k < last ? row.thresholds[k] : 0;
    const int until = (last_frame(a, a.windows[n]) + 1) * row.points_per_frame;
    const int from = first_frame(row, a.windows[n]) * row.points_per_frame;
    const bool shown = chunk * CHUNK < until && (chunk + 1) * CHUNK > from;
    const i64 place = (i64)n * a.places + chunk * CHUNK;

    float x = 0, y = 0;
    Ends ends = {BOUND, -BOUND, BOUND, -BOUND};
    u32 next[4] = {0, (u32)chunk, 0, ORBIT};
    philox(next, maps.keys);
    for (int j = 0; j < (WARM_UP + CHUNK) / 4; j++) {
        const u32 words[4] = {next[0], next[1], next[2], next[3]};
        next[0] = j + 1, next[1] = chunk, next[2] = 0, next[3] = ORBIT;  // hashed while these words move the point
        philox(next, maps.keys);
        const int i = 4 * j - WARM_UP;
        Pairs four[2];
        UNROLL
        for (int q = 0; q < 4; q++) {
            int m = last;
            UNROLL
            for (int k = 0; k < MAPS - 1; k++) m -= words[q] < thresholds[k];
            const Pair ab = maps.ab[m], cd = maps.cd[m], ef = maps.ef[m];
            const float to_x = fused(ab.a, x, fused(ab.b, y, ef.a)), to_y = fused(cd.a, x, fused(cd.b, y, ef.b));
            const bool stays = within(to_x) && within(to_y);
            x = stays ? to_x : 0.0f, y = stays ? to_y : 0.0f;
            four[q / 2].at[q % 2] = {x, y};
            if (i >= 0 && i + q < used) {
                ends.low_x = lesser(x, ends.low_x), ends.high_x = greater(x, ends.high_x);
                ends.low_y = lesser(y, ends.low_y), ends.high_y = greater(y, ends.high_y);
            }
        }
        if (i < 0 || !shown) continue;
        Pairs *to = (Pairs *)(a.points + place + i);
        to[0] = four[0], to[1] = four[1];
        if (patch && i % 8 == 0) {
            u32 c[4] = {(u32)i / 8, (u32)chunk, 0, PATCH};
            philox(c, maps.keys);
            *(Sixteen *)(a.patches + place + i) = {{c[0], c[1], c[2], c[3]}};
        }
    }
    a.ends[(i64)n * (a.places / CHUNK) + chunk] = ends;
}

HD int point_memory() { return (int)sizeof(Maps); }

template <class Team>
HD void draw_orbits(const Launch &a, i64 block, char *memory, Team &team) {
    const int n = (int)(block / point_blocks(a)), first = (int)(block % point_blocks(a)) * CHUNKS;
    Maps &maps = *(Maps *)memory;
    team.each([&](int thread, auto &) {
        if (thread == MAPS) fill_keys(a.rows[n].key, maps.keys);
        if (thread >= MAPS) return;
        const float *m = a.rows[n].maps[thread];
        maps.ab[thread] = {m[0], m[1]}, maps.cd[thread] = {m[2], m[3]}, maps.ef[thread] = {m[4], m[5]};
    });
    team.sync();
    team.each([&](int thread, auto &) {
        if (first + thread < chunks_of(a.rows[n])) orbit(a, n, first + thread, maps);
    });
}

// --- the second kernel: frames

// How the points of a video fall into a window. A point that is so many steps of a pixel from the least x, at most
// `most_x`, lies in column to_x + sign_x * steps; likewise its row.
struct Place {
    float low_x, low_y, scale_x, scale_y;
    int most_x, most_y, sign_x, sign_y, to_x, to_y;
    int turned;  // the window is flipped: so are its patches
};

// What a block keeps in shared memory; `carve` lays it out.
struct Shared {
    Place *place;
    Ends *ends;  // [THREADS]; when they have been compared, the pixels come in their place
    u8 *pixels;  // [run], and what a piece of 16 may read beyond
};

HD int runs_of(const Launch &a) { return (a.height * a.width + a.run - 1) / a.run; }

// Bytes of shared memory, and with `base` the layout.
HD int carve(const Launch &a, char *base, Shared &s) {
    const int place = rounded_up((int)sizeof(Place), 16), pixels = rounded_up(a.run, 16) + 16;
    s.place = (Place *)base, s.ends = (Ends *)(base + place), s.pixels = (u8 *)(base + place);
    return place + greatest(THREADS * (int)sizeof(Ends), pixels);
}

HD Ends both(const Ends &a, const Ends &b) {
    return {lesser(a.low_x, b.low_x), greater(a.high_x, b.high_x),
            lesser(a.low_y, b.low_y), greater(a.high_y, b.high_y)};
}

// Which of 0 and -0 is the least or the greatest hangs on the order of the comparisons, but no byte does: a difference
// from either is the same number, or again a zero, and a zero is 0 steps and no extent.
HD float scale(float low, float high, int pad, int size) {
    const float extent = difference(high, low);
    return extent > LEAST_EXTENT ? quotient((float)(size - 2 * pad), extent) : 0.0f;
}

HD void find_place(const Launch &a, const Row &row, const Window &window, const Ends &ends, Place &p) {
    p.low_x = ends.low_x, p.scale_x = scale(ends.low_x, ends.high_x, row.pad, row.width);
    p.low_y = ends.low_y, p.scale_y = scale(ends.low_y, ends.high_y, row.pad, row.height);
    p.most_x = row.width - 1 - row.pad, p.most_y = row.height - 1 - row.pad;
    const bool mirrored = row.flips & 1, upwards = !(row.flips & 2);
    p.sign_x = mirrored ? -1 : 1, p.to_x = (mirrored ? p.most_x : row.pad) - window.x0;
    p.sign_y = upwards ? -1 : 1, p.to_y = (upwards ? p.most_y : row.pad) - window.y0;
    p.turned = window.flip;
    if (window.flip) p.sign_x = -p.sign_x, p.to_x = a.width - 1 - p.to_x;
}

HD int steps(float value, float low, float scale, int most) {
    return least((int)product(difference(value, low), scale), most);
}

// One point, as `value`, where it and its patch lie in the pixels [start, start + size) of the window.
HD void draw_point(const Launch &a, const Place &p, u8 *pixels, int start, int size, Pair point, u32 half, int patch,
                   int value) {
    const int x = p.to_x + p.sign_x * steps(point.a, p.low_x, p.scale_x, p.most_x), reach = a.width + 1;
    const int y = p.to_y + p.sign_y * steps(point.b, p.low_y, p.scale_y, p.most_y);
    if ((u32)(y + 1) > (u32)(a.height + 1)) return;
    const u32 at = (u32)(y * a.width + x) - start;  // a window has fewer than 2^31 pixels
    if (at + (u32)reach >= (u32)(size + 2 * reach)) return;
    if (!patch) {
        if ((u32)x < (u32)a.width && at < (u32)size) pixels[at] = (u8)value;
        return;
    }
    u32 mask = 1 + (half * 511 >> 16);
    if (p.turned) mask = (mask & 0x49) << 2 | (mask & 0x92) | (mask & 0x124) >> 2;
    mask &= ((u32)(x - 1) < (u32)a.width ? 0x49 : 0) | ((u32)x < (u32)a.width ? 0x92 : 0) |
            ((u32)(x + 1) < (u32)a.width ? 0x124 : 0);
    UNROLL
    for (int bit = 0; bit < 9; bit++) {
        const u32 to = at + (u32)((bit / 3 - 1) * a.width + bit % 3 - 1);
        if ((mask >> bit & 1) && to < (u32)size) pixels[to] = (u8)value;
    }
}

// The points of frames [first, last).
HD void draw(const Launch &a, const Row &row, int n, const Place p, u8 *pixels, int start, int size, int first, int last,
             int value, int thread) {
    const Pair *points = a.points + (i64)n * a.places;
    const u16 *patches = a.patches + (i64)n * a.places;
    const int until = last * row.points_per_frame, patch = row.patch;
    for (int i = first * row.points_per_frame + thread; i < until; i += AHEAD * THREADS) {
        Pair point[AHEAD];
        u32 half[AHEAD];
        UNROLL
        for (int k = 0; k < AHEAD; k++) {
            if (i + k * THREADS >= until) continue;
            point[k] = points[i + k * THREADS];
            half[k] = patch ? patches[i + k * THREADS] : 0;
        }
        UNROLL
        for (int k = 0; k < AHEAD; k++)
            if (i + k * THREADS < until) draw_point(a, p, pixels, start, size, point[k], half[k], patch, value);
    }
}

// --- four pixels in a word

HD u32 lit(u32 word, int level) {  // level where there is anything
    const u32 most = 0x7F7F7F7Fu;
    return ((((word & most) + most) | word) >> 7 & 0x01010101u) * (u32)level;
}

HD u32 faded(u32 word, u32 by) {  // each less `by`, or 0; by < 256
    const u32 high = 0x80808080u, less = by * 0x01010101u;
    const u32 rest = ((word | high) - (less & ~high)) ^ ((word ^ ~less) & high);
    const u32 below = ((~word & less) | (~(word ^ less) & rest)) & high;
    return rest & ~((below >> 7) * 255u);
}

HD u32 bytes_from(u32 low, u32 high, int skew) {  // from byte `skew` of low on
#ifdef __CUDA_ARCH__
    return __funnelshift_r(low, high, 8 * skew);
#else
    return (u32)(((u64)high << 32 | low) >> 8 * skew);
#endif
}

// 16 bytes from 4 * WORDS + `skew` bytes after `from` on; only whole pieces can be read.
template <int WORDS>
HD Sixteen sixteen_from(const u8 *from, int skew) {
    const Sixteen here = *(const Sixteen *)from, next = *(const Sixteen *)(from + 16);
    const u32 w[8] = {here.w[0], here.w[1], here.w[2], here.w[3], next.w[0], next.w[1], next.w[2], next.w[3]};
    return {{bytes_from(w[WORDS], w[WORDS + 1], skew), bytes_from(w[WORDS + 1], w[WORDS + 2], skew),
             bytes_from(w[WORDS + 2], w[WORDS + 3], skew), bytes_from(w[WORDS + 3], w[WORDS + 4], skew)}};
}

// Pieces of 16 bytes; `from` and `to` are multiples of 16, the first byte to copy is 4 * WORDS + `skew` after `from`.
template <int WORDS>
HD void copy_pieces(const u8 *from, u8 *to, int skew, int pieces, bool lasting, int level, int thread) {
    TWO_AT_A_TIME
    for (int i = thread; i < pieces; i += THREADS) {
        Sixteen piece = sixteen_from<WORDS>(from + 16 * i, skew);
        if (!lasting) {
            UNROLL
            for (int k = 0; k < 4; k++) piece.w[k] = lit(piece.w[k], level);
        }
        *(Sixteen *)(to + 16 * i) = piece;
    }
}

// The pixels to where they belong: pieces of 16 bytes that lie on a multiple of 16 there, and single bytes around them.
HD void copy_out(const Row &row, const u8 *pixels, u8 *to, int size, int thread) {
    const int head = least((int)(-(u64)to & 15), size), pieces = (size - head) / 16, tail = head + 16 * pieces;
    const int level = row.level, skew = head % 4;
    const bool lasting = row.trail == FOR_EVER;
    if (head < 4)
        copy_pieces<0>(pixels, to + head, skew, pieces, lasting, level, thread);
    else if (head < 8)
        copy_pieces<1>(pixels, to + head, skew, pieces, lasting, level, thread);
    else if (head < 12)
        copy_pieces<2>(pixels, to + head, skew, pieces, lasting, level, thread);
    else
        copy_pieces<3>(pixels, to + head, skew, pieces, lasting, level, thread);
    if (thread < head) to[thread] = pixels[thread] ? (u8)level : 0;
    if (thread < size - tail) to[tail + thread] = pixels[tail + thread] ? (u8)level : 0;
}

template <class Team>
HD void show_frames(const Launch &a, i64 block, char *memory, Team &team) {
    const int n = (int)(block / runs_of(a));
    const int start = (int)(block % runs_of(a)) * a.run, size = least(a.run, a.height * a.width - start);
    const Row &row = a.rows[n];
    const Window &window = a.windows[n];
    Shared s;
    carve(a, memory, s);
    u32 *words = (u32 *)s.pixels;
    const int count = (size + 3) / 4;

    team.each([&](int thread, auto &) {
        const Ends *chunks = a.ends + (i64)n * (a.places / CHUNK);
        Ends all = {BOUND, -BOUND, BOUND, -BOUND};
        for (int i = thread; i < chunks_of(row); i += THREADS) all = both(chunks[i], all);
        s.ends[thread] = all;
    });
    team.sync();
    for (int half = THREADS / 2; half; half /= 2) {
        team.each([&](int thread, auto &) {
            if (thread < half) s.ends[thread] = both(s.ends[thread], s.ends[thread + half]);
        });
        team.sync();
    }
    team.each([&](int thread, auto &) {
        if (thread == 0) find_place(a, row, window, s.ends[0], *s.place);
    });
    team.sync();
    team.each([&](int thread, auto &) {
        for (int i = thread; i < count; i += THREADS) words[i] = 0;
    });
    team.sync();

    // A pixel holds the level, or with a trail how many frames it has yet to shine, the one that is shown included.
    int drawn = first_frame(row, window);
    for (int i = 0; i < a.frames; i++) {
        const int now = window.t0 + i * window.step;
        const int trail = row.trail;
        if (trail != FOR_EVER) drawn = greatest(drawn, now - trail + 1);
        while (drawn <= now) {
            const int until = trail == FOR_EVER ? now + 1 : drawn + 1;  // frames of one value
            const int value = trail == FOR_EVER ? row.level : trail - (now - drawn);
            team.each([&](int thread, auto &) {
                draw(a, row, n, *s.place, s.pixels, start, size, drawn, until, value, thread);
            });
            team.sync();  // a later frame prevails
            drawn = until;
        }
        u8 *to = a.out + ((i64)n * a.frames + i) * (a.height * a.width) + start;
        team.each([&](int thread, auto &) { copy_out(row, s.pixels, to, size, thread); });
        team.sync();
        if (trail == FOR_EVER) continue;
        team.each([&](int thread, auto &) {
            const u32 by = (u32)least(window.step, 255);
            for (int i = thread; i < count; i += THREADS) words[i] = faded(words[i], by);
        });
        team.sync();
    }
}

}  // namespace fractal
