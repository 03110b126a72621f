// The Perlin core, for the device and for the host. It follows vpngen/generators/perlin.py name by name; read that first.
//
// A block makes a tile: some rows of a window, all its columns up to TILE_WIDTH, FRAMES frames. Each thread owns four
// pixels of a row and carries P and Q of the two lattice planes around the current frame in registers, for each term.
// A frame is then four multiply-adds a term; a new plane is made from gradients that the block hashes into shared memory
// when it needs them. Bytes are gathered in shared memory and leave it in pieces of 16.

#include "common.cuh"

enum {
    TERMS = 3,
    PIXELS = 4,         // of a thread, along x
    THREADS = 256,
    FRAMES = 16,        // of a block
    BURST = 4,          // frames between two copies out of shared memory
    TILE_WIDTH = 256,   // pixels of a block along x, at most
    LATTICE = 2 << 16,  // vpngen.rng.PURPOSE_LATTICE
    SPHERE = 1,
    LINEAR = 1
};

// One video: vpngen.generators.perlin.Perlin.row_dtype.
struct Row {
    u32 key[2];
    float gain, bias;
    int gradients, fade;
    float phase;
    int terms;
    float amplitude[TERMS];
    int cell[TERMS][3];
    int wrap[TERMS];
    int unused;
};

// One launch: n windows of (frames, height, width), cut into blocks by vpngen/backends/cuda.py.
struct Launch {
    const Row *rows;
    const Window *windows;
    u8 *out;          // n * frames * height * width bytes, or null
    float *extremes;  // else: least and greatest value of each block, 2 * blocks
    int n, frames, height, width;
    int tile_rows;            // of a block along y
    int capacity[TERMS];      // lattice points that a term's share of shared memory holds
};

// --- arithmetic: one place where device and host differ in words, not in bits

HD float fused(float a, float b, float c) {
#ifdef __CUDA_ARCH__
    return __fmaf_rn(a, b, c);
#else
    return __builtin_fmaf(a, b, c);
#endif
}

HD float root(float a) {
#ifdef __CUDA_ARCH__
    return __fsqrt_rn(a);
#else
    return __builtin_sqrtf(a);
#endif
}

HD float quotient(float a, float b) {
#ifdef __CUDA_ARCH__
    return __fdiv_rn(a, b);
#else
    return a / b;
#endif
}

// floor(a) in the low byte, for a in [0, 256): adding 2^23 towards minus infinity leaves the integer part in the mantissa.
HD u32 level(float a) {
#ifdef __CUDA_ARCH__
    return __float_as_uint(__fadd_rd(a, 8388608.0f));
#else
    return (u32)a;
#endif
}

HD float lerp(float a, float b, float s) { return fused(s, b - a, a); }

HD float fade(int kind, float f) {
    if (kind == LINEAR) return f;
    return f * f * f * fused(f, fused(f, 6.0f, -15.0f), 10.0f);
}

HD float fraction(float phase, int i, int size) { return quotient((float)(i % size) + phase, (float)size); }

// Coefficients of sin and cos of (pi / 2) f: vpngen.generators.perlin.SIN and COS, a test compares them.
HD void sine_cosine(u32 angle, float &sine, float &cosine) {
    float f = ((float)(int)(angle & 16383u) - 8192.0f) * (1.0f / 16384.0f);
    float z = f * f;
    float s = f * fused(z, fused(z, fused(z, SIN_3, SIN_2), SIN_1), SIN_0);
    float c = fused(z, fused(z, fused(z, fused(z, COS_4, COS_3), COS_2), COS_1), COS_0);
    bool quarter = angle & 0x4000u, half = angle & 0x8000u;
    float s1 = quarter ? c : s, c1 = quarter ? -s : c;
    sine = half ? -s1 : s1;
    cosine = half ? -c1 : c1;
}

