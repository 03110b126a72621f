// Warps that run PTX on the host; benchmarks/ptx.py has taken the text apart. No GPU, no driver.
//
// An instruction works on the 32 lanes of a warp at once, as on a GPU: registers are arrays of 32. Lanes that part ways meet
// again where their paths do (at the immediate post-dominator of the branch), so the instructions that a warp issues can be
// counted. In the other schedules every lane runs alone, as far as the next barrier, in an order of the caller's choice: no
// kernel may count on its lanes keeping step.
//
// Whatever a GPU would not forgive, or would forgive today, ends the launch: memory that is not the kernel's, an address that is
// no multiple of the access, a barrier that some threads do not reach, shared memory that one thread writes and another
// touches with no barrier between them. Shared memory is poisoned before each block.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

using i8 = signed char;
using i16 = short;
using i32 = int;
using i64 = long long;
using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned;
using u64 = unsigned long long;
using f32 = float;

enum { LANES = 32, OPERANDS = 10, NONE = -1 };
enum Space { GENERIC, GLOBAL, SHARED, LOCAL, PARAM };
enum Schedule { CONVERGED, CONVERGED_BACKWARDS, LANES_FORWARDS, LANES_BACKWARDS, LANES_SHUFFLED };
constexpr u64 SHARED_WINDOW = 1ull << 62, LOCAL_WINDOW = 1ull << 61;  // of generic addresses
constexpr u32 ALL = ~0u;

// One instruction: `Instruction` of benchmarks/ptx.py. Operands are slots of registers, NONE where there is none.
struct Instruction {
    i32 operation;
    i32 guard, unless;        // the predicate that it hangs on, and whether it must be false
    i32 slots[OPERANDS];
    i32 space, count, wide;   // of memory: values of an access; whether the address has 64 bits
    i32 target, meeting;      // of a branch; where its lanes meet again
    i64 offset;
};

// What a kernel may touch of the memory of the GPU, at an address of the caller's choice.
struct Range {
    u64 first, last;
    u8 *memory;
    i64 writable;
};

struct Constant {
    i64 slot, wide;
    u64 value;
};

struct Special {  // slots of what a thread knows of itself, or NONE
    i32 thread, threads, block, blocks, lane, warp;
};

struct Launch {
    const Instruction *code;
    const Constant *constants;
    const Range *ranges;
    const i64 *blocks;
    const u8 *params;
    u64 *counts;     // of each instruction: how often a warp issued it
    char *message;   // where it fails: what, 512 bytes
    i64 n_code, n_slots, n_constants, n_ranges, n_blocks, grid, param_bytes, shared_bytes, local_bytes;
    i64 threads, schedule, races;
    Special special;
};

struct Failure {
    std::string what;
};

struct Path {  // lanes at the same place, until they meet those that they parted from
    u32 lanes;
    i32 at, meeting;
};

enum Wait { NOTHING, BARRIER, COLLECTIVE };

struct Group {  // lanes that keep step
    std::vector<Path> paths;
    Wait wait = NOTHING;
    bool ended() const { return paths.empty(); }
    Path &now() { return paths.back(); }
};

struct Touch {  // of a byte of shared memory, since the last barriers
    u32 writer = 0, written = 0, reader = 0, read = 0;  // thread + 1 (MANY: several), and the barriers passed then
};
constexpr u32 MANY = ~0u;

struct Block {
    const Launch *launch;
    i64 number;
    std::vector<u8> shared;
    std::vector<Touch> touched;
    u32 barriers = 1;
};

struct Warp {
    Block *block;
    int number;
    std::vector<u32> memory;  // of registers: LANES words a slot
    u32 *registers;
    std::vector<u8> local;    // local_bytes a lane
    std::vector<Group> groups;

    template <class T>
    auto *at(i32 slot) const {
        using Cell = std::conditional_t<sizeof(T) == 8, u64, u32>;
        return (Cell *)(registers + (i64)slot * LANES);
    }
    u32 &predicate(i32 slot) const { return registers[(i64)slot * LANES]; }
};

// --- values in registers

template <class T, class Cell>
T value(Cell cell) {
    if constexpr (std::is_same_v<T, f32>)
        return std::bit_cast<f32>((u32)cell);
    else
        return (T)cell;
}

template <class T>
auto cell(T value) {
    if constexpr (sizeof(T) == 8)
        return (u64)value;
    else if constexpr (std::is_same_v<T, f32>)
        return std::bit_cast<u32>(value);
    else
        return (u32)value;  // narrower signed values bring their sign along
}

template <class F>
void each(u32 lanes, F f) {
    for (; lanes; lanes &= lanes - 1) f(std::countr_zero(lanes));
}

using Operation = void (*)(Warp &, const Instruction &, u32 lanes);

// d = f(a, b, c), for as many operands as f takes.
template <class D, class F, class... A>
void compute(Warp &w, const Instruction &i, u32 lanes) {
    auto *d = w.at<D>(i.slots[0]);
    [&]<size_t... K>(std::index_sequence<K...>) {
        F f;
        auto each_lane = [&](auto *...a) {
            if (lanes == ALL) {
                for (int l = 0; l < LANES; l++) d[l] = cell<D>(f(value<A>(a[l])...));
            } else {
                each(lanes, [&](int l) { d[l] = cell<D>(f(value<A>(a[l])...)); });
            }
        };
        each_lane(w.at<A>(i.slots[1 + K])...);
    }(std::index_sequence_for<A...>());
}

