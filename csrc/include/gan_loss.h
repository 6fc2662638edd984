// The terms of the GAN losses and their derivatives, written once for both devices.
//
// V is a scalar on the GPU and a vector of lanes on the CPU. FASTGAN_ISA names the namespace of the device; it must
// hold, declared before this file is included,
//   broadcast<V>(number), select(condition, V, V), exponential(V), log_one_plus(V)
#pragma once

#include "device.h"
#include "gan_kind.h"

namespace fastgan::FASTGAN_ISA {

// A term of the loss of one logit x whose target is t (1: real, 0: fake), its derivative with respect to x, and what is
// logged of x: sigmoid(x) and sigmoid(-x) for the cross entropy, x and -x for the others.
template <class V>
struct Evaluated {
  V term, derivative, logged, negated;
};

// w y, and 0 where w is 0: the share of a loss that a label leaves out is not NaN when that loss is infinite.
template <class V>
FASTGAN_INLINE V weighted(V w, V y) {
  return select(w == broadcast<V>(0), broadcast<V>(0), w * y);
}

// t sp(-x) + (1 - t) sp(x), where sp(x) = max(x, 0) + log(1 + e) and e = exp(-|x|) serves the sigmoids as well.
template <class V>
FASTGAN_INLINE Evaluated<V> cross_entropy(V x, V t, V e) {
  const V one = broadcast<V>(1), rest = one - t;
  const auto positive = x > broadcast<V>(0);
  const V large = one / (one + e), small = e * large;  // sigmoid(|x|), sigmoid(-|x|)
  return {weighted(select(positive, rest, -t), x) + log_one_plus(e), select(positive, rest - small, small - t),
          select(positive, large, small), select(positive, small, large)};
}

// Comparisons are written so that a NaN passes through, as in PyTorch.
template <Term T, class V>
FASTGAN_INLINE Evaluated<V> evaluate(V x, V t) {
  const V zero = broadcast<V>(0), one = broadcast<V>(1), rest = one - t;
  if constexpr (T == Term::cross_entropy) {
    return cross_entropy(x, t, exponential(select(x > zero, -x, x)));
  } else if constexpr (T == Term::least_squares) {
    const V d = x - t;
    return {broadcast<V>(0.5) * d * d, d, x, -x};
  } else if constexpr (T == Term::hinge) {
    const V as_real = one - x, as_fake = one + x;
    return {
        weighted(t, select(as_real <= zero, zero, as_real)) + weighted(rest, select(as_fake <= zero, zero, as_fake)),
        select(as_fake <= zero, zero, rest) - select(as_real <= zero, zero, t), x, -x};
  } else {
    const V slope = rest - t;
    return {slope * x, slope, x, -x};
  }
}

// The target of one sample. `real`: whether it is a real one; `flip` and `shift`: uniform in [0, 1).
template <class V, class L>
FASTGAN_INLINE V target(bool real, V flip, V shift, const L& labels) {
  const V is_real = broadcast<V>(1 - labels.smoothing), is_fake = broadcast<V>(0);
  const V t = select(flip < broadcast<V>(labels.flips), real ? is_fake : is_real, real ? is_real : is_fake);
  return t + broadcast<V>(labels.noise) * (broadcast<V>(2) * shift - broadcast<V>(1));
}

}  // namespace fastgan::FASTGAN_ISA
