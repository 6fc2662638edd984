// Compiled once for every instruction set; see vec.h for what that forbids here, and plan.h for the order of sums.
//
// Variances are taken about a pivot, a mean of a few values of the task, and merged with the formula of Chan, Golub
// and LeVeque (1979): a large mean costs no accuracy.
#include "norm_act.h"

#include "plan.h"

namespace fastgan::FASTGAN_ISA {
namespace {

constexpr int kPivotValues = 16;

template <class T>
struct Kernels {
  using S = typename Compute<T>::Scalar;
  using V = typename Compute<T>::Vector;
  static constexpr int L = kLanes<T>;

  // Sums of d = x - pivot and of d^2 of the task's rows, into sum and square ([C], zero before).
  static void row_statistics(const T* x, int64_t rows, int64_t channels, S* pivot, double* sum, double* square) {
    const int64_t picked = smaller(rows, kPivotValues);
    over_columns<T>(channels, [&](int64_t c, auto columns, int lanes) {
      for (int k = 0; k < columns.value; ++k) {
        V total = {};
        for (int64_t i = 0; i < picked; ++i) total += load(x + rows * i / picked * channels + c + k * L, lanes);
        store(pivot + c + k * L, total / S(picked), lanes);
      }
    });
    for (int64_t begin = 0; begin < rows; begin += kStretch) {
      const int64_t end = smaller(rows, begin + kStretch);
      over_columns<T>(channels, [&](int64_t c, auto columns, int lanes) {
        constexpr int K = columns.value;
        V p[K], a[K] = {}, b[K] = {};
        for (int k = 0; k < K; ++k) p[k] = load(pivot + c + k * L, lanes);
        for (int64_t r = begin; r < end; ++r)
          for (int k = 0; k < K; ++k) {
            const V d = load(x + r * channels + c + k * L, lanes) - p[k];
            a[k] += d;
            b[k] += d * d;
          }
        for (int k = 0; k < K; ++k) {
          accumulate(sum + c + k * L, a[k], lanes);
          accumulate(square + c + k * L, b[k], lanes);
        }
      });
    }
  }

  // The same for `channels` planes of `space` elements in each of `samples` samples, `stride` elements apart.
  static void plane_statistics(const T* x, int64_t samples, int64_t stride, int64_t channels, int64_t space, S* pivot,
                               double* sum, double* square) {
    const int64_t values = samples * space, picked = smaller(values, kPivotValues);
    double lane_sums[kBlock][2][L] = {};
    for (int64_t c = 0; c < channels; ++c) {
      double total = 0;
      for (int64_t i = 0; i < picked; ++i) {
        const int64_t at = values * i / picked;
        total += load(x + at / space * stride + c * space + at % space, 1)[0];
      }
      pivot[c] = S(total / picked);
    }
    for (int64_t n = 0; n < samples; ++n)
      for (int64_t c = 0; c < channels; ++c) {
        const T* plane = x + n * stride + c * space;
        const V p = V{} + pivot[c];
        V a = {}, b = {};
        over_plane<T>(
            space,
            [&](int64_t i, int lanes) {
              V d = load(plane + i, lanes) - p;
              if (lanes < L) d = keep(d, lanes);
              a += d;
              b += d * d;
            },
            [&] {
              accumulate(lane_sums[c][0], a, L);
              accumulate(lane_sums[c][1], b, L);
              a = b = V{};
            });
      }
    for (int64_t c = 0; c < channels; ++c) {
      sum[c] = total_of(lane_sums[c][0]);
      square[c] = total_of(lane_sums[c][1]);
    }
  }