// p = f(a, b)
template <class F, class A>
void compare(Warp &w, const Instruction &i, u32 lanes) {
    auto *a = w.at<A>(i.slots[1]), *b = w.at<A>(i.slots[2]);
    F f;
    u32 found = 0;
    for (int l = 0; l < LANES; l++) found |= (u32)f(value<A>(a[l]), value<A>(b[l])) << l;
    u32 &p = w.predicate(i.slots[0]);
    p = (p & ~lanes) | (found & lanes);
}

// p = f(q, r), of predicates: 32 lanes in a word
template <class F>
void logic(Warp &w, const Instruction &i, u32 lanes) {
    u32 q = w.predicate(i.slots[1]), r = i.slots[2] == NONE ? 0 : w.predicate(i.slots[2]);
    u32 &p = w.predicate(i.slots[0]);
    p = (p & ~lanes) | (F()(q, r) & lanes);
}

template <class T>
void select(Warp &w, const Instruction &i, u32 lanes) {
    auto *d = w.at<T>(i.slots[0]), *a = w.at<T>(i.slots[1]), *b = w.at<T>(i.slots[2]);
    u32 p = w.predicate(i.slots[3]);
    each(lanes, [&](int l) { d[l] = p >> l & 1 ? a[l] : b[l]; });
}

// One register from halves, and halves from one.
template <class Whole, class Half>
void pack(Warp &w, const Instruction &i, u32 lanes) {
    auto *d = w.at<Whole>(i.slots[0]);
    auto *low = w.at<Half>(i.slots[1]), *high = w.at<Half>(i.slots[2]);
    each(lanes, [&](int l) { d[l] = (Whole)(Half)low[l] | (Whole)(Half)high[l] << 8 * sizeof(Half); });
}

template <class Whole, class Half>
void unpack(Warp &w, const Instruction &i, u32 lanes) {
    auto *low = w.at<Half>(i.slots[0]), *high = w.at<Half>(i.slots[1]);
    auto *a = w.at<Whole>(i.slots[2]);
    each(lanes, [&](int l) {
        Whole whole = (Whole)a[l];
        low[l] = (Half)whole, high[l] = (Half)(whole >> 8 * sizeof(Half));
    });
}

// --- arithmetic

f32 flushed(f32 a) {
    u32 bits = std::bit_cast<u32>(a);
    return bits & 0x7F800000u ? a : std::bit_cast<f32>(bits & 0x80000000u);
}

template <bool FTZ>
f32 kept(f32 a) {
    return FTZ ? flushed(a) : a;
}

f32 least(f32 a, f32 b) {  // what is no number loses, and -0 is below 0
    return a != a ? b : b != b ? a : a < b ? a : b < a ? b : std::signbit(a) ? a : b;
}

f32 most(f32 a, f32 b) { return a != a ? b : b != b ? a : a > b ? a : b > a ? b : std::signbit(a) ? b : a; }

f32 sum_rounded(double a, double b, int towards) {  // -1 down, 1 up: the exact sum is `sum` and `rest` (Knuth's TwoSum)
    double sum = a + b, part = sum - a, rest = (a - (sum - part)) + (b - part);
    f32 r = (f32)sum;
    double over = ((double)r - sum) - rest;  // its sign is exact: the first difference is
    if (towards < 0 && over > 0) return std::nextafterf(r, -INFINITY);
    if (towards > 0 && over < 0) return std::nextafterf(r, INFINITY);
    return r;
}

template <class T>
T integer(f32 a) {  // towards zero; what does not fit becomes the nearest that does, what is no number 0
    constexpr double LOW = (double)std::numeric_limits<T>::min(), HIGH = (double)std::numeric_limits<T>::max();
    if (a != a) return 0;
    if ((double)a <= LOW) return std::numeric_limits<T>::min();
    if ((double)a >= HIGH) return std::numeric_limits<T>::max();
    return (T)a;
}

u32 half_towards_zero(f32 a) {  // float16
    u32 bits = std::bit_cast<u32>(a), sign = bits >> 16 & 0x8000u;
    bits &= 0x7FFFFFFFu;
    f32 size = std::bit_cast<f32>(bits);
    if (bits > 0x7F800000u) return 0x7FFF;
    if (bits == 0x7F800000u) return sign | 0x7C00;
    if (size >= 65536.0f) return sign | 0x7BFF;
    const u32 exponent = bits >> 23, places = 126 - exponent;
    if (exponent < 113)  // a subnormal number there: multiples of 2^-24
        return sign | (exponent && places < 24 ? ((bits & 0x7FFFFFu) | 0x800000u) >> places : 0);
    return sign | ((bits >> 13) - (112u << 10));
}

u32 permuted(u32 a, u32 b, u32 selector) {
    u64 bytes = (u64)b << 32 | a;
    u32 found = 0;
    for (int k = 0; k < 4; k++) {
        u32 pick = selector >> 4 * k & 15, byte = (u32)(bytes >> 8 * (pick & 7)) & 255;
        if (pick & 8) byte = byte & 128 ? 255 : 0;
        found |= byte << 8 * k;
    }
    return found;
}

