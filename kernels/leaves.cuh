// The core of dead leaves, for the device and for the host. It follows vpngen/generators/leaves.py name by name; read that first.
//
// Two kernels. In the first a thread draws a shape and places it in a frame: what pixels need of it goes to memory. In the second a
// block has a tile of a frame: its threads find the shapes that may reach there, and list them front to back in shared memory; then
// each goes through the list for four pixels of a row, until nothing behind is seen.

#include "floats.cuh"

namespace leaves {

enum {
    THREADS = 128,              // of a block of either kernel
    PIXELS = 4,                 // of a thread
    ACROSS = 8,                 // threads of a row
    COLUMNS = ACROSS * PIXELS,  // of a tile
    ROWS = THREADS / ACROSS,
    DRAWN = 12 << 16,           // vpngen.rng.PURPOSE_LEAVES
    BOX = 1,
    TRIANGLE = 2,
    GROUND = 4
};

constexpr u32 GOLDEN = 0x9E3779B1u, HASH_X = 0x9E3779B1u, HASH_Y = 0x85EBCA77u, HASH_Z = 0x2C1B3C6Du;
constexpr float SLACK = 0x1.0000000000000p-2f, ROOT_HALF = 0x1.6a09e60000000p-1f, ROOT_3_HALVES = 0x1.bb67ae0000000p-1f;

// One video: vpngen.generators.leaves.Leaves.params_dtype.
struct Row {
    u32 key[2];
    int slots, life;
    float velocity[2], shear[2], centre[2], zoom;
    int spin;
    float place[3][2], inverse[2];
    float own, gathered, turning, growth, stretch, ends;
    u32 textured;
    float texture[2], cells[2], gain, mean, ground[3], size;
};

// A shape in a frame: what vpngen.generators.leaves.Places has, and the grey and the seed of the shape.
struct alignas(16) Leaf {
    float au, bu, cu, av, bv, cv;
    float c, s, to_c, to_s, curve;
    float to_edge, level, texture;
    u32 seed, unused;
    float left, right, top, bottom;
};

// One launch: n windows of (frames, height, width), cut into blocks by vpngen/backends/cuda_leaves.py.
struct Launch {
    const Row *rows;
    const Window *windows;
    u8 *out;      // n * frames * height * width bytes
    Leaf *found;  // n * frames * places
    int n, frames, height, width;
    int places;   // for the shapes of a frame and the ground
};

using floats::exp2;
using floats::floored;
using floats::fma;
using floats::quotient;
using floats::root;
using floats::turn;

HD float size_of(float a) {
#ifdef __CUDA_ARCH__
    return fabsf(a);
#else
    return __builtin_fabsf(a);
#endif
}

HD float lesser(float a, float b) { return a < b ? a : b; }
HD float larger_of(float a, float b) { return a > b ? a : b; }
HD float lerp(float a, float b, float s) { return fma(s, b - a, a); }

HD float unit(u32 word) { return (float)(int)(word >> 8) * 0x1p-24f; }
HD float centred(float u) { return fma(u, 2.0f, -1.0f); }
HD float low_half(u32 word) { return (float)(int)(word & 0xFFFFu) * 0x1p-16f; }
HD float high_half(u32 word) { return (float)(int)(word >> 16) * 0x1p-16f; }
HD float peaked(u32 word) { return (low_half(word) + high_half(word)) - 1.0f; }

// --- the first kernel: shapes

// A number of each kind, without a table in memory.
HD float of_kind(int kind, float disc, float box, float triangle, float segment) {
    return kind == 0 ? disc : kind == BOX ? box : kind == TRIANGLE ? triangle : kind == GROUND ? 0.0f : segment;
}

HD void extent(int kind, float a, float b, float outer, float &from, float &to) {
    float half = 0.5f * a, up = ROOT_3_HALVES * size_of(b);
    float other = kind == BOX ? larger_of(size_of(a), size_of(b)) : root(a * a + b * b);
    float high = kind == TRIANGLE ? larger_of(half + up, -a) : other;
    float low = kind == TRIANGLE ? larger_of(up - half, a) : other;
    from = -(outer * low + SLACK);
    to = outer * high + SLACK;
}

HD Leaf shape_of(const Row &row, int k, int t) {
    const int n = t + (int)((u64)((u32)k * GOLDEN) * (u32)row.life >> 32);
    const int generation = n / row.life, age = n % row.life;
    const bool ground = k == row.slots;
    u32 w[3][4];
    UNROLL
    for (int i = 0; i < 3; i++) {
        w[i][0] = k, w[i][1] = generation, w[i][2] = i, w[i][3] = DRAWN;
        philox(w[i], row.key[0], row.key[1]);
    }

    const int kind = ground ? GROUND : (int)(w[2][0] >> 30);
    const float px = centred(unit(w[0][0])), py = centred(unit(w[0][1]));
    float x0 = fma(row.place[1][0], px, fma(row.place[2][0], py, row.place[0][0]));
    float y0 = fma(row.place[1][1], px, fma(row.place[2][1], py, row.place[0][1]));
    float radius = quotient(1.0f, root(fma(unit(w[0][2]), row.inverse[1], row.inverse[0])));
    float level = fma(row.gain, centred(unit(w[0][3])), row.mean);
    float velocity_x = row.own * peaked(w[1][0]), velocity_y = row.own * peaked(w[1][1]);
    float gain_x = row.gathered * centred(low_half(w[1][2])), gain_y = row.gathered * centred(high_half(w[1][2]));
    int spin = (int)(row.turning * peaked(w[2][1]));
    float growth = row.growth * centred(low_half(w[2][0])), stretch = row.stretch * centred(low_half(w[2][2]));
    float wide = exp2(stretch), high = exp2(-stretch);
    float cells = fma(row.cells[1], high_half(w[2][2]), row.cells[0]);
    float amplitude = w[2][3] < row.textured ? fma(row.texture[1], low_half(w[2][3]), row.texture[0]) : 0.0f;
    if (ground) {
        x0 = y0 = velocity_x = velocity_y = gain_x = gain_y = growth = 0.0f;
        radius = row.ground[1], level = row.ground[0], amplitude = row.ground[2];
        spin = 0, wide = high = cells = 1.0f;
    }
    const float finer = quotient(1.0f, cells);

    const float years = (float)age + 0.5f, rest = (float)row.life - years;
    const float grown = lesser(lesser(years, rest) * row.ends, 1.0f);
    const int steps = 2 * age - (row.life - 1);
    const float h = (float)steps, zoom = row.zoom * h;
    float sine, cosine;
    turn((u32)steps * (u32)row.spin, sine, cosine);
    const float across = row.shear[0] * h, down = row.shear[1] * h;
    const float qx = fma(fma(gain_x, h, velocity_x), h, x0), qy = fma(fma(gain_y, h, velocity_y), h, y0);
    const float rx = fma(across, qy, qx), ry = fma(down, qx, qy), scale = exp2(zoom);
    const float x = fma(scale, fma(cosine, rx, sine * ry), fma(row.velocity[0], h, row.centre[0]));
    const float y = fma(scale, fma(cosine, ry, -(sine * rx)), fma(row.velocity[1], h, row.centre[1]));

    const float smaller = quotient(exp2(-fma(growth, h, zoom)), ground ? radius : radius * grown);
    const float larger = quotient(1.0f, smaller);
    turn(w[1][3] + (u32)steps * ((u32)row.spin + (u32)spin), sine, cosine);
    const float of_u = (smaller * high) * cells, of_v = (smaller * wide) * cells;
    const float cu = cosine * of_u, su = -(sine * of_u), sv = sine * of_v, cv = cosine * of_v;
    float au = fma(-down, su, cu), bu = fma(-across, cu, su), av = fma(-down, cv, sv), bv = fma(-across, sv, cv);
    if (kind == BOX) {
        const float a = (au + av) * ROOT_HALF, b = (bu + bv) * ROOT_HALF;
        av = (av - au) * ROOT_HALF, bv = (bv - bu) * ROOT_HALF;
        au = a, bu = b;
    }

    const float sharp = ground ? 1.0f : larger * of_kind(kind, 0x1.0000000000000p-1f, 0x1.c5bf8a0000000p-1f, 0x1.8e1c5e0000000p-1f, 0x1.1d6a500000000p-1f);
    const float det = au * bv - bu * av;
    const float corner = of_kind(kind, 0x1.0000000000000p+0f, 0x1.40d9320000000p+0f, 0x1.8e1c5e0000000p+0f, 0x1.1d6a500000000p+0f);
    const float outer = quotient((corner * cells) * (1.0f + quotient(0.5f, sharp)), size_of(det)), flip = det < 0.0f ? -1.0f : 1.0f;
    float left, right, top, bottom;
    extent(kind, bv * flip, -bu * flip, outer, left, right);
    extent(kind, -av * flip, au * flip, outer, top, bottom);
    const float edge = finer * sharp;

    Leaf leaf;
    leaf.au = au, leaf.bu = bu, leaf.cu = -fma(au, x, bu * y);
    leaf.av = av, leaf.bv = bv, leaf.cv = -fma(av, x, bv * y);
    leaf.c = of_kind(kind, 0x0.0p+0f, 0x1.9884540000000p-1f, 0x1.493c280000000p+0f, 0x1.cb3b8a0000000p+0f) * edge;
    leaf.s = of_kind(kind, 0x0.0p+0f, 0x1.9884540000000p-1f, 0x0.0p+0f, 0x0.0p+0f) * edge;
    leaf.to_c = of_kind(kind, 0x0.0p+0f, -0x1.9884540000000p-1f, -0x1.493c280000000p-1f, 0x0.0p+0f) * edge;
    leaf.to_s = of_kind(kind, 0x0.0p+0f, 0x1.9884540000000p-1f, 0x1.1d20380000000p+0f, 0x0.0p+0f) * edge;
    leaf.curve = of_kind(kind, 0x1.0000000000000p+0f, 0x0.0p+0f, 0x0.0p+0f, 0x1.9be7480000000p-1f) * edge * finer;
    leaf.to_edge = sharp + 0.5f, leaf.level = level;
    leaf.texture = ground ? amplitude * grown : amplitude;
    leaf.seed = w[1][3] ^ w[0][0], leaf.unused = 0;
    leaf.left = x + left, leaf.right = x + right, leaf.top = y + top, leaf.bottom = y + bottom;
    return leaf;
}

HD int shape_blocks(const Launch &a) { return (a.places + THREADS - 1) / THREADS; }  // of a frame

template <class Team>
HD void place_shapes(const Launch &a, u32 block, Team &team) {
    const int per = shape_blocks(a), frame = (int)(block / (u32)per), n = frame / a.frames;
    const int first = (int)(block % (u32)per) * THREADS;
    const Row &row = a.rows[n];
    const int t = a.windows[n].t0 + frame % a.frames * a.windows[n].step;
    team.each([&](int thread, auto &) {
        const int k = first + thread;
        if (k <= row.slots) a.found[(i64)frame * a.places + k] = shape_of(row, k, t);
    });
}

// --- the second kernel: pixels

struct Shared {
    u32 *flags;  // of the shapes that may reach the tile, a bit each
    int *starts;
    u16 *list;
};

HD int words_of(const Launch &a) { return (a.places + 31) / 32; }

HD int carve(const Launch &a, char *memory, Shared &s) {
    const int words = rounded_up(words_of(a) + 1, 4);
    s.flags = (u32 *)memory;
    s.starts = (int *)(memory + 4 * words);
    s.list = (u16 *)(memory + 8 * words);
    return 8 * words + rounded_up(2 * a.places, 16);
}

HD int tiles_across(const Launch &a) { return (a.width + COLUMNS - 1) / COLUMNS; }
HD int tiles_down(const Launch &a) { return (a.height + ROWS - 1) / ROWS; }

HD float at_corner(u32 h) { return (float)(int)((h ^ (h >> 15)) * HASH_Z); }

HD float fade(float f) { return f * f * fma(-2.0f, f, 3.0f); }

HD float noise(float u, float v, u32 seed) {
    const int p = floored(u), q = floored(v);
    const u32 h = ((u32)p * HASH_X + (u32)q * HASH_Y) + seed;
    const float su = fade(u - (float)p), sv = fade(v - (float)q);
    const float near = lerp(at_corner(h), at_corner(h + HASH_X), su);
    const float far = lerp(at_corner(h + HASH_Y), at_corner(h + HASH_X + HASH_Y), su);
    return lerp(near, far, sv);
}

template <class Team>
HD void paint_tile(const Launch &a, u32 block, char *memory, Team &team) {
    const u32 across = tiles_across(a), tiles = across * (u32)tiles_down(a);
    const int frame = (int)(block / tiles), n = frame / a.frames, tile = (int)(block % tiles);
    const Row &row = a.rows[n];
    const Window window = a.windows[n];
    const Leaf *found = a.found + (i64)frame * a.places;
    const int column = tile % (int)across * COLUMNS, line = tile / (int)across * ROWS;
    const int columns = least(COLUMNS, a.width - column), lines = least(ROWS, a.height - line);
    const int first = window.flip ? window.x0 + a.width - column - columns : window.x0 + column;
    const float low_x = (float)first, high_x = (float)(first + columns - 1);
    const float low_y = (float)(window.y0 + line), high_y = (float)(window.y0 + line + lines - 1);
    const int words = (row.slots + 31) / 32;
    Shared s;
    carve(a, memory, s);

    team.each([&](int thread, auto &) {
        for (int w = thread; w < words; w += THREADS) {
            u32 flags = 0;
            int count = 0;
            const int last = least(32, row.slots - 32 * w);
            for (int i = 0; i < last; i++) {
                const Leaf &leaf = found[32 * w + i];
                const bool near = leaf.right >= low_x && leaf.left <= high_x && leaf.bottom >= low_y && leaf.top <= high_y;
                flags |= (u32)near << i;
                count += near;
            }
            s.flags[w] = flags, s.starts[w] = count;
        }
    });
    team.sync();
    team.each([&](int thread, auto &) {
        if (thread) return;
        int sum = 0;
        for (int w = 0; w < words; w++) {
            const int count = s.starts[w];
            s.starts[w] = sum;
            sum += count;
        }
        s.starts[words] = sum;
    });
    team.sync();
    team.each([&](int thread, auto &) {
        for (int w = thread; w < words; w += THREADS) {
            int at = s.starts[w];
            const u32 flags = s.flags[w];
            for (int i = 0; i < 32; i++) {
                if (flags >> i & 1) s.list[at++] = (u16)(32 * w + i);
            }
        }
    });
    team.sync();
    team.each([&](int thread, auto &) {
        const int j = line + thread / ACROSS, i = column + thread % ACROSS * PIXELS;
        if (j >= a.height || i >= a.width) return;
        const int count = s.starts[words];
        const float y = (float)(window.y0 + j);
        float x[PIXELS], left[PIXELS], grey[PIXELS], weight[PIXELS], texture[PIXELS], u_seen[PIXELS], v_seen[PIXELS];
        u32 seed[PIXELS];
        UNROLL
        for (int p = 0; p < PIXELS; p++) {
            x[p] = (float)(window.flip ? window.x0 + a.width - 1 - i - p : window.x0 + i + p);
            left[p] = 1.0f, grey[p] = weight[p] = texture[p] = u_seen[p] = v_seen[p] = 0.0f, seed[p] = 0;
        }
        for (int e = 0; e < count; e++) {
            const Leaf &leaf = found[s.list[e]];
            const float row_u = fma(leaf.bu, y, leaf.cu), row_v = fma(leaf.bv, y, leaf.cv);
            UNROLL
            for (int p = 0; p < PIXELS; p++) {
                const float u = fma(leaf.au, x[p], row_u), v = fma(leaf.av, x[p], row_v), up = size_of(v);
                const float bend = up * fma(leaf.curve, up, leaf.to_s);
                const float d = larger_of(fma(leaf.s, up, leaf.c * u), fma(u, fma(leaf.curve, u, leaf.to_c), bend));
                const float w = left[p] * lesser(larger_of(leaf.to_edge - d, 0.0f), 1.0f);
                grey[p] = fma(w, leaf.level, grey[p]);
                const bool seen = left[p] > 0.5f;
                weight[p] = seen ? w : weight[p], texture[p] = seen ? leaf.texture : texture[p];
                u_seen[p] = seen ? u : u_seen[p], v_seen[p] = seen ? v : v_seen[p], seed[p] = seen ? leaf.seed : seed[p];
                left[p] = left[p] - w;
            }
            if (left[0] == 0.0f && left[1] == 0.0f && left[2] == 0.0f && left[3] == 0.0f) break;
        }
        const Leaf &ground = found[row.slots];
        u32 levels = 0;
        UNROLL
        for (int p = 0; p < PIXELS; p++) {
            const bool seen = left[p] > 0.5f;
            grey[p] = fma(left[p], ground.level, grey[p]);
            if (seen) {
                weight[p] = left[p], texture[p] = ground.texture, seed[p] = ground.seed;
                u_seen[p] = fma(ground.au, x[p], fma(ground.bu, y, ground.cu));
                v_seen[p] = fma(ground.av, x[p], fma(ground.bv, y, ground.cv));
            }
            const float amplitude = weight[p] * texture[p];
            if (amplitude > 0.0f) grey[p] = fma(amplitude, noise(u_seen[p], v_seen[p], seed[p]), grey[p]);
            levels |= (u32)(int)lesser(larger_of(grey[p], 0.0f), 255.0f) << (8 * p);
        }
        u8 *to = a.out + (((i64)frame * a.height + j) * a.width + i);
        if (i + PIXELS <= a.width && ((u64)to & 3) == 0) {
            *(u32 *)to = levels;
        } else {
            UNROLL
            for (int p = 0; p < PIXELS; p++) {
                if (i + p < a.width) to[p] = (u8)(levels >> (8 * p));
            }
        }
    });
}

}  // namespace leaves
