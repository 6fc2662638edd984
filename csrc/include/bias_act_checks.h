// The checks of the bias_act ops, for both devices. Python has validated the arguments and speaks to the user; these
// only keep memory safe and numbers sane.
#pragma once

#include <limits>

#include "act.h"
#include "tensor.h"

namespace fastgan {

constexpr double kNoClamp = std::numeric_limits<double>::infinity();

inline void check_bias_act(const Tensor& x, const OptionalTensor& bias, const OptionalTensor& slope, int64_t act,
                           double gain, double clamp, const Device& device) {
  STD_TORCH_CHECK(act >= 0 && act < kActivations && (Act(act) == Act::prelu) == slope.has_value(),
                  "fastgan: unknown activation, or a slope without prelu");
  STD_TORCH_CHECK(gain > 0 && gain < kNoClamp && clamp > 0, "fastgan: gain and clamp must be positive");
  check_parameters(x, device, {&bias, &slope});
}

inline void check_from_result(const Tensor& grad_y, const OptionalTensor& y, int64_t act,
                              const std::optional<ScalarType>& bias_dtype, const Device& device) {
  if (y) check_same_layout(grad_y, *y, device);
  STD_TORCH_CHECK(act >= 0 && act < kActivations && result_suffices(Act(act)) && (y || Act(act) == Act::none),
                  "fastgan: the result does not have the derivative of that activation");
  STD_TORCH_CHECK(!bias_dtype || *bias_dtype == grad_y.scalar_type() || *bias_dtype == ScalarType::Float,
                  "fastgan: the bias must be float32 or have the dtype of x");
}

}  // namespace fastgan
