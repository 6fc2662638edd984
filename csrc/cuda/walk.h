// Which thread of which block touches which elements of a (N, C, *) tensor. Plain arithmetic, for host and device.
#pragma once

#include <stdint.h>

#include "../include/device.h"
#include "../include/shape.h"

namespace fastgan::FASTGAN_ISA {

// A tensor as tiles of columns, and their values as chunks. Work on one chunk of one tile of one group is an item, and
// one block's. In it `lanes` threads lie side by side, each with `width` elements, and `rows` of them below each other
// that step through the values of the chunk.
//
// Channels last: a column is a channel and its values are rows. Where the channels do not fill whole accesses of
// `width`, but some rows together do, so many rows are folded into one, and a channel has as many columns.
// Contiguous: a tile is one channel, whose values are the accesses of `width` in its planes, sample by sample.
struct Walk {
  int64_t groups, tiles, chunks;
  int64_t values;                   // of a column in a group
  int64_t length;                   // of a chunk, but for the last
  int64_t columns;                  // elements of a row; contiguous: the channels
  int64_t fold;                     // columns / channels
  int64_t channels, space, batch;   // space: accesses in a plane, and 1 where channels are last
  int64_t step, inside_step, wrap;  // from one value of a thread to its next; see Cursor
  int lanes, rows, width;
  bool channels_last;

  FASTGAN_INLINE int64_t items() const { return groups * tiles * chunks; }
  FASTGAN_INLINE int64_t elements_of_a_channel() const { return channels_last ? values * fold : values * width; }
};

// Division of numbers that are not negative, which a GPU does far faster in 32 bits.
FASTGAN_INLINE int64_t quotient(int64_t a, int64_t b) {
  return ((a | b) >> 32) == 0 ? int64_t(uint32_t(a) / uint32_t(b)) : a / b;
}

// The part of a thread in an item.
struct Place {
  int64_t group, tile, chunk;
  int64_t begin, end;  // its values are begin, begin + rows, ...; none for a thread that is left over
  int64_t column;      // its first one
  FASTGAN_INLINE int64_t channel(const Walk& w, int k) const {
    if (!w.channels_last) return tile;
    return w.fold == 1 ? column + k : int(column + k) % int(w.channels);  // folded rows are short
  }
};

FASTGAN_INLINE Place place_of(const Walk& w, int64_t item, int thread) {
  Place p;
  const int64_t row_of_tiles = quotient(item, w.tiles);
  p.tile = item - row_of_tiles * w.tiles;
  p.group = quotient(row_of_tiles, w.chunks);
  p.chunk = row_of_tiles - p.group * w.chunks;
  const int row = thread / w.lanes, lane = thread - row * w.lanes;
  p.column = w.channels_last ? (p.tile * w.lanes + lane) * w.width : p.tile;
  const int64_t begin = p.chunk * w.length, end = begin + w.length;
  p.begin = begin + row;
  p.end = end < w.values ? end : w.values;
  const bool left_over = row >= w.rows || p.column >= w.columns;
  if (left_over) p.begin = p.end;
  if (left_over) p.column = 0;  // so that reading its parameters is harmless
  return p;
}

// Where a value lies, and how to get to the thread's next: `inside` counts the accesses within a plane.
struct Cursor {
  int64_t at, inside;

  FASTGAN_INLINE Cursor(const Walk& w, const Place& p, int64_t value) {
    if (w.channels_last) {
      at = (p.group * w.values + value) * w.columns + p.column;
      inside = 0;
    } else {
      const int64_t sample = quotient(value, w.space);
      inside = value - sample * w.space;
      at = (((p.group * w.batch + sample) * w.channels + p.tile) * w.space + inside) * w.width;
    }
  }
  FASTGAN_INLINE void advance(const Walk& w) {
    at += w.step;
    inside += w.inside_step;
    if (inside >= w.space) {
      inside -= w.space;
      at += w.wrap;
    }
  }
};

inline int64_t greatest_common_divisor(int64_t a, int64_t b) { return b == 0 ? a : greatest_common_divisor(b, a % b); }

// `wide`: elements of a 16-byte access, `aligned`: whether all tensors permit it. About `items` items are cut, as long
// as each thread keeps `fewest` values.
inline Walk walk_of(const Shape& s, int wide, bool aligned, int threads, int64_t items, int64_t fewest) {
  constexpr int64_t kMostLanes = 32;
  Walk w = {};
  w.groups = s.groups;
  w.batch = s.batch;
  w.channels = s.channels;
  w.channels_last = s.channels_last;
  if (s.channels_last) {
    const int64_t rows = s.batch * s.space, fold = wide / greatest_common_divisor(s.channels, wide);
    const bool fits = aligned && rows % fold == 0 && (fold == 1 || s.channels * fold <= kMostLanes * wide);
    w.width = fits ? wide : 1;
    w.fold = fits ? fold : 1;
    w.columns = s.channels * w.fold;
    w.values = rows / w.fold;
    w.space = 1;
    const int64_t accesses = w.columns / w.width;
    w.tiles = (accesses + kMostLanes - 1) / kMostLanes;
    w.lanes = int((accesses + w.tiles - 1) / w.tiles);
    w.rows = threads / w.lanes;
    w.step = w.rows * w.columns;
  } else {
    w.width = aligned && s.space % wide == 0 ? wide : 1;
    w.columns = s.channels;
    w.fold = 1;
    w.space = s.space / w.width;
    w.values = s.batch * w.space;
    w.tiles = s.channels;
    w.lanes = 1;
    w.rows = threads;
    w.inside_step = w.rows % w.space;
    w.step = (w.rows / w.space * w.channels * w.space + w.inside_step) * w.width;
    w.wrap = (w.channels - 1) * w.space * w.width;
  }
  const int64_t wanted = (items + w.groups * w.tiles - 1) / (w.groups * w.tiles);
  const int64_t most = w.values / (w.rows * fewest);
  const int64_t chunks = most < 1 ? 1 : wanted < most ? wanted : most;
  w.length = (w.values + chunks - 1) / chunks;
  w.chunks = (w.values + w.length - 1) / w.length;
  return w;
}

}  // namespace fastgan::FASTGAN_ISA