HD void gradient(int law, u32 word, float &gx, float &gy, float &gt) {
    float sin_theta, cos_theta, sin_phi, cos_phi;
    sine_cosine(word & 0xFFFFu, sin_theta, cos_theta);
    if (law == SPHERE) {
        cos_phi = fused((float)(int)(word >> 16), 1.0f / 32768.0f, 1.0f / 65536.0f - 1.0f);
        sin_phi = root(fused(-cos_phi, cos_phi, 1.0f));
    } else {
        sine_cosine(word >> 16, sin_phi, cos_phi);
    }
    gx = sin_phi * cos_theta;
    gy = sin_phi * sin_theta;
    gt = cos_phi;
}

// --- the work of a block

struct Block {
    const Row *row;
    Window window;
    int n, t, y, x;                 // its first frame, row and column within the window
    int frames, rows, columns;      // its extent
    int groups;                     // threads of a row
    int p[TERMS], q[TERMS];         // the first lattice column (a multiple of 4) and line it needs
    int lattice_columns[TERMS], lattice_lines[TERMS];
};

struct Weights {
    float w[4];
};

// What a block keeps in shared memory; `carve` lays it out.
struct Shared {
    Block *block;
    Weights *weights;      // [FRAMES][TERMS]
    float *fx, *u;         // [TERMS][columns]
    int *column;           // [TERMS][columns]: lattice column, from p on
    float *fy, *v;         // [TERMS][rows]
    int *line;             // [TERMS][rows]
    float *lattice[TERMS]; // gx, gy, gt: [3][planes][lines][columns]
    u8 *tile;              // [BURST][rows][pitch]
};

struct State {  // of a thread
    float P0[TERMS][PIXELS], Q0[TERMS][PIXELS], P1[TERMS][PIXELS], Q1[TERMS][PIXELS];
    float low, high;
};

HD int tile_width(const Launch &a) { return least(a.width, TILE_WIDTH); }
HD int blocks_along(int size, int tile) { return (size + tile - 1) / tile; }

HD i64 block_count(const Launch &a) {
    return (i64)a.n * blocks_along(a.frames, FRAMES) * blocks_along(a.height, a.tile_rows) *
           blocks_along(a.width, tile_width(a));
}

// Bytes of shared memory, and with `base` the layout.
HD int carve(const Launch &a, char *base, Shared &s) {
    int columns = rounded_up(tile_width(a), 16), rows = a.tile_rows, at = 0;
    s.block = (Block *)(base + at), at += rounded_up((int)sizeof(Block), 16);
    s.weights = (Weights *)(base + at), at += FRAMES * TERMS * (int)sizeof(Weights);
    s.tile = (u8 *)(base + at), at += BURST * rows * columns;
    s.fx = (float *)(base + at), at += TERMS * columns * 4;
    s.u = (float *)(base + at), at += TERMS * columns * 4;
    s.column = (int *)(base + at), at += TERMS * columns * 4;
    s.fy = (float *)(base + at), at += TERMS * rows * 4;
    s.v = (float *)(base + at), at += TERMS * rows * 4;
    s.line = (int *)(base + at), at += TERMS * rows * 4;
    UNROLL
    for (int k = 0; k < TERMS; k++) s.lattice[k] = (float *)(base + at), at += 3 * a.capacity[k] * 4;
    return at;
}

