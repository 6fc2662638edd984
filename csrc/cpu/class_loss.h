// The kernel of class_loss as a plain function, one for each storage type and instruction set. Free of torch headers.
#pragma once

#include "kernel.h"

namespace fastgan {

// Rows of class logits that share a term of the loss. Arithmetic is in S: double for float64 storage, else float.
struct ClassRows {
  int64_t rows, classes;
  const void* x;          // [rows, classes], without gaps
  const int64_t* labels;  // [rows], each in [0, classes); the term is then Z - x[label], with Z = logsumexp(row)
  double target;          // where `labels` is null: 1 for sp(-Z), 0 for sp(Z)
  void* grad;             // or null: scale * derivative of the term, [rows, classes] of S
  double scale;
};

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
