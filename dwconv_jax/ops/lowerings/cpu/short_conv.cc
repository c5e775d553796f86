// Causal short convolution, bias and SiLU for XLA:CPU, and all its gradients in one pass; float32.
//
// Rows of channels stream through the cache token by token: the convolution reads its input once and
// writes its output once, the gradients read the input and the cotangent once and write one gradient.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "xla/ffi/api/ffi.h"

#include "parallel_for.h"
#include "short_conv.h"

namespace dwconv {
namespace {

namespace ffi = xla::ffi;

// What one thread works on at a time: tokens, and channels whose rows stay in the cache.
constexpr int64_t kChunk = 128;
constexpr int64_t kPanel = 512;

struct Sizes {
  int64_t batch, length, channels, taps;
  int64_t past() const { return taps - 1; }
  int64_t chunks() const { return (length + kChunk - 1) / kChunk; }
  int64_t panels() const { return (channels + kPanel - 1) / kPanel; }
  int64_t items() const { return batch * chunks() * panels(); }
};

// A part of one sequence: tokens [begin, end) of one panel of channels, at which all pointers start.
struct Part {
  Part(const Sizes& sizes, int64_t item, const float* x, const float* weights, int64_t copies,
       const float* state, const int32_t* visible, bool silu)
      : sizes(sizes),
        sequence(item / sizes.panels() / sizes.chunks()),
        chunk(item / sizes.panels() % sizes.chunks()),
        channel(item % sizes.panels() * kPanel),
        begin(chunk * kChunk),
        end(std::min(begin + kChunk, sizes.length)),
        visible(visible + sequence * sizes.length) {
    const int64_t c = sizes.channels, past = sizes.past();
    x += sequence * sizes.length * c + channel;
    state += sequence * past * c + channel;
    for (int64_t t = begin - past; t < std::min(end + past, sizes.length); ++t) {
      rows.push_back(t < 0 ? state + (t + past) * c : x + t * c);
    }
    weights += (copies == 1 ? 0 : sequence * (sizes.taps + 1) * c) + channel;
    tokens = {nullptr, weights, sizes.taps, 0, std::min(kPanel, c - channel), c, silu};
  }

  // Sets up tokens from `t` on, before `last`, and returns how many to compute at once.
  int64_t Next(int64_t t, int64_t last) {
    tokens.x = rows.data() + (t - begin);
    tokens.first = 0;
    if (t + kTokens <= last &&
        std::all_of(visible + t, visible + t + kTokens, [&](int32_t n) { return n >= sizes.taps; })) {
      return kTokens;
    }
    tokens.first = std::max<int64_t>(0, sizes.taps - visible[t]);
    return 1;
  }

  // Where token `t` lies in an array `[B, L, C]`.
  int64_t offset(int64_t t) const { return (sequence * sizes.length + t) * sizes.channels + channel; }

