// Vectors of one register for the instruction set that this file is compiled for.
//
// Kernel files are compiled once an instruction set, each time into a namespace of its own (FASTGAN_ISA), and use no
// inline function or template of the standard library: the linker keeps one copy of such a function for all of them,
// and the copy it keeps could hold instructions that the processor lacks.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "../include/device.h"

namespace fastgan::FASTGAN_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

typedef float FloatVector __attribute__((vector_size(kVectorBytes)));
typedef double DoubleVector __attribute__((vector_size(kVectorBytes)));
typedef int32_t IntVector __attribute__((vector_size(kVectorBytes)));
typedef uint32_t BitsVector __attribute__((vector_size(kVectorBytes)));
typedef uint16_t HalfBitsVector __attribute__((vector_size(kVectorBytes / 2)));

// Storage type -> the scalar and the vector it is computed in.
template <class T>
struct Compute {
  using Scalar = float;
  using Vector = FloatVector;
};
template <>
struct Compute<double> {
  using Scalar = double;
  using Vector = DoubleVector;
};
template <class T>
constexpr int kLanes = sizeof(typename Compute<T>::Vector) / sizeof(typename Compute<T>::Scalar);

template <class V>
FASTGAN_INLINE V broadcast(double value) {
  using S = decltype(V{}[0] + V{}[0]);
  return V{} + S(value);
}

template <class M, class V>
FASTGAN_INLINE V select(M condition, V yes, V no) {
  return condition ? yes : no;
}

template <class To, class From>
FASTGAN_INLINE To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof(To));
  return to;
}

// v 2^n of whole numbers n in [-151, 129]: subnormal, 0 or infinite where the result is.
FASTGAN_INLINE FloatVector scale(FloatVector v, FloatVector n) {
#if defined(__AVX512F__)
  return FloatVector(_mm512_scalef_ps(__m512(v), __m512(n)));
#else
  // Two factors, since n = 128 and n < -126 have no normal float of their own.
  const IntVector whole = bit_cast<IntVector>(n + 0x1.8p23f) - 0x4b400000, first = whole >> 1;
  return v * bit_cast<FloatVector>((first + 127) << 23) * bit_cast<FloatVector>((whole - first + 127) << 23);
#endif
}

// e^x = (1 + p) 2^n, where x = n ln 2 + r with |r| <= ln 2 / 2 and p = e^r - 1. A NaN stays one in p.
struct Exponential {
  FloatVector p, n;
};
FASTGAN_INLINE Exponential reduce_exponential(FloatVector x) {
  const FloatVector low = broadcast<FloatVector>(-104), high = broadcast<FloatVector>(89);
  x = low > x ? low : x;  // in this order one instruction, which hands a NaN on
  x = high < x ? high : x;
  const FloatVector n = (x * 1.44269504f + 0x1.8p23f) - 0x1.8p23f;     // to the nearest whole number
  const FloatVector r = (x - n * 0.693359375f) - n * -2.12194440e-4f;  // ln 2 in two parts
  // (e^r - 1 - r) / r^2, by Remez's method: e^r - 1 has a relative error of at most 2^-26.
  FloatVector q = r * 1.388252177e-3f + 8.366520576e-3f;
  q = q * r + 4.166719986e-2f;
  q = q * r + 0.1666654362f;
  q = q * r + 0.4999999815f;
  return {q * r * r + r, n};
}

FASTGAN_INLINE FloatVector exponential(FloatVector x) {
  const Exponential e = reduce_exponential(x);
  return scale(e.p + 1.f, e.n);
}

// e^x - 1 of x <= 0, with relative accuracy also near 0, where it has none as written.
FASTGAN_INLINE FloatVector exponential_minus_one(FloatVector x) {
  const Exponential e = reduce_exponential(x);
  const FloatVector power = scale(broadcast<FloatVector>(1), e.n);
  return e.p * power + (power - 1.f);
}

