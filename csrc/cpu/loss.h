// What the loss ops share: results made of a few numbers.
#pragma once

#include "tensor.h"

namespace fastgan {

// A new tensor that holds these numbers: a vector, or a scalar.
inline Tensor vector_of(std::initializer_list<double> values, bool float64) {
  const Tensor t = output({int64_t(values.size())}, float64, kCpu);
  with_elements(t, [&](auto* p) {
    for (double value : values) *p++ = std::remove_reference_t<decltype(*p)>(value);
  });
  return t;
}
inline Tensor scalar_of(double value, bool float64) {
  const Tensor t = output({}, float64, kCpu);
  with_elements(t, [&](auto* p) { *p = std::remove_reference_t<decltype(*p)>(value); });
  return t;
}

}  // namespace fastgan
