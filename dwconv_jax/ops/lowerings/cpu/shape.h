// The sizes of a depth-wise convolution, and how its map is split.

#ifndef DWCONV_JAX_SHAPE_H_
#define DWCONV_JAX_SHAPE_H_

#include <algorithm>
#include <cstdint>

#include "correlate.h"

namespace dwconv {

struct Shape {
  int64_t batch, height, width, channels;
  int64_t kernel_h, kernel_w, dilation_h, dilation_w;

  int64_t span_h() const { return dilation_h * (kernel_h - 1); }
  int64_t span_w() const { return dilation_w * (kernel_w - 1); }
  int64_t pad_h() const { return span_h() / 2; }
  int64_t pad_w() const { return span_w() / 2; }
  int64_t taps() const { return kernel_h * kernel_w; }
  int64_t blocks() const { return (channels + kBlock - 1) / kBlock; }

  // Kernel rows [first, last) that fall inside the map at map row `h`.
  int64_t first_row(int64_t h) const {
    return h >= pad_h() ? 0 : (pad_h() - h + dilation_h - 1) / dilation_h;
  }
  int64_t last_row(int64_t h) const {
    return std::min(kernel_h, (height - 1 - h + pad_h()) / dilation_h + 1);
  }
  // Map rows [first, last) at which kernel row `i` falls inside the map.
  int64_t first_seen(int64_t i) const { return std::max<int64_t>(0, pad_h() - i * dilation_h); }
  int64_t last_seen(int64_t i) const { return std::min(height, height + pad_h() - i * dilation_h); }
};

// Splits `count` outputs into equal pieces of at most kMaxOutputs; the last may have idle outputs.
struct Pieces {
  explicit Pieces(int64_t count)
      : number((count + kMaxOutputs - 1) / kMaxOutputs), size((count + number - 1) / number) {}
  int64_t number, size;
};

// Strips of a map are packed to about this size, to stay in the second-level cache.
constexpr int64_t kStripLines = 3072;

// Rows of a strip, for packed rows of `line_width` lines.
inline int64_t StripRows(const Shape& shape, int64_t line_width) {
  const int64_t fitting = kStripLines / line_width - shape.span_h();
  const int64_t rows = std::max({fitting, shape.span_h(), int64_t{1}});
  const int64_t strips = (shape.height + rows - 1) / rows;
  return (shape.height + strips - 1) / strips;
}

}  // namespace dwconv

#endif  // DWCONV_JAX_SHAPE_H_
