// Compiled once for every instruction set; see vec.h for what that forbids here.
//
// Two outputs along an axis, of r taps, are A^T ((G w) * (B^T x)) with r + 1 products instead of 2 r, and the same on
// both axes (Winograd, "Arithmetic complexity of computations", 1980; Lavin and Gray, "Fast algorithms for
// convolutional neural networks", 2016). A tile is 2x2 outputs. Over the channels the products are those of matrices,
// one for each of the (r + 1)^2 points.
//
// A strided convolution is the sum, over the places in the stride, of convolutions of stride 1 on every stride-th
// pixel: places are only addresses here, and so much more to sum over. The large map from the small one is such a
// convolution for each place of its own. One of stride 1 and a larger kernel is the sum over the parts of the kernel.
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
constexpr int kRows = 6;                             // of a product in registers: with a panel's vectors, 24 or 12 sums
constexpr int64_t kChain = larger(1, 256 / kPanel);  // panels summed in registers: a sum of sums is the more exact one
constexpr int64_t kMostTiles = 96;                   // of a block
constexpr int64_t kSumTiles = 64;                    // that the gradient of the weight sums in registers at a time
constexpr int64_t kSumRows = 128;                    // of the gradient of the weight, of a task, at most
constexpr int64_t kWeightRows = 16;                  // transformed at a time

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
  const auto sum = [&m](int row, const auto& term) __attribute__((always_inline)) {
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

// As `each`, in as many stretches as there are threads: body(thread, first, last).
template <class Body>
void each_stretch(Parallel parallel, int64_t threads, int64_t tasks, const Body& body) {
  each(parallel, threads, [&](int64_t i) { body(i, tasks * i / threads, tasks * (i + 1) / threads); });
}

// The first tap of a place on an axis.
int64_t first_tap(const Winograd& a, int64_t place) { return place * (a.places == a.stride ? 1 : a.taps); }

struct Map {
  float* data;
  int64_t images, height, width, channels;
};
Map large_map(const Winograd& a, const float* data) {
  return {const_cast<float*>(data), a.images, a.height, a.width, a.large};
}
Map small_map(const Winograd& a, const float* data) { return {const_cast<float*>(data), a.images, a.h, a.w, a.small}; }

// Every `step`-th pixel of a map from the first on, which may lie outside, cut into tiles of 2x2.
struct Tiles {
  int64_t step, y, x, rows, columns, count;
  Tiles(const Map& map, int64_t step, int64_t y, int64_t x, int64_t height, int64_t width)
      : step(step), y(y), x(x), rows((height + 1) / 2), columns((width + 1) / 2), count(map.images * rows * columns) {}
};

// The pixels of one tile, N x N of them; null outside the map.
template <int N>
struct Window {
  float* at[N][N];
  Window(const Map& map, const Tiles& tiles, int64_t tile) {
    const int64_t image = tile / (tiles.rows * tiles.columns);
    const int64_t y = tiles.y + tile / tiles.columns % tiles.rows * 2 * tiles.step;
    const int64_t x = tiles.x + tile % tiles.columns * 2 * tiles.step;
    for (int i = 0; i < N; ++i)
      for (int j = 0; j < N; ++j) {
        const int64_t row = y + i * tiles.step, column = x + j * tiles.step;
        const bool inside = row >= 0 && row < map.height && column >= 0 && column < map.width;
        at[i][j] = inside ? map.data + ((image * map.height + row) * map.width + column) * map.channels : nullptr;
      }
  }
  FASTGAN_INLINE V load(int i, int j, int64_t c, int lanes) const {
    return at[i][j] == nullptr ? V{} : FASTGAN_ISA::load(at[i][j] + c, lanes);
  }
  FASTGAN_INLINE void store(int i, int j, int64_t c, V v, int lanes) const {
    if (at[i][j] != nullptr) FASTGAN_ISA::store(at[i][j] + c, v, lanes);
  }
};

// Matrices of the points, one a point: rows are tiles, columns channels, in panels.
struct Points {
  float* data;
  int64_t point, panel;  // steps
  FASTGAN_INLINE float* at(int64_t p, int64_t row, int64_t column) const {
    return data + p * point + column / kPanel * panel + row * kPanel + column % kPanel;
  }
};
Points points(float* data, int64_t rows, int64_t columns) {
  // A panel's row more: steps of a power of two would share few sets of the cache.
  return {data, (panels(columns) * rows + 1) * kPanel, rows * kPanel};
}

// Windows of N x N pixels of so many tiles and channels from some on, each through one of the transforms. Columns up to
// the end of a panel become zero.
template <int N, int P, bool Transposed, class M>
void into_points(const M& matrix, const Map& map, const Tiles& tiles, int64_t first, int64_t count, int64_t channel,
                 int64_t channels, const Points& out) {
  for (int64_t t = 0; t < count; ++t) {
    const Window<N> window(map, tiles, first + t);
    for (int64_t c = 0; c < panels(channels) * kPanel; c += L) {
      const int lanes = int(larger(0, smaller(L, channels - c)));
      V in[N][N], transformed[P][P];
#pragma GCC unroll 4
      for (int i = 0; i < N; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < N; ++j) in[i][j] = lanes == 0 ? V{} : window.load(i, j, channel + c, lanes);
      transform<Transposed>(matrix, in, transformed);
#pragma GCC unroll 4
      for (int i = 0; i < P; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < P; ++j) store(out.at(i * P + j, t, c), transformed[i][j]);
    }
  }
}

// Products of so many tiles back to pixels, plus the bias.
template <int R>
void from_points(const Points& in, const Map& map, const Tiles& tiles, int64_t first, int64_t count,
                 const float* bias) {
  for (int64_t t = 0; t < count; ++t) {
    const Window<2> window(map, tiles, first + t);
    for (int64_t c = 0; c < map.channels; c += L) {
      const int lanes = int(smaller(L, map.channels - c));
      V products[R + 1][R + 1], result[2][2];
#pragma GCC unroll 4
      for (int i = 0; i <= R; ++i)
#pragma GCC unroll 4
        for (int j = 0; j <= R; ++j) products[i][j] = load(in.at(i * (R + 1) + j, t, c));
      transform<false>(Transforms<R>::at, products, result);
      const V shift = bias == nullptr ? V{} : load(bias + c, lanes);
      for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 2; ++j) window.store(i, j, c, result[i][j] + shift, lanes);
    }
  }
}