template <class T>
T low_bits(u32 n) {
    return n >= 8 * sizeof(T) ? (T)-1 : (T)(((T)1 << n) - 1);
}

template <class T>
T product_high(T a, T b) {
    if constexpr (sizeof(T) == 8) {
        using Wide = std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>;
        return (T)((Wide)a * (Wide)b >> 64);
    } else {
        using Wide = std::conditional_t<std::is_signed_v<T>, i64, u64>;
        return (T)((Wide)a * (Wide)b >> 8 * sizeof(T));
    }
}

// --- the table of operations: whatever is not here is an error that names it

std::vector<Operation> operations;
std::unordered_map<std::string, int> numbers;

void put(const std::string &name, Operation operation) {
    numbers[name] = (int)operations.size();
    operations.push_back(operation);
}

template <class D, class... A, class F>
void put(const std::string &name, F) {
    put(name, &compute<D, F, A...>);
}

template <class T, class F>
void put_comparison(const std::string &name, F) {
    put("setp." + name, &compare<F, T>);
}

template <class F>
void put_logic(const std::string &name, F) {
    put(name + ".pred", &logic<F>);
}

template <class T>
void put_bits(const std::string &t) {
    constexpr u32 BITS = 8 * sizeof(T);
    put<T, T>("mov." + t, [](T a) { return a; });
    put<T, T>("not." + t, [](T a) { return (T)~a; });
    put<T, T, T>("and." + t, [](T a, T b) { return (T)(a & b); });
    put<T, T, T>("or." + t, [](T a, T b) { return (T)(a | b); });
    put<T, T, T>("xor." + t, [](T a, T b) { return (T)(a ^ b); });
    put<T, T, u32>("shl." + t, [](T a, u32 n) { return n >= BITS ? (T)0 : (T)(a << n); });
    put<T, T, u32>("shr." + t, [](T a, u32 n) { return n >= BITS ? (T)0 : (T)(a >> n); });
    put_comparison<T>("eq." + t, [](T a, T b) { return a == b; });
    put_comparison<T>("ne." + t, [](T a, T b) { return a != b; });
    put("selp." + t, &select<T>);
}

template <class T>
void put_integers(const std::string &t) {
    using U = std::make_unsigned_t<T>;
    put<T, T>("mov." + t, [](T a) { return a; });
    put<U, U, U>("add." + t, [](U a, U b) { return (U)(a + b); });
    put<U, U, U>("sub." + t, [](U a, U b) { return (U)(a - b); });
    put<U, U, U>("mul.lo." + t, [](U a, U b) { return (U)(a * b); });
    put<U, U, U, U>("mad.lo." + t, [](U a, U b, U c) { return (U)(a * b + c); });
    put<T, T, T>("mul.hi." + t, [](T a, T b) { return product_high<T>(a, b); });
    put<T, T, T>("div." + t, [](T a, T b) { return b == 0 ? (T)-1 : b == (T)-1 && std::is_signed_v<T> ? (T)(U)(0 - (U)a) : (T)(a / b); });
    put<T, T, T>("rem." + t, [](T a, T b) { return b == 0 ? a : b == (T)-1 && std::is_signed_v<T> ? (T)0 : (T)(a % b); });
    put<T, T, T>("min." + t, [](T a, T b) { return a < b ? a : b; });
    put<T, T, T>("max." + t, [](T a, T b) { return a > b ? a : b; });
    put<T, T, u32>("shr." + t, [](T a, u32 n) { return n >= 8 * sizeof(T) ? (T)(a < 0 ? -1 : 0) : (T)(a >> n); });
    put<U, U>("neg." + t, [](U a) { return (U)(0 - a); });
    put<U, T>("abs." + t, [](T a) { return a < 0 ? (U)(0 - (U)a) : (U)a; });
    put_comparison<T>("eq." + t, [](T a, T b) { return a == b; });
    put_comparison<T>("ne." + t, [](T a, T b) { return a != b; });
    put_comparison<T>("lt." + t, [](T a, T b) { return a < b; });
    put_comparison<T>("le." + t, [](T a, T b) { return a <= b; });
    put_comparison<T>("gt." + t, [](T a, T b) { return a > b; });
    put_comparison<T>("ge." + t, [](T a, T b) { return a >= b; });
    put("selp." + t, &select<T>);
}

template <class T, class Wide>
void put_wide(const std::string &t) {
    put<Wide, T, T>("mul.wide." + t, [](T a, T b) { return (Wide)a * (Wide)b; });
    put<Wide, T, T, Wide>("mad.wide." + t, [](T a, T b, Wide c) { return (Wide)((u64)((Wide)a * (Wide)b) + (u64)c); });
}

