// Packs of 16 bytes, and what the shared mathematics (csrc/include) needs of a scalar.
#pragma once

#if defined(FASTGAN_EMULATED)
#include "emulated.h"
#endif

#include <math.h>
#include <stdint.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "../include/device.h"
#include "../include/shape.h"

namespace fastgan::FASTGAN_ISA {

template <class V>
FASTGAN_INLINE V broadcast(double value) {
  return V(value);
}
template <class V>
FASTGAN_INLINE V select(bool condition, V yes, V no) {
  return condition ? yes : no;
}
FASTGAN_INLINE float exponential(float x) { return expf(x); }
FASTGAN_INLINE double exponential(double x) { return exp(x); }
FASTGAN_INLINE float exponential_minus_one(float x) { return expm1f(x); }
FASTGAN_INLINE double exponential_minus_one(double x) { return expm1(x); }
FASTGAN_INLINE float hyperbolic_tangent(float x) { return tanhf(x); }
FASTGAN_INLINE double hyperbolic_tangent(double x) { return tanh(x); }
FASTGAN_INLINE float log_one_plus(float x) { return log1pf(x); }
FASTGAN_INLINE double log_one_plus(double x) { return log1p(x); }

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

// Storage type -> the scalar it is computed in.
template <class T>
struct Compute {
  using Scalar = float;
};
template <>
struct Compute<double> {
  using Scalar = double;
};
template <class T>
using Scalar = typename Compute<T>::Scalar;

// Elements of an access of 16 bytes.
template <class T>
constexpr int kWide = 16 / int(sizeof(T));

// W elements that are read and written at once; they lie at a multiple of their size.
template <class T, int W>
struct alignas(sizeof(T) * W) Pack {
  T values[W];
};

template <int W, class T>
FASTGAN_INLINE Pack<T, W> load(const void* base, int64_t at) {
  return *reinterpret_cast<const Pack<T, W>*>(static_cast<const T*>(base) + at);
}
template <class T, int W>
FASTGAN_INLINE void store(void* base, int64_t at, const Pack<T, W>& pack) {
  *reinterpret_cast<Pack<T, W>*>(static_cast<T*>(base) + at) = pack;
}

// A vector of one value a channel, or (step 0) of one for all, of any storage type; without data a constant.
struct Parameter {
  const void* data;
  int64_t step;
  Storage storage;
  double otherwise;

  template <class S>
  FASTGAN_INLINE S value(int64_t channel) const {
    if (data == nullptr) return S(otherwise);
    const int64_t at = channel * step;
    switch (storage) {
      case Storage::float32:
        return S(static_cast<const float*>(data)[at]);
      case Storage::float64:
        return S(static_cast<const double*>(data)[at]);
      case Storage::bfloat16:
        return S(static_cast<const BFloat16*>(data)[at]);
      default:
        return S(static_cast<const Half*>(data)[at]);
    }
  }
};

// The same to be written.
struct Written {
  void* data;
  int64_t step;
  Storage storage;

  FASTGAN_INLINE double value(int64_t channel) const {
    return Parameter{data, step, storage, 0}.value<double>(channel);
  }
  FASTGAN_INLINE void set(int64_t channel, double value) const {
    const int64_t at = channel * step;
    switch (storage) {
      case Storage::float32:
        static_cast<float*>(data)[at] = float(value);
        return;
      case Storage::float64:
        static_cast<double*>(data)[at] = value;
        return;
      case Storage::bfloat16:
        static_cast<BFloat16*>(data)[at] = BFloat16(float(value));
        return;
      case Storage::float16:
        static_cast<Half*>(data)[at] = Half(float(value));
        return;
    }
  }
};

inline bool is_aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

}  // namespace fastgan::FASTGAN_ISA