// sum += a b, b a panel of so many rows, a of Rows rows with these steps.
template <int Rows>
FASTGAN_INLINE void multiply(const float* __restrict a, int64_t row, int64_t column, const float* __restrict b,
                             int64_t depth, V (&sum)[Rows][kVectors]) {
  for (int64_t k = 0; k < depth; ++k) {
    V right[kVectors];
#pragma GCC unroll 4
    for (int n = 0; n < kVectors; ++n) {
      right[n] = load(b + k * kPanel + n * L);
      __builtin_prefetch(b + (k + 8) * kPanel + n * L);
    }
#pragma GCC unroll 6
    for (int r = 0; r < Rows; ++r) {
      const V left = a[r * row + k * column] - V{};  // not + V{}, which makes 0 of -0: an addition more
#pragma GCC unroll 4
      for (int n = 0; n < kVectors; ++n) sum[r][n] += left * right[n];
    }
  }
}

template <class Body>
FASTGAN_INLINE void with_rows(int64_t rows, const Body& body) {
  switch (rows) {
    case 1:
      return body(Count<1>());
    case 2:
      return body(Count<2>());
    case 3:
      return body(Count<3>());
    case 4:
      return body(Count<4>());
    case 5:
      return body(Count<5>());
    default:
      return body(Count<kRows>());
  }
}

// The transformed weight [places or 1, points, panels of its columns, rows, kPanel]. Of a correlation the places are
// more rows, and the columns are channels of the small map; of a spread the taps come in reverse order.
struct Weight {
  float* data;
  int64_t rows, columns, row, column;  // and the steps of both in the weight itself
  int64_t place, point, panel;         // steps
  bool correlate;

  Weight(const Winograd& a, bool correlate) : data(a.transformed), correlate(correlate) {
    rows = correlate ? a.large : a.small;
    columns = correlate ? a.small : a.large;
    row = correlate ? a.step_large : a.step_small;
    column = correlate ? a.step_small : a.step_large;
    const int64_t places = a.places * a.places, points = (a.taps + 1) * (a.taps + 1);
    panel = (correlate ? places : 1) * rows * kPanel;
    point = panels(columns) * panel + kPanel;
    place = correlate ? rows * kPanel : points * point;
  }
};

