// The kernel of class_loss as a plain function, one for each storage type and instruction set. Free of torch headers.
#pragma once

#include "../include/class_row.h"
#include "kernel.h"

namespace fastgan {

// Sums over the rows: the terms, sigmoid(Z), how many have their largest logit (the first of them) at their label.
struct ClassSums {
  double term, real, right;
};

using ClassLossKernel = ClassSums (*)(const ClassRows&, Parallel);

// Indexed by Storage.
namespace baseline {
extern const ClassLossKernel class_loss_kernels[4];
}
namespace avx2 {
extern const ClassLossKernel class_loss_kernels[4];
}
namespace avx512 {
extern const ClassLossKernel class_loss_kernels[4];
}

}  // namespace fastgan
