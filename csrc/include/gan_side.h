// One side of a GAN loss as its kernels see it. Free of torch headers.
#pragma once

#include <stdint.h>

namespace fastgan {

// How the labels of a discriminator are disturbed, in this order.
struct Labels {
  double flips = 0;      // probability that 1 and 0 change places
  double smoothing = 0;  // 1 becomes 1 - smoothing
  double noise = 0;      // +- this much
};

// One side of a loss: the real logits or the fake ones. Arithmetic is in S: double for float64 storage, else float.
struct GanSide {
  int term;             // a Term
  bool real;            // the right side of a real logit is above the threshold, of a fake one below
  int64_t count;        // of logits, which lie without gaps
  const void* x;        // the logits
  const void* against;  // or null: other logits. Each x is compared with its own, so that x - against counts.
  double shift;         // subtracted as well
  double target;        // of all logits, where `random` is null
  double threshold;
  // Uniform in [0, 1): `count` for the flips, and as many for the noise from `noise` on.
  const float *random, *noise;
  Labels labels;
  // Or null: scale * derivative of the term + offset, [count] of S; grad_against gets the negative of it.
  void *grad, *grad_against;
  double scale, offset;
};

}  // namespace fastgan
