// The class_loss op on CPU tensors: puts the loss together from its kinds of rows.
// Python has validated the arguments and speaks to the user; the checks here only keep memory safe.
#include "class_loss.h"

#include <limits>
#include <tuple>

#include "capability.h"
#include "loss.h"

namespace fastgan {
namespace {

constexpr int64_t kMostClasses = 1 << 24;  // counted in float

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

void check_labels(const Tensor& labels, int64_t rows, int64_t classes) {
  STD_TORCH_CHECK(labels.is_cpu() && labels.scalar_type() == ScalarType::Long && labels.dim() == 1 &&
                      labels.size(0) == rows && labels.is_contiguous(),
                  "fastgan: labels must be contiguous int64, one a row");
  const int64_t* const label = static_cast<const int64_t*>(labels.data_ptr());
  bool inside = true;
  for (int64_t i = 0; i < rows; ++i) inside &= label[i] >= 0 && label[i] < classes;
  STD_TORCH_CHECK(inside, "fastgan: a label is out of range");
}

using Result = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

Result class_loss(const OptionalTensor& real, const OptionalTensor& real_labels, const OptionalTensor& unlabelled,
                  const OptionalTensor& fake, const OptionalTensor& fake_labels, bool generator) {
  const OptionalTensor* const given[3] = {&real, &unlabelled, &fake};
  const OptionalTensor none;
  const OptionalTensor* const labels[3] = {&real_labels, &none, &fake_labels};
  const Tensor* some = nullptr;
  for (int i = 0; i < 3; ++i) {
    if (!*given[i]) continue;
    const Tensor& x = **given[i];
    if (some == nullptr) some = &x;
    STD_TORCH_CHECK(x.is_cpu() && x.dim() == 2 && x.numel() > 0 && x.is_contiguous() && x.size(1) <= kMostClasses &&
                        x.size(1) == some->size(1) && x.scalar_type() == some->scalar_type(),
                    "fastgan: class_loss needs filled contiguous tensors (rows, classes) of one dtype");
    if (*labels[i]) check_labels(**labels[i], x.size(0), x.size(1));
  }
  STD_TORCH_CHECK(some != nullptr, "fastgan: class_loss needs logits");
  STD_TORCH_CHECK(real.has_value() == real_labels.has_value() && (fake || (!fake_labels && !generator)) &&
                      !(unlabelled && fake_labels),
                  "fastgan: class_loss needs labels for its real rows, and rows for its labels");
  const bool float64 = is_double(*some), only_fake = generator && !fake_labels;
  const double unknown = std::numeric_limits<double>::quiet_NaN();
  double loss = 0, accuracy[3] = {unknown, unknown, unknown}, probability[3] = {unknown, unknown, unknown};
  Tensor grads[3] = {output({0}, float64, kCpu), output({0}, float64, kCpu), output({0}, float64, kCpu)};
  for (int i = 0; i < 3; ++i) {
    if (!*given[i]) continue;
    const Tensor& x = **given[i];
    const bool labelled = labels[i]->has_value(), counts = i == 2 || !only_fake;
    const double rows = double(x.size(0)), factor = labelled || generator ? 1 : 0.5;
    ClassRows r{x.size(0), x.size(1), x.data_ptr(), nullptr, i == 2 && !generator ? 0. : 1., nullptr, factor / rows};
    if (labelled) r.labels = static_cast<const int64_t*>((*labels[i])->data_ptr());
    if (counts) {
      grads[i] = output({x.size(0), x.size(1)}, float64, kCpu);
      r.grad = grads[i].data_ptr();
    }
    const ClassSums sums = kernel(x)(r, parallel);
    if (counts) loss += factor * sums.term / rows;
    if (labelled) accuracy[i] = sums.right / rows;
    probability[i] = sums.real / rows;
  }
  return {scalar_of(loss, float64), vector_of({accuracy[0], accuracy[2], probability[1], probability[2]}, float64),
          grads[0], grads[1], grads[2]};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastgan, CPU, m) { m.impl("class_loss", TORCH_BOX(&class_loss)); }

}  // namespace fastgan
