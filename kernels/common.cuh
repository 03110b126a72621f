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

// A number to divide by: i / size and i % size for i and size up to 2^16, in three and four instructions where a division of
// integers takes twenty.
struct Divisor {
    int size;
    u32 reciprocal;  // 2^32 / size, rounded up; 0 where size is 1
};

HD Divisor divisor(int size) { return {size, size == 1 ? 0 : 0xFFFFFFFFu / (u32)size + 1}; }

HD int operator/(int i, Divisor by) {
#ifdef __CUDA_ARCH__
    return by.reciprocal ? (int)__umulhi((u32)i, by.reciprocal) : i;
#else
    return by.reciprocal ? (int)((u64)(u32)i * by.reciprocal >> 32) : i;
#endif
}

HD int operator%(int i, Divisor by) { return i - i / by * by.size; }

// vpngen.rng.philox4x32.
HD void philox(u32 c[4], u32 k0, u32 k1) {
    for (int round = 0; round < 10; round++) {
        u64 p0 = (u64)0xD2511F53u * c[0], p1 = (u64)0xCD9E8D57u * c[2];
        u32 c1 = c[1], c3 = c[3];
        c[0] = (u32)(p1 >> 32) ^ c1 ^ k0;
        c[1] = (u32)p1;
        c[2] = (u32)(p0 >> 32) ^ c3 ^ k1;
        c[3] = (u32)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

#ifdef __CUDACC__
template <class State>
struct Threads {  // the Team of the device: this block
    State state;
    template <class F>
    __device__ __forceinline__ void each(F f) { f((int)threadIdx.x, state); }
    __device__ __forceinline__ void sync() { __syncthreads(); }
    // A value that all threads have alike, so that the compiler knows it and branches on it without masks.
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