HD void locate(const Launch &a, i64 block, Block &b) {
    int across = blocks_along(a.width, tile_width(a)), down = blocks_along(a.height, a.tile_rows);
    int along = blocks_along(a.frames, FRAMES);
    b.x = (int)(block % across) * tile_width(a), block /= across;
    b.y = (int)(block % down) * a.tile_rows, block /= down;
    b.t = (int)(block % along) * FRAMES;
    b.n = (int)(block / along);
    b.row = a.rows + b.n;
    b.window = a.windows[b.n];
    b.frames = least(FRAMES, a.frames - b.t);
    b.rows = least(a.tile_rows, a.height - b.y);
    b.columns = least(tile_width(a), a.width - b.x);
    b.groups = blocks_along(b.columns, PIXELS);
    int left = b.window.x0 + (b.window.flip ? a.width - b.x - b.columns : b.x), top = b.window.y0 + b.y;
    for (int k = 0; k < b.row->terms; k++) {
        int sx = b.row->cell[k][0], sy = b.row->cell[k][1];
        b.p[k] = left / sx / 4 * 4;
        b.q[k] = top / sy;
        b.lattice_columns[k] = rounded_up((left + b.columns - 1) / sx + 2 - b.p[k], 4);
        b.lattice_lines[k] = (top + b.rows - 1) / sy + 2 - b.q[k];
    }
}

HD int frame_time(const Block &b, int i) { return b.window.t0 + (b.t + i) * b.window.step; }

// The tables of a block: where its columns and rows lie in their cells, and the weights of its frames.
HD void set_up(const Launch &a, const Block &b, const Shared &s, int thread) {
    const Row &row = *b.row;
    int columns = rounded_up(tile_width(a), 16);
    for (int k = 0; k < row.terms; k++) {
        for (int i = thread; i < b.columns; i += THREADS) {
            int x = b.window.x0 + (b.window.flip ? a.width - 1 - (b.x + i) : b.x + i), sx = row.cell[k][0];
            float fx = fraction(row.phase, x, sx);
            s.fx[k * columns + i] = fx;
            s.u[k * columns + i] = fade(row.fade, fx);
            s.column[k * columns + i] = x / sx - b.p[k];
        }
        for (int i = thread; i < b.rows; i += THREADS) {
            int y = b.window.y0 + b.y + i, sy = row.cell[k][1];
            float fy = fraction(row.phase, y, sy);
            s.fy[k * a.tile_rows + i] = fy;
            s.v[k * a.tile_rows + i] = fade(row.fade, fy);
            s.line[k * a.tile_rows + i] = y / sy - b.q[k];
        }
        for (int i = thread; i < b.frames; i += THREADS) {
            float ft = fraction(row.phase, frame_time(b, i), row.cell[k][2]);
            float whole = row.gain * row.amplitude[k];
            float w2 = whole * fade(row.fade, ft), w0 = whole - w2;
            Weights &w = s.weights[i * TERMS + k];
            w.w[0] = w0, w.w[1] = w0 * ft, w.w[2] = w2, w.w[3] = w2 * (ft - 1.0f);
        }
    }
}

// The gradients of `planes` lattice planes of term k from r on; one hash serves four lattice columns.
HD void fill_lattice(const Block &b, const Shared &s, int k, int r, int planes, int thread) {
    const Row &row = *b.row;
    int columns = b.lattice_columns[k], lines = b.lattice_lines[k], points = planes * lines * columns;
    for (int i = thread; i < points / 4; i += THREADS) {
        int group = i % (columns / 4), rest = i / (columns / 4), line = rest % lines;
        int plane = r + rest / lines;
        if (row.wrap[k] > 0) plane %= row.wrap[k];
        u32 c[4] = {(u32)(b.p[k] / 4 + group), (u32)(b.q[k] + line), (u32)plane, (u32)(LATTICE | k)};
        philox(c, row.key[0], row.key[1]);
        float *g = s.lattice[k] + 4 * i;
        UNROLL
        for (int j = 0; j < 4; j++) gradient(row.gradients, c[j], g[j], g[points + j], g[2 * points + j]);
    }
}

