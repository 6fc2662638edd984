// Compiled once for every instruction set; see vec.h for what that forbids here.
//
// Every result is independent of the number of threads: work is cut into tasks by shape alone, each task sums in a
// fixed order, and the tasks' sums are merged in a fixed order.
//
// A sum runs in float over a short stretch (kStretch vectors) and then joins a double, so that the error does not
// grow with the tensor. Variances are taken about a pivot, a mean of a few values of the task, and merged with the
// formula of Chan, Golub and LeVeque (1979): a large mean costs no accuracy.
#include "norm_act.h"

#include <stdlib.h>

#include "vec.h"

namespace fastgan::FASTGAN_ISA {
namespace {

constexpr int kStretch = 16;
constexpr int kPivotValues = 16;
constexpr int kColumns = kVectorBytes == 64 ? 4 : 2;  // vectors of channels at once; their parameters stay in registers
constexpr int kBlock = 8;                             // channels of a contiguous task
constexpr int64_t kTaskElements = 16384;
constexpr int64_t kMostChunks = 64;

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// How a tensor is cut. Channels last: a task is a stretch of rows (all channels of one position). Contiguous: a task
// is a stretch of samples and a block of channels.
struct Plan {
  NormShape shape;
  int64_t units;  // rows or samples of a group
  int64_t chunks, blocks;

  explicit Plan(const NormShape& s) : shape(s) {
    const int64_t unit = s.channels_last ? s.channels : s.space * smaller(s.channels, kBlock);
    units = s.channels_last ? s.batch * s.space : s.batch;
    blocks = s.channels_last ? 1 : (s.channels + kBlock - 1) / kBlock;
    const int64_t enough = s.channels_last ? units / kStretch : units;
    chunks = larger(1, smaller(smaller(units * unit / kTaskElements, enough), kMostChunks));
  }

  int64_t tasks() const { return shape.groups * chunks * blocks; }
  int64_t elements() const { return shape.groups * shape.batch * shape.channels * shape.space; }
};

struct Task {
  int64_t group, chunk;       // of its group
  int64_t unit, units;        // first row or sample within the tensor, and how many
  int64_t channel, channels;  // first channel and how many
  int64_t values(const NormShape& s) const { return s.channels_last ? units : units * s.space; }

  Task(const Plan& plan, int64_t index) {
    const int64_t block = index % plan.blocks;
    chunk = index / plan.blocks % plan.chunks;
    group = index / plan.blocks / plan.chunks;
    const int64_t begin = plan.units * chunk / plan.chunks, end = plan.units * (chunk + 1) / plan.chunks;
    unit = group * plan.units + begin;
    units = end - begin;
    channel = plan.shape.channels_last ? 0 : block * kBlock;
    channels = plan.shape.channels_last ? plan.shape.channels : smaller(kBlock, plan.shape.channels - channel);
  }
};

template <class Body>
void run(Parallel parallel, const Plan& plan, bool backwards, const Body& body) {
  struct Context {
    const Plan& plan;
    const Body& body;
    bool backwards;
  } context{plan, body, backwards};
  parallel(
      plan.tasks(), plan.elements(),
      [](int64_t begin, int64_t end, void* opaque) {
        const Context& c = *static_cast<Context*>(opaque);
        // The second pass over a tensor starts where the first one ended: that part is still in the cache.
        for (int64_t i = begin; i < end; ++i) c.body(Task(c.plan, c.backwards ? end - 1 - (i - begin) : i));
      },
      &context);
}

struct Scratch {
  double* data;
  explicit Scratch(int64_t count) : data(static_cast<double*>(calloc(count, sizeof(double)))) {
    if (data == nullptr) abort();
  }
  ~Scratch() { free(data); }
  Scratch(const Scratch&) = delete;
};

template <int N>
struct Count {
  static constexpr int value = N;
};

// Calls body(first channel, Count<vectors>, lanes) over all channels; lanes is short only for the last vector.
template <class T, class Body>
FASTGAN_INLINE void over_columns(int64_t channels, const Body& body) {
  constexpr int lanes = kLanes<T>;
  int64_t c = 0;
  for (; c + kColumns * lanes <= channels; c += kColumns * lanes) body(c, Count<kColumns>(), lanes);
  for (; c + lanes <= channels; c += lanes) body(c, Count<1>(), lanes);
  if (c < channels) body(c, Count<1>(), int(channels - c));
}

// Calls body(first element, lanes) over a plane, for stretches of at most kStretch vectors, then flush().
template <class T, class Body, class Flush>
FASTGAN_INLINE void over_plane(int64_t space, const Body& body, const Flush& flush) {
  constexpr int lanes = kLanes<T>;
  for (int64_t begin = 0; begin < space; begin += kStretch * lanes) {
    const int64_t end = smaller(space, begin + kStretch * lanes);
    int64_t i = begin;
    for (; i + lanes <= end; i += lanes) body(i, lanes);
    if (i < end) body(i, int(end - i));
    flush();
  }
}

// Adds lanes of V to as many doubles.
template <class V>
FASTGAN_INLINE void accumulate(double* sums, V v, int lanes) {
  constexpr int all = sizeof(V) / sizeof(v[0]);
  if (lanes == all) {
    for (int i = 0; i < all; ++i) sums[i] += v[i];
  } else {
    for (int i = 0; i < lanes; ++i) sums[i] += v[i];
  }
}

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

