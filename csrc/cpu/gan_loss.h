// The kernel of gan_loss as a plain function, one for each storage type and instruction set. Free of torch headers.
#pragma once

#include "../include/gan_side.h"
#include "kernel.h"

namespace fastgan {

// Sums over the logits: the terms, what is logged of x and of -x, those on the right side.
struct GanSums {
  double term, logged, negated, right;
};

using GanLossKernel = GanSums (*)(const GanSide&, Parallel);

// Indexed by Storage.
namespace baseline {
extern const GanLossKernel gan_loss_kernels[4];
}
namespace avx2 {
extern const GanLossKernel gan_loss_kernels[4];
}
namespace avx512 {
extern const GanLossKernel gan_loss_kernels[4];
}

}  // namespace fastgan