// P and Q of one lattice plane, `slot` planes into the filled ones, for the pixels of a thread.
HD void make_plane(const Launch &a, const Block &b, const Shared &s, int k, int planes, int slot, int thread,
                   float *P, float *Q) {
    int y = thread / b.groups, x = thread % b.groups * PIXELS;
    if (y >= b.rows) return;
    int columns = b.lattice_columns[k], points = planes * b.lattice_lines[k] * columns;
    int width = rounded_up(tile_width(a), 16);
    const float *gx = s.lattice[k] + (slot * b.lattice_lines[k] + s.line[k * a.tile_rows + y]) * columns;
    const float *gy = gx + points, *gt = gy + points;
    float fy = s.fy[k * a.tile_rows + y], v = s.v[k * a.tile_rows + y];
    int cell = -1;
    float A0 = 0, B0 = 0, C0 = 0, dA = 0, dB = 0, dC = 0;
    UNROLL
    for (int j = 0; j < PIXELS; j++) {
        int i = least(x + j, b.columns - 1);
        int p = s.column[k * width + i];
        if (p != cell) {
            cell = p;
            A0 = lerp(gx[p], gx[columns + p], v);
            B0 = lerp(gy[p] * fy, gy[columns + p] * (fy - 1.0f), v);
            C0 = lerp(gt[p], gt[columns + p], v);
            float A1 = lerp(gx[p + 1], gx[columns + p + 1], v);
            float B1 = lerp(gy[p + 1] * fy, gy[columns + p + 1] * (fy - 1.0f), v);
            float C1 = lerp(gt[p + 1], gt[columns + p + 1], v);
            dA = A1 - A0, dB = B1 - A1 - B0, dC = C1 - C0;
        }
        float fx = s.fx[k * width + i], u = s.u[k * width + i];
        P[j] = fused(u, fused(dA, fx, dB), fused(A0, fx, B0));
        Q[j] = fused(u, dC, C0);
    }
}

// One frame: bias plus the weighted sum of P and Q. A weight of zero is skipped: fma(0, P, grey) changes no bit.
HD void add_terms(int terms, const Weights *w, const State &state, float grey[PIXELS]) {
    UNROLL
    for (int k = 0; k < TERMS; k++) {
        if (k >= terms) continue;
        float w0 = w[k].w[0], w1 = w[k].w[1], w2 = w[k].w[2], w3 = w[k].w[3];
        bool between = w1 != 0 || w2 != 0 || w3 != 0;
        UNROLL
        for (int j = 0; j < PIXELS; j++) grey[j] = fused(w0, state.P0[k][j], grey[j]);
        if (between) {
            UNROLL
            for (int j = 0; j < PIXELS; j++) {
                grey[j] = fused(w1, state.Q0[k][j], grey[j]);
                grey[j] = fused(w2, state.P1[k][j], grey[j]);
                grey[j] = fused(w3, state.Q1[k][j], grey[j]);
            }
        }
    }
}

HD u32 four_bytes(u32 a, u32 b, u32 c, u32 d) {
#ifdef __CUDA_ARCH__
    return __byte_perm(__byte_perm(a, b, 0x0040), __byte_perm(c, d, 0x0040), 0x5410);
#else
    return (a & 255u) | (b & 255u) << 8 | (c & 255u) << 16 | d << 24;
#endif
}

// The bytes of a thread's pixels of frame i into the tile; their order along x is already that of the output.
HD void make_frame(const Launch &a, const Block &b, const Shared &s, int i, int thread, State &state) {
    int y = thread / b.groups, x = thread % b.groups * PIXELS;
    if (y >= b.rows) return;
    float grey[PIXELS];
    UNROLL
    for (int j = 0; j < PIXELS; j++) grey[j] = b.row->bias;
    add_terms(b.row->terms, s.weights + i * TERMS, state, grey);
    if (!a.out) {
        UNROLL
        for (int j = 0; j < PIXELS; j++) {
            state.low = grey[j] < state.low ? grey[j] : state.low;
            state.high = grey[j] > state.high ? grey[j] : state.high;
        }
        return;
    }
    int pitch = rounded_up(tile_width(a), 16);
    u32 *word = (u32 *)(s.tile + ((i % BURST) * a.tile_rows + y) * pitch + x);
    UNROLL
    for (int j = 0; j < PIXELS / 4; j++)
        word[j] = four_bytes(level(grey[4 * j]), level(grey[4 * j + 1]), level(grey[4 * j + 2]), level(grey[4 * j + 3]));
}

