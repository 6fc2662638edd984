// What CPU ops need beside what both devices share: parameters in the compute type, threads.
#pragma once

#include "../include/tensor.h"
#include "kernel.h"

namespace fastgan {

// Writes `count` values of an optional vector in type S; an absent one is `otherwise`. `repeat`: one value may stand
// for all.
template <class S>
void copy_values(const OptionalTensor& t, int64_t count, S otherwise, S* out, bool repeat = false) {
  if (!t) {
    for (int64_t i = 0; i < count; ++i) out[i] = otherwise;
    return;
  }
  repeat = repeat && t->numel() == 1;
  STD_TORCH_CHECK(t->dim() == 1 && (repeat || t->numel() == count) && is_on(*t, kCpu),
                  "fastgan: a parameter must be a vector of one value a channel");
  const int64_t step = repeat ? 0 : t->strides()[0];
  with_elements(*t, [&](const auto* p) {
    for (int64_t i = 0; i < count; ++i) out[i] = S(p[i * step]);
  });
}

// Work below this many elements is not worth waking a thread for.
constexpr int64_t kSerialElements = 32768;

inline void parallel(int64_t tasks, int64_t elements, ParallelBody body, void* context) {
  if (tasks <= 1 || elements <= kSerialElements) return body(0, tasks, context);
  STABLE_TORCH_ERROR_CODE_CHECK(torch_parallel_for(0, tasks, 1, body, context));
}

}  // namespace fastgan
