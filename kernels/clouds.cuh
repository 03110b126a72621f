// The core of motion clouds, for the device and for the host. It follows vpngen/generators/clouds.py name by name; read that first.
//
// A block makes some rows of a window, of its frames one after the other, and up to STRIP blocks of columns. Its stages:
//
//     waves    of the video, one a thread, into shared memory
//     tables   of the columns of half a block; of the blocks; of the rows
//     turn_rows   the tables of the rows, turned to two blocks of columns, for CHUNK waves at a time
//     add_waves   these to the sums of QUAD rows and QUAD pairs of columns that a thread has in registers
//     store       the grey levels of those
//
// The last three go on for all waves and blocks of columns. They are a matrix product: of 64 multiply-adds that follow four loads.

#include "floats.cuh"

namespace clouds {

enum {
    HALF = 16,
    MOST_WAVES = 64,
    CLOUDS = 11 << 16,  // vpngen.rng.PURPOSE_CLOUDS
    QUAD = 4,           // rows of a thread, and columns to either side of the middle
    ROWS = 64,          // of a block
    SIDES = 2,          // blocks of columns that are made at once
    STRIP = 8,          // blocks of columns of a block, at most
    CHUNK = 16,         // waves that are made at once
    LANES = HALF / QUAD,
    GROUPS = ROWS / QUAD,
    THREADS = LANES * GROUPS * SIDES
};

// One video: vpngen.generators.clouds.Clouds.params_dtype.
struct Row {
    u32 key[2];
    float gain, bias;
    int waves, oriented;
    u32 orientation;
    int orientation_spread;
    u32 direction;
    int direction_spread;
    float frequency, frequency_spread, speed, speed_spread, change, boiling;
};

// One launch: n windows of (frames, height, width), cut into blocks by vpngen/backends/cuda_clouds.py.
struct Launch {
    const Row *rows;
    const Window *windows;
    u8 *out;  // n * frames * height * width bytes
    int n, frames, height, width;
    int room;  // waves, a multiple of CHUNK
};

struct alignas(16) Four {
    float at[QUAD];
};

struct Wave {
    u32 phase, kx_half, ky, w;
};

struct Block {
    const Row *row;
    Window window;
    int n;
    i64 row_at;  // the first row in the window, counted through its frames
    int rows;
    int first, count;  // blocks of columns
    int words;         // four columns begin at multiples of 4 bytes in the output
};

struct Pair {
    float cosine, sine;
};

struct Shared {
    Block *block;
    Wave *waves;    // [room]
    Pair *turned;   // [STRIP][room]: of the blocks of columns
    Four *columns;  // [room][2][LANES]: cosines, then sines
    Four *of_rows;  // [room][2][GROUPS]: A, then B
    Four *of_block; // [SIDES][CHUNK][2][GROUPS]: those, turned
};

struct State {  // of a thread
    float even[QUAD][QUAD], odd[QUAD][QUAD];  // of a row each
};

HD int strips(const Launch &a) { return ((a.width - 1) / (2 * HALF) + 2 + STRIP - 1) / STRIP; }  // wherever a window begins

HD i64 groups_of_rows(const Launch &a) { return ((i64)a.frames * a.height + ROWS - 1) / ROWS; }

HD i64 block_count(const Launch &a) { return a.n * groups_of_rows(a) * strips(a); }

// Bytes of shared memory, and with `base` the layout.
HD int carve(const Launch &a, char *base, Shared &s) {
    int at = rounded_up((int)sizeof(Block), 16);
    s.block = (Block *)base;
    s.columns = (Four *)(base + at), at += a.room * 2 * LANES * (int)sizeof(Four);
    s.of_rows = (Four *)(base + at), at += a.room * 2 * GROUPS * (int)sizeof(Four);
    s.of_block = (Four *)(base + at), at += SIDES * CHUNK * 2 * GROUPS * (int)sizeof(Four);
    s.waves = (Wave *)(base + at), at += a.room * (int)sizeof(Wave);
    s.turned = (Pair *)(base + at), at += STRIP * a.room * (int)sizeof(Pair);
    return at;
}

HD void locate(const Launch &a, u32 block, Block &b) {
    const u32 along = (u32)strips(a), down = (u32)groups_of_rows(a), strip = block % along;
    block /= along;
    b.n = (int)(block / down), b.row_at = (i64)(block % down) * ROWS;
    b.row = a.rows + b.n, b.window = a.windows[b.n];
    const i64 rest = (i64)a.frames * a.height - b.row_at;
    b.rows = rest < ROWS ? (int)rest : ROWS;
    b.first = b.window.x0 / (2 * HALF) + (int)strip * STRIP;
    b.count = least(STRIP, (b.window.x0 + a.width - 1) / (2 * HALF) + 1 - b.first);
    b.words = ((a.width | b.window.x0) & 3) == 0 && ((u64)a.out & 3) == 0;
}

// --- waves

HD int score(u32 word) {
    return (int)((word & 255u) + (word >> 8 & 255u) + (word >> 16 & 255u) + (word >> 24)) - 510;
}

HD u32 turns(float cycles) { return (u32)(int)(cycles * 1073741824.0f) << 2; }

HD Wave make_wave(const Row &row, int k) {
    u32 a[4] = {(u32)k, 0, 0, CLOUDS}, b[4] = {(u32)k, 1, 0, CLOUDS};
    philox(a, row.key[0], row.key[1]);
    philox(b, row.key[0], row.key[1]);
    const u32 theta = row.oriented ? row.orientation + (u32)score(a[1]) * (u32)row.orientation_spread : a[1];
    const u32 sway = (u32)score(b[1]) * (u32)row.direction_spread;
    const float speed = row.speed * floats::exp2((float)score(b[0]) * row.speed_spread);
    const float octaves = (float)score(a[2]) * row.frequency_spread;
    float f = row.frequency * floats::exp2(octaves);
    const bool aliases = f > CLOUDS_MOST_FREQUENCY || f * speed > CLOUDS_MOST_TURN;
    f = row.frequency * floats::exp2(aliases ? -octaves : octaves);

    float sine, cosine;
    floats::turn(theta, sine, cosine);
    const float kx = f * cosine, ky = -(f * sine);
    floats::turn(row.direction + sway, sine, cosine);
    const float across = floats::fma(kx, speed * cosine, ky * -(speed * sine));
    const float change = floats::fma(row.change, f * speed, row.boiling);
    const float w = floats::fma((float)score(b[2]), change, -across);
    return {a[0], turns(0.5f * kx), turns(ky), turns(w)};
}

// --- tables

HD void of_columns(const Row &row, const Shared &s, int thread) {
    for (int i = thread; i < row.waves * HALF; i += THREADS) {
        const int k = i / HALF, d = i % HALF;
        float sine, cosine;
        floats::turn(s.waves[k].kx_half * (u32)(2 * d + 1), sine, cosine);
        s.columns[2 * LANES * k + d / QUAD].at[d % QUAD] = cosine;
        s.columns[2 * LANES * k + LANES + d / QUAD].at[d % QUAD] = sine;
    }
}

HD void of_blocks(const Launch &a, const Block &b, const Shared &s, int thread) {
    const int waves = b.row->waves;
    const float gain = b.row->gain;
    for (int i = thread; i < b.count * waves; i += THREADS) {
        const int k = i % waves, j = i / waves;
        float sine, cosine;
        floats::turn(s.waves[k].kx_half * (u32)(4 * HALF * (b.first + j)), sine, cosine);
        s.turned[j * a.room + k] = {gain * cosine, gain * sine};
    }
}

// Also of rows beyond the last, which are not stored.
HD void of_rows(const Launch &a, const Block &b, const Shared &s, int thread) {
    const int r = thread % ROWS;
    const i64 at = b.row_at + r;
    const u32 t = (u32)(b.window.t0 + (int)(at / a.height) * b.window.step), y = (u32)(b.window.y0 + (int)(at % a.height));
    for (int k = thread / ROWS; k < b.row->waves; k += THREADS / ROWS) {
        const Wave wave = s.waves[k];
        float A, B;
        floats::turn(wave.phase + wave.ky * y + wave.w * t, B, A);
        s.of_rows[2 * GROUPS * k + r / QUAD].at[r % QUAD] = A;
        s.of_rows[2 * GROUPS * k + GROUPS + r / QUAD].at[r % QUAD] = B;
    }
}

// --- the matrix product

// Waves [first, first + count) of two blocks of columns from j on; or of one where there are no more.
HD void turn_rows(const Launch &a, const Block &b, const Shared &s, int j, int first, int count, int thread) {
    const int both = j + 1 < b.count;
    for (int i = thread; i < GROUPS * count << both; i += THREADS) {
        const int group = i % GROUPS, side = i / GROUPS & both, k = i / GROUPS >> both;
        const Pair p = s.turned[(j + side) * a.room + first + k];
        const Four A = s.of_rows[2 * GROUPS * (first + k) + group], B = s.of_rows[2 * GROUPS * (first + k) + GROUPS + group];
        Four x, y;
        UNROLL
        for (int r = 0; r < QUAD; r++) {
            x.at[r] = floats::fma(A.at[r], p.cosine, -(B.at[r] * p.sine));
            y.at[r] = floats::fma(B.at[r], p.cosine, A.at[r] * p.sine);
        }
        s.of_block[(side * CHUNK + k) * 2 * GROUPS + group] = x;
        s.of_block[(side * CHUNK + k) * 2 * GROUPS + GROUPS + group] = y;
    }
}

HD void add_waves(const Block &b, const Shared &s, int j, int first, int count, int thread, State &state) {
    const int lane = thread % LANES, group = thread / LANES % GROUPS, side = thread / (LANES * GROUPS);
    if (j + side >= b.count) return;
    const Four *rows = s.of_block + side * CHUNK * 2 * GROUPS + group, *columns = s.columns + 2 * LANES * first + lane;
    TWO_AT_A_TIME
    for (int k = 0; k < count; k++) {
        const Four A = rows[2 * GROUPS * k], B = rows[2 * GROUPS * k + GROUPS];
        const Four cosine = columns[2 * LANES * k], sine = columns[2 * LANES * k + LANES];
        UNROLL
        for (int r = 0; r < QUAD; r++) {
            UNROLL
            for (int i = 0; i < QUAD; i++) {
                state.even[r][i] = floats::fma(A.at[r], cosine.at[i], state.even[r][i]);
                state.odd[r][i] = floats::fma(B.at[r], sine.at[i], state.odd[r][i]);
            }
        }
    }
}

HD u32 level(float grey) {
    const float above = grey > 0.0f ? grey : 0.0f;
    return (u32)(int)(above < 255.0f ? above : 255.0f);
}

// Four columns from x on, counted from the first of the window; in a mirrored one they come from right to left.
HD void put(const Launch &a, const Block &b, u8 *row, int x, const u32 levels[QUAD]) {
    const int from = b.window.flip ? a.width - QUAD - x : x, turned = b.window.flip ? QUAD - 1 : 0;
    if (b.words) {
        if ((u32)x >= (u32)a.width) return;
        u32 word = 0;
        UNROLL
        for (int i = 0; i < QUAD; i++) word |= levels[i] << 8 * (i ^ turned);
        *(u32 *)(row + from) = word;
        return;
    }
    UNROLL
    for (int i = 0; i < QUAD; i++)
        if ((u32)(x + i) < (u32)a.width) row[from + (i ^ turned)] = (u8)levels[i];
}

HD void store(const Launch &a, const Block &b, int j, int thread, const State &state) {
    const int lane = thread % LANES, group = thread / LANES % GROUPS, side = thread / (LANES * GROUPS);
    if (j + side >= b.count) return;
    const int middle = (b.first + j + side) * 2 * HALF + HALF - b.window.x0, d = QUAD * lane;
    UNROLL
    for (int r = 0; r < QUAD; r++) {
        const int down = QUAD * group + r;
        if (down >= b.rows) continue;
        u8 *row = a.out + ((i64)b.n * a.frames * a.height + b.row_at + down) * a.width;
        u32 left[QUAD], right[QUAD];
        UNROLL
        for (int i = 0; i < QUAD; i++) {
            left[QUAD - 1 - i] = level(state.even[r][i] + state.odd[r][i]);
            right[i] = level(state.even[r][i] - state.odd[r][i]);
        }
        put(a, b, row, middle - QUAD - d, left);
        put(a, b, row, middle + d, right);
    }
}

template <class Team>
HD void render_block(const Launch &a, u32 block, char *memory, Team &team) {
    Shared s;
    carve(a, memory, s);
    team.each([&](int thread, State &) {
        if (thread == 0) locate(a, block, *s.block);
    });
    team.sync();
    const Block &b = *s.block;
    if (b.count <= 0) return;
    const Row &row = *b.row;
    const int waves = row.waves;
    const float bias = row.bias;
    team.each([&](int thread, State &) {
        if (thread < waves) s.waves[thread] = make_wave(row, thread);
    });
    team.sync();
    team.each([&](int thread, State &) {
        of_columns(row, s, thread);
        of_blocks(a, b, s, thread);
        of_rows(a, b, s, thread);
    });
    for (int j = 0; j < b.count; j += SIDES) {
        team.each([&](int, State &state) {
            UNROLL
            for (int r = 0; r < QUAD; r++) {
                UNROLL
                for (int i = 0; i < QUAD; i++) state.even[r][i] = bias, state.odd[r][i] = 0;
            }
        });
        for (int first = 0; first < waves; first += CHUNK) {
            const int count = least(CHUNK, waves - first);
            team.sync();
            team.each([&](int thread, State &) { turn_rows(a, b, s, j, first, count, thread); });
            team.sync();
            team.each([&](int thread, State &state) { add_waves(b, s, j, first, count, thread, state); });
        }
        team.each([&](int thread, State &state) { store(a, b, j, thread, state); });
    }
}

}  // namespace clouds
