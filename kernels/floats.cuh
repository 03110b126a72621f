// vpngen/floats.py for the device and for the host: float32 arithmetic of multiply-adds that are written out, without libm.
//
// The coefficients are defined where this is compiled: SIN_0 and so on from the lists of vpngen/floats.py.

#ifndef VPNGEN_FLOATS
#define VPNGEN_FLOATS

#include "common.cuh"

namespace floats {

HD float fma(float a, float b, float c) {
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

HD float of_bits(u32 bits) {
#ifdef __CUDA_ARCH__
    return __uint_as_float(bits);
#else
    float value;
    __builtin_memcpy(&value, &bits, 4);
    return value;
#endif
}

// The greatest integer that is not above a number of less than 2^31.
HD int floored(float a) {
    int whole = (int)a;
    return whole - ((float)whole > a);
}

// Sine and cosine of (pi / 2) (f + quadrant).
HD void of_quadrant(float f, u32 quadrant, float &sine, float &cosine) {
    float z = f * f;
    float s = f * fma(z, fma(z, fma(z, SIN_3, SIN_2), SIN_1), SIN_0);
    float c = fma(z, fma(z, fma(z, fma(z, COS_4, COS_3), COS_2), COS_1), COS_0);
    bool quarter = quadrant & 1u, half = quadrant & 2u;
    float s1 = quarter ? c : s, c1 = quarter ? -s : c;
    sine = half ? -s1 : s1;
    cosine = half ? -c1 : c1;
}

HD void sine_cosine(u32 angle, float &sine, float &cosine) {
    of_quadrant(((float)(int)(angle & 16383u) - 8192.0f) * (1.0f / 16384.0f), angle >> 14, sine, cosine);
}

HD void turn(u32 angle, float &sine, float &cosine) {
    u32 shifted = angle + (1u << 29);
    float f = (float)((int)(shifted & 0x3FFFFFFFu) - (1 << 29)) * (1.0f / 1073741824.0f);
    of_quadrant(f, shifted >> 30, sine, cosine);
}

HD float exp2(float x) {
    int whole = floored(x + 0.5f);
    float f = x - (float)whole;
    float p = fma(fma(fma(EXP2_7, f, EXP2_6), f, EXP2_5), f, EXP2_4);
    p = fma(fma(fma(fma(p, f, EXP2_3), f, EXP2_2), f, EXP2_1), f, EXP2_0);
    return p * of_bits((u32)(whole + 127) << 23);
}

}  // namespace floats

#endif