template <bool Z>
void put_floats(const std::string &t) {
    put<f32, f32, f32>("add.rn" + t, [](f32 a, f32 b) { return kept<Z>(kept<Z>(a) + kept<Z>(b)); });
    put<f32, f32, f32>("add.rm" + t, [](f32 a, f32 b) { return kept<Z>(sum_rounded(kept<Z>(a), kept<Z>(b), -1)); });
    put<f32, f32, f32>("add.rp" + t, [](f32 a, f32 b) { return kept<Z>(sum_rounded(kept<Z>(a), kept<Z>(b), 1)); });
    put<f32, f32, f32>("sub.rn" + t, [](f32 a, f32 b) { return kept<Z>(kept<Z>(a) - kept<Z>(b)); });
    put<f32, f32, f32>("mul.rn" + t, [](f32 a, f32 b) { return kept<Z>(kept<Z>(a) * kept<Z>(b)); });
    put<f32, f32, f32>("div.rn" + t, [](f32 a, f32 b) { return kept<Z>(kept<Z>(a) / kept<Z>(b)); });
    put<f32, f32>("sqrt.rn" + t, [](f32 a) { return kept<Z>(__builtin_sqrtf(kept<Z>(a))); });
    put<f32, f32, f32, f32>("fma.rn" + t, [](f32 a, f32 b, f32 c) {
        return kept<Z>(__builtin_fmaf(kept<Z>(a), kept<Z>(b), kept<Z>(c)));
    });
    put<f32, f32>("neg" + t, [](f32 a) { return -kept<Z>(a); });
    put<f32, f32>("abs" + t, [](f32 a) { return __builtin_fabsf(kept<Z>(a)); });
    put<f32, f32, f32>("min" + t, [](f32 a, f32 b) { return least(kept<Z>(a), kept<Z>(b)); });
    put<f32, f32, f32>("max" + t, [](f32 a, f32 b) { return most(kept<Z>(a), kept<Z>(b)); });
    put_comparison<f32>("eq" + t, [](f32 a, f32 b) { return kept<Z>(a) == kept<Z>(b); });
    put_comparison<f32>("ne" + t, [](f32 a, f32 b) { return kept<Z>(a) < kept<Z>(b) || kept<Z>(a) > kept<Z>(b); });
    put_comparison<f32>("lt" + t, [](f32 a, f32 b) { return kept<Z>(a) < kept<Z>(b); });
    put_comparison<f32>("le" + t, [](f32 a, f32 b) { return kept<Z>(a) <= kept<Z>(b); });
    put_comparison<f32>("gt" + t, [](f32 a, f32 b) { return kept<Z>(a) > kept<Z>(b); });
    put_comparison<f32>("ge" + t, [](f32 a, f32 b) { return kept<Z>(a) >= kept<Z>(b); });
    // These are also true where either is no number.
    put_comparison<f32>("equ" + t, [](f32 a, f32 b) { return !(kept<Z>(a) < kept<Z>(b) || kept<Z>(a) > kept<Z>(b)); });
    put_comparison<f32>("neu" + t, [](f32 a, f32 b) { return !(kept<Z>(a) == kept<Z>(b)); });
    put_comparison<f32>("ltu" + t, [](f32 a, f32 b) { return !(kept<Z>(a) >= kept<Z>(b)); });
    put_comparison<f32>("leu" + t, [](f32 a, f32 b) { return !(kept<Z>(a) > kept<Z>(b)); });
    put_comparison<f32>("gtu" + t, [](f32 a, f32 b) { return !(kept<Z>(a) <= kept<Z>(b)); });
    put_comparison<f32>("geu" + t, [](f32 a, f32 b) { return !(kept<Z>(a) < kept<Z>(b)); });
    const std::string z = Z ? ".ftz" : "";
    put<i32, f32>("cvt.rzi" + z + ".s32.f32", [](f32 a) { return integer<i32>(kept<Z>(a)); });
    put<u32, f32>("cvt.rzi" + z + ".u32.f32", [](f32 a) { return integer<u32>(kept<Z>(a)); });
    put<i32, f32>("cvt.rmi" + z + ".s32.f32", [](f32 a) { return integer<i32>(std::floor(kept<Z>(a))); });
}

template <class D, class A>
void put_conversion(const std::string &d, const std::string &a) {
    put<D, A>("cvt." + d + "." + a, [](A a) { return (D)a; });
    if constexpr (sizeof(A) < 8) put<D, u64>("cvt." + d + ".64." + a, [](u64 a) { return (D)(A)a; });  // from a wider register
}

template <class A>
void put_conversions(const std::string &a) {
    put_conversion<u8, A>("u8", a), put_conversion<i16, A>("s16", a), put_conversion<u16, A>("u16", a);
    put_conversion<i32, A>("s32", a), put_conversion<u32, A>("u32", a);
    put_conversion<i64, A>("s64", a), put_conversion<u64, A>("u64", a);
    put<f32, A>("cvt.rn.f32." + a, [](A a) { return (f32)a; });
}

// --- memory

std::string printed(const char *format, auto... values) {
    char text[300];
    std::snprintf(text, sizeof text, format, values...);
    return text;
}

[[noreturn]] void fail(const Warp &w, int lane, const std::string &what) {
    throw Failure{what + printed("; block %lld, thread %d", w.block->number, w.number * LANES + lane)};
}

