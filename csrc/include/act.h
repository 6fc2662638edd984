// The activations that the fused ops know, by number.
#pragma once

#include "device.h"

namespace fastgan {

// The order of ACTIVATIONS in fastgan/reference/activation.py.
enum class Act : int { none, relu, leaky_relu, prelu, elu, tanh, sigmoid, silu };
constexpr int kActivations = 8;

// Whether the derivative can be had from the result alone: it can where the slope is not negative.
FASTGAN_INLINE constexpr bool result_suffices(Act act) { return act != Act::prelu && act != Act::silu; }

}  // namespace fastgan