  static double total_of(const double (&lanes)[L]) {
    double total = 0;
    for (int i = 0; i < L; ++i) total += lanes[i];
    return total;
  }

  static void statistics(const NormShape& shape, const void* x, double* mean, double* var, Parallel parallel) {
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

  // Calls row(first channel, Count<vectors>, lanes, rows) or plane(channel, elements...) over a task.
  template <class Rows, class Plane>
  static void over_task(const NormShape& shape, const Task& task, const Rows& rows, const Plane& plane) {
    if (shape.channels_last) {
      for (int64_t begin = 0; begin < task.units; begin += kStretch) {
        const int64_t first = task.unit + begin, end = first + smaller(kStretch, task.units - begin);
        over_columns<T>(shape.channels,
                        [&](int64_t c, auto columns, int lanes) { rows(c, columns, lanes, first, end); });
      }
    } else {
      for (int64_t n = task.unit; n < task.unit + task.units; ++n)
        for (int64_t c = task.channel; c < task.channel + task.channels; ++c)
          plane(c, (n * shape.channels + c) * shape.space);
    }
  }

  // The parameters of K vectors of channels, or of one channel in every lane.
  template <int K>
  struct Parameters {
    V mean[K], scale[K], bias[K], slope[K];

    Parameters(const NormAct& a, int64_t group, int64_t c, int lanes) {
      for (int k = 0; k < K; ++k) {
        const int64_t at = c + k * L;
        mean[k] = of(a.mean, group * a.shape.channels + at, lanes);
        scale[k] = of(a.scale, group * a.shape.channels + at, lanes);
        bias[k] = of(a.bias, at, lanes);
        slope[k] = of(a.slope, at, lanes);
      }
    }
    // lanes 0: one channel in every lane.
    static V of(const void* p, int64_t at, int lanes) {
      const S* const s = static_cast<const S*>(p) + at;
      return lanes == 0 ? V{} + *s : load(s, lanes);
    }
  };

  template <Act A>
  static void forward(const NormAct& a, Parallel parallel) {
    const int64_t channels = a.shape.channels;
    const T* const x = static_cast<const T*>(a.x);
    T* const y = static_cast<T*>(a.out);
    run(parallel, Plan(a.shape), true, [&](const Task& task) {
      over_task(
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
      over_task(
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
      over_task(
          a.shape, task,
          [&](int64_t c, auto columns, int lanes, int64_t row, int64_t end) {
            constexpr int K = columns.value;
            const Parameters<K> p(a, task.group, c, lanes);
            V offset[K], inclined[K];
            for (int k = 0; k < K; ++k) {
              offset[k] = Parameters<K>::of(a.grad_offset, group + c + k * L, lanes);
              inclined[k] = Parameters<K>::of(a.grad_inclined, group + c + k * L, lanes);
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
            const V offset = Parameters<1>::of(a.grad_offset, group + c, 0);
            const V inclined = Parameters<1>::of(a.grad_inclined, group + c, 0);
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

  template <class Call>
  static void with_activation(int act, const Call& call) {
    switch (Act(act)) {
      case Act::none:
        return call(ActConstant<Act::none>());
      case Act::relu:
        return call(ActConstant<Act::relu>());
      case Act::leaky_relu:
        return call(ActConstant<Act::leaky_relu>());
      case Act::prelu:
        return call(ActConstant<Act::prelu>());
      case Act::elu:
        return call(ActConstant<Act::elu>());
      case Act::tanh:
        return call(ActConstant<Act::tanh>());
      case Act::sigmoid:
        return call(ActConstant<Act::sigmoid>());
      case Act::silu:
        return call(ActConstant<Act::silu>());
    }
  }
  template <Act A>
  struct ActConstant {
    static constexpr Act value = A;
  };

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