// Shared memory that another thread wrote since the last barrier, or that another read and this one changes.
void check_races(Warp &w, int lane, u64 address, int size, const u8 *stored) {
    Block &b = *w.block;
    const u32 me = w.number * LANES + lane + 1, now = b.barriers;
    for (int k = 0; k < size; k++) {
        Touch &t = b.touched[address + k];
        if (!stored) {
            if (t.written == now && t.writer != me)
                fail(w, lane, printed("a race: byte %llu of shared memory was written by thread %d since the last barrier", address + k, t.writer - 1));
            t.reader = t.read == now && t.reader != me ? MANY : me, t.read = now;
        } else if (stored[k] != b.shared[address + k]) {  // many threads may write the same value
            if (t.written == now && t.writer != me)
                fail(w, lane, printed("a race: byte %llu of shared memory was written by thread %d since the last barrier", address + k, t.writer - 1));
            if (t.read == now && t.reader != me)
                fail(w, lane, printed("a race: byte %llu of shared memory was read by another thread since the last barrier", address + k));
            t.writer = me, t.written = now;
        } else if (t.written != now) {
            t.writer = me, t.written = now;
        }
    }
}

// Where `size` bytes lie for this program. `stored`: what will be written there, or null.
u8 *host(Warp &w, int lane, i32 space, u64 address, int size, const u8 *stored) {
    const Launch &a = *w.block->launch;
    if (address % size)
        fail(w, lane, printed("address 0x%llx is no multiple of the %d bytes of the access", address, size));
    if (space == GENERIC) {
        if (address >= SHARED_WINDOW) space = SHARED, address -= SHARED_WINDOW;
        else if (address >= LOCAL_WINDOW) space = LOCAL, address -= LOCAL_WINDOW;
        else space = GLOBAL;
    }
    const u64 last = address + size;
    if (space == SHARED) {
        if (address >= (u64)a.shared_bytes || last > (u64)a.shared_bytes)
            fail(w, lane, printed("%d bytes at %llu, outside the %lld bytes of shared memory", size, address, a.shared_bytes));
        if (a.races) check_races(w, lane, address, size, stored);
        return w.block->shared.data() + address;
    }
    if (space == LOCAL) {
        if (address >= (u64)a.local_bytes || last > (u64)a.local_bytes) fail(w, lane, "outside local memory");
        return w.local.data() + lane * a.local_bytes + address;
    }
    if (space == PARAM) {
        if (last > (u64)a.param_bytes) fail(w, lane, "outside the parameters");
        return const_cast<u8 *>(a.params) + address;
    }
    for (i64 k = 0; k < a.n_ranges; k++) {
        const Range &r = a.ranges[k];
        if (address < r.first || last > r.last) continue;
        if (stored && !r.writable) fail(w, lane, printed("a store to 0x%llx, which is read-only", address));
        return r.memory + (address - r.first);
    }
    fail(w, lane, printed("%s of %d bytes at 0x%llx, outside all memory of the launch", stored ? "a store" : "a load", size, address));
}

u64 address_of(Warp &w, const Instruction &i, int lane) {
    return i.wide ? w.at<u64>(i.slots[0])[lane] + i.offset : (u32)(w.at<u32>(i.slots[0])[lane] + i.offset);
}

template <class T, class Register>
void load(Warp &w, const Instruction &i, u32 lanes) {
    each(lanes, [&](int l) {
        const u8 *from = host(w, l, i.space, address_of(w, i, l), i.count * (int)sizeof(T), nullptr);
        for (int k = 0; k < i.count; k++) {
            T value;
            std::memcpy(&value, from + k * sizeof(T), sizeof(T));
            w.at<Register>(i.slots[1 + k])[l] = cell<Register>((Register)value);
        }
    });
}

template <class T, class Register>
void store(Warp &w, const Instruction &i, u32 lanes) {
    each(lanes, [&](int l) {
        T values[4] = {};
        for (int k = 0; k < i.count; k++) values[k] = (T)value<Register>(w.at<Register>(i.slots[1 + k])[l]);
        const int size = i.count * (int)sizeof(T);
        std::memcpy(host(w, l, i.space, address_of(w, i, l), size, (const u8 *)values), values, size);
    });
}

template <class T>
void put_memory(const std::string &t) {
    put("ld." + t, &load<T, T>), put("st." + t, &store<T, T>);
    if constexpr (std::is_integral_v<T> && sizeof(T) < 8) {  // registers may be wider than what they hold
        using Register = std::conditional_t<std::is_signed_v<T>, i64, u64>;
        put("ld.64." + t, &load<T, Register>), put("st.64." + t, &store<T, Register>);
    }
}

// --- what lanes do together: d, p, a, and by kind b, c; the lanes that take part come last

// Where a lane of shfl.sync reads; whether that is in bounds.
template <int KIND>
std::pair<int, bool> source(int lane, u32 b, u32 c) {
    const int segment = c >> 8 & 31, clamp = c & 31, n = b & 31;
    const int last = (lane & segment) | (clamp & ~segment), first = lane & segment;
    const int j = KIND == 0 ? lane - n : KIND == 1 ? lane + n : KIND == 2 ? lane ^ n : first | (n & ~segment);
    const bool within = KIND == 0 ? j >= last : j <= last;
    return {within ? j : lane, within};
}

