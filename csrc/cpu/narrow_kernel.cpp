// Compiled once for every instruction set; see vec.h for what that forbids here.
//
// Matrix products and blocked convolutions fill a register with output channels. Where an image comes out, of one or
// three, most of each is empty. Here a register holds channels of the wide map instead: a pixel of the image is a
// scalar product over taps and wide channels, several pixels at a time sharing the loads of the weight; and its
// gradient's share of the weight's gradient is a wide pixel times a number.
//
// The large map from the small one is such a product for each place in the stride, of every stride-th tap.
#include "narrow.h"

#include "plan.h"

namespace fastgan::FASTGAN_ISA {
namespace {

using V = FloatVector;
constexpr int L = kLanes<float>;
constexpr int kRegisters = kVectorBytes == 64 ? 32 : 16;
constexpr int kVectors = kVectorBytes == 64 ? 4 : 2;  // of wide channels of the gradient, at a time

// Pixels of the image at a time: their sums, of which 18 keep the processor busy, leave registers for the rest.
constexpr int least(int a, int b) { return a < b ? a : b; }
template <int B>
constexpr int kPixels = least(8, least(18, kRegisters - B - 2) / B);

// The sums over the lanes of four vectors.
typedef float Four __attribute__((vector_size(16)));
#if defined(__AVX512F__)
FASTGAN_INLINE Four totals(V a, V b, V c, V d) {
  const auto pairs = [](V x, V y) {
    return V(_mm512_unpacklo_ps(__m512(x), __m512(y))) + V(_mm512_unpackhi_ps(__m512(x), __m512(y)));
  };
  const __m512d ab = _mm512_castps_pd(__m512(pairs(a, b))), cd = _mm512_castps_pd(__m512(pairs(c, d)));
  const V sum = V(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd))) + V(_mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
  const __m512 s = __m512(sum);
  return (Four(_mm512_castps512_ps128(s)) + Four(_mm512_extractf32x4_ps(s, 2))) +
         (Four(_mm512_extractf32x4_ps(s, 1)) + Four(_mm512_extractf32x4_ps(s, 3)));
}
#elif defined(__AVX2__)
FASTGAN_INLINE Four totals(V a, V b, V c, V d) {
  const auto pairs = [](V x, V y) {
    return V(_mm256_unpacklo_ps(__m256(x), __m256(y))) + V(_mm256_unpackhi_ps(__m256(x), __m256(y)));
  };
  const __m256d ab = _mm256_castps_pd(__m256(pairs(a, b))), cd = _mm256_castps_pd(__m256(pairs(c, d)));
  const V sum = V(_mm256_castpd_ps(_mm256_unpacklo_pd(ab, cd))) + V(_mm256_castpd_ps(_mm256_unpackhi_pd(ab, cd)));
  return Four(_mm256_castps256_ps128(__m256(sum))) + Four(_mm256_extractf128_ps(__m256(sum), 1));
}
#else
FASTGAN_INLINE Four totals(V a, V b, V c, V d) {
  const V vectors[4] = {a, b, c, d};
  Four sum = {};
  for (int i = 0; i < 4; ++i)
    for (int lane = 0; lane < L; ++lane) sum[i] += vectors[i][lane];
  return sum;
}
#endif

// In a register: compilers read it from memory once more for each use, and loads are what the products wait for.
FASTGAN_INLINE void keep(V& v) {
#if defined(__AVX512F__)
  __asm__("" : "+v"(v));
#elif defined(__x86_64__)
  __asm__("" : "+x"(v));
#else
  (void)v;
#endif
}

// Channels at a time, as vectors. Of bfloat16 the even ones are a vector and the odd ones another, since that takes
// them apart without moving them; the weight has that order, too.
template <class T>
constexpr int kUnit = sizeof(T) == sizeof(float) ? 1 : 2;
FASTGAN_INLINE void load_unit(const float* p, V (&x)[1]) {
  x[0] = load(p);
  keep(x[0]);
}
FASTGAN_INLINE void load_unit(const BFloat16* p, V (&x)[2]) {
  BitsVector both;
  __builtin_memcpy(&both, p, sizeof both);
  x[0] = bit_cast<V>(both << 16);
  x[1] = bit_cast<V>(both & 0xffff0000u);
  keep(x[0]);
  keep(x[1]);
}

FASTGAN_INLINE void put(float* p, float value) { *p = value; }
FASTGAN_INLINE void put(BFloat16* p, float value) {
  const uint32_t bits = bit_cast<uint32_t>(value);
  p->bits = uint16_t(value == value ? (bits + (0x7fffu + ((bits >> 16) & 1u))) >> 16 : 0x7fc0u);
}
FASTGAN_INLINE float get(const float* p) { return *p; }
FASTGAN_INLINE float get(const BFloat16* p) { return bit_cast<float>(uint32_t(p->bits) << 16); }

// Along one axis: number o of `count` results lies at first + o step of the image, and meets wide pixels
// from + o wide_step + t turn, by taps tap + t tap_step, for t < taps.
struct Axis {
  int64_t first, step, count, from, wide_step, turn, taps, tap, tap_step;

