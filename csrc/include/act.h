// The activations that the fused ops know, by number.
#pragma once

namespace fastgan {

// The order of ACTIVATIONS in fastgan/reference/activation.py.
enum class Act : int { none, relu, leaky_relu, prelu, elu, tanh, sigmoid, silu };
constexpr int kActivations = 8;

}  // namespace fastgan
