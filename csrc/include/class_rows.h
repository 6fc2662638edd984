// A call of class_loss made ready for the kernels of either device: its checks, its kinds of rows, its gradients.
// Python has validated the arguments and speaks to the user; the checks here only keep memory safe.
#pragma once

#include "class_row.h"
#include "tensor.h"

namespace fastgan {

// A GPU's kernel checks the values of labels itself.
inline void check_labels(const Tensor& labels, int64_t rows, int64_t classes, const Device& device) {
  STD_TORCH_CHECK(is_on(labels, device) && labels.scalar_type() == ScalarType::Long && labels.dim() == 1 &&
                      labels.size(0) == rows && labels.is_contiguous(),
                  "fastgan: labels must be contiguous int64, one a row");
  if (device.type != kCpu.type) return;
  const int64_t* const label = static_cast<const int64_t*>(labels.data_ptr());
  bool inside = true;
  for (int64_t i = 0; i < rows; ++i) inside &= label[i] >= 0 && label[i] < classes;
  STD_TORCH_CHECK(inside, "fastgan: a label is out of range");
}

struct ClassCall {
  ClassRows rows[3];  // real, unlabelled, fake; none where there are no such rows
  double factor[3];   // of the mean of their terms in the loss; 0 for those that are there for their means alone
  Tensor grads[3];    // in the type of the arithmetic; empty where there is none
  bool float64;

  ClassCall(const OptionalTensor& real, const OptionalTensor& real_labels, const OptionalTensor& unlabelled,
            const OptionalTensor& fake, const OptionalTensor& fake_labels, bool generator, const Device& device)
      : rows{},
        factor{},
        grads{output({0}, double_of(real, unlabelled, fake), device),
              output({0}, double_of(real, unlabelled, fake), device),
              output({0}, double_of(real, unlabelled, fake), device)},
        float64(double_of(real, unlabelled, fake)) {
    constexpr int64_t kMostClasses = 1 << 24;  // counted in float
    const OptionalTensor none;
    const OptionalTensor* const given[3] = {&real, &unlabelled, &fake};
    const OptionalTensor* const labels[3] = {&real_labels, &none, &fake_labels};
    const Tensor* some = nullptr;
    for (int i = 0; i < 3; ++i) {
      if (!*given[i]) continue;
      const Tensor& x = **given[i];
      if (some == nullptr) some = &x;
      STD_TORCH_CHECK(is_on(x, device) && x.dim() == 2 && x.numel() > 0 && x.is_contiguous() &&
                          x.size(1) <= kMostClasses && x.size(1) == some->size(1) &&
                          x.scalar_type() == some->scalar_type(),
                      "fastgan: class_loss needs filled contiguous tensors (rows, classes) of one dtype and device");
      if (*labels[i]) check_labels(**labels[i], x.size(0), x.size(1), device);
    }
    STD_TORCH_CHECK(real.has_value() == real_labels.has_value() && (fake || (!fake_labels && !generator)) &&
                        !(unlabelled && fake_labels),
                    "fastgan: class_loss needs labels for its real rows, and rows for its labels");
    const bool only_fake = generator && !fake_labels;
    for (int i = 0; i < 3; ++i) {
      if (!*given[i]) continue;
      const Tensor& x = **given[i];
      const bool labelled = labels[i]->has_value();
      ClassRows& r = rows[i];
      r.rows = x.size(0);
      r.classes = x.size(1);
      r.x = x.data_ptr();
      if (labelled) r.labels = static_cast<const int64_t*>((*labels[i])->data_ptr());
      r.target = i == 2 && !generator ? 0 : 1;
      const double share = labelled || generator ? 1 : 0.5;
      r.scale = share / double(r.rows);
      if (i != 2 && only_fake) continue;
      factor[i] = share;
      grads[i] = output({r.rows, r.classes}, float64, device);
      r.grad = grads[i].data_ptr();
    }
  }

 private:
  static bool double_of(const OptionalTensor& real, const OptionalTensor& unlabelled, const OptionalTensor& fake) {
    STD_TORCH_CHECK(real || unlabelled || fake, "fastgan: class_loss needs logits");
    return is_double(real ? *real : unlabelled ? *unlabelled : *fake);
  }
};

}  // namespace fastgan