template <int KIND>
void shuffle(Warp &w, const Instruction &i, u32 lanes) {
    u32 found[LANES], within = 0, *d = w.at<u32>(i.slots[0]);
    const u32 *a = w.at<u32>(i.slots[2]), *b = w.at<u32>(i.slots[3]), *c = w.at<u32>(i.slots[4]);
    each(lanes, [&](int l) {
        const auto [from, good] = source<KIND>(l, b[l], c[l]);
        if (!(lanes >> from & 1)) fail(w, l, printed("reads lane %d, which takes no part", from));
        found[l] = a[from], within |= (u32)good << l;
    });
    each(lanes, [&](int l) { d[l] = found[l]; });
    if (i.slots[1] == NONE) return;
    u32 &p = w.predicate(i.slots[1]);
    p = (p & ~lanes) | within;
}

template <class T, class F>
void reduce(Warp &w, const Instruction &i, u32 lanes) {
    u32 *d = w.at<u32>(i.slots[0]), *a = w.at<u32>(i.slots[2]);
    bool begun = false;
    T all{};
    each(lanes, [&](int l) { all = begun ? (T)F()(all, (T)a[l]) : (T)a[l], begun = true; });
    each(lanes, [&](int l) { d[l] = (u32)all; });
}

template <int KIND>
void vote(Warp &w, const Instruction &i, u32 lanes) {
    const u32 yes = w.predicate(i.slots[2]) & lanes;
    if (KIND == 0) {
        each(lanes, [&](int l) { w.at<u32>(i.slots[0])[l] = yes; });
        return;
    }
    u32 &p = w.predicate(i.slots[0]);
    p = (p & ~lanes) | ((KIND == 1 ? yes != 0 : KIND == 2 ? yes == lanes : yes == 0 || yes == lanes) ? lanes : 0);
}

void together(Warp &, const Instruction &, u32) {}

template <class T, class F>
void put_reduction(const std::string &name, F) {
    put("redux.sync." + name, &reduce<T, F>);
}

enum { BRANCH, RETURN, SYNC };  // the first of the table; what lanes do together follows, then what each does alone
int first_alone;

void fill() {
    put("bra", &together), put("ret", &together), put("bar.sync", &together);
    put("bar.warp.sync", &together);
    put("shfl.sync.up.b32", &shuffle<0>), put("shfl.sync.down.b32", &shuffle<1>);
    put("shfl.sync.bfly.b32", &shuffle<2>), put("shfl.sync.idx.b32", &shuffle<3>);
    put("vote.sync.ballot.b32", &vote<0>), put("vote.sync.any.pred", &vote<1>);
    put("vote.sync.all.pred", &vote<2>), put("vote.sync.uni.pred", &vote<3>);
    put_reduction<u32>("or.b32", [](u32 a, u32 b) { return a | b; });
    put_reduction<u32>("and.b32", [](u32 a, u32 b) { return a & b; });
    put_reduction<u32>("xor.b32", [](u32 a, u32 b) { return a ^ b; });
    put_reduction<u32>("add.u32", [](u32 a, u32 b) { return a + b; });
    put_reduction<u32>("add.s32", [](u32 a, u32 b) { return a + b; });
    put_reduction<u32>("min.u32", [](u32 a, u32 b) { return a < b ? a : b; });
    put_reduction<u32>("max.u32", [](u32 a, u32 b) { return a > b ? a : b; });
    put_reduction<i32>("min.s32", [](i32 a, i32 b) { return a < b ? a : b; });
    put_reduction<i32>("max.s32", [](i32 a, i32 b) { return a > b ? a : b; });
    first_alone = (int)operations.size();

    put_bits<u16>("b16"), put_bits<u32>("b32"), put_bits<u64>("b64");
    put_integers<u16>("u16"), put_integers<i16>("s16"), put_integers<u32>("u32"), put_integers<i32>("s32");
    put_integers<u64>("u64"), put_integers<i64>("s64");
    put_wide<u16, u32>("u16"), put_wide<i16, i32>("s16"), put_wide<u32, u64>("u32"), put_wide<i32, i64>("s32");
    put_floats<false>(".f32"), put_floats<true>(".ftz.f32");
    put<f32, f32>("mov.f32", [](f32 a) { return a; });
    put("selp.f32", &select<f32>);
    put_logic("mov", [](u32 q, u32) { return q; });
    put_logic("not", [](u32 q, u32) { return ~q; });
    put_logic("and", [](u32 q, u32 r) { return q & r; });
    put_logic("or", [](u32 q, u32 r) { return q | r; });
    put_logic("xor", [](u32 q, u32 r) { return q ^ r; });
    put_conversions<u8>("u8"), put_conversions<i16>("s16"), put_conversions<u16>("u16");
    put_conversions<i32>("s32"), put_conversions<u32>("u32"), put_conversions<i64>("s64"), put_conversions<u64>("u64");
    put("pack.64", &pack<u64, u32>), put("pack.32", &pack<u32, u16>);
    put("unpack.64", &unpack<u64, u32>), put("unpack.32", &unpack<u32, u16>);
    put<u32, f32, f32>("cvt.rz.f16x2.f32", [](f32 a, f32 b) { return half_towards_zero(a) << 16 | half_towards_zero(b); });
    put<u32, u32, u32, u32>("prmt.b32", [](u32 a, u32 b, u32 selector) { return permuted(a, b, selector); });
    put<u32, u32, u32, u32>("shf.r.wrap.b32", [](u32 a, u32 b, u32 n) { return (u32)(((u64)b << 32 | a) >> (n & 31)); });
    put<u32, u32, u32, u32>("shf.l.wrap.b32", [](u32 a, u32 b, u32 n) { return (u32)(((u64)b << 32 | a) << (n & 31) >> 32); });
    put<u32, u32, u32, u32, u32>("lop3.b32", [](u32 a, u32 b, u32 c, u32 table) {
        u32 d = 0;
        for (int k = 0; k < 8; k++)
            if (table >> k & 1) d |= (k & 4 ? a : ~a) & (k & 2 ? b : ~b) & (k & 1 ? c : ~c);
        return d;
    });
    put<u32, u32, u32, u32>("bfe.u32", [](u32 a, u32 at, u32 n) { return at > 31 ? 0 : a >> at & low_bits<u32>(n); });
    put<u32, u32, u32, u32, u32>("bfi.b32", [](u32 a, u32 b, u32 at, u32 n) {
        const u32 field = at > 31 ? 0 : low_bits<u32>(n) << at;
        return (b & ~field) | ((at > 31 ? 0 : a << at) & field);
    });
    put<u32, u32>("popc.b32", [](u32 a) { return (u32)std::popcount(a); });
    put<u32, u32>("clz.b32", [](u32 a) { return (u32)std::countl_zero(a); });
    put<u64, u64>("cvta.global.u64", [](u64 a) { return a; });
    put<u64, u64>("cvta.to.global.u64", [](u64 a) { return a; });
    put<u64, u64>("cvta.shared.u64", [](u64 a) { return a + SHARED_WINDOW; });
    put<u64, u64>("cvta.to.shared.u64", [](u64 a) { return a - SHARED_WINDOW; });
    put<u64, u64>("cvta.local.u64", [](u64 a) { return a + LOCAL_WINDOW; });
    put<u64, u64>("cvta.to.local.u64", [](u64 a) { return a - LOCAL_WINDOW; });
    put_memory<u8>("b8"), put_memory<u8>("u8"), put_memory<i8>("s8"), put_memory<u16>("b16"), put_memory<u16>("u16");
    put_memory<i16>("s16"), put_memory<u32>("b32"), put_memory<u32>("u32"), put_memory<i32>("s32"), put_memory<f32>("f32");
    put_memory<u64>("b64"), put_memory<u64>("u64"), put_memory<i64>("s64");
}

