// The kernels of norm_act as plain functions, one table for each instruction set. Free of torch headers: see vec.h.
#pragma once

#include "kernel.h"

namespace fastgan {

// Parameters are in the compute type: double for float64 storage, else float.
struct NormAct {
  Shape shape;
  int act;
  const void* x;
  const void* grad_y;                       // backward only; laid out as x
  void* out;                                // y, or the gradient of x; laid out as x
  const void *mean, *scale;                 // [G, C]: z = (x - mean) scale + bias
  const void *bias, *slope;                 // [C]
  const void *grad_offset, *grad_inclined;  // [G, C]: dL/dx = g scale - offset - (x - mean) inclined, g = dL/dz
};

struct NormActKernels {
  // Mean and biased variance over each channel of each group, [G, C] each.
  void (*statistics)(const Shape&, const void* x, double* mean, double* var, Parallel);
  void (*forward)(const NormAct&, Parallel);
  // sums [3, G, C]: of g, of g (x - mean), and, for prelu, of grad_y z where z <= 0.
  void (*backward_sums)(const NormAct&, double* sums, Parallel);
  void (*backward)(const NormAct&, Parallel);
};

// Indexed by Storage.
namespace baseline {
extern const NormActKernels norm_act_kernels[4];
}
namespace avx2 {
extern const NormActKernels norm_act_kernels[4];
}
namespace avx512 {
extern const NormActKernels norm_act_kernels[4];
}

}  // namespace fastgan
