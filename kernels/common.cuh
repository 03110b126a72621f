// What the cores of all generators share, for the device and for the host.
//
// Nothing is included: NVRTC has no headers. Multiply-adds are written out and the compiler is told to form no others
// (--fmad=false, -ffp-contract=off), so every backend rounds at the same places.
//
// A core is written against a Team, the threads of a block: team.each(f) runs f(thread, state) for every thread,
// team.sync() is the barrier. On the device they are threads, on the host a loop over all of them between barriers. So the
// host build runs every line that decides a pixel, launch arithmetic included.

#ifndef VPNGEN_COMMON
#define VPNGEN_COMMON

#ifdef __CUDACC__
#define HD __host__ __device__ __forceinline__
#else
#define HD inline
#endif
#ifdef __CUDA_ARCH__
#define UNROLL _Pragma("unroll")
#define TWO_AT_A_TIME _Pragma("unroll 2")
#else
#define UNROLL
#define TWO_AT_A_TIME
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// What a batch shows of each video: the columns of `windows` in vpngen/backends/base.py.
struct Window {
    int t0, step, y0, x0, flip;
};

struct alignas(16) Sixteen {  // bytes that move as one
    u32 w[4];
};

HD int least(int a, int b) { return a < b ? a : b; }
HD int greatest(int a, int b) { return a > b ? a : b; }
HD int rounded_up(int a, int b) { return (a + b - 1) / b * b; }

// A number to divide by: i / size and i % size for i below 2^16 and size up to 2^16, in two and three instructions where a
// division of integers takes twenty. (i + 1) * reciprocal is less than (i + 1) / size, by at most 1 / size.
struct Divisor {
    int size;
    u32 reciprocal;  // (2^32 - 1) / size, rounded down
};

HD Divisor divisor(int size) { return {size, 0xFFFFFFFFu / (u32)size}; }

HD int operator/(int i, Divisor by) {
#ifdef __CUDA_ARCH__
    return (int)__umulhi((u32)i + 1, by.reciprocal);
#else
    return (int)((u64)((u32)i + 1) * by.reciprocal >> 32);
#endif
}

HD int operator%(int i, Divisor by) { return i - i / by * by.size; }

// The key of each round of a hash. In shared memory: adding them up takes a third of the hash, loading them a tenth.
struct alignas(16) Keys {
    u32 of[10][2];
};

HD void fill_keys(const u32 key[2], Keys &keys) {
    UNROLL
    for (u32 round = 0; round < 10; round++)
        keys.of[round][0] = key[0] + round * 0x9E3779B9u, keys.of[round][1] = key[1] + round * 0xBB67AE85u;
}

// vpngen.rng.philox4x32.
HD void philox(u32 c[4], const Keys &keys) {
    UNROLL
    for (int round = 0; round < 10; round++) {
        u64 p0 = (u64)0xD2511F53u * c[0], p1 = (u64)0xCD9E8D57u * c[2];
        u32 c1 = c[1], c3 = c[3];
        c[0] = (u32)(p1 >> 32) ^ c1 ^ keys.of[round][0];
        c[1] = (u32)p1;
        c[2] = (u32)(p0 >> 32) ^ c3 ^ keys.of[round][1];
        c[3] = (u32)p0;
    }
}

// The same of a key that few hashes have.
HD void philox(u32 c[4], u32 k0, u32 k1) {
    Keys keys;
    const u32 key[2] = {k0, k1};
    fill_keys(key, keys);
    philox(c, keys);
}

#ifdef __CUDACC__
template <class State>
struct Threads {  // the Team of the device: this block
    State state;
    template <class F>
    __device__ __forceinline__ void each(F f) { f((int)threadIdx.x, state); }
    __device__ __forceinline__ void sync() { __syncthreads(); }
    // The first thread of those that branch together.
    __device__ __forceinline__ int first() { return (int)(threadIdx.x & ~31u); }
    // A value that these have alike, so that the compiler knows it and branches on it without masks.
    __device__ __forceinline__ u32 uniform(u32 value) {
#if __CUDA_ARCH__ >= 800
        return __reduce_or_sync(0xffffffffu, value);
#else
        return __shfl_sync(0xffffffffu, value, 0);
#endif
    }
};
#endif

#endif
