// Compiled once for every instruction set; see vec.h for what that forbids here.
//
// Two outputs along an axis, of r taps, are A^T ((G w) * (B^T x)) with r + 1 products instead of 2 r, and the same on
// both axes (Winograd, "Arithmetic complexity of computations", 1980; Lavin and Gray, "Fast algorithms for
// convolutional neural networks", 2016). A tile is 2x2 outputs. Over the channels the products are those of matrices,
// one for each of the (r + 1)^2 points.
//
// A strided convolution is the sum, over the places in the stride, of convolutions of stride 1 on every stride-th
// pixel: places are only addresses here, and so much more to sum over. The large map from the small one is such a
// convolution for each place of its own.
//
// Tiles go through the transforms, products and back in blocks that stay in the cache. Every result is a sum in an
// order given by the shape: independent of the number of threads and of the blocks.
#include "winograd.h"

#include "plan.h"

namespace fastgan::FASTGAN_ISA {
namespace {

using V = FloatVector;
constexpr int L = kLanes<float>;
constexpr int kVectors = kVectorBytes == 64 ? 4 : 2;  // of a panel: a matrix is stored in panels of so many columns
constexpr int kPanel = kVectors * L;
constexpr int kRows = 6;             // of a product in registers: with a panel's vectors, 24 or 12 sums
constexpr int64_t kMostTiles = 96;   // of a block
constexpr int64_t kSumTiles = 128;   // that the gradient of the weight sums in registers at a time
constexpr int64_t kSumRows = 256;    // of the gradient of the weight, of a task
constexpr int64_t kWeightRows = 16;  // transformed at a time

int64_t panels(int64_t columns) { return (columns + kPanel - 1) / kPanel; }
int64_t ceil_div(int64_t a, int64_t b) { return a >= 0 ? (a + b - 1) / b : -(-a / b); }

template <int R>
struct Transforms;
template <>
struct Transforms<2> {
  static constexpr float bt[3][3] = {{1, -1, 0}, {0, 1, 0}, {0, -1, 1}};
  static constexpr float g[3][2] = {{1, 0}, {1, 1}, {0, 1}};
  static constexpr float at[2][3] = {{1, 1, 0}, {0, 1, 1}};
};
template <>
struct Transforms<3> {
  static constexpr float bt[4][4] = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}};
  static constexpr float g[4][3] = {{1, 0, 0}, {.5f, .5f, .5f}, {.5f, -.5f, .5f}, {0, 0, 1}};
  static constexpr float at[2][4] = {{1, 1, 1, 0}, {0, 1, -1, -1}};
};

// out = m in m^T, or with the transposed matrix. The coefficients are known, and the loops unrolled.
template <bool Transposed, int M, int N, int A, int B>
FASTGAN_INLINE void transform(const float (&m)[A][B], const V (&in)[N][N], V (&out)[M][M]) {
  const auto sum = [&m](int row, const auto& term) FASTGAN_INLINE_LAMBDA {
    V total = {};
    bool first = true;
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) {
      const float c = Transposed ? m[i][row] : m[row][i];
      if (c == 0) continue;
      const V t = c == 1 ? term(i) : c == -1 ? -term(i) : term(i) * c;
      total = first ? t : total + t;
      first = false;
    }
    return total;
  };
  V half[M][N];
#pragma GCC unroll 4
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) half[i][j] = sum(i, [&](int k) { return in[k][j]; });
#pragma GCC unroll 4
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < M; ++j) out[i][j] = sum(j, [&](int k) { return half[i][k]; });
}