template <int R>
void transform_weight(const Winograd& a, const Weight& w, Parallel parallel) {
  constexpr int P = R + 1;
  const int64_t chunks = ceil_div(w.rows, kWeightRows), columns = panels(w.columns);
  each(parallel, a.places * a.places * columns * chunks, [&](int64_t task) {
    const int64_t place = task / chunks / columns, n = task / chunks % columns, k = task % chunks * kWeightRows;
    const int64_t down = first_tap(a, place / a.places), across = first_tap(a, place % a.places);
    const int64_t count = smaller(kWeightRows, w.rows - k), wide = smaller(kPanel, w.columns - n * kPanel);
    float taps[R][R][kWeightRows][kPanel] = {};
    for (int i = 0; i < R; ++i)
      for (int j = 0; j < R; ++j) {
        const int64_t y = a.stride * (w.correlate ? i : R - 1 - i), x = a.stride * (w.correlate ? j : R - 1 - j);
        const float* const from =
            a.weight + (down + y) * a.step_row + (across + x) * a.step_column + k * w.row + n * kPanel * w.column;
        for (int64_t c = 0; c < wide; ++c) {
          __builtin_prefetch(from + (c + 12) * w.column);
          for (int64_t r = 0; r < count; ++r) taps[i][j][r][c] = from[r * w.row + c * w.column];
        }
      }
    float* const to = w.data + place * w.place + n * w.panel + k * kPanel;
    for (int64_t r = 0; r < count; ++r)
      for (int64_t c = 0; c < kPanel; c += L) {
        V in[R][R], out[P][P];
        for (int i = 0; i < R; ++i)
          for (int j = 0; j < R; ++j) in[i][j] = load(&taps[i][j][r][c]);
        transform<false>(Transforms<R>::g, in, out);
        for (int i = 0; i < P; ++i)
          for (int j = 0; j < P; ++j) store(to + (i * P + j) * w.point + r * kPanel + c, out[i][j]);
      }
  });
}

// A block of tiles times the transformed weight: `places` groups of w.rows columns, each in panels of its own.
template <int R>
void multiply_points(const Points& left, const Weight& w, const float* weight, int64_t places, int64_t tiles,
                     const Points& out) {
  const int64_t place_panels = panels(w.rows);
  for (int64_t p = 0; p < (R + 1) * (R + 1); ++p)
    for (int64_t n = 0; n < panels(w.columns); ++n)
      for (int64_t t = 0; t < tiles; t += kRows)
        with_rows(smaller(kRows, tiles - t), [&](auto rows) {
          const float* right = weight + p * w.point + n * w.panel;
          for (int64_t k = 0; k < places * place_panels;) {
            const bool first = k == 0;
            V sum[rows.value][kVectors] = {};
            for (const int64_t end = smaller(k + kChain, places * place_panels); k < end; ++k) {
              const int64_t depth = smaller(kPanel, w.rows - k % place_panels * kPanel);
              multiply<rows.value>(left.at(p, t, k * kPanel), kPanel, 1, right, depth, sum);
              right += depth * kPanel;
            }
            for (int r = 0; r < rows.value; ++r)
              for (int v = 0; v < kVectors; ++v) {
                float* const to = out.at(p, t + r, n * kPanel + v * L);
                store(to, first ? sum[r][v] : load(to) + sum[r][v]);
              }
          }
        });
}

// Tiles of a block, of which there are `places` times so many, so that all threads have work.
int64_t block_of(int64_t tiles, int64_t places, int64_t threads) {
  const int64_t blocks = ceil_div(ceil_div(ceil_div(tiles, kMostTiles) * places, threads) * threads, places);
  return ceil_div(ceil_div(tiles, blocks), kRows) * kRows;
}

int64_t block_of(const Winograd& a, bool correlate) {
  if (correlate) return block_of(a.images * ((a.h + 1) / 2) * ((a.w + 1) / 2), 1, a.threads);
  const int64_t height = ceil_div(a.height, a.stride), width = ceil_div(a.width, a.stride);
  return block_of(a.images * ((height + 1) / 2) * ((width + 1) / 2), a.stride * a.stride, a.threads);
}

