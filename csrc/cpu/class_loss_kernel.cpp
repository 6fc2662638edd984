// Compiled once for every instruction set; see vec.h for what that forbids here.
//
// Rows are short, so a vector holds one class of as many rows as it has lanes: a tile of rows is transposed on its way
// in and on its way out. Long rows pass in chunks of kChunk classes.
//
// Every result is independent of the number of threads: the rows are cut into tasks by their number alone, each task
// sums in a fixed order, and the tasks' sums are added in a fixed order.
#include "class_loss.h"

#include "vec.h"
// After vec.h, whose functions it takes.
#include "../include/gan_loss.h"

namespace fastgan::FASTGAN_ISA {
namespace {

constexpr int kChunk = 64;
constexpr int64_t kTaskElements = 16384;
constexpr int64_t kMostTasks = 64;

template <class T>
struct Kernel {
  using S = typename Compute<T>::Scalar;
  using V = typename Compute<T>::Vector;
  static constexpr int L = kLanes<T>;

  // Some classes of `lanes` rows; lanes past them are zero.
  struct Tile {
    S rows[L][kChunk];
    V classes[kChunk];

    void read(const T* x, int64_t stride, int lanes, int count) {
      for (int i = 0; i < lanes; ++i)
        for (int k = 0; k < count; k += L) {
          const int part = count - k < L ? count - k : L;
          store(rows[i] + k, load(x + i * stride + k, part), part);
        }
      for (int k = 0; k < count; ++k) {
        V v = {};
        for (int i = 0; i < lanes; ++i) v[i] = rows[i][k];
        classes[k] = v;
      }
    }

    void write(S* out, int64_t stride, int lanes, int count) {
      for (int k = 0; k < count; ++k)
        for (int i = 0; i < lanes; ++i) rows[i][k] = classes[k][i];
      for (int i = 0; i < lanes; ++i)
        for (int k = 0; k < count; k += L) {
          const int part = count - k < L ? count - k : L;
          store(out + i * stride + k, load(rows[i] + k, part), part);
        }
    }
  };

  // Z = pivot + log(sum of e^(x - pivot)), where the pivot is the largest logit, or 0 where that is infinite.
  struct LogSumExp {
    V largest = broadcast<V>(-__builtin_inf()), at = {}, pivot = {}, sum = {};

    // Leaves e^(x - pivot) in the tile.
    void add(Tile& tile, int64_t first, int count) {
      for (int k = 0; k < count; ++k) {
        const auto larger = tile.classes[k] > largest;
        largest = select(larger, tile.classes[k], largest);
        at = select(larger, broadcast<V>(double(first + k)), at);
      }
      const V before = pivot;
      pivot = select(largest - largest == V{}, largest, V{});
      V parts[4] = {};  // short sums, for their accuracy
      for (int k = 0; k < count; ++k) {
        tile.classes[k] = exponential(tile.classes[k] - pivot);
        parts[k % 4] += tile.classes[k];
      }
      const V part = (parts[0] + parts[1]) + (parts[2] + parts[3]);
      sum = first > 0 ? sum * exponential(before - pivot) + part : part;
    }
    V log_sum() const { return select(sum > V{}, log_from_one(sum), broadcast<V>(-__builtin_inf()) + sum); }
    // exp(-|Z|), without the rounding of Z. Where Z <= 0 so is the pivot, and `above` is 1.
    V exponential_of_minus_absolute(V z) const {
      const V above = exponential(select(pivot > V{}, -pivot, V{}));
      const V below = exponential(select(pivot < V{}, pivot, V{})) * sum;
      return select(z > V{}, above / below, below);
    }
  };

  static FASTGAN_INLINE void add_lanes(double& total, V v, int lanes) {
    for (int i = 0; i < lanes; ++i) total += v[i];
  }

  static void add_rows(const ClassRows& r, int64_t row, int lanes, ClassSums& sums) {
    const T* const x = static_cast<const T*>(r.x) + row * r.classes;
    const int64_t* const labels = r.labels == nullptr ? nullptr : r.labels + row;
    const auto chunk = [&](int64_t first) { return int(r.classes - first < kChunk ? r.classes - first : kChunk); };
    Tile tile;
    LogSumExp z;
    for (int64_t first = 0; first < r.classes; first += kChunk) {
      tile.read(x + first, r.classes, lanes, chunk(first));
      z.add(tile, first, chunk(first));
    }
    // The term, its derivative with respect to Z, and D.
    const V log_sum = z.log_sum();
    const V total = z.pivot + log_sum;
    const Evaluated<V> unlabelled =
        cross_entropy(total, broadcast<V>(r.target), z.exponential_of_minus_absolute(total));
    V term = unlabelled.term, factor = unlabelled.derivative * S(r.scale);
    if (labels != nullptr) {
      V of_label = {};
      for (int i = 0; i < lanes; ++i) {
        of_label[i] = load(x + i * r.classes + labels[i], 1)[0];
        sums.right += z.at[i] == S(labels[i]) ? 1 : 0;
      }
      term = z.pivot - of_label + log_sum;
      factor = broadcast<V>(r.scale);
    }
    add_lanes(sums.term, term, lanes);
    add_lanes(sums.real, unlabelled.logged, lanes);
    if (r.grad == nullptr) return;
    S* const grad = static_cast<S*>(r.grad) + row * r.classes;
    const V factor_of_exponential = factor / z.sum;
    for (int64_t first = 0; first < r.classes; first += kChunk) {
      const int count = chunk(first);
      if (r.classes > kChunk) {
        tile.read(x + first, r.classes, lanes, count);
        for (int k = 0; k < count; ++k) tile.classes[k] = exponential(tile.classes[k] - z.pivot);
      }
      for (int k = 0; k < count; ++k) tile.classes[k] *= factor_of_exponential;
      tile.write(grad + first, r.classes, lanes, count);
    }
    if (labels != nullptr)
      for (int i = 0; i < lanes; ++i) grad[i * r.classes + labels[i]] -= S(r.scale);
  }

  static ClassSums sums_of(const ClassRows& r, int64_t begin, int64_t end) {
    ClassSums sums = {};
    for (; begin < end; begin += L) add_rows(r, begin, int(end - begin < L ? end - begin : L), sums);
    return sums;
  }

  static ClassSums run(const ClassRows& r, Parallel parallel) {
    const int64_t wanted = (r.rows * r.classes + kTaskElements - 1) / kTaskElements;
    struct Context {
      const ClassRows& rows;
      int64_t tasks;
      ClassSums sums[kMostTasks];
    } context{r, wanted < kMostTasks ? wanted : kMostTasks, {}};
    parallel(
        context.tasks, r.rows * r.classes,
        [](int64_t begin, int64_t end, void* opaque) {
          Context& c = *static_cast<Context*>(opaque);
          for (int64_t i = begin; i < end; ++i)
            c.sums[i] = sums_of(c.rows, c.rows.rows * i / c.tasks, c.rows.rows * (i + 1) / c.tasks);
        },
        &context);
    ClassSums total = {};
    for (int64_t i = 0; i < context.tasks; ++i) {
      total.term += context.sums[i].term;
      total.real += context.sums[i].real;
      total.right += context.sums[i].right;
    }
    return total;
  }
};

}  // namespace

extern const ClassLossKernel class_loss_kernels[4] = {Kernel<float>::run, Kernel<double>::run, Kernel<BFloat16>::run,
                                                      Kernel<Half>::run};

}  // namespace fastgan::FASTGAN_ISA