  static void statistics(const Shape& shape, const void* x, double* mean, double* var, Parallel parallel) {
    const Plan plan(shape);
    const int64_t channels = shape.channels, chunks = plan.chunks;
    Scratch scratch(3 * shape.groups * chunks * channels);
    double* const means = scratch.data;  // [G, chunks, C] each; the pivots lie in the last third
    double* const squares = means + shape.groups * chunks * channels;
    double* const pivots = squares + shape.groups * chunks * channels;
    run(parallel, plan, false, [&](const Task& task) {
      const int64_t at = (task.group * chunks + task.chunk) * channels + task.channel;
      S* const pivot = reinterpret_cast<S*>(pivots + at);
      if (shape.channels_last) {
        row_statistics(static_cast<const T*>(x) + task.unit * channels, task.units, channels, pivot, means + at,
                       squares + at);
      } else {
        const int64_t stride = channels * shape.space;
        plane_statistics(static_cast<const T*>(x) + task.unit * stride + task.channel * shape.space, task.units, stride,
                         task.channels, shape.space, pivot, means + at, squares + at);
      }
      const double values = double(task.values(shape));
      for (int64_t c = 0; c < task.channels; ++c) {
        const double shift = means[at + c] / values;
        squares[at + c] -= shift * means[at + c];
        means[at + c] = pivot[c] + shift;
      }
    });
    for (int64_t g = 0; g < shape.groups; ++g) {
      const double values = double(shape.batch * shape.space);
      double *const m = mean + g * channels, *const v = var + g * channels;
      for (int64_t c = 0; c < channels; ++c) m[c] = v[c] = 0;
      for (int pass = 0; pass < 2; ++pass) {
        for (int64_t k = 0; k < chunks; ++k) {
          const int64_t at = (g * chunks + k) * channels;
          const int64_t units = plan.units * (k + 1) / chunks - plan.units * k / chunks;
          const double share = double(shape.channels_last ? units : units * shape.space) / values;
          for (int64_t c = 0; c < channels; ++c) {
            if (pass == 0) {
              m[c] += share * means[at + c];
            } else {
              const double d = means[at + c] - m[c];
              v[c] += squares[at + c] / values + share * d * d;
            }
          }
        }
      }
      for (int64_t c = 0; c < channels; ++c) v[c] = v[c] < 0 ? 0 : v[c];
    }
  }

  static V keep(V v, int lanes) {
    for (int i = lanes; i < L; ++i) v[i] = 0;
    return v;
  }

  // The parameters of K vectors of channels, or of one channel in every lane.
  template <int K>
  struct Parameters {
    V mean[K], scale[K], bias[K], slope[K];

    Parameters(const NormAct& a, int64_t group, int64_t c, int lanes) {
      for (int k = 0; k < K; ++k) {
        const int64_t at = c + k * L;
        mean[k] = parameter<T>(a.mean, group * a.shape.channels + at, lanes);
        scale[k] = parameter<T>(a.scale, group * a.shape.channels + at, lanes);
        bias[k] = parameter<T>(a.bias, at, lanes);
        slope[k] = parameter<T>(a.slope, at, lanes);
      }
    }
  };

  template <Act A>
  static void forward(const NormAct& a, Parallel parallel) {
    const int64_t channels = a.shape.channels;
    const T* const x = static_cast<const T*>(a.x);
    T* const y = static_cast<T*>(a.out);
    run(parallel, Plan(a.shape), true, [&](const Task& task) {
      over_task<T>(
          a.shape, task,
          [&](int64_t c, auto columns, int lanes, int64_t row, int64_t end) {
            constexpr int K = columns.value;
            const Parameters<K> p(a, task.group, c, lanes);
            for (int64_t r = row; r < end; ++r)
              for (int k = 0; k < K; ++k) {
                const int64_t at = r * channels + c + k * L;
                const V z = (load(x + at, lanes) - p.mean[k]) * p.scale[k] + p.bias[k];
                store(y + at, activation<A>(z, p.slope[k]), lanes);
              }
          },
          [&](int64_t c, int64_t plane) {
            const Parameters<1> p(a, task.group, c, 0);
            over_plane<T>(
                a.shape.space,
                [&](int64_t i, int lanes) {
                  const V z = (load(x + plane + i, lanes) - p.mean[0]) * p.scale[0] + p.bias[0];
                  store(y + plane + i, activation<A>(z, p.slope[0]), lanes);
                },
                [] {});
          });
    });
  }

  // g = dL/dz, (x - mean), and what prelu's slope receives, of one vector.
  struct Terms {
    V g, centred, slope;
  };
  template <Act A, int K>
  static FASTGAN_INLINE Terms terms(const NormAct& a, const Parameters<K>& p, int k, int64_t at, int lanes) {
    const V grad = load(static_cast<const T*>(a.grad_y) + at, lanes);
    const V centred = load(static_cast<const T*>(a.x) + at, lanes) - p.mean[k];
    const V z = centred * p.scale[k] + p.bias[k];
    Terms t{grad * derivative<A>(z, p.slope[k]), centred, V{}};
    if constexpr (A == Act::prelu) t.slope = select(z > V{}, V{}, grad * z);
    return t;
  }

