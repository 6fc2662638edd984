// One kind of rows of a class loss as its kernels see them. Free of torch headers.
#pragma once

#include <stdint.h>

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

}  // namespace fastgan