// --- control

void leave(Group &g, u32 lanes) {
    for (Path &path : g.paths) path.lanes &= ~lanes;
    std::erase_if(g.paths, [](const Path &path) { return !path.lanes; });
}

// A group until it waits or has ended.
void go_on(Warp &w, Group &g, i32 &at) {
    const Launch &a = *w.block->launch;
    while (!g.ended()) {
        Path &path = g.now();
        if (path.at == path.meeting) {
            g.paths.pop_back();
            continue;
        }
        at = path.at;
        const Instruction &i = a.code[at];
        u32 lanes = path.lanes;
        if (i.guard != NONE) lanes &= i.unless ? ~w.predicate(i.guard) : w.predicate(i.guard);
        a.counts[at]++;
        if (i.operation >= first_alone) {
            operations[i.operation](w, i, lanes);
            path.at++;
        } else if (i.operation == RETURN) {
            path.at++;
            leave(g, lanes);
        } else if (i.operation == BRANCH) {
            if (lanes == path.lanes) {
                path.at = i.target;
            } else if (!lanes) {
                path.at++;
            } else {
                const u32 others = path.lanes & ~lanes;
                const i32 next = path.at + 1;
                path.at = i.meeting;
                if (i.meeting == NONE) g.paths.pop_back();
                g.paths.push_back({others, next, i.meeting});
                g.paths.push_back({lanes, i.target, i.meeting});
            }
        } else {
            if (lanes != path.lanes || g.paths.size() > 1) {
                u32 all = 0;
                for (const Path &other : g.paths) all |= other.lanes;
                if (lanes != all) fail(w, std::countr_zero(all & ~lanes), "only some threads of the warp come here");
            }
            g.wait = i.operation == SYNC ? BARRIER : COLLECTIVE;
            return;
        }
    }
}

// Where all lanes have come that an instruction of the warp names, it is done and they go on; whether any did.
bool meet(Warp &w, i32 &at) {
    bool any = false;
    for (Group &first : w.groups) {
        if (first.wait != COLLECTIVE) continue;
        at = first.now().at;
        const Instruction &i = w.block->launch->code[at];
        u32 here = 0;
        for (Group &g : w.groups)
            if (g.wait == COLLECTIVE && g.now().at == at) here |= g.now().lanes;
        const int lane = std::countr_zero(first.now().lanes);
        const u32 named = w.at<u32>(i.slots[OPERANDS - 1])[lane];
        if (!(named >> lane & 1)) fail(w, lane, "a lane takes part that is not named");
        if ((named & here) != named) continue;
        each(named, [&](int l) {
            if (w.at<u32>(i.slots[OPERANDS - 1])[l] != named) fail(w, l, "lanes name different lanes");
        });
        operations[i.operation](w, i, named);
        for (Group &g : w.groups)
            if (g.wait == COLLECTIVE && g.now().at == at) {
                if (g.now().lanes & ~named) fail(w, std::countr_zero(g.now().lanes & ~named), "a lane takes part that is not named");
                g.wait = NOTHING, g.now().at++;
            }
        any = true;
    }
    return any;
}

