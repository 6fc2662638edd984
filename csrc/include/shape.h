// How kernels see a tensor: its storage and its shape. Free of torch headers.
#pragma once

#include <stdint.h>

namespace fastgan {

enum class Storage : int { float32, float64, bfloat16, float16 };

// A dense tensor as `groups` equal consecutive parts, each of `batch` samples, `channels` and `space` elements.
// A channel has `batch * space` values in a group.
struct Shape {
  int64_t groups, batch, channels, space;
  bool channels_last;
  // Elements after the last whole row of channels, where rows are not samples: channels_last, and one group.
  int64_t tail = 0;
};

}  // namespace fastgan
