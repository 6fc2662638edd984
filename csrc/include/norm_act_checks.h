// The checks of the norm_act ops, for both devices. Python has validated the arguments and speaks to the user; these
// only keep memory safe.
#pragma once

#include "act.h"
#include "tensor.h"

namespace fastgan {

inline void check_activation(int64_t act) {
  STD_TORCH_CHECK(act >= 0 && act < kActivations, "fastgan: unknown activation");
}

inline void check_statistics(const Tensor& statistics, const Tensor& x, const Shape& shape, const Device& device) {
  STD_TORCH_CHECK(statistics.numel() == 2 * shape.groups * shape.channels && statistics.is_contiguous() &&
                      is_on(statistics, device) &&
                      statistics.scalar_type() == (is_double(x) ? ScalarType::Double : ScalarType::Float),
                  "fastgan: statistics must be [2, groups, channels]");
}

inline void check_means(const Tensor& means, const Shape& shape, const Device& device) {
  STD_TORCH_CHECK(means.numel() == 3 * shape.groups * shape.channels && means.is_contiguous() && is_double(means) &&
                      is_on(means, device),
                  "fastgan: means must be float64 [3, groups, channels]");
}

inline void check_running(const Tensor& running, const Shape& shape) {
  STD_TORCH_CHECK(running.numel() == shape.channels && (running.strides()[0] != 0 || shape.channels == 1),
                  "fastgan: running statistics must have one value a channel, each in memory of its own");
}

// Of the whole op. groups = 0 takes the running statistics.
inline Shape check_norm_act(const Tensor& x, const OptionalTensor& weight, const OptionalTensor& bias,
                            const OptionalTensor& slope, const OptionalTensor& running_mean,
                            const OptionalTensor& running_var, int64_t groups, double momentum, double eps, int64_t act,
                            const Device& device) {
  const bool training = groups > 0;
  const Shape shape = shape_of(x, training ? groups : 1);
  check_parameters(x, device, {&weight, &bias, &running_mean, &running_var});
  check_parameters(x, device, {&slope});
  check_activation(act);
  STD_TORCH_CHECK(eps >= 0 && momentum >= 0 && momentum <= 1, "fastgan: eps or momentum out of range");
  STD_TORCH_CHECK(running_mean.has_value() == running_var.has_value(), "fastgan: one of two running statistics");
  STD_TORCH_CHECK(!training || shape.batch * shape.space > 1, "fastgan: one value per channel when training");
  STD_TORCH_CHECK(training || running_mean, "fastgan: evaluation needs running statistics");
  for (const OptionalTensor* running : {&running_mean, &running_var})
    if (training && *running) check_running(**running, shape);
  return shape;
}

}  // namespace fastgan