u32 threads_of(const Warp &w) {  // the last warp of a block may have fewer than 32
    return low_bits<u32>((u32)(w.block->launch->threads - w.number * LANES));
}

// Every thread waits at the barrier, those of a warp at the same one.
void check_barrier(std::vector<Warp> &warps, i32 &at) {
    for (Warp &w : warps) {
        i32 here = NONE;
        for (Group &g : w.groups) {
            if (g.ended()) continue;
            if (g.wait != BARRIER) {
                at = g.now().at;
                fail(w, std::countr_zero(g.now().lanes), "waits for lanes that do not come");
            }
            if (here == NONE) here = g.now().at;
            at = here;
            if (g.now().at != here) fail(w, std::countr_zero(g.now().lanes), "threads of a warp are at different barriers");
        }
    }
    for (Warp &w : warps) {
        u32 waiting = 0;
        for (Group &g : w.groups)
            if (!g.ended()) waiting |= g.now().lanes;
        const u32 missing = threads_of(w) & ~waiting;
        if (missing) fail(w, std::countr_zero(missing), "a barrier that this thread does not reach: it has ended");
    }
}

void run_block(std::vector<Warp> &warps, i32 &at) {
    const Launch &a = *warps[0].block->launch;
    for (;;) {
        bool ended = true, moved = false;
        const i64 groups = (i64)warps[0].groups.size(), n = groups * (i64)warps.size();
        const i64 stride = n % 97 ? 97 : 1;
        for (i64 k = 0; k < n; k++) {
            const bool backwards = a.schedule == CONVERGED_BACKWARDS || a.schedule == LANES_BACKWARDS;
            const i64 j = a.schedule == LANES_SHUFFLED ? (k * stride + 31) % n : backwards ? n - 1 - k : k;
            Warp &w = warps[j / groups];
            Group &g = w.groups[j % groups];
            if (g.ended() || g.wait) continue;
            go_on(w, g, at);
            moved = true;
        }
        for (Warp &w : warps) moved |= meet(w, at);
        for (Warp &w : warps)
            for (Group &g : w.groups) ended &= g.ended();
        if (ended) return;
        if (moved) continue;
        check_barrier(warps, at);
        for (Warp &w : warps)
            for (Group &g : w.groups) g.wait = NOTHING, g.now().at++;
        warps[0].block->barriers++;
    }
}

void begin(Warp &w, const Launch &a) {
    const u32 lanes = threads_of(w);
    const bool alone = a.schedule >= LANES_FORWARDS;
    w.groups.assign(alone ? LANES : 1, {});
    for (int l = 0; l < LANES; l++) {
        const auto know = [&](i32 slot, i64 value) {
            if (slot != NONE) w.at<u32>(slot)[l] = (u32)value;
        };
        know(a.special.thread, w.number * LANES + l), know(a.special.threads, a.threads);
        know(a.special.block, w.block->number), know(a.special.blocks, a.grid);
        know(a.special.lane, l), know(a.special.warp, w.number);
        if (alone && lanes >> l & 1) w.groups[l].paths.push_back({1u << l, 0, NONE});
    }
    if (!alone) w.groups[0].paths.push_back({lanes, 0, NONE});
    std::fill(w.local.begin(), w.local.end(), 0xA5);
}

extern "C" {

// The number of an operation, or -1.
int ptx_operation(const char *name) {
    if (operations.empty()) fill();
    const auto found = numbers.find(name);
    return found == numbers.end() ? -1 : found->second;
}

int ptx_sizes(int *sizes) {
    sizes[0] = sizeof(Instruction), sizes[1] = sizeof(Launch);
    return 2;
}

// The blocks that are given, one after the other. 0, or 1 + the instruction that failed, with the message.
int ptx_run(const Launch *a) {
    Block block{a, 0, std::vector<u8>(a->shared_bytes), std::vector<Touch>(a->races ? a->shared_bytes : 0)};
    std::vector<Warp> warps((a->threads + LANES - 1) / LANES);
    for (size_t k = 0; k < warps.size(); k++) {
        Warp &w = warps[k];
        w.block = &block, w.number = (int)k;
        w.memory.assign(a->n_slots * LANES + 16, 0xA5A5A5A5u), w.local.resize(a->local_bytes * LANES);
        w.registers = (u32 *)(((u64)w.memory.data() + 63) / 64 * 64);
        for (i64 c = 0; c < a->n_constants; c++) {
            u32 *slot = w.registers + a->constants[c].slot * LANES;
            for (int l = 0; l < LANES; l++)
                if (a->constants[c].wide)
                    ((u64 *)slot)[l] = a->constants[c].value;
                else
                    slot[l] = (u32)a->constants[c].value;
        }
    }
    i32 at = 0;
    try {
        for (i64 k = 0; k < a->n_blocks; k++) {
            block.number = a->blocks[k], block.barriers++;
            std::fill(block.shared.begin(), block.shared.end(), 0xA5);
            for (Warp &w : warps) begin(w, *a);
            run_block(warps, at);
        }
    } catch (const Failure &failure) {
        std::snprintf(a->message, 512, "%s", failure.what.c_str());
        return 1 + at;
    }
    return 0;
}
}