// Frames [first, first + count) of the tile to the output: pieces of 16 bytes where a row allows it, else bytes.
HD void copy_out(const Launch &a, const Block &b, const Shared &s, int first, int count, int thread) {
    int pitch = rounded_up(tile_width(a), 16), pieces = blocks_along(b.columns, 16);
    for (int i = thread; i < count * b.rows * pieces; i += THREADS) {
        int piece = i % pieces, rest = i / pieces, y = rest % b.rows, f = rest / b.rows;
        const u8 *from = s.tile + ((first + f) % BURST * a.tile_rows + y) * pitch + 16 * piece;
        u8 *to = a.out + (((i64)b.n * a.frames + b.t + first + f) * a.height + b.y + y) * a.width + b.x + 16 * piece;
        int bytes = least(16, b.columns - 16 * piece);
        if (bytes == 16 && ((u64)to & 15) == 0)
            *(Sixteen *)to = *(const Sixteen *)from;
        else
            for (int j = 0; j < bytes; j++) to[j] = from[j];
    }
}

// A block from beginning to end.
template <class Team>
HD void render_block(const Launch &a, i64 block, char *memory, Team &team) {
    Shared s;
    carve(a, memory, s);
    team.each([&](int thread, State &) {
        if (thread == 0) locate(a, block, *s.block);
    });
    team.sync();
    const Block &b = *s.block;
    team.each([&](int thread, State &) { set_up(a, b, s, thread); });
    team.sync();
    int plane[TERMS], filled[TERMS], planes[TERMS];  // the lattice plane of P0; those in shared memory: first and number
    UNROLL
    for (int k = 0; k < TERMS; k++) plane[k] = filled[k] = -2, planes[k] = 0;
    int terms = b.row->terms;
    for (int first = 0; first < b.frames; first += BURST) {
        int count = least(BURST, b.frames - first);
        for (int i = first; i < first + count; i++) {
            UNROLL
            for (int k = 0; k < TERMS; k++) {
                if (k >= terms) continue;
                int st = b.row->cell[k][2], r = frame_time(b, i) / st;
                if (r == plane[k]) continue;
                bool on_planes = st == 1 && b.row->phase == 0;  // then no frame lies between two of them
                bool next = r == plane[k] + 1 && !on_planes;
                for (int c = next ? 1 : 0; c < (on_planes ? 1 : 2); c++) {
                    if (r + c < filled[k] || r + c >= filled[k] + planes[k]) {
                        int points = b.lattice_lines[k] * b.lattice_columns[k];
                        filled[k] = r + c;
                        planes[k] = least(a.capacity[k] / points, frame_time(b, b.frames - 1) / st + 2 - filled[k]);
                        team.sync();
                        team.each([&](int thread, State &) { fill_lattice(b, s, k, filled[k], planes[k], thread); });
                        team.sync();
                    }
                    int slot = r + c - filled[k];
                    team.each([&](int thread, State &state) {
                        if (next)
                            UNROLL
                            for (int j = 0; j < PIXELS; j++)
                                state.P0[k][j] = state.P1[k][j], state.Q0[k][j] = state.Q1[k][j];
                        if (c)
                            make_plane(a, b, s, k, planes[k], slot, thread, state.P1[k], state.Q1[k]);
                        else
                            make_plane(a, b, s, k, planes[k], slot, thread, state.P0[k], state.Q0[k]);
                    });
                }
                plane[k] = r;
            }
            team.each([&](int thread, State &state) { make_frame(a, b, s, i, thread, state); });
        }
        if (a.out) {
            team.sync();
            team.each([&](int thread, State &) { copy_out(a, b, s, first, count, thread); });
            team.sync();
        }
    }
}