// Near 0 an odd polynomial: least relative error in [0, 0.625], 0.07 ulp before its own rounding. Elsewhere from a
// small part taken off 1. Both within 1.5 ulp; the usual quotient of e^x - 1 loses 2.5.
FASTGAN_INLINE FloatVector hyperbolic_tangent(FloatVector x) {
  const FloatVector size = select(x < FloatVector{}, -x, x), square = x * x;
  FloatVector p = square * -5.704986397e-3f + 2.063908614e-2f;
  p = p * square - 5.373971537e-2f;
  p = p * square + 0.1333144158f;
  p = p * square - 0.3333328068f;
  const FloatVector e = exponential(size * -2.f), far = 1.f - (e + e) / (e + 1.f);
  return select(size < broadcast<FloatVector>(0.625), p * square * x + x, select(x < FloatVector{}, -far, far));
}

FASTGAN_INLINE DoubleVector exponential(DoubleVector x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = __builtin_exp(x[i]);
  return x;
}
FASTGAN_INLINE DoubleVector exponential_minus_one(DoubleVector x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = __builtin_expm1(x[i]);
  return x;
}
FASTGAN_INLINE DoubleVector hyperbolic_tangent(DoubleVector x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = __builtin_tanh(x[i]);
  return x;
}

// log(1 + e) for e in [0, 1], with relative accuracy also near 0.
FASTGAN_INLINE FloatVector log_one_plus(FloatVector e) {
  // (log(1 + e) - e) / e^2, fitted to a relative error of log(1 + e) of 2^-27 over the whole interval.
  FloatVector p = e * -0.00331847346f + 0.0202045888f;
  p = p * e - 0.0576644540f;
  p = p * e + 0.106805563f;
  p = p * e - 0.153553963f;
  p = p * e + 0.196954012f;
  p = p * e - 0.249585882f;
  p = p * e + 0.333305120f;
  p = p * e - 0.499999315f;
  return p * (e * e) + e;
}
FASTGAN_INLINE DoubleVector log_one_plus(DoubleVector e) {
  for (int i = 0; i < kLanes<double>; ++i) e[i] = __builtin_log1p(e[i]);
  return e;
}

// log(x) for x >= 1, as n ln 2 + log(m) with x = 2^n m and 1 <= m < 2. A NaN and an infinity stay what they are.
FASTGAN_INLINE FloatVector log_from_one(FloatVector x) {
  const IntVector bits = bit_cast<IntVector>(x);
  const FloatVector m = bit_cast<FloatVector>((bits & 0x007fffff) | 0x3f800000);
  const FloatVector n = __builtin_convertvector((bits >> 23) - 127, FloatVector);
  return select(x < broadcast<FloatVector>(__builtin_inf()), n * 0.693147181f + log_one_plus(m - 1.f), x);
}
FASTGAN_INLINE DoubleVector log_from_one(DoubleVector x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = __builtin_log(x[i]);
  return x;
}