  // The image is the small map.
  static Axis small(int64_t size, int64_t kernel, int64_t stride, int64_t padding) {
    return {0, 1, size, -padding, stride, 1, kernel, 0, 1};
  }
  // It is the large one, of which these are the pixels at one place in the stride.
  static Axis large(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t place) {
    const int64_t tap = (place + padding) % stride;
    const int64_t count = place < size ? (size - place - 1) / stride + 1 : 0;
    const int64_t taps = tap < kernel ? (kernel - tap - 1) / stride + 1 : 0;
    return {place, stride, count, (place + padding - tap) / stride, 1, -1, taps, tap, stride};
  }
  // The results all of whose pixels lie within a map of this size: from `begin` to before `end`.
  void inside(int64_t size, int64_t& begin, int64_t& end) const {
    const int64_t low = from + (turn < 0 ? 1 - taps : 0), high = from + (turn < 0 ? 0 : taps - 1);
    begin = low >= 0 ? 0 : (-low + wide_step - 1) / wide_step;
    end = high >= size ? 0 : (size - 1 - high) / wide_step + 1;
    begin = smaller(begin, count);
    end = larger(begin, smaller(end, count));
  }
};

template <class T, int B>
struct Kernels {
  // P results from number o of the row on. `rows`: of the wide map, that the taps of `down` meet; null outside it.
  template <int P, bool Inside>
  static FASTGAN_INLINE void pixels(const Narrow& a, const Axis& down, const Axis& across, const T* const* rows,
                                    int64_t width, int64_t o, T* to) {
    constexpr int U = kUnit<T>, kSums = (P * B + 3) / 4 * 4;
    V sums[kSums] = {};
    const int64_t step = across.wide_step * a.wide;
    for (int64_t i = 0; i < down.taps; ++i) {
      if (rows[i] == nullptr) continue;
      for (int64_t j = 0; j < across.taps; ++j) {
        const int64_t at = across.from + o * across.wide_step + j * across.turn;
        const T* const first = rows[i] + at * a.wide;
        const T* wide[P];
        if constexpr (!Inside)
          for (int p = 0; p < P; ++p) {
            const int64_t column = at + p * across.wide_step;
            wide[p] = column >= 0 && column < width ? first + p * step : static_cast<const T*>(a.zeros);
          }
        const int64_t tap = (down.tap + i * down.tap_step) * a.kernel_w + across.tap + j * across.tap_step;
        const float* const weight = a.weight + tap * B * a.padded;
        int64_t c = 0;
        for (; c + U * L <= a.wide; c += U * L) {
          V w[B][U];
#pragma GCC unroll 4
          for (int b = 0; b < B; ++b)
#pragma GCC unroll 2
            for (int u = 0; u < U; ++u) w[b][u] = load(weight + b * a.padded + c + u * L);
#pragma GCC unroll 8
          for (int p = 0; p < P; ++p) {
            V x[U];
            load_unit((Inside ? first + p * step : wide[p]) + c, x);
#pragma GCC unroll 4
            for (int b = 0; b < B; ++b)
#pragma GCC unroll 2
              for (int u = 0; u < U; ++u) sums[p * B + b] += x[u] * w[b][u];
          }
        }
        for (; c < a.wide; c += L)
#pragma GCC unroll 8
          for (int p = 0; p < P; ++p) {
            const V x = load((Inside ? first + p * step : wide[p]) + c, int(smaller(L, a.wide - c)));
#pragma GCC unroll 4
            for (int b = 0; b < B; ++b) sums[p * B + b] += x * load(weight + b * a.padded + c);
          }
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kSums; i += 4) {
      const Four four = totals(sums[i], sums[i + 1], sums[i + 2], sums[i + 3]);
      for (int k = i; k < i + 4 && k < P * B; ++k)
        put(to + (across.first + (o + k / B) * across.step) * B + k % B, four[k - i] + a.bias[k % B]);
    }
  }

  static void row(const Narrow& a, const Axis& down, const Axis& across, const T* const* rows, int64_t width, T* to) {
    constexpr int P = kPixels<B>;
    int64_t begin, end, o = 0;
    across.inside(width, begin, end);
    for (; o + P <= across.count; o += P)
      if (o >= begin && o + P <= end)
        pixels<P, true>(a, down, across, rows, width, o, to);
      else
        pixels<P, false>(a, down, across, rows, width, o, to);
    for (; o < across.count; ++o) pixels<1, false>(a, down, across, rows, width, o, to);
  }

  static void image(const Narrow& a, Parallel parallel) {
    const int64_t height = a.large ? a.height : a.h, width = a.large ? a.width : a.w;  // of the image
    const int64_t wide_h = a.large ? a.h : a.height, wide_w = a.large ? a.w : a.width;
    const T* const wide = static_cast<const T*>(a.wide_map);
    T* const out = static_cast<T*>(a.out);
    each(parallel, a.images * height, [&](int64_t task) {
      const int64_t n = task / height, y = task % height;
      const Axis down = a.large ? Axis::large(a.height, a.kernel_h, a.stride_h, a.padding_h, y % a.stride_h)
                                : Axis::small(a.h, a.kernel_h, a.stride_h, a.padding_h);
      const int64_t at = down.from + (y - down.first) / down.step * down.wide_step;
      const T* rows[kMostTaps];
      for (int64_t i = 0; i < down.taps; ++i) {
        const int64_t r = at + i * down.turn;
        rows[i] = r >= 0 && r < wide_h ? wide + (n * wide_h + r) * wide_w * a.wide : nullptr;
      }
      for (int64_t place = 0; place < (a.large ? a.stride_w : 1); ++place) {
        const Axis across = a.large ? Axis::large(a.width, a.kernel_w, a.stride_w, a.padding_w, place)
                                    : Axis::small(a.w, a.kernel_w, a.stride_w, a.padding_w);
        row(a, down, across, rows, wide_w, out + task * width * B);
      }
    });
  }

  // The sums of one row and tap: `count` wide pixels, each times the numbers of a pixel of the image. K units of
  // channels, or (K = 0) a part of a vector.
  template <int K>
  static FASTGAN_INLINE void outer(const T* wide, int64_t wide_step, const T* image, int64_t image_step, int64_t count,
                                   int lanes, float* sums, int64_t padded) {
    constexpr int U = K == 0 ? 1 : kUnit<T>, N = K == 0 ? 1 : K * U;
    V sum[B][N] = {};
    for (int64_t o = 0; o < count; ++o) {
      V x[N];
      if constexpr (K == 0) {
        x[0] = load(wide + o * wide_step, lanes);
      } else {
#pragma GCC unroll 4
        for (int k = 0; k < K; ++k) {
          V unit[U];
          load_unit(wide + o * wide_step + k * U * L, unit);
          for (int u = 0; u < U; ++u) x[k * U + u] = unit[u];
        }
      }
#pragma GCC unroll 4
      for (int b = 0; b < B; ++b) {
        const V g = get(image + o * image_step + b) - V{};  // one load, where a sum with 0 would be computed
#pragma GCC unroll 4
        for (int k = 0; k < N; ++k) sum[b][k] += x[k] * g;
      }
    }
    for (int b = 0; b < B; ++b)
      for (int k = 0; k < N; ++k) {
        float* const to = sums + b * padded + k * L;
        store(to, load(to) + sum[b][k]);
      }
  }

  static void gradient(const Narrow& a, Parallel parallel) {
    const int64_t rows = a.images * a.h, taps = a.kernel_h * a.kernel_w, each_chunk = taps * B * a.padded;
    const T* const wide = static_cast<const T*>(a.wide_map);
    const T* const image = static_cast<const T*>(a.narrow_map);
    // The chunks depend on the shape alone, and are merged in order.
    each(parallel, a.chunks, [&](int64_t chunk) {
      float* const sums = a.sums + chunk * each_chunk;
      for (int64_t i = 0; i < each_chunk; ++i) sums[i] = 0;
      for (int64_t r = rows * chunk / a.chunks; r < rows * (chunk + 1) / a.chunks; ++r) {
        const int64_t n = r / a.h, top = r % a.h * a.stride_h - a.padding_h;
        for (int64_t tap = 0; tap < taps; ++tap) {
          const int64_t y = top + tap / a.kernel_w, left = tap % a.kernel_w - a.padding_w;
          // Pixels o of the small map's row whose partner left + o stride_w lies within the large map.
          const int64_t begin = left >= 0 ? 0 : (-left + a.stride_w - 1) / a.stride_w;
          const int64_t end = left >= a.width ? 0 : smaller(a.w, (a.width - 1 - left) / a.stride_w + 1);
          if (y < 0 || y >= a.height || begin >= end) continue;
          const int64_t small = r * a.w + begin, large = (n * a.height + y) * a.width + left + begin * a.stride_w;
          const T* const x = wide + (a.large ? small : large) * a.wide;
          const T* const g = image + (a.large ? large : small) * B;
          const int64_t wide_step = (a.large ? 1 : a.stride_w) * a.wide, image_step = (a.large ? a.stride_w : 1) * B;
          const auto add = [&](auto units, int64_t c, int lanes) {
            outer<units.value>(x + c, wide_step, g, image_step, end - begin, lanes, sums + tap * B * a.padded + c,
                               a.padded);
          };
          constexpr int U = kUnit<T>, K = kVectors / U;
          int64_t c = 0;
          for (; c + K * U * L <= a.wide; c += K * U * L) add(Count<K>(), c, L);
          for (; c + U * L <= a.wide; c += U * L) add(Count<1>(), c, L);
          for (; c < a.wide; c += L) add(Count<0>(), c, int(smaller(L, a.wide - c)));
        }
      }
    });
    T* const out = static_cast<T*>(a.out);
    each(parallel, taps, [&](int64_t tap) {
      for (int b = 0; b < B; ++b)
        for (int64_t c = 0; c < a.wide; ++c) {
          double sum = 0;
          for (int64_t chunk = 0; chunk < a.chunks; ++chunk)
            sum += a.sums[chunk * each_chunk + (tap * B + b) * a.padded + place_of(c, a.wide, kUnit<T>, L)];
          put(out + (a.large ? (c * taps + tap) * B + b : (b * taps + tap) * a.wide + c), float(sum));
        }
    });
  }
};

template <class Body>
void with_kernels(const Narrow& a, const Body& body) {
  const auto of_type = [&](auto element) {
    using T = decltype(element);
    switch (a.narrow) {
      case 1:
        return body(Kernels<T, 1>());
      case 2:
        return body(Kernels<T, 2>());
      case 3:
        return body(Kernels<T, 3>());
      default:
        return body(Kernels<T, 4>());
    }
  };
  Storage(a.storage) == Storage::bfloat16 ? of_type(BFloat16{}) : of_type(float{});
}

}  // namespace

extern const NarrowKernels narrow_kernels = {
    [](const Narrow& a, Parallel p) { with_kernels(a, [&](auto kernels) { kernels.image(a, p); }); },
    [](const Narrow& a, Parallel p) { with_kernels(a, [&](auto kernels) { kernels.gradient(a, p); }); },
    L,
};

}  // namespace fastgan::FASTGAN_ISA
