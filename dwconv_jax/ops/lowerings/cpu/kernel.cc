// Depth-wise convolution and its kernel gradient for XLA:CPU, float32, NHWC, any kernel size.
//
// Both compute the same small sum over a packed map (`correlate.h`). In the convolution, its outputs
// are neighboring positions and its taps those of the kernel; in the kernel gradient, its outputs
// are taps of the kernel and its taps are positions.

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "xla/ffi/api/ffi.h"

#include "correlate.h"
#include "pack.h"
#include "parallel_for.h"
#include "shape.h"

namespace dwconv {
namespace {

namespace ffi = xla::ffi;

// Computes `size` outputs, but writes only `count` of them and their `channels` channels.
void CorrelateAside(Sum sum, int64_t size, int64_t count, int64_t channels) {
  Line out[kMaxOutputs];
  float* to = std::exchange(sum.out, out[0].value);
  const int64_t step = std::exchange(sum.out_step, kBlock);
  kCorrelate[size - 1](sum);
  for (int64_t t = 0; t < count; ++t) Store(out[t], channels, to + t * step);
}

// Convolves one strip of rows, for one channel block of one image, at which all pointers start.
void ConvolveStrip(const Shape& shape, int64_t channels, const float* x, const Line* taps,
                   int64_t begin, int64_t end, float* y) {
  const Pieces pieces(shape.width);
  const int64_t line_width = pieces.number * pieces.size + shape.span_w();
  const int64_t top = std::max<int64_t>(0, begin - shape.pad_h());
  const int64_t bottom = std::min(shape.height, end + shape.pad_h());
  const int64_t row = shape.width * shape.channels;
  Line* packed = Scratch((bottom - top) * line_width).data();

  int64_t next = top;  // row to pack
  for (int64_t h = begin; h < end; ++h) {
    const int64_t needed = std::min(bottom, h + shape.pad_h() + 1);
    Pack(x + next * row, shape, channels, needed - next, shape.pad_w(),
         line_width - shape.pad_w() - shape.width, packed + (next - top) * line_width);
    next = needed;

    const int64_t first = shape.first_row(h), last = shape.last_row(h);
    const int64_t seen = h - shape.pad_h() + first * shape.dilation_h - top;
    Sum sum{packed + seen * line_width, shape.dilation_h * line_width, shape.dilation_w, 1,
            taps + first * shape.kernel_w, shape.kernel_w, last - first, shape.kernel_w,
            nullptr, shape.channels, false};
    for (int64_t w = 0; w < shape.width; w += pieces.size, sum.x += pieces.size) {
      const int64_t count = std::min(pieces.size, shape.width - w);
      sum.out = y + h * row + w * shape.channels;
      for (int64_t t = 0; t < count; ++t) {
        Prefetch(x + next * row + (w + t) * shape.channels);
        Prefetch(sum.out + t * shape.channels);
      }
      if (count == pieces.size && channels >= kBlock) {
        kCorrelate[pieces.size - 1](sum);
      } else {
        CorrelateAside(sum, pieces.size, count, channels);
      }
    }
  }
}

// Columns that a partial sum of the kernel gradient takes at most, for the same reason as
// `kPartialSum`; wide enough to leave pictures whole.
constexpr int64_t kMostColumns = 512;

// The kernel gradient of one channel block of one image, at which all pointers start.
void KernelGradientBlock(const Shape& shape, int64_t channels, const float* x, const float* g,
                         float* gradient) {
  const Pieces pieces(shape.kernel_w);
  const int64_t total_width = pieces.number * pieces.size;
  const int64_t idle = (total_width - shape.kernel_w) * shape.dilation_w;
  const int64_t line_width = shape.width + shape.span_w() + idle;
  const int64_t strip = StripRows(shape, line_width + shape.width);
  std::vector<Line>& scratch = Scratch(shape.kernel_h * total_width + strip * shape.width +
                                       (strip + shape.span_h()) * line_width);
  Line* total = scratch.data();
  Line* packed_g = std::fill_n(total, shape.kernel_h * total_width, Line{});
  Line* packed_x = packed_g + strip * shape.width;

  for (int64_t begin = 0; begin < shape.height; begin += strip) {
    const int64_t end = std::min(begin + strip, shape.height);
    const int64_t top = std::max<int64_t>(0, begin - shape.pad_h());
    const int64_t bottom = std::min(shape.height, end + shape.pad_h());
    const int64_t row = shape.width * shape.channels;
    Pack(x + top * row, shape, channels, bottom - top, shape.pad_w(), shape.pad_w() + idle,
         packed_x);
    Pack(g + begin * row, shape, channels, end - begin, 0, 0, packed_g);
    for (int64_t i = 0; i < shape.kernel_h; ++i) {
      const int64_t first = std::max(begin, shape.first_seen(i));
      const int64_t last = std::min(end, shape.last_seen(i));
      const int64_t seen = first + i * shape.dilation_h - shape.pad_h() - top;
      for (int64_t left = 0; left < shape.width; left += kMostColumns) {
        Sum sum{packed_x + seen * line_width + left, line_width, 1, shape.dilation_w,
                packed_g + (first - begin) * shape.width + left, shape.width, last - first,
                std::min(kMostColumns, shape.width - left),
                total[i * total_width].value, kBlock, true};
        for (int64_t j = 0; j < total_width; j += pieces.size) {
          kCorrelate[pieces.size - 1](sum);
          sum.x += pieces.size * shape.dilation_w;
          sum.out += pieces.size * kBlock;
        }
      }
    }
  }
  for (int64_t k = 0; k < shape.taps(); ++k) {
    const Line& sum = total[k / shape.kernel_w * total_width + k % shape.kernel_w];
    Store(sum, channels, gradient + k * shape.channels);
  }
}

using Array = ffi::Buffer<ffi::F32, 4>;
using Result = ffi::ResultBuffer<ffi::F32, 4>;

Shape MakeShape(const Array& x, Array::Dimensions kernel, int64_t dilation_h, int64_t dilation_w) {
  const auto d = x.dimensions();
  return {d[0], d[1], d[2], d[3], kernel[1], kernel[2], dilation_h, dilation_w};
}

ffi::Error Convolve(ffi::ThreadPool pool, Array x, Array weights, Result y, int64_t dilation_h,
                    int64_t dilation_w) {
  const Shape shape = MakeShape(x, weights.dimensions(), dilation_h, dilation_w);
  const float *from = x.typed_data(), *kernels = weights.typed_data();
  float* to = y->typed_data();
  const int64_t image = shape.height * shape.width * shape.channels;
  const int64_t copies = weights.dimensions()[0];
  const int64_t strip = StripRows(shape, shape.width + shape.span_w());
  const int64_t strips = (shape.height + strip - 1) / strip, blocks = shape.blocks();
  thread_local std::vector<Line> packed;
  packed.resize(copies * blocks * shape.taps());
  Line* taps = packed.data();
  ParallelFor(pool, copies * blocks, [&](int64_t i) {
    const int64_t block = i % blocks * kBlock;
    const float* kernel = kernels + i / blocks * shape.taps() * shape.channels + block;
    for (int64_t k = 0; k < shape.taps(); ++k) {
      Load(kernel + k * shape.channels, shape.channels - block, taps + i * shape.taps() + k);
    }
  });
  ParallelFor(pool, shape.batch * strips * blocks, [&](int64_t i) {
    const int64_t block = i % blocks * kBlock, begin = i / blocks % strips * strip;
    const int64_t b = i / blocks / strips;
    ConvolveStrip(shape, shape.channels - block, from + b * image + block,
                  taps + ((copies == 1 ? 0 : b * blocks) + i % blocks) * shape.taps(), begin,
                  std::min(begin + strip, shape.height), to + b * image + block);
  });
  return ffi::Error::Success();
}

ffi::Error KernelGradient(ffi::ThreadPool pool, Array x, Array g, Result gradient,
                          int64_t dilation_h, int64_t dilation_w) {
  const Shape shape = MakeShape(x, gradient->dimensions(), dilation_h, dilation_w);
  const float *map = x.typed_data(), *cotangent = g.typed_data();
  float* to = gradient->typed_data();
  const int64_t image = shape.height * shape.width * shape.channels, blocks = shape.blocks();
  ParallelFor(pool, shape.batch * blocks, [&](int64_t i) {
    const int64_t block = i % blocks * kBlock, b = i / blocks;
    KernelGradientBlock(shape, shape.channels - block, map + b * image + block,
                        cotangent + b * image + block,
                        to + b * shape.taps() * shape.channels + block);
  });
  return ffi::Error::Success();
}

auto Binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<Array>()
      .Arg<Array>()
      .Ret<Array>()
      .Attr<int64_t>("dilation_h")
      .Attr<int64_t>("dilation_w");
}

}  // namespace
}  // namespace dwconv

XLA_FFI_DEFINE_HANDLER_SYMBOL(DwconvConvolve, dwconv::Convolve, dwconv::Binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(DwconvKernelGradient, dwconv::KernelGradient, dwconv::Binding());
