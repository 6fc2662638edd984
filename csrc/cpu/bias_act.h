// The kernels of bias_act as plain functions, one table for each instruction set. Free of torch headers: see vec.h.
#pragma once

#include "kernel.h"

namespace fastgan {

// y = clamp(activation(x + bias) * gain, -clamp, clamp). Parameters are in the compute type: double for float64
// storage, else float.
struct BiasAct {
  Shape shape;  // of one group
  int act;
  const void* kept;          // x, or y where the derivative comes from the result; null where it needs neither
  const void* grad_y;        // backward only; laid out as kept
  void* out;                 // y, or the gradient of x; laid out as kept. Null: not wanted (backward of act none)
  const void *bias, *slope;  // [C]
  double gain, clamp;        // clamp infinite: none
};

struct BiasActKernels {
  void (*forward)(const BiasAct&, Parallel);
  // sums [2, C]: of dL/dz, z = x + bias, and, for prelu, of what the slope receives. Null: not wanted.
  void (*backward)(const BiasAct&, double* sums, Parallel);              // kept is x
  void (*backward_from_result)(const BiasAct&, double* sums, Parallel);  // kept is y, gain 1 or it is as good, no clamp
};

// Indexed by Storage.
namespace baseline {
extern const BiasActKernels bias_act_kernels[4];
}
namespace avx2 {
extern const BiasActKernels bias_act_kernels[4];
}
namespace avx512 {
extern const BiasActKernels bias_act_kernels[4];
}

}  // namespace fastgan
