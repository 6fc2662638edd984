// Whether every element of a tensor is one thread's, and every other's column is its own: csrc/cuda/walk.h.
#include "../../csrc/cuda/walk.h"

#include <cstdio>
#include <vector>

using namespace fastgan;
using namespace fastgan::cuda;

namespace {

constexpr int kThreads = 256;
int failures = 0;

void check(const Shape& s, int wide, bool aligned, int64_t items, int64_t fewest) {
  const Walk w = walk_of(s, wide, aligned, kThreads, items, fewest);
  const int64_t count = s.groups * s.batch * s.channels * s.space;
  std::vector<int> touched(count);
  bool right = true;
  for (int64_t item = 0; item < w.items(); ++item)
    for (int thread = 0; thread < kThreads; ++thread) {
      const Place p = place_of(w, item, thread);
      Cursor cursor(w, p, p.begin < p.end ? p.begin : 0);
      for (int64_t value = p.begin; value < p.end; value += w.rows, cursor.advance(w))
        for (int k = 0; k < w.width; ++k) {
          const int64_t at = cursor.at + k;
          if (at < 0 || at >= count || cursor.at % w.width != 0) {
            right = false;
            continue;
          }
          ++touched[at];
          const int64_t of_a_group = s.batch * s.channels * s.space;
          const int64_t channel = s.channels_last ? at % s.channels : at / s.space % s.channels;
          right &= p.channel(w, k) == channel && p.group == at / of_a_group;
        }
    }
  for (int64_t i = 0; i < count; ++i) right &= touched[i] == 1;
  right &=
      w.elements_of_a_channel() == s.batch * s.space && w.rows * w.lanes <= kThreads && w.lanes * w.width <= kThreads;
  if (right) return;
  ++failures;
  std::printf("groups %lld batch %lld channels %lld space %lld %s, %d wide, %s, about %lld items\n",
              (long long)s.groups, (long long)s.batch, (long long)s.channels, (long long)s.space,
              s.channels_last ? "channels last" : "contiguous", wide, aligned ? "aligned" : "not aligned",
              (long long)items);
}

}  // namespace

int main() {
  for (int64_t groups : {1, 2, 5})
    for (int64_t batch : {1, 3, 8})
      for (int64_t channels : {1, 3, 4, 17, 37, 64, 130, 520})
        for (int64_t space : {1, 2, 9, 16, 35, 256, 1023})
          for (bool channels_last : {true, false}) {
            if (groups * batch * channels * space > 1 << 18) continue;
            for (int wide : {2, 4, 8})
              for (int64_t items : {1, 6, 1056})
                check({groups, batch, channels, space, channels_last}, wide, true, items, 4);
            check({groups, batch, channels, space, channels_last}, 8, false, 6, 16);
          }
  return failures != 0;
}