FASTGAN_INLINE FloatVector load(const float* p) {
  FloatVector v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
FASTGAN_INLINE DoubleVector load(const double* p) {
  DoubleVector v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
FASTGAN_INLINE FloatVector load(const BFloat16* p) {
  HalfBitsVector bits;
  __builtin_memcpy(&bits, p, sizeof bits);
  return bit_cast<FloatVector>(__builtin_convertvector(bits, BitsVector) << 16);
}

FASTGAN_INLINE void store(float* p, FloatVector v) { __builtin_memcpy(p, &v, sizeof v); }
FASTGAN_INLINE void store(double* p, DoubleVector v) { __builtin_memcpy(p, &v, sizeof v); }
FASTGAN_INLINE void store(BFloat16* p, FloatVector v) {
  const BitsVector bits = bit_cast<BitsVector>(v);
  const BitsVector rounded = bits + (0x7fffu + ((bits >> 16) & 1u));  // to nearest, ties to even
  const BitsVector quiet_nan = BitsVector{} + 0x7fc00000u;
  const HalfBitsVector out = __builtin_convertvector(select(v == v, rounded, quiet_nan) >> 16, HalfBitsVector);
  __builtin_memcpy(p, &out, sizeof out);
}

#if defined(__AVX512F__)
FASTGAN_INLINE FloatVector load(const Half* p) {
  return FloatVector(_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)));
}
FASTGAN_INLINE void store(Half* p, FloatVector v) {
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(__m512(v), _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__F16C__)
FASTGAN_INLINE FloatVector load(const Half* p) {
  return FloatVector(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)));
}
FASTGAN_INLINE void store(Half* p, FloatVector v) {
  _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(__m256(v), _MM_FROUND_TO_NEAREST_INT));
}
#else
FASTGAN_INLINE FloatVector load(const Half* p) {
  HalfBitsVector bits;
  __builtin_memcpy(&bits, p, sizeof bits);
  const BitsVector h = __builtin_convertvector(bits, BitsVector), sign = (h & 0x8000u) << 16;
  const BitsVector magnitude = h & 0x7fffu;
  // Exponent rebased by a multiplication with 2^112, which makes subnormals right as well.
  const FloatVector finite = bit_cast<FloatVector>(magnitude << 13) * 0x1p112f;
  const BitsVector special = (magnitude << 13) | 0x7f800000u;
  const BitsVector value = select(magnitude >= (BitsVector{} + 0x7c00u), special, bit_cast<BitsVector>(finite));
  return bit_cast<FloatVector>(value | sign);
}
FASTGAN_INLINE void store(Half* p, FloatVector v) {
  const BitsVector bits = bit_cast<BitsVector>(v), sign = (bits >> 16) & 0x8000u;
  const FloatVector magnitude = bit_cast<FloatVector>(bits & 0x7fffffffu);
  const BitsVector m = bit_cast<BitsVector>(magnitude);
  // Normal results: round the mantissa in the integers. Subnormal ones: let the adder round, against 0.5.
  const BitsVector normal = (m + (0xc8000fffu + ((m >> 13) & 1u))) >> 13;
  const BitsVector subnormal = bit_cast<BitsVector>(magnitude + 0.5f) - 0x3f000000u;
  BitsVector out = select(m < (BitsVector{} + 0x38800000u), subnormal, normal);
  out = select(m >= (BitsVector{} + 0x47800000u), BitsVector{} + 0x7c00u, out);
  out = select(m > (BitsVector{} + 0x7f800000u), BitsVector{} + 0x7e00u, out) | sign;
  const HalfBitsVector h = __builtin_convertvector(out, HalfBitsVector);
  __builtin_memcpy(p, &h, sizeof h);
}
#endif

// The first `lanes` lanes, the others zero on load; memory past them is not touched.
#if defined(__AVX512F__)
FASTGAN_INLINE __mmask16 first_lanes(int lanes) { return __mmask16((1u << lanes) - 1); }
FASTGAN_INLINE FloatVector load_part(const float* p, int lanes) {
  return FloatVector(_mm512_maskz_loadu_ps(first_lanes(lanes), p));
}
FASTGAN_INLINE void store_part(float* p, FloatVector v, int lanes) {
  _mm512_mask_storeu_ps(p, first_lanes(lanes), __m512(v));
}
FASTGAN_INLINE FloatVector load_part(const BFloat16* p, int lanes) {
  const __m256i bits = _mm256_maskz_loadu_epi16(first_lanes(lanes), p);
  return FloatVector(_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16)));
}
FASTGAN_INLINE FloatVector load_part(const Half* p, int lanes) {
  return FloatVector(_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(lanes), p)));
}
#endif
template <class T>
FASTGAN_INLINE typename Compute<T>::Vector load_part(const T* p, int lanes) {
  T all[kLanes<T>] = {};
  for (int i = 0; i < lanes; ++i) all[i] = p[i];
  return load(all);
}
template <class T>
FASTGAN_INLINE void store_part(T* p, typename Compute<T>::Vector v, int lanes) {
  T all[kLanes<T>];
  store(all, v);
  for (int i = 0; i < lanes; ++i) p[i] = all[i];
}
template <class T>
FASTGAN_INLINE typename Compute<T>::Vector load(const T* p, int lanes) {
  return lanes == kLanes<T> ? load(p) : load_part(p, lanes);
}
template <class T>
FASTGAN_INLINE void store(T* p, typename Compute<T>::Vector v, int lanes) {
  lanes == kLanes<T> ? store(p, v) : store_part(p, v, lanes);
}

}  // namespace fastgan::FASTGAN_ISA

#include "../include/activation.h"
