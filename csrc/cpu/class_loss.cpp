// The class_loss op on CPU tensors: puts the loss together from its kinds of rows.
#include "class_loss.h"

#include <limits>
#include <tuple>

#include "../include/class_rows.h"
#include "capability.h"
#include "loss.h"

namespace fastgan {
namespace {

ClassLossKernel kernel(const Tensor& x) {
  static const ClassLossKernel* const table = [] {
#if defined(__x86_64__)
    if (cpu_capability() == Capability::avx512) return avx512::class_loss_kernels;
    if (cpu_capability() == Capability::avx2) return avx2::class_loss_kernels;
#endif
    return baseline::class_loss_kernels;
  }();
  return table[int(storage_of(x))];
}

using Result = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

Result class_loss(const OptionalTensor& real, const OptionalTensor& real_labels, const OptionalTensor& unlabelled,
                  const OptionalTensor& fake, const OptionalTensor& fake_labels, bool generator) {
  const ClassCall call(real, real_labels, unlabelled, fake, fake_labels, generator, kCpu);
  const double unknown = std::numeric_limits<double>::quiet_NaN();
  double loss = 0, accuracy[3] = {unknown, unknown, unknown}, probability[3] = {unknown, unknown, unknown};
  for (int i = 0; i < 3; ++i) {
    const ClassRows& r = call.rows[i];
    if (r.x == nullptr) continue;
    const ClassSums sums = kernel(i == 0 ? *real : i == 1 ? *unlabelled : *fake)(r, parallel);
    const double rows = double(r.rows);
    if (call.factor[i] != 0) loss += call.factor[i] * sums.term / rows;
    if (r.labels != nullptr) accuracy[i] = sums.right / rows;
    probability[i] = sums.real / rows;
  }
  return {scalar_of(loss, call.float64),
          vector_of({accuracy[0], accuracy[2], probability[1], probability[2]}, call.float64), call.grads[0],
          call.grads[1], call.grads[2]};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastgan, CPU, m) { m.impl("class_loss", TORCH_BOX(&class_loss)); }

}  // namespace fastgan