  const Sizes sizes;
  const int64_t sequence, chunk, channel, begin, end;
  const int32_t* visible;
  std::vector<const float*> rows;  // from the first token's first tap on
  Tokens tokens;
};

void ConvolvePart(Part part, float* y) {
  for (int64_t t = part.begin, count; t < part.end; t += count) {
    count = part.Next(t, part.end);
    (count == 1 ? kShortConv.convolve_one : kShortConv.convolve)(part.tokens, y + part.offset(t));
  }
}

// Adds to `weights`, `[taps + 1, C]`, and writes the gradients of the inputs that the part owns: its
// tokens, and the state if it begins the sequence. Tokens behind the part see its last tokens too.
void PullBackPart(Part part, const float* g, float* x, float* weights, float* state) {
  const Sizes& sizes = part.sizes;
  const int64_t c = sizes.channels, past = sizes.past(), width = part.tokens.channels;
  thread_local std::vector<float> scratch;
  scratch.assign((sizes.taps + 1 + sizes.taps) * kPanel, 0.0f);
  float *sums = scratch.data(), *carry = sums + (sizes.taps + 1) * width, *idle = carry + past * width;
  const auto row = [&](int64_t t) {  // of the gradient of input `t`
    if (t >= part.begin && t < part.end) return x + part.offset(t);
    if (t >= 0) return idle;
    return part.begin == 0 ? state + (part.sequence * past + t + past) * c + part.channel : idle;
  };

  const int64_t last = std::min(part.end + past, sizes.length);
  for (int64_t t = part.begin, count; t < last; t += count) {
    const bool inside = t < part.end;
    count = part.Next(t, inside ? part.end : last);
    float* done[kTokens];
    for (int64_t i = 0; i < count; ++i) done[i] = row(t - past + i);
    const Cotangents to{g + part.offset(t), inside ? sums : nullptr, carry, done, width};
    (count == 1 ? kShortConv.pull_back_one : kShortConv.pull_back)(part.tokens, to);
  }
  for (int64_t i = 0; i < past; ++i) {
    std::copy_n(carry + i * width, width, row(last - past + i));
  }
  for (int64_t j = 0; j <= sizes.taps; ++j) {
    std::copy_n(sums + j * width, width, weights + j * c + part.channel);
  }
}

using Array = ffi::Buffer<ffi::F32, 3>;
using Result = ffi::ResultBuffer<ffi::F32, 3>;
using Counts = ffi::Buffer<ffi::S32, 2>;

Sizes MakeSizes(const Array& x, const Array& weights) {
  const auto d = x.dimensions();
  return {d[0], d[1], d[2], weights.dimensions()[1] - 1};
}

ffi::Error ShortConv(ffi::ThreadPool pool, Array x, Array weights, Array state, Counts visible,
                     Result y, bool silu) {
  const Sizes sizes = MakeSizes(x, weights);
  ParallelFor(pool, sizes.items(), [&](int64_t i) {
    ConvolvePart(Part(sizes, i, x.typed_data(), weights.typed_data(), weights.dimensions()[0],
                      state.typed_data(), visible.typed_data(), silu),
                 y->typed_data());
  });
  return ffi::Error::Success();
}

ffi::Error ShortConvGradients(ffi::ThreadPool pool, Array x, Array weights, Array state,
                              Counts visible, Array g, Result x_gradient, Result weight_gradient,
                              Result state_gradient, bool silu) {
  const Sizes sizes = MakeSizes(x, weights);
  const int64_t size = (sizes.taps + 1) * sizes.channels;  // of the weights of a sequence
  thread_local std::vector<float> parts;
  parts.resize(sizes.batch * sizes.chunks() * size);
  float *sums = parts.data(), *total = weight_gradient->typed_data();
  ParallelFor(pool, sizes.items(), [&](int64_t i) {
    PullBackPart(Part(sizes, i, x.typed_data(), weights.typed_data(), weights.dimensions()[0],
                      state.typed_data(), visible.typed_data(), silu),
                 g.typed_data(), x_gradient->typed_data(), sums + i / sizes.panels() * size,
                 state_gradient->typed_data());
  });
  ParallelFor(pool, sizes.batch, [&](int64_t b) {
    float* to = total + b * size;
    std::fill_n(to, size, 0.0f);
    for (int64_t i = 0; i < sizes.chunks(); ++i) {
      const float* from = sums + (b * sizes.chunks() + i) * size;
      for (int64_t k = 0; k < size; ++k) to[k] += from[k];
    }
  });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace dwconv

XLA_FFI_DEFINE_HANDLER_SYMBOL(DwconvShortConv, dwconv::ShortConv,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<dwconv::Array>()
                                  .Arg<dwconv::Array>()
                                  .Arg<dwconv::Array>()
                                  .Arg<dwconv::Counts>()
                                  .Ret<dwconv::Array>()
                                  .Attr<bool>("silu"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(DwconvShortConvGradients, dwconv::ShortConvGradients,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<dwconv::Array>()
                                  .Arg<dwconv::Array>()
                                  .Arg<dwconv::Array>()
                                  .Arg<dwconv::Counts>()
                                  .Arg<dwconv::Array>()
                                  .Ret<dwconv::Array>()
                                  .Ret<dwconv::Array>()
                                  .Ret<dwconv::Array>()
                                  .Attr<bool>("silu"));
