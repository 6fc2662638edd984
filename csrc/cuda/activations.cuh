// Kernels choose the activation as they run: one kernel serves a family of them, and the files compile in minutes
// instead of hours. The cheap ones are a family of their own, whose kernel is as small as they are.
#pragma once

#include <type_traits>

#include "vec.cuh"
// After vec.cuh, whose functions it takes.
#include "../include/activation.h"
#include "walk.h"

namespace fastgan::FASTGAN_ISA {

// Sets of activations, by bits.
constexpr unsigned kPieces = 1u << int(Act::none) | 1u << int(Act::relu) | 1u << int(Act::leaky_relu);
constexpr unsigned kPrelu = 1u << int(Act::prelu);
constexpr unsigned kSmooth = 0xffu & ~(kPieces | kPrelu);

template <int N>
using Number = std::integral_constant<int, N>;
template <unsigned N>
using Set = std::integral_constant<unsigned, N>;

// Three sums instead of two take more room.
constexpr int kMostWideOfPrelu = 4;

// Calls body(Number<W>, Set<activations>) with the width of the walk and the family of the activation. `apart`: prelu
// has kernels of its own. Narrow accesses and doubles are rare, and have one kernel for all the rest.
template <class T, bool apart, class Body>
void with_family(const Walk& walk, int64_t act, const Body& body) {
  constexpr unsigned rest = apart ? kPieces | kSmooth : kPieces | kSmooth | kPrelu;
  constexpr unsigned pieces = apart ? kPieces : kPieces | kPrelu;
  if constexpr (apart) {
    constexpr int wide = kWide<T> < kMostWideOfPrelu ? kWide<T> : kMostWideOfPrelu;
    if (Act(act) == Act::prelu)
      return walk.width == 1 ? body(Number<1>(), Set<kPrelu>()) : body(Number<wide>(), Set<kPrelu>());
  }
  const auto of_width = [&](auto width) {
    if constexpr (width.value == 1 || sizeof(T) == sizeof(double)) {
      body(width, Set<rest>());
    } else {
      (pieces >> act & 1) != 0 ? body(width, Set<pieces>()) : body(width, Set<kSmooth>());
    }
  };
  walk.width == 1 ? of_width(Number<1>()) : of_width(Number<kWide<T>>());
}

}  // namespace fastgan::FASTGAN_ISA
