// Moves data between maps and packed lines.

#ifndef DWCONV_JAX_PACK_H_
#define DWCONV_JAX_PACK_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "correlate.h"
#include "shape.h"

namespace dwconv {

// Loads and stores one line, of which the map has `channels`.
inline void Load(const float* from, int64_t channels, Line* to) {
  if (channels >= kBlock) {
    std::memcpy(to, from, sizeof(Line));
  } else {
    *to = Line{};
    std::memcpy(to, from, channels * sizeof(float));
  }
}

inline void Store(const Line& from, int64_t channels, float* to) {
  std::memcpy(to, &from, std::min<int64_t>(channels, kBlock) * sizeof(float));
}

// The lines of a block lie apart in a map, too far for the hardware prefetcher. The address may lie
// beyond the map.
inline void Prefetch(const float* line) {
#ifdef __GNUC__
  __builtin_prefetch(line);
#endif
}

// Packs `rows` map rows of one channel block, each padded by `left` and `right` lines of zeros.
inline void Pack(const float* map, const Shape& shape, int64_t channels, int64_t rows, int64_t left,
          int64_t right, Line* to) {
  for (int64_t r = 0; r < rows; ++r) {
    to = std::fill_n(to, left, Line{});
    for (int64_t w = 0; w < shape.width; ++w, map += shape.channels) Load(map, channels, to++);
    to = std::fill_n(to, right, Line{});
  }
}

// Memory of this thread, reused from call to call.
inline std::vector<Line>& Scratch(int64_t lines) {
  thread_local std::vector<Line> scratch;
  if (static_cast<int64_t>(scratch.size()) < lines) scratch.resize(lines);
  return scratch;
}

}  // namespace dwconv

#endif  // DWCONV_JAX_PACK_H_