// floats of the scratch of a thread
int64_t block_floats(const Winograd& a, bool correlate) {
  const int64_t points = (a.taps + 1) * (a.taps + 1), places = correlate ? a.places * a.places : 1;
  const int64_t left = places * panels(correlate ? a.large : a.small), right = panels(correlate ? a.small : a.large);
  return points * ((left + right) * block_of(a, correlate) + 2) * kPanel;
}

template <int R>
void correlate(const Winograd& a, Parallel parallel) {
  const Weight weight(a, true);
  transform_weight<R>(a, weight, parallel);
  const int64_t places = a.places * a.places;
  const Map from = large_map(a, a.large_map), to = small_map(a, a.out);
  const Tiles results(to, 1, 0, 0, a.h, a.w);
  const int64_t block = block_of(a, true), each_place = panels(a.large) * kPanel;
  each_stretch(parallel, a.threads, ceil_div(results.count, block), [&](int64_t thread, int64_t begin, int64_t end) {
    float* const scratch = a.scratch + thread * block_floats(a, true);
    const Points left = points(scratch, block, places * each_place);
    const Points right = points(scratch + (R + 1) * (R + 1) * left.point, block, a.small);
    for (int64_t first = begin * block; first < smaller(end * block, results.count); first += block) {
      const int64_t count = smaller(block, results.count - first);
      for (int64_t place = 0; place < places; ++place) {
        const int64_t y = first_tap(a, place / a.places), x = first_tap(a, place % a.places);
        const Tiles tiles(from, a.stride, y - a.padding_h, x - a.padding_w, a.h, a.w);
        Points mine = left;
        mine.data = left.at(0, 0, place * each_place);
        into_points<R + 1, R + 1, false>(Transforms<R>::bt, from, tiles, first, count, 0, a.large, mine);
      }
      multiply_points<R>(left, weight, weight.data, places, count, right);
      from_points<R>(right, to, results, first, count, a.bias);
    }
  });
}

// The pixels of the large map at one place in the stride, and the small map's that the first of them meets.
struct Place {
  int64_t first, start, count;
  Place(int64_t place, int64_t stride, int64_t taps, int64_t padding, int64_t size) {
    const int64_t index = ceil_div(padding - place, stride);
    first = index * stride + place - padding;
    start = index - (taps - 1);
    count = first < size ? (size - first - 1) / stride + 1 : 0;
  }
};

template <int R>
void spread(const Winograd& a, Parallel parallel) {
  const Weight weight(a, false);
  transform_weight<R>(a, weight, parallel);
  const int64_t places = a.stride * a.stride;
  const Map from = small_map(a, a.small_map), to = large_map(a, a.out);
  const Tiles most(to, 1, 0, 0, ceil_div(a.height, a.stride), ceil_div(a.width, a.stride));
  const int64_t block = block_of(a, false), blocks = ceil_div(most.count, block);
  each_stretch(parallel, a.threads, places * blocks, [&](int64_t thread, int64_t begin, int64_t end) {
    float* const scratch = a.scratch + thread * block_floats(a, false);
    const Points left = points(scratch, block, a.small);
    const Points right = points(scratch + (R + 1) * (R + 1) * left.point, block, a.large);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t place = task / blocks, first = task % blocks * block;
      const Place down(place / a.stride, a.stride, R, a.padding_h, a.height);
      const Place across(place % a.stride, a.stride, R, a.padding_w, a.width);
      const Tiles tiles(from, 1, down.start, across.start, down.count, across.count);
      const Tiles results(to, a.stride, down.first, across.first, down.count, across.count);
      const int64_t count = smaller(block, tiles.count - first);
      if (count <= 0) continue;
      into_points<R + 1, R + 1, false>(Transforms<R>::bt, from, tiles, first, count, 0, a.small, left);
      multiply_points<R>(left, weight, weight.data + place * weight.place, 1, count, right);
      from_points<R>(right, to, results, first, count, a.bias);
    }
  });
}

// Channels of the small map of a task, fewer where there are not enough tasks otherwise.
int64_t rows_of(const Winograd& a) {
  const int64_t least = 4 * kRows, parts = ceil_div(a.threads, a.places * a.places * panels(a.large));
  return smaller(kSumRows, larger(least, ceil_div(a.small, parts)));
}