  template <Act A>
  static void backward_sums(const NormAct& a, double* sums, Parallel parallel) {
    const Plan plan(a.shape);
    const int64_t channels = a.shape.channels, chunks = plan.chunks;
    constexpr int kSums = A == Act::prelu ? 3 : 2;
    Scratch scratch(3 * a.shape.groups * chunks * channels);  // [G, chunks, 3, C]
    run(parallel, plan, false, [&](const Task& task) {
      double* const mine = scratch.data + (task.group * chunks + task.chunk) * 3 * channels;
      double lane_sums[kBlock][kSums][L] = {};  // contiguous only
      over_task<T>(
          a.shape, task,
          [&](int64_t c, auto columns, int lanes, int64_t row, int64_t end) {
            constexpr int K = columns.value;
            const Parameters<K> p(a, task.group, c, lanes);
            V total[kSums][K] = {};
            for (int64_t r = row; r < end; ++r)
              for (int k = 0; k < K; ++k) {
                const Terms t = terms<A>(a, p, k, r * channels + c + k * L, lanes);
                total[0][k] += t.g;
                total[1][k] += t.g * t.centred;
                if constexpr (kSums == 3) total[2][k] += t.slope;
              }
            for (int s = 0; s < kSums; ++s)
              for (int k = 0; k < K; ++k) accumulate(mine + s * channels + c + k * L, total[s][k], lanes);
          },
          [&](int64_t c, int64_t plane) {
            const Parameters<1> p(a, task.group, c, 0);
            V total[kSums] = {};
            over_plane<T>(
                a.shape.space,
                [&](int64_t i, int lanes) {
                  // Lanes past the end hold grad_y = 0, and so add nothing.
                  const Terms t = terms<A>(a, p, 0, plane + i, lanes);
                  total[0] += t.g;
                  total[1] += t.g * t.centred;
                  if constexpr (kSums == 3) total[2] += t.slope;
                },
                [&] {
                  for (int s = 0; s < kSums; ++s) {
                    accumulate(lane_sums[c - task.channel][s], total[s], L);
                    total[s] = V{};
                  }
                });
          });
      if (!a.shape.channels_last)
        for (int64_t c = 0; c < task.channels; ++c)
          for (int s = 0; s < kSums; ++s) mine[s * channels + task.channel + c] = total_of(lane_sums[c][s]);
    });
    for (int s = 0; s < 3; ++s)
      for (int64_t g = 0; g < a.shape.groups; ++g) {
        double* const out = sums + (s * a.shape.groups + g) * channels;
        for (int64_t c = 0; c < channels; ++c) out[c] = 0;
        for (int64_t k = 0; k < chunks; ++k)
          for (int64_t c = 0; c < channels; ++c) out[c] += scratch.data[((g * chunks + k) * 3 + s) * channels + c];
      }
  }

  template <Act A>
  static void backward(const NormAct& a, Parallel parallel) {
    const int64_t channels = a.shape.channels;
    T* const grad_x = static_cast<T*>(a.out);
    run(parallel, Plan(a.shape), true, [&](const Task& task) {
      const int64_t group = task.group * channels;
      over_task<T>(
          a.shape, task,
          [&](int64_t c, auto columns, int lanes, int64_t row, int64_t end) {
            constexpr int K = columns.value;
            const Parameters<K> p(a, task.group, c, lanes);
            V offset[K], inclined[K];
            for (int k = 0; k < K; ++k) {
              offset[k] = parameter<T>(a.grad_offset, group + c + k * L, lanes);
              inclined[k] = parameter<T>(a.grad_inclined, group + c + k * L, lanes);
            }
            for (int64_t r = row; r < end; ++r)
              for (int k = 0; k < K; ++k) {
                const int64_t at = r * channels + c + k * L;
                const Terms t = terms<A>(a, p, k, at, lanes);
                store(grad_x + at, t.g * p.scale[k] - offset[k] - t.centred * inclined[k], lanes);
              }
          },
          [&](int64_t c, int64_t plane) {
            const Parameters<1> p(a, task.group, c, 0);
            const V offset = parameter<T>(a.grad_offset, group + c, 0);
            const V inclined = parameter<T>(a.grad_inclined, group + c, 0);
            over_plane<T>(
                a.shape.space,
                [&](int64_t i, int lanes) {
                  const Terms t = terms<A>(a, p, 0, plane + i, lanes);
                  store(grad_x + plane + i, t.g * p.scale[0] - offset - t.centred * inclined, lanes);
                },
                [] {});
          });
    });
  }

  static constexpr NormActKernels table() {
    return {
        statistics,
        [](const NormAct& a, Parallel p) { with_activation(a.act, [&](auto act) { forward<act.value>(a, p); }); },
        [](const NormAct& a, double* sums, Parallel p) {
          with_activation(a.act, [&](auto act) { backward_sums<act.value>(a, sums, p); });
        },
        [](const NormAct& a, Parallel p) { with_activation(a.act, [&](auto act) { backward<act.value>(a, p); }); },
    };
  }
};

}  // namespace

extern const NormActKernels norm_act_kernels[4] = {Kernels<float>::table(), Kernels<double>::table(),
                                                   Kernels<BFloat16>::table(), Kernels<Half>::table()};

}  // namespace fastgan::FASTGAN_ISA
