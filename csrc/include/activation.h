// Activations and their derivatives, written once for both devices.
//
// V is a scalar on the GPU and a vector of lanes on the CPU. FASTGAN_ISA names the namespace of the device; it must
// hold, declared before this file is included,
//   broadcast<V>(number), select(condition, V, V), exponential(V), hyperbolic_tangent(V), and exponential_minus_one(V)
//   of numbers that are not positive: of others it may give anything
#pragma once

#include "act.h"
#include "device.h"

namespace fastgan::FASTGAN_ISA {

template <Act A>
struct ActConstant {
  static constexpr Act value = A;
};

// Calls call(ActConstant<the activation of that number>), which must be one of `among`, a set of bits.
template <unsigned among = ~0u, int A = 0, class Call>
FASTGAN_INLINE void with_activation(int act, const Call& call) {
  if constexpr (A < kActivations) {
    if constexpr ((among >> A & 1) != 0)
      if (act == A) return call(ActConstant<Act(A)>());
    with_activation<among, A + 1>(act, call);
  } else {
    __builtin_unreachable();
  }
}

// Comparisons are written so that a NaN passes through, as in PyTorch.
template <Act A, class V>
FASTGAN_INLINE V activation(V z, V slope) {
  const V zero = broadcast<V>(0), one = broadcast<V>(1);
  if constexpr (A == Act::none) {
    return z;
  } else if constexpr (A == Act::relu) {
    return select(z <= zero, zero, z);
  } else if constexpr (A == Act::leaky_relu || A == Act::prelu) {
    return select(z > zero, z, z * slope);
  } else if constexpr (A == Act::elu) {
    return select(z > zero, z, slope * exponential_minus_one(z));
  } else if constexpr (A == Act::tanh) {
    return hyperbolic_tangent(z);
  } else {
    return (A == Act::sigmoid ? one : z) / (one + exponential(-z));
  }
}

// d activation / dz, from z. At 0 each takes the side that PyTorch takes.
template <Act A, class V>
FASTGAN_INLINE V derivative(V z, V slope) {
  const V zero = broadcast<V>(0), one = broadcast<V>(1);
  if constexpr (A == Act::none) {
    return one;
  } else if constexpr (A == Act::relu) {
    return select(z <= zero, zero, one);
  } else if constexpr (A == Act::leaky_relu || A == Act::prelu) {
    return select(z > zero, one, slope);
  } else if constexpr (A == Act::elu) {
    return select(z > zero, one, slope * exponential(z));
  } else if constexpr (A == Act::tanh) {
    const V y = activation<Act::tanh>(z, slope);
    return one - y * y;
  } else {
    const V sigmoid = activation<Act::sigmoid>(z, slope);
    if constexpr (A == Act::sigmoid) return sigmoid * (one - sigmoid);
    return sigmoid * (one + z * (one - sigmoid));
  }
}

// The same from y = activation(z), for those of result_suffices and a slope >= 0.
template <Act A, class V>
FASTGAN_INLINE V derivative_from_result(V y, V slope) {
  static_assert(result_suffices(A));
  const V zero = broadcast<V>(0), one = broadcast<V>(1);
  if constexpr (A == Act::none) {
    return one;
  } else if constexpr (A == Act::relu) {
    return select(y <= zero, zero, one);
  } else if constexpr (A == Act::leaky_relu) {
    return select(y > zero, one, slope);
  } else if constexpr (A == Act::elu) {
    return select(y > zero, one, y + slope);
  } else if constexpr (A == Act::tanh) {
    return one - y * y;
  } else {
    return y * (one - y);
  }
}

}  // namespace fastgan::FASTGAN_ISA