int64_t gradient_floats(const Winograd& a) {
  return (a.taps + 1) * (a.taps + 1) * (kSumTiles + 1 + panels(kSumRows) * (kSumTiles + kPanel) + 2) * kPanel;
}

template <int R>
void weight_gradient(const Winograd& a, Parallel parallel) {
  constexpr int P = R + 1;
  const int64_t places = a.places * a.places, kernel = a.places * R;
  const Map small = small_map(a, a.small_map), large = large_map(a, a.large_map);
  const Tiles gradients(small, 1, 0, 0, a.h, a.w);
  const int64_t most = rows_of(a), blocks = ceil_div(a.small, most), columns = panels(a.large);
  each_stretch(parallel, a.threads, places * columns * blocks, [&](int64_t thread, int64_t begin, int64_t end) {
    float* const scratch = a.scratch + thread * gradient_floats(a);
    const Points right = points(scratch, kSumTiles, kPanel);
    const Points left = points(scratch + P * P * right.point, kSumTiles, kSumRows);
    const Points total = points(scratch + P * P * (right.point + left.point), kSumRows, kPanel);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t place = task / blocks / columns, channel = task / blocks % columns * kPanel;
      const int64_t row = task % blocks * most, rows = smaller(most, a.small - row);
      const int64_t channels = smaller(kPanel, a.large - channel);
      const int64_t y = first_tap(a, place / a.places), x = first_tap(a, place % a.places);
      const Tiles tiles(large, a.stride, y - a.padding_h, x - a.padding_w, a.h, a.w);
      for (int64_t first = 0; first < tiles.count; first += kSumTiles) {
        const int64_t count = smaller(kSumTiles, tiles.count - first);
        into_points<P, P, false>(Transforms<R>::bt, large, tiles, first, count, channel, channels, right);
        into_points<2, P, true>(Transforms<R>::at, small, gradients, first, count, row, rows, left);
        for (int64_t p = 0; p < P * P; ++p)
          for (int64_t r = 0, next; r < rows; r = next) {
            next = smaller(r + kRows, smaller(rows, (r / kPanel + 1) * kPanel));
            with_rows(next - r, [&](auto wide) {
              V sum[wide.value][kVectors] = {};
              multiply<wide.value>(left.at(p, 0, r), 1, kPanel, right.at(p, 0, 0), count, sum);
              for (int i = 0; i < wide.value; ++i)
                for (int v = 0; v < kVectors; ++v) {
                  float* const to = total.at(p, r + i, v * L);
                  store(to, first == 0 ? sum[i][v] : load(to) + sum[i][v]);
                }
            });
          }
      }
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < channels; c += L) {
          V sums[P][P], taps[R][R];
          for (int i = 0; i < P; ++i)
            for (int j = 0; j < P; ++j) sums[i][j] = load(total.at(i * P + j, r, c));
          transform<true>(Transforms<R>::g, sums, taps);
          for (int i = 0; i < R; ++i)
            for (int j = 0; j < R; ++j) {
              const int64_t tap = ((row + r) * kernel + y + i * a.stride) * kernel + x + j * a.stride;
              store(a.out + tap * a.large + channel + c, taps[i][j], int(smaller(L, channels - c)));
            }
        }
    }
  });
}

}  // namespace

extern const WinogradKernels winograd_kernels = {
    [](const Winograd& a, Parallel p) { a.taps == 2 ? correlate<2>(a, p) : correlate<3>(a, p); },
    [](const Winograd& a, Parallel p) { a.taps == 2 ? spread<2>(a, p) : spread<3>(a, p); },
    [](const Winograd& a, Parallel p) { a.taps == 2 ? weight_gradient<2>(a, p) : weight_gradient<3>(a, p); },
    [](const Winograd& a, bool correlate) {
      const Weight w(a, correlate);
      return correlate ? w.point * (a.taps + 1) * (a.taps + 1) : w.place * a.places * a.places;
    },
    [](const Winograd& a, bool correlate) { return block_floats(a, correlate); },
    [](const Winograd& a) { return gradient_floats(a); },
};

}  // namespace fastgan::FASTGAN_ISA
