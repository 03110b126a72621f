// The Perlin core, for the device and for the host. It follows vpngen/generators/perlin.py name by name; read that first.
//
// A block makes a tile: some rows of a window, some columns, some frames. Four stages follow one another, as in
// vpngen/backends/numba_perlin.py:
//
//     gradients   of the lattice points of some lattice planes, hashed into shared memory
//     along_y     from them the cells: the six numbers through which P and Q of a row hang on the lattice, into shared memory
//     along_x     from these P and Q of a lattice plane for the pixels of a thread, PIXELS along x on ROWS rows, in registers
//     along_t     bias plus the weighted sum of P and Q of the planes before and after a frame, and its bytes to the output
//
// The last two are the work of every frame or plane; the first two fill shared memory with as many planes as it has room for.
// A record (struct Frame) tells what all threads do for a frame. It is made beforehand, so that nothing is divided and no
// global memory read between the first frame and the last, and all threads of a block branch alike.
//
// "Costs" are warp instructions for 128 pixels, of whole videos and of clips, in the mean of the paper's categories:
// benchmarks/results/counts.md, by stage. Behind them stands what one task takes.

#include "floats.cuh"

enum {
    TERMS = 3,
    PIXELS = 4,         // of a thread, along x
    ROWS = 2,           // of a thread, along y
    THREADS = 384,      // of a block, at most
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

// One launch: n windows of (frames, height, width), cut into blocks by vpngen/backends/cuda_perlin.py.
struct Launch {
    const Row *rows;
    const Window *windows;
    u8 *out;          // n * frames * height * width bytes, or null
    float *extremes;  // else: least and greatest value of each block, 2 * blocks
    int n, frames, height, width;
    int threads;                               // of a block, a multiple of 32
    int tile_frames, tile_rows, tile_columns;  // of a block, at most; columns a multiple of PIXELS
    int pool;                                  // bytes of shared memory for gradients and cells: at least a plane of each term
};

// --- arithmetic

HD float lerp(float a, float b, float s) { return floats::fma(s, b - a, a); }

HD float fade(int kind, float f) {
    if (kind == LINEAR) return f;
    return f * f * f * floats::fma(f, floats::fma(f, 6.0f, -15.0f), 10.0f);
}

HD float fraction(float phase, int i, Divisor size) { return floats::quotient((float)(i % size) + phase, (float)size.size); }

// Minus `a` in the second half of a turn. On its bits, as the device negates by a subtraction, which flushes.
HD float turned(float a, u32 angle) { return floats::of_bits(floats::bits(a) ^ (angle & 0x80000000u)); }

// Coefficients of sin and cos of (pi / 2) f: vpngen.generators.perlin.SIN and COS, a test compares them. The angle is
// in the upper half of a word.
HD void sine_cosine(u32 angle, float &sine, float &cosine) {
    float f = floats::fma((float)(int)(angle & 0x3FFF0000u), 1.0f / (1 << 30), -0.5f);  // exact
    float z = f * f;
    float s = f * floats::fma(z, floats::fma(z, floats::fma(z, SIN_3, SIN_2), SIN_1), SIN_0);
    float c = floats::fma(z, floats::fma(z, floats::fma(z, floats::fma(z, COS_4, COS_3), COS_2), COS_1), COS_0);
    bool quarter = (int)(angle << 1) < 0;
    sine = turned(quarter ? c : s, angle), cosine = turned(quarter ? s : c, angle + 0x40000000u);
}

// A grey level of 1, where it is to become a byte: then grey levels are subnormal numbers of float16, whose bits count them.
// A power of two in gain and bias changes no other bit.
#define LEVEL (1.0f / 16777216.0f)

// How grey levels become bytes: as float16 numbers two at a time, or one by one beside 1/2, as before sm_80.
#ifndef HALVES
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define HALVES 0
#else
#define HALVES 1
#endif
#endif

// How many whole LEVELs there are in a number from 0 up to 1/2: its mantissa, moved to where a bit is a LEVEL; what falls off
// the end is less than one.
HD u32 whole_levels(float a) {
    const u32 bits = floats::bits(a), exponent = bits >> 23, places = 126 - exponent;
    return exponent && places < 24 ? ((bits & 0x7FFFFFu) | 0x800000u) >> places : 0;
}

// Two numbers to float16 towards zero: two grey levels in [0, 256), times LEVEL, to two integers. Numbers under 2^-14 are
// subnormal there: multiples of LEVEL.
HD u32 halves(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    u32 pair;
    asm("cvt.rz.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else
    return whole_levels(low) | whole_levels(high) << 16;
#endif
}

// The same of one, in the low byte: from 1/2 to 1 the bits of a number count LEVELs; the sum is rounded towards minus infinity.
HD u32 level(float grey) {
#ifdef __CUDA_ARCH__
    return floats::bits(__fadd_rd(grey, 0.5f));
#else
    return floats::bits(0.5f) + whole_levels(grey);
#endif
}

HD u32 bytes(u32 a, u32 b, u32 which) {
#ifdef __CUDA_ARCH__
    return __byte_perm(a, b, which);
#else
    u32 word = 0;
    for (int i = 0; i < 4; i++) word |= (u32)((((u64)b << 32 | a) >> 8 * (which >> 4 * i & 7)) & 255u) << 8 * i;
    return word;
#endif
}

// The integer parts of four grey levels as bytes: three instructions, or seven.
template <bool AS_HALVES>
HD u32 four_levels(const float grey[PIXELS]) {
    if (AS_HALVES) return bytes(halves(grey[0], grey[1]), halves(grey[2], grey[3]), 0x6420);
    return bytes(bytes(level(grey[0]), level(grey[1]), 0x0040), bytes(level(grey[2]), level(grey[3]), 0x0040), 0x5410);
}

struct alignas(16) Gradients {  // of the four lattice columns of a hash
    float gx[4], gy[4], gt[4];
};

template <bool ON_SPHERE>
HD void turn_into(const u32 words[4], Gradients &g) {
    UNROLL
    for (int j = 0; j < 4; j++) {
        float sin_theta, cos_theta, sin_phi, cos_phi;
        sine_cosine(words[j] << 16, sin_theta, cos_theta);
        if (ON_SPHERE) {
            cos_phi = floats::fma((float)(int)(words[j] >> 16), 1.0f / 32768.0f, 1.0f / 65536.0f - 1.0f);
            sin_phi = floats::root(floats::fma(-cos_phi, cos_phi, 1.0f));
        } else {
            sine_cosine(words[j], sin_phi, cos_phi);
        }
        g.gx[j] = sin_phi * cos_theta, g.gy[j] = sin_phi * sin_theta, g.gt[j] = cos_phi;
    }
}

// --- what a block keeps in shared memory

// A lattice column on the two rows of a pair, with its cell to the right: all that the pixels of the cell need of a plane.
struct Cell {
    struct alignas(16) Space {
        float A, B, slope, step;  // slope = A1 - A0, step = B1 - A1 - B0
    } space[ROWS];
    struct alignas(8) Time {
        float C, rise;  // rise = C1 - C0
    } time[ROWS];
};

struct alignas(16) Columns {  // of a thread, for a term
    float fx[PIXELS], u[PIXELS];
    int cell[PIXELS];  // counted from the first one of the block
};

struct Line {  // a row, for a term
    float fy, v;
    int line;  // the lattice line before it, counted from q on
};

// What all threads do for a frame; bits of a byte for each term.
enum What : u32 {
    MAKE_0 = 1,                // make the plane of the frame: P0 alone, as no frame lies between two planes
    MAKE_1 = 2,                // the plane after the frame becomes the one before it; make the next
    REFILL = 4,                // before that, fill shared memory
    ON = 8,                    // the frame lies on its plane: all weights but the first are 0, and fma(0, P, grey) changes no bit
    BETWEEN = 16,              // it lies between two
    MANY = 32,                 // some thread has pixels of more than one cell
    ON_COLUMNS = 64,           // no pixel lies between two lattice columns: there are no cells
    HIDDEN = 1 << 8 * TERMS,   // no frame, but planes for the next
    WORDS = 2 << 8 * TERMS,    // rows begin at multiples of 4 bytes in the output
    SPARE = 4 << 8 * TERMS,    // for warps without pixels, which only help to fill shared memory
    LAST = 8 << 8 * TERMS,     // the last record
    EACH = 0x010101,           // times a bit: that bit of any term
    MAKING = (MAKE_0 | MAKE_1) * EACH | HIDDEN
};

struct alignas(16) Frame {
    float w[TERMS][4];
    u8 what[4];
    float bias;
    int first[TERMS];  // the plane from which on to fill shared memory
    u16 fill[TERMS];   // how many planes
    u16 plane[TERMS];  // where the plane to be made begins: its cells of a pair of rows, or its gradients
};

struct Lattice {  // what a block needs of the lattice of a term
    Divisor sx, sy, st;
    int p, q, r;             // the first lattice column, line and plane
    int last;                // the last plane
    int group, skip;         // p / 4 and p % 4: one hash serves four lattice columns
    Divisor groups, lines;   // of a plane
    int cells;               // of a row; 0 where no pixel lies between two lattice columns
    int hashes, runs;        // tasks: of a plane, and of a plane for a pair of rows
    Divisor planes;          // for which there is room
    int first_group, first_cell;  // where they begin in the pool: gradients, and cells of a pair of rows
    int on_planes, on_columns, many;
    int wrap;
};

struct Tile {
    const Row *row;
    Window window;
    int n, t, y, x;             // its window, and its first frame, row and column there
    int frames, rows, columns;  // its extent
    Divisor groups, pairs;      // threads along x and along y
    int records;
    int sparse;                 // the window skips planes: every frame has a hidden record before it, else only the first
    int words;                  // its rows in the output begin at multiples of 4 bytes
};

struct Block : Tile {
    Lattice lattice[TERMS];
    Keys keys;
    int pitch;  // cells of a pair of rows, of all terms and planes
};

struct Shared {
    Block *block;
    Frame *frames;       // [records]
    Columns *columns;    // [groups][TERMS]
    Line *lines;         // [rows][TERMS]
    Cell *cells;         // [pairs][pitch]
};

HD Gradients *gradients_of(const Block &b, const Shared &s) {  // [of each term: planes][lines][groups]
    return (Gradients *)(s.cells + b.pairs.size * b.pitch);
}

// Which pixels are a thread's; those beyond the last do what the last one does, the same bytes to the same place.
HD int place_of(const Block &b, int thread) { return least(thread, b.groups.size * b.pairs.size - 1); }
HD int pair_of(const Block &b, int thread) { return place_of(b, thread) / b.groups; }

typedef float Pixels[ROWS][PIXELS];

struct State {  // of a thread
    Pixels P0[TERMS], Q0[TERMS], P1[TERMS], Q1[TERMS];
    const Cell *cells;       // of its pair of rows
    const Columns *columns;
    u8 *to;     // its first pixel in the output
    u32 below;  // bytes from there to the row below
    float low, high;
};

HD int blocks_along(int size, int tile) { return (size + tile - 1) / tile; }

HD i64 block_count(const Launch &a) {
    return (i64)a.n * blocks_along(a.frames, a.tile_frames) * blocks_along(a.height, a.tile_rows) *
           blocks_along(a.width, a.tile_columns);
}

// Bytes of shared memory, and with `base` the layout.
HD int carve(const Launch &a, char *base, Shared &s) {
    int at = rounded_up((int)sizeof(Block), 16);
    s.block = (Block *)base;
    s.frames = (Frame *)(base + at), at += 2 * a.tile_frames * (int)sizeof(Frame);
    s.columns = (Columns *)(base + at), at += a.tile_columns / PIXELS * TERMS * (int)sizeof(Columns);
    s.lines = (Line *)(base + at), at += rounded_up(a.tile_rows * TERMS * (int)sizeof(Line), 16);
    s.cells = (Cell *)(base + at);
    return at + a.pool;
}

// --- setting up: costs 2 and 10

// Whether no frame lies between two lattice planes of a term.
HD bool on_planes(const Row &row, int k) { return row.cell[k][2] == 1 && row.phase == 0; }

// Likewise no pixel between two lattice columns: fx and u are 0, so P and Q are B and C of a lattice column.
HD bool on_columns(const Row &row, int k) { return row.cell[k][0] == 1 && row.phase == 0; }

HD int frame_time(const Tile &b, int i) { return b.window.t0 + (b.t + i) * b.window.step; }
HD int column_at(const Launch &a, const Tile &b, int i) {
    return b.window.x0 + (b.window.flip ? a.width - 1 - b.x - i : b.x + i);
}

// What a block is; thread k looks after term k.
HD void locate(const Launch &a, u32 block, int k, Block &shared) {
    Tile b;
    const u32 across = blocks_along(a.width, a.tile_columns), down = blocks_along(a.height, a.tile_rows);
    const u32 along = blocks_along(a.frames, a.tile_frames);
    b.x = (int)(block % across) * a.tile_columns, block /= across;
    b.y = (int)(block % down) * a.tile_rows, block /= down;
    b.t = (int)(block % along) * a.tile_frames, b.n = (int)(block / along);
    b.row = a.rows + b.n, b.window = a.windows[b.n];
    b.frames = least(a.tile_frames, a.frames - b.t);
    b.rows = least(a.tile_rows, a.height - b.y), b.columns = least(a.tile_columns, a.width - b.x);
    b.groups = divisor(blocks_along(b.columns, PIXELS)), b.pairs = divisor(blocks_along(b.rows, ROWS));
    const Row &row = *b.row;
    b.sparse = false;
    for (int j = 0; j < row.terms; j++) b.sparse |= b.window.step > row.cell[j][2] && !on_planes(row, j);
    b.records = b.sparse ? 2 * b.frames : 1 + b.frames;
    b.words = a.width % 4 == 0 && ((u64)a.out & 3) == 0;
    if (k == 0) (Tile &)shared = b, fill_keys(row.key, shared.keys);
    if (k >= row.terms) return;
    const int left = least(column_at(a, b, 0), column_at(a, b, b.columns - 1)), right = left + b.columns - 1;
    const int top = b.window.y0 + b.y, bottom = top + b.rows - 1, sx = row.cell[k][0];
    Lattice l;
    l.sx = divisor(sx), l.sy = divisor(row.cell[k][1]), l.st = divisor(row.cell[k][2]);
    l.wrap = row.wrap[k], l.on_planes = on_planes(row, k);
    l.p = left / l.sx, l.q = top / l.sy, l.r = frame_time(b, 0) / l.st;
    l.last = frame_time(b, b.frames - 1) / l.st + !l.on_planes;
    l.group = l.p / 4, l.skip = l.p % 4;
    l.groups = divisor((right / l.sx + 1) / 4 + 1 - l.group), l.lines = divisor(bottom / l.sy + 2 - l.q);
    l.on_columns = on_columns(row, k), l.cells = l.on_columns ? 0 : right / l.sx + 1 - l.p;
    l.hashes = l.groups.size * l.lines.size, l.runs = l.on_columns ? 0 : l.groups.size;
    // Cells begin at `first`, `first` + sx and so on; where all of these are first pixels of threads, no thread has two cells.
    const int first = (l.p + 1) * sx, apart = b.window.flip ? right + 1 - first : first - left;
    l.many = first <= right && !(apart % PIXELS == 0 && (sx % PIXELS == 0 || first + sx > right));
    shared.lattice[k] = l;
}

// Shares out the pool. All terms get room for as many frames, so that they run out of planes together.
HD void share_out(const Launch &a, Block &b) {
    int rest = a.pool;
    float wanted = 0;  // bytes, beyond a plane of each term
    for (int k = 0; k < b.row->terms; k++) {
        const Lattice &l = b.lattice[k];
        int bytes = b.pairs.size * l.cells * (int)sizeof(Cell) + l.hashes * (int)sizeof(Gradients);
        rest -= bytes, wanted += (float)(l.last - l.r) * (float)bytes;
    }
    float part = wanted > (float)rest ? 0.99999f * (float)rest / wanted : 1.0f;  // whatever the rounding
    int group = 0, cell = 0;
    for (int k = 0; k < b.row->terms; k++) {
        Lattice &l = b.lattice[k];
        int more = l.last - l.r, planes = 1 + least(more, (int)(part * (float)more));
        l.planes = divisor(planes);
        l.first_group = group, group += planes * l.hashes;
        l.first_cell = cell, cell += planes * l.cells;
    }
    b.pitch = cell;
}

// Where the columns and rows of a block lie in their cells.
HD void place_pixels(const Launch &a, const Block &b, const Shared &s, int thread) {
    const float phase = b.row->phase;
    const int law = b.row->fade, terms = b.row->terms;
    for (int i = thread; i < PIXELS * b.groups.size * TERMS; i += a.threads) {
        int k = i % TERMS, j = i / TERMS, x = column_at(a, b, least(j, b.columns - 1));
        if (k >= terms) continue;
        const Lattice &l = b.lattice[k];
        Columns &c = s.columns[j / PIXELS * TERMS + k];
        float fx = fraction(phase, x, l.sx);
        c.fx[j % PIXELS] = fx, c.u[j % PIXELS] = fade(law, fx), c.cell[j % PIXELS] = x / l.sx - l.p;
    }
    for (int i = a.threads - 1 - thread; i < b.rows * TERMS; i += a.threads) {
        int k = i % TERMS, y = b.window.y0 + b.y + i / TERMS;
        if (k >= terms) continue;
        const Lattice &l = b.lattice[k];
        float fy = fraction(phase, y, l.sy);
        s.lines[i] = {fy, fade(law, fy), y / l.sy - l.q};
    }
}

// The last plane that record i needs of a lattice.
HD int plane_of(const Block &b, const Lattice &l, int i) {
    if (i < 0) return l.r - 1;
    int f = b.sparse ? i / 2 : greatest(i - 1, 0);
    bool shown = b.sparse ? i % 2 : i > 0;
    return frame_time(b, f) / l.st + shown - l.on_planes;
}

// The records of a block.
HD void plan_frames(const Launch &a, const Block &b, const Shared &s, int thread) {
    const Row &row = *b.row;
    const float scale = a.out ? LEVEL : 1.0f;
    for (int i = thread; i < TERMS * b.records; i += a.threads) {
        int k = i % TERMS, record = i / TERMS;
        Frame &frame = s.frames[record];
        int f = b.sparse ? record / 2 : greatest(record - 1, 0);
        bool shown = b.sparse ? record % 2 : record > 0;
        frame.what[k] = 0, frame.fill[k] = 0;
        if (k == 0) {
            const u32 what = (u32)!shown * HIDDEN | (u32)b.words * WORDS | (u32)(record + 1 == b.records) * LAST;
            frame.what[TERMS] = (u8)(what >> 8 * TERMS), frame.bias = scale * row.bias;
        }
        if (k >= row.terms) continue;
        const Lattice &l = b.lattice[k];
        int t = frame_time(b, f), plane = plane_of(b, l, record), before = plane_of(b, l, record - 1);
        int filling = (plane - l.r) / l.planes;
        float ft = fraction(row.phase, t, l.st);
        float whole = row.gain * row.amplitude[k], w2 = whole * fade(row.fade, ft), w0 = whole - w2;
        float *w = frame.w[k];
        w[0] = scale * w0, w[1] = scale * (w0 * ft), w[2] = scale * w2, w[3] = scale * (w2 * (ft - 1.0f));
        u32 what = ft == 0 ? ON : BETWEEN;
        if (l.many) what |= MANY;
        if (l.on_columns) what |= MANY | ON_COLUMNS;
        if (plane != before) {
            what |= l.on_planes ? MAKE_0 : MAKE_1;
            if (before < l.r || filling != (before - l.r) / l.planes) {
                what |= REFILL;
                frame.first[k] = l.r + filling * l.planes.size;
                frame.fill[k] = (u16)least(l.planes.size, l.last + 1 - frame.first[k]);
            }
        }
        frame.what[k] = (u8)what;
        const int place = (plane - l.r) % l.planes;
        frame.plane[k] = (u16)(l.on_columns ? l.first_group + place * l.hashes : l.first_cell + place * l.cells);
    }
}

// --- filling shared memory

// The tasks of all terms one after the other.
struct Tasks {
    int end[TERMS];
    HD int term(int task) const { return (task >= end[0]) + (task >= end[1]); }
    HD int begin(int k) const { return k == 0 ? 0 : k == 1 ? end[0] : end[1]; }
};

// The gradients of those planes; one hash serves four lattice columns.
// Costs 4 and 6: 272 for a hash and its four gradients.
HD void gradients(const Launch &a, const Block &b, Gradients *pool, const Frame &frame, int thread) {
    const Row &row = *b.row;
    Tasks tasks;
    int end = 0;
    UNROLL
    for (int k = 0; k < TERMS; k++)
        tasks.end[k] = end += frame.fill[k] * b.lattice[k].hashes;
    for (int task = thread; task < end; task += a.threads) {
        const int k = tasks.term(task), i = task - tasks.begin(k);
        const Lattice &l = b.lattice[k];
        int rest = i / l.groups, r = frame.first[k] + rest / l.lines;
        if (l.wrap > 0) r %= l.wrap;
        u32 c[4] = {(u32)(l.group + i % l.groups), (u32)(l.q + rest % l.lines), (u32)r, (u32)(LATTICE | k)};
        philox(c, b.keys);
        Gradients four;
        if (row.gradients == SPHERE)
            turn_into<true>(c, four);
        else
            turn_into<false>(c, four);
        pool[l.first_group + i] = four;
    }
}

// What a lattice column is to a row.
struct OnRow {
    float A, B, C;
};

// From the gradients of column j on the lattice lines before and after the row.
HD OnRow lerp_along_y(const Gradients &before, const Gradients &after, int j, const Line &row) {
    return {lerp(before.gx[j], after.gx[j], row.v), lerp(before.gy[j] * row.fy, after.gy[j] * (row.fy - 1.0f), row.v),
            lerp(before.gt[j], after.gt[j], row.v)};
}

// The cells of those planes: those of a group of lattice columns together, as neighbours share a column.
// Costs 6 and 13: 250 for four cells of two rows.
HD void along_y(const Launch &a, const Block &b, const Shared &s, const Gradients *pool, const Frame &frame, int thread) {
    Tasks tasks;
    int end = 0;
    UNROLL
    for (int k = 0; k < TERMS; k++)
        tasks.end[k] = end += frame.fill[k] * b.pairs.size * b.lattice[k].runs;
    for (int task = thread; task < end; task += a.threads) {
        const int k = tasks.term(task), i = task - tasks.begin(k);
        const Lattice &l = b.lattice[k];
        int rest = i / l.groups, group = i % l.groups, pair = rest % b.pairs, plane = rest / b.pairs;
        int at = 4 * group - l.skip;  // the cell to the right of the first column of the group
        const int width = l.groups.size, until = l.cells - at;
        Cell *cells = s.cells + pair * b.pitch + l.first_cell + plane * l.cells + at;
        UNROLL
        for (int h = 0; h < ROWS; h++) {
            const Line row = s.lines[least(ROWS * pair + h, b.rows - 1) * TERMS + k];
            const Gradients *g = pool + l.first_group + (plane * l.lines.size + row.line) * width + group;
            const Gradients before = g[0], after = g[width];
            OnRow left = lerp_along_y(before, after, 0, row);
            UNROLL
            for (int j = 0; j < 4; j++) {
                if (j >= until) break;
                OnRow right = j < 3 ? lerp_along_y(before, after, j + 1, row) : lerp_along_y(g[1], g[width + 1], 0, row);
                if (at + j >= 0) {
                    cells[j].space[h] = {left.A, left.B, right.A - left.A, right.B - right.A - left.B};
                    cells[j].time[h] = {left.C, right.C - left.C};
                }
                left = right;
            }
        }
    }
}

// --- the frames: costs 9 and 13 beside the stages

// P, and where it is wanted Q, of a plane for the pixels of a thread; `cells` are those of its rows on that plane.
template <bool MANY_CELLS>
HD void along_x(const Cell *cells, const Columns &c, bool with_q, Pixels &P, Pixels &Q) {
    const Cell *cell = cells + c.cell[0];
    UNROLL
    for (int h = 0; h < ROWS; h++) {
        UNROLL
        for (int j = 0; j < PIXELS; j++) {
            if (MANY_CELLS) cell = cells + c.cell[j];
            const Cell::Space e = cell->space[h];
            P[h][j] = floats::fma(c.u[j], floats::fma(e.slope, c.fx[j], e.step), floats::fma(e.A, c.fx[j], e.B));
        }
    }
    if (!with_q) return;
    UNROLL
    for (int h = 0; h < ROWS; h++) {
        UNROLL
        for (int j = 0; j < PIXELS; j++) {
            if (MANY_CELLS) cell = cells + c.cell[j];
            const Cell::Time e = cell->time[h];
            Q[h][j] = floats::fma(c.u[j], e.rise, e.C);
        }
    }
}

// Where no pixel lies between two lattice columns: P and Q from the gradients of its own.
HD void from_columns(const Block &b, const Shared &s, int k, int plane, const Columns &c, int pair, Pixels &P, Pixels &Q) {
    const Lattice &l = b.lattice[k];
    UNROLL
    for (int h = 0; h < ROWS; h++) {
        const Line row = s.lines[least(ROWS * pair + h, b.rows - 1) * TERMS + k];
        const Gradients *before = gradients_of(b, s) + plane + row.line * l.groups.size, *after = before + l.groups.size;
        UNROLL
        for (int j = 0; j < PIXELS; j++) {
            const u32 at = (u32)(l.skip + c.cell[j]);
            const OnRow column = lerp_along_y(before[at / 4], after[at / 4], at % 4, row);
            P[h][j] = column.B, Q[h][j] = column.C;
        }
    }
}

HD void make_plane(const Block &b, const Shared &s, const Frame &frame, u32 mine, int k, int thread, const State &state,
                   bool with_q, Pixels &P, Pixels &Q) {
    const Cell *cells = state.cells + frame.plane[k];
    const Columns c = state.columns[k];
    if (!(mine & MANY))
        along_x<false>(cells, c, with_q, P, Q);
    else if (!(mine & ON_COLUMNS))
        along_x<true>(cells, c, with_q, P, Q);
    else
        from_columns(b, s, k, frame.plane[k], c, pair_of(b, thread), P, Q);
}

// An instruction of its own for the device: where the compiler sees a copy, it renames registers at every branch of a frame,
// and moves some fifty of them there.
HD float copied(float a) {
#ifdef __CUDA_ARCH__
    asm("mov.f32 %0, %0;" : "+f"(a));
#endif
    return a;
}

HD void copy(const Pixels &from, Pixels &to) {
    UNROLL
    for (int h = 0; h < ROWS; h++)
        UNROLL
        for (int j = 0; j < PIXELS; j++) to[h][j] = copied(from[h][j]);
}

// The planes of each term that a frame needs and a thread does not have.
// Costs 30 and 43: 61 for P and Q of 8 pixels in one cell, 75 in several, 200 from columns; 35 and 47 for P alone.
HD void make_planes(const Block &b, const Shared &s, const Frame &frame, u32 what, int thread, State &state) {
    UNROLL
    for (int k = 0; k < TERMS; k++) {
        const u32 mine = what >> 8 * k;
        if (!(mine & (MAKE_0 | MAKE_1))) continue;
        if (mine & MAKE_0) {
            make_plane(b, s, frame, mine, k, thread, state, false, state.P0[k], state.Q0[k]);
        } else {
            copy(state.P1[k], state.P0[k]), copy(state.Q1[k], state.Q0[k]);
            make_plane(b, s, frame, mine, k, thread, state, true, state.P1[k], state.Q1[k]);
        }
    }
}

HD void add(float w, const Pixels &part, Pixels &grey) {
    UNROLL
    for (int h = 0; h < ROWS; h++)
        UNROLL
        for (int j = 0; j < PIXELS; j++) grey[h][j] = floats::fma(w, part[h][j], grey[h][j]);
}

// Bias plus the weighted sum of P and Q.
// Costs 48 and 47: 36 a term for 8 pixels, 11 where the frame lies on its plane.
HD void along_t(const Frame &frame, u32 what, const State &state, Pixels &grey) {
    const float bias = frame.bias;
    UNROLL
    for (int h = 0; h < ROWS; h++)
        UNROLL
        for (int j = 0; j < PIXELS; j++) grey[h][j] = bias;
    UNROLL
    for (int k = 0; k < TERMS; k++) {
        const u32 mine = what >> 8 * k;
        const float *w = frame.w[k];
        if (mine & BETWEEN) {
            add(w[0], state.P0[k], grey);
            add(w[1], state.Q0[k], grey);
            add(w[2], state.P1[k], grey);
            add(w[3], state.Q1[k], grey);
        } else if (mine & ON) {
            add(w[0], state.P0[k], grey);
        }
    }
}

// The bytes of a frame to the output: a word for each row where that is allowed.
// Costs 6 and 6: 12 for 8 pixels.
HD void store(const Block &b, u32 what, const Pixels &grey, int thread, const State &state) {
    u8 *const to = state.to, *const below = to + state.below;
    const u32 upper = four_levels<HALVES>(grey[0]), lower = four_levels<HALVES>(grey[1]);
    if (what & WORDS) {
        *(u32 *)to = upper, *(u32 *)below = lower;
    } else {
        const int columns = b.columns - PIXELS * (place_of(b, thread) % b.groups);
        UNROLL
        for (int j = 0; j < PIXELS; j++)
            if (j < columns) to[j] = (u8)(upper >> 8 * j), below[j] = (u8)(lower >> 8 * j);
    }
}

HD void fold(const Pixels &grey, State &state) {
    UNROLL
    for (int h = 0; h < ROWS; h++) {
        UNROLL
        for (int j = 0; j < PIXELS; j++) {
            state.low = grey[h][j] < state.low ? grey[h][j] : state.low;
            state.high = grey[h][j] > state.high ? grey[h][j] : state.high;
        }
    }
}

HD void take_pixels(const Launch &a, const Block &b, const Shared &s, int thread, State &state) {
    const int pair = pair_of(b, thread), group = place_of(b, thread) % b.groups;
    const int y = ROWS * pair, x = PIXELS * group;
    state.cells = s.cells + pair * b.pitch, state.columns = s.columns + group * TERMS;
    state.to = a.out + (((i64)b.n * a.frames + b.t) * a.height + b.y + y) * a.width + b.x + x;
    state.below = y + 1 < b.rows ? (u32)a.width : 0;
}

// A block from beginning to end.
template <class Team>
HD void render_block(const Launch &a, u32 block, char *memory, Team &team) {
    Shared s;
    carve(a, memory, s);
    team.each([&](int thread, State &) {
        if (thread < TERMS) locate(a, block, thread, *s.block);
    });
    team.sync();
    const Block &b = *s.block;
    team.each([&](int thread, State &) {
        if (thread == 0) share_out(a, *s.block);
        place_pixels(a, b, s, thread);
    });
    team.sync();
    team.each([&](int thread, State &state) {
        plan_frames(a, b, s, thread);
        take_pixels(a, b, s, thread, state);
    });
    team.sync();
    Gradients *const pool = gradients_of(b, s);
    const i64 frame_bytes = (i64)a.height * a.width;
    const u32 spare = team.first() < b.groups.size * b.pairs.size ? 0 : SPARE | HIDDEN;
    u32 what = 0;
    for (const Frame *next = s.frames; !(what & LAST); next++) {
        const Frame &frame = *next;
        what = team.uniform(*(const u32 *)frame.what | spare);
        if (what & MAKING) {
            if (what & REFILL * EACH) {
                team.sync();
                team.each([&](int thread, State &) { gradients(a, b, pool, frame, thread); });
                team.sync();
                team.each([&](int thread, State &) { along_y(a, b, s, pool, frame, thread); });
                team.sync();
            }
            if (what & SPARE) continue;
            team.each([&](int thread, State &state) { make_planes(b, s, frame, what, thread, state); });
            if (what & HIDDEN) continue;
        }
        team.each([&](int thread, State &state) {
            Pixels grey;
            along_t(frame, what, state, grey);
            if (a.out)
                store(b, what, grey, thread, state), state.to += frame_bytes;
            else
                fold(grey, state);
        });
    }
}
