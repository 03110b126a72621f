// The drift core, for the device and for the host. It follows vpngen/generators/drift.py name by name; read that first.
//
// A block makes a tile of one frame of a window. Its first threads work out where the tile lies in the lattice of each layer and
// octave. Then, for one of these after the other:
//
//     lattice_points  GX, GY, G0 of the lattice points around the tile, hashed into shared memory
//     make_cells      from them the twelve numbers of each cell, into shared memory
//     noise           from these the noise of the pixels of a thread, added up in registers
//
// Last, the pixels are clamped and stored.

#include "floats.cuh"

namespace drift {

enum {
    OCTAVES = 4,
    LAYERS = 2,
    FRACTION = 20,
    WRAP = 1 << (32 - FRACTION),
    MASK = (1 << FRACTION) - 1,
    DETAIL = 10 << 16,  // vpngen.rng.PURPOSE_DRIFT
    THREADS = 128,      // of a block
    PIXELS = 4,         // of a thread, along x
    GROUPS = 4          // of so many pixels, of a thread
};

// One video: vpngen.generators.drift.Drift.params_dtype.
struct Row {
    u32 key[2];
    float gain, bias;
    int octaves, life, age;
    u32 wane;
    int centre[2];
    u32 origin[3];
    int step[3];
    float lattice[2][2];
    float velocity[2];
    int spin;
    float zoom;
    float shear[2];
};

// One launch: n windows of (frames, height, width), cut into blocks by vpngen/backends/cuda_drift.py.
struct Launch {
    const Row *rows;
    const Window *windows;
    u8 *out;  // n * frames * height * width bytes
    int n, frames, height, width;
    int tile_rows, tile_columns;  // of a block, at most; columns a multiple of PIXELS
    int room;                     // lattice points of a tile, at most
};

struct Point {
    float GX, GY, G0;
};

struct alignas(16) Cell {
    // At the corner, how that changes to the right and downwards, and how the one changes along the other.
    float of_x[4], of_y[4], of_1[4];
};

// The lattice of a layer and octave, as a tile needs it.
struct Table {
    u32 X, Y;            // of the first pixel of the tile, from the first lattice point on
    int ax, bx, ay, by;  // of a pixel to the right, and of one downwards
    u32 group, q;        // the first lattice point is (4 * group, q)
    Divisor groups;      // of four points, of a line
    int lines;
    float w0, w1, z0, z1;  // weights of the gradients on both planes
    u32 r0, r1;            // the planes, with the life of the layer
    u32 detail;
};

struct Tile {
    const Row *row;
    Window window;
    int n, t, y, x;     // its window, and its frame, first row and column there
    int rows, columns;  // its extent
    Divisor groups;     // of PIXELS pixels, of a row
    int tables;
    int words;  // its rows in the output begin at multiples of 4 bytes
};

struct Block : Tile {
    Table table[LAYERS * OCTAVES];
};

struct Shared {
    Block *block;
    Cell *cells;    // [room]
    Point *points;  // [room]
};

struct State {  // of a thread
    float grey[GROUPS][PIXELS];
};

HD int blocks_along(int size, int tile) { return (size + tile - 1) / tile; }

HD i64 block_count(const Launch &a) {
    return (i64)a.n * a.frames * blocks_along(a.height, a.tile_rows) * blocks_along(a.width, a.tile_columns);
}

// Bytes of shared memory, and with `base` the layout.
HD int carve(const Launch &a, char *base, Shared &s) {
    int at = rounded_up((int)sizeof(Block), 16);
    s.block = (Block *)base;
    s.cells = (Cell *)(base + at), at += a.room * (int)sizeof(Cell);
    s.points = (Point *)(base + at), at += rounded_up(a.room * (int)sizeof(Point), 16);
    return at;
}

HD void locate(const Launch &a, u32 block, Tile &b) {
    const u32 across = blocks_along(a.width, a.tile_columns), down = blocks_along(a.height, a.tile_rows);
    b.x = (int)(block % across) * a.tile_columns, block /= across;
    b.y = (int)(block % down) * a.tile_rows, block /= down;
    b.t = (int)(block % (u32)a.frames), b.n = (int)(block / (u32)a.frames);
    b.row = a.rows + b.n, b.window = a.windows[b.n];
    b.rows = least(a.tile_rows, a.height - b.y), b.columns = least(a.tile_columns, a.width - b.x);
    b.groups = divisor(blocks_along(b.columns, PIXELS));
    b.tables = (b.row->life ? LAYERS : 1) * b.row->octaves;
    b.words = a.width % 4 == 0 && ((u64)a.out & 3) == 0;
}

HD void phase(const Row &row, int layer, int t, float &weight, int &tau, int &generation) {
    weight = 1, tau = t, generation = 0;
    if (row.life == 0) return;
    int age = t + row.age + layer * (row.life / 2);
    tau = age % row.life - row.life / 2, generation = age / row.life;
    float sine;
    floats::turn((u32)tau * row.wane, sine, weight);
}

HD int rounded(float value) { return floats::floored(value + 0.5f); }

HD void axes(const Row &row, int tau, int &ax, int &bx, int &ay, int &by) {
    float steps = (float)tau, sine, cosine;
    floats::turn((u32)row.spin * (u32)tau, sine, cosine);
    float shrunk = floats::exp2(-row.zoom * steps);
    float c = cosine * shrunk, s = sine * shrunk;
    float across = floats::fma(-row.shear[0], steps, -s), down = floats::fma(-row.shear[1], steps, s);
    ax = rounded(floats::fma(row.lattice[0][0], c, row.lattice[0][1] * down));
    bx = rounded(floats::fma(row.lattice[0][0], across, row.lattice[0][1] * c));
    ay = rounded(floats::fma(row.lattice[1][0], c, row.lattice[1][1] * down));
    by = rounded(floats::fma(row.lattice[1][0], across, row.lattice[1][1] * c));
}

HD float fade(float f) { return f * f * f * floats::fma(f, floats::fma(f, 6.0f, -15.0f), 10.0f); }

HD float in_cell(u32 place) { return (float)(int)(place & MASK) * (1.0f / (1 << FRACTION)); }

// Thread k looks after the lattice of layer and octave k.
HD void plan_table(const Launch &a, const Tile &b, int k, Table &table) {
    const Row &row = *b.row;
    const int layer = k / row.octaves, octave = k % row.octaves, t = b.window.t0 + b.t * b.window.step;
    Table l;
    float weight;
    int tau, generation;
    phase(row, layer, t, weight, tau, generation);
    axes(row, tau, l.ax, l.bx, l.ay, l.by);
    // In the order of the output: in a mirrored window, a pixel to the right there is one to the left here.
    const int x = b.window.x0 + (b.window.flip ? a.width - 1 - b.x : b.x) - row.centre[0];
    const int y = b.window.y0 + b.y - row.centre[1];
    l.X = (row.origin[0] + (u32)row.step[0] * (u32)t + (u32)l.ax * (u32)x + (u32)l.bx * (u32)y) << octave;
    l.Y = (row.origin[1] + (u32)row.step[1] * (u32)t + (u32)l.ay * (u32)x + (u32)l.by * (u32)y) << octave;
    const int way = b.window.flip ? -1 : 1;
    l.ax *= way << octave, l.ay *= way << octave, l.bx *= 1 << octave, l.by *= 1 << octave;

    const int right = b.columns - 1, bottom = b.rows - 1;
    const int low_x = least(0, l.ax * right) + least(0, l.bx * bottom), low_y = least(0, l.ay * right) + least(0, l.by * bottom);
    const int high_x = greatest(0, l.ax * right) + greatest(0, l.bx * bottom);
    const int high_y = greatest(0, l.ay * right) + greatest(0, l.by * bottom);
    l.group = (l.X + (u32)low_x) >> (FRACTION + 2), l.q = (l.Y + (u32)low_y) >> FRACTION;
    l.X -= l.group << (FRACTION + 2), l.Y -= l.q << FRACTION;
    l.groups = divisor((int)(((l.X + (u32)high_x) >> FRACTION) + 2 + 3) / 4);
    l.lines = (int)((l.Y + (u32)high_y) >> FRACTION) + 2;

    const u32 z = (row.origin[2] + (u32)row.step[2] * (u32)t) << octave, r = z >> FRACTION;
    const float fz = in_cell(z), s = fade(fz), rest = 1.0f - s, back = fz - 1.0f;
    const float below = floats::fma(DRIFT_ALONG * fz, fz, DRIFT_ACROSS), above = floats::fma(DRIFT_ALONG * back, back, DRIFT_ACROSS);
    const float std = floats::root(floats::fma(s * s, above, rest * rest * below));
    const float w = floats::quotient(row.gain * floats::of_bits((u32)(127 - octave) << 23) * weight, std);
    l.w1 = w * s, l.w0 = w - l.w1;
    l.z0 = l.w0 * fz, l.z1 = l.w1 * back;
    const u32 life = (u32)generation << (32 - FRACTION);
    l.r0 = r | life, l.r1 = ((r + 1) & (WRAP - 1)) | life;
    l.detail = DETAIL | (OCTAVES * layer + octave);
    table = l;
}

HD Point gradient(u32 word) {
    float sine, cosine;
    floats::sine_cosine(word & 0xFFFFu, sine, cosine);
    float gz = floats::fma((float)(int)(word >> 16), 1.0f / 32768.0f, 1.0f / 65536.0f - 1.0f);
    float flat = floats::root(floats::fma(-gz, gz, 1.0f));
    return {flat * cosine, flat * sine, gz};
}

HD void lattice_points(const Row &row, const Table &l, const Shared &s, int thread) {
    for (int i = thread; i < l.groups.size * l.lines; i += THREADS) {
        const u32 p = (l.group + (u32)(i % l.groups)) & (WRAP / 4 - 1), q = (l.q + (u32)(i / l.groups)) & (WRAP - 1);
        u32 low[4] = {p, q, l.r0, l.detail}, high[4] = {p, q, l.r1, l.detail};
        philox(low, row.key[0], row.key[1]);
        philox(high, row.key[0], row.key[1]);
        UNROLL
        for (int j = 0; j < 4; j++) {
            const Point g0 = gradient(low[j]), g1 = gradient(high[j]);
            s.points[4 * i + j] = {
                floats::fma(l.w1, g1.GX, l.w0 * g0.GX), floats::fma(l.w1, g1.GY, l.w0 * g0.GY),
                floats::fma(l.z1, g1.G0, l.z0 * g0.G0)};
        }
    }
}

HD void differences(float a, float b, float c, float d, float of[4]) {
    const float right = b - a;
    of[0] = a, of[1] = right, of[2] = c - a, of[3] = d - c - right;
}

HD void make_cells(const Table &l, const Shared &s, int thread) {
    const int stride = 4 * l.groups.size;
    for (int i = thread; i < (l.lines - 1) * stride - 1; i += THREADS) {
        const Point a = s.points[i], b = s.points[i + 1], c = s.points[i + stride], d = s.points[i + stride + 1];
        Cell cell;
        differences(a.GX, b.GX, c.GX, d.GX, cell.of_x);
        differences(a.GY, b.GY, c.GY, d.GY, cell.of_y);
        differences(a.G0, b.G0 - b.GX, c.G0 - c.GY, d.G0 - d.GX - d.GY, cell.of_1);
        s.cells[i] = cell;
    }
}

HD float noise(const Table &l, const Shared &s, u32 X, u32 Y) {
    const Cell c = s.cells[(Y >> FRACTION) * (4 * (u32)l.groups.size) + (X >> FRACTION)];
    const float fx = in_cell(X), fy = in_cell(Y), u = fade(fx), v = fade(fy);
    float part[4];
    UNROLL
    for (int k = 0; k < 4; k++) part[k] = floats::fma(fx, c.of_x[k], floats::fma(fy, c.of_y[k], c.of_1[k]));
    return floats::fma(v, floats::fma(u, part[3], part[2]), floats::fma(u, part[1], part[0]));
}

HD void add_noise(const Tile &b, const Table &l, const Shared &s, int thread, State &state) {
    UNROLL
    for (int k = 0; k < GROUPS; k++) {
        const int i = k * THREADS + thread, y = i / b.groups, x = PIXELS * (i % b.groups);
        if (y >= b.rows) continue;
        u32 X = l.X + (u32)l.ax * (u32)x + (u32)l.bx * (u32)y, Y = l.Y + (u32)l.ay * (u32)x + (u32)l.by * (u32)y;
        UNROLL
        for (int j = 0; j < PIXELS; j++) {
            if (x + j < b.columns) state.grey[k][j] = state.grey[k][j] + noise(l, s, X, Y);
            X += (u32)l.ax, Y += (u32)l.ay;
        }
    }
}

HD u32 level(float grey) {
    const float above = grey > 0.0f ? grey : 0.0f;
    return (u32)(int)(above < 255.0f ? above : 255.0f);
}

HD void store(const Launch &a, const Tile &b, int thread, const State &state) {
    UNROLL
    for (int k = 0; k < GROUPS; k++) {
        const int i = k * THREADS + thread, y = i / b.groups, x = PIXELS * (i % b.groups);
        if (y >= b.rows) continue;
        u8 *to = a.out + (((i64)b.n * a.frames + b.t) * a.height + b.y + y) * a.width + b.x + x;
        if (b.words) {
            u32 word = 0;
            UNROLL
            for (int j = 0; j < PIXELS; j++) word |= level(state.grey[k][j]) << 8 * j;
            *(u32 *)to = word;
        } else {
            UNROLL
            for (int j = 0; j < PIXELS; j++)
                if (x + j < b.columns) to[j] = (u8)level(state.grey[k][j]);
        }
    }
}

template <class Team>
HD void render_block(const Launch &a, u32 block, char *memory, Team &team) {
    Shared s;
    carve(a, memory, s);
    Block &b = *s.block;
    team.each([&](int thread, State &) {
        if (thread < LAYERS * OCTAVES) {
            Tile tile;
            locate(a, block, tile);
            if (thread == 0) (Tile &)b = tile;
            if (thread < tile.tables) plan_table(a, tile, thread, b.table[thread]);
        }
    });
    team.sync();
    const Row &row = *b.row;
    const float bias = row.bias;
    team.each([&](int, State &state) {
        UNROLL
        for (int k = 0; k < GROUPS; k++) {
            UNROLL
            for (int j = 0; j < PIXELS; j++) state.grey[k][j] = bias;
        }
    });
    for (int k = 0; k < b.tables; k++) {
        const Table &l = b.table[k];
        team.each([&](int thread, State &) { lattice_points(row, l, s, thread); });
        team.sync();
        team.each([&](int thread, State &) { make_cells(l, s, thread); });
        team.sync();
        team.each([&](int thread, State &state) { add_noise(b, l, s, thread, state); });
    }
    team.each([&](int thread, State &state) { store(a, b, thread, state); });
}

}  // namespace drift
