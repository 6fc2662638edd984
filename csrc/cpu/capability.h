// Which of the compiled instruction sets this processor runs. Free of torch headers.
#pragma once

#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace fastgan {

enum class Capability : int { baseline, avx2, avx512 };

inline const char* name(Capability c) {
  return c == Capability::avx512 ? "avx512" : c == Capability::avx2 ? "avx2" : "baseline";
}

// FASTGAN_CPU_CAPABILITY=baseline|avx2|avx512 lowers the choice (to compare, or to debug); it never raises it above
// what the processor has.
inline Capability cpu_capability() {
  Capability best = Capability::baseline;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
    best = Capability::avx2;
  if (best == Capability::avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    best = Capability::avx512;
#endif
  if (const char* wanted = std::getenv("FASTGAN_CPU_CAPABILITY")) {
    for (Capability c : {Capability::baseline, Capability::avx2})
      if (std::strcmp(wanted, name(c)) == 0 && c < best) best = c;
  }
  return best;
}

}  // namespace fastgan
