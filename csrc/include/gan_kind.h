// The GAN losses that the fused op knows, by number.
#pragma once

namespace fastgan {

// The order of KINDS in fastgan/reference/gan_loss.py.
enum class GanKind : int {
  non_saturating,
  minimax,
  least_squares,
  hinge,
  wasserstein,
  relativistic,
  relativistic_average
};
constexpr int kGanKinds = 7;

enum class Term : int { cross_entropy, least_squares, hinge, linear };

}  // namespace fastgan
