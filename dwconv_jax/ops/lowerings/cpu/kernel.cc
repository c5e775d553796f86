// Depth-wise convolution and its kernel gradient for XLA:CPU, float32, NHWC, any kernel size.
//
// Both are the same small sum over a packed map, `Correlate`: in the convolution its outputs are
// neighbouring positions and its taps those of the kernel; in the kernel gradient its outputs are
// taps of the kernel and its taps are positions. Only this sum is compiled for several
// instruction sets; the rest moves data.

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "xla/ffi/api/ffi.h"

#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
#define DWCONV_X86 1
#endif

namespace {

namespace ffi = xla::ffi;

// Channels are worked on in blocks of one cache line.
constexpr int kBlock = 16;
struct alignas(64) Line {
  float value[kBlock];
};

// The sum's outputs are kept in registers; AVX2 has 16 of them.
constexpr int kMaxOutputs = 14;

// Strips of a map are packed to about this size, so that they stay in the second-level cache.
constexpr int64_t kStripLines = 3072;

// Sums of more products than this, or of one row, are added up in parts: the rounding errors of a
// single float32 accumulator would grow with the size of the map.
constexpr int64_t kPartialSum = 64;

// The line at out + t * out_step becomes, or with `add` grows by, the sum over r < rows, s < taps
// of a[r * a_row + s] * x[r * x_row + s * x_tap + t * x_out].
struct Sum {
  const Line* x;
  int64_t x_row, x_tap, x_out;
  const Line* a;
  int64_t a_row;
  int64_t rows, taps;
  float* out;
  int64_t out_step;  // floats
  bool add;
  int64_t rows_at_once = std::max<int64_t>(1, kPartialSum / taps);
};

template <int kLanes>
struct Simd {
  typedef float Vector __attribute__((vector_size(kLanes * sizeof(float)), may_alias));
};

template <int kLanes, int kOutputs>
__attribute__((always_inline)) inline void CorrelateLanes(const Sum& sum, int64_t x_out, int lane) {
  using Vector = typename Simd<kLanes>::Vector;
  bool add = sum.add;
  int64_t begin = 0;
  do {  // once also where no row of the kernel sees the map: then the sum is zero
    Vector partial[kOutputs] = {};
    for (int64_t r = begin; r < std::min(begin + sum.rows_at_once, sum.rows); ++r) {
      const Line* a = sum.a + r * sum.a_row;
      const Line* x = sum.x + r * sum.x_row;
      for (int64_t s = 0; s < sum.taps; ++s, ++a, x += sum.x_tap) {
        const Vector factor = *reinterpret_cast<const Vector*>(a->value + lane);
#pragma GCC unroll 16
        for (int t = 0; t < kOutputs; ++t) {
          partial[t] += factor * *reinterpret_cast<const Vector*>(x[t * x_out].value + lane);
        }
      }
    }
#pragma GCC unroll 16
    for (int t = 0; t < kOutputs; ++t) {
      float* out = sum.out + t * sum.out_step + lane;  // not aligned where it is part of a map
      Vector before = {};
      if (add) std::memcpy(&before, out, sizeof(Vector));
      partial[t] += before;
      std::memcpy(out, &partial[t], sizeof(Vector));
    }
    begin += sum.rows_at_once;
    add = true;
  } while (begin < sum.rows);
}

template <int kLanes, int kOutputs>
__attribute__((always_inline)) inline void Correlate(const Sum& sum) {
  for (int lane = 0; lane < kBlock; lane += kLanes) {
    if (sum.x_out == 1) {  // a constant makes all addresses immediate
      CorrelateLanes<kLanes, kOutputs>(sum, 1, lane);
    } else {
      CorrelateLanes<kLanes, kOutputs>(sum, sum.x_out, lane);
    }
  }
}

// One function for each number of outputs; entry 0 is for one output.
using CorrelateTable = std::array<void (*)(const Sum&), kMaxOutputs>;

#define DWCONV_CORRELATE(name, lanes, attribute)                              \
  template <int kOutputs>                                                     \
  attribute void Correlate##name(const Sum& sum) {                            \
    Correlate<lanes, kOutputs>(sum);                                          \
  }                                                                           \
  template <int... kIndex>                                                    \
  CorrelateTable Table##name(std::integer_sequence<int, kIndex...>) {         \
    return {Correlate##name<kIndex + 1>...};                                  \
  }

DWCONV_CORRELATE(Baseline, 4, )
#ifdef DWCONV_X86
DWCONV_CORRELATE(Avx2, 8, __attribute__((target("avx2,fma"))))
DWCONV_CORRELATE(Avx512, 16, __attribute__((target("avx512f"))))
#endif

CorrelateTable BestTable() {
  const auto outputs = std::make_integer_sequence<int, kMaxOutputs>();
#ifdef DWCONV_X86
  if (__builtin_cpu_supports("avx512f")) return TableAvx512(outputs);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return TableAvx2(outputs);
#endif
  return TableBaseline(outputs);
}

const CorrelateTable kCorrelate = BestTable();

// Runs `work(i)` for all i < count on the caller and on XLA's threads. The caller takes part until
// nothing is left to claim, so that it never waits for a thread that has not started.
template <typename Work>
void ParallelFor(ffi::ThreadPool& pool, int64_t count, const Work& work) {
  struct Progress {
    std::atomic<int64_t> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable finished;
  };
  auto progress = std::make_shared<Progress>();
  // Late threads find nothing to claim: they touch `progress`, which they own, but never `work`.
  auto run = [progress, count, &work] {
    int64_t finished = 0;
    for (int64_t i; (i = progress->next.fetch_add(1)) < count; ++finished) work(i);
    if (finished && progress->done.fetch_add(finished) + finished == count) {
      std::lock_guard<std::mutex> lock(progress->mutex);
      progress->finished.notify_one();
    }
  };
  const int64_t helpers = std::min(pool.num_threads(), count) - 1;
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule(decltype(run)(run));
  run();

  const auto all_done = [&] { return progress->done.load() == count; };
  for (int spin = 0; spin < 64 && !all_done(); ++spin) std::this_thread::yield();
  if (all_done()) return;
  std::unique_lock<std::mutex> lock(progress->mutex);
  progress->finished.wait(lock, all_done);
}

struct Shape {
  int64_t batch, height, width, channels;
  int64_t kernel_h, kernel_w, dilation_h, dilation_w;

  int64_t span_h() const { return dilation_h * (kernel_h - 1); }
  int64_t span_w() const { return dilation_w * (kernel_w - 1); }
  int64_t pad_h() const { return span_h() / 2; }
  int64_t pad_w() const { return span_w() / 2; }
  int64_t taps() const { return kernel_h * kernel_w; }
  int64_t blocks() const { return (channels + kBlock - 1) / kBlock; }

  // Kernel rows [first, last) that see the map from map row `h`.
  int64_t first_row(int64_t h) const {
    return h >= pad_h() ? 0 : (pad_h() - h + dilation_h - 1) / dilation_h;
  }
  int64_t last_row(int64_t h) const {
    return std::min(kernel_h, (height - 1 - h + pad_h()) / dilation_h + 1);
  }
  // Map rows [first, last) from which kernel row `i` sees the map.
  int64_t first_seen(int64_t i) const { return std::max<int64_t>(0, pad_h() - i * dilation_h); }
  int64_t last_seen(int64_t i) const { return std::min(height, height + pad_h() - i * dilation_h); }
};

// `count` outputs in equal pieces of at most kMaxOutputs, the last one maybe with idle outputs.
struct Pieces {
  explicit Pieces(int64_t count)
      : number((count + kMaxOutputs - 1) / kMaxOutputs), size((count + number - 1) / number) {}
  int64_t number, size;
};

int64_t StripRows(const Shape& shape, int64_t line_width) {
  const int64_t fitting = kStripLines / line_width - shape.span_h();
  const int64_t rows = std::max({fitting, shape.span_h(), int64_t{1}});
  const int64_t strips = (shape.height + rows - 1) / rows;
  return (shape.height + strips - 1) / strips;
}

void Load(const float* from, int64_t channels, Line* to) {
  if (channels >= kBlock) {
    std::memcpy(to, from, sizeof(Line));
  } else {
    *to = Line{};
    std::memcpy(to, from, channels * sizeof(float));
  }
}

void Store(const Line& from, int64_t channels, float* to) {
  std::memcpy(to, &from, std::min<int64_t>(channels, kBlock) * sizeof(float));
}

// Lines of a block lie apart in a map, where the processor does not foresee them. A hint may point
// anywhere, also beyond the map.
void Prefetch(const float* line) {
#ifdef __GNUC__
  __builtin_prefetch(line);
#endif
}

// Packs `rows` map rows of one channel block, each as `left` zeros, its positions, `right` zeros.
void Pack(const float* map, const Shape& shape, int64_t channels, int64_t rows, int64_t left,
          int64_t right, Line* to) {
  for (int64_t r = 0; r < rows; ++r) {
    to = std::fill_n(to, left, Line{});
    for (int64_t w = 0; w < shape.width; ++w, map += shape.channels) Load(map, channels, to++);
    to = std::fill_n(to, right, Line{});
  }
}

std::vector<Line>& Scratch(int64_t lines) {
  thread_local std::vector<Line> scratch;
  if (static_cast<int64_t>(scratch.size()) < lines) scratch.resize(lines);
  return scratch;
}

// Sums `size` outputs, of which `count` positions of `channels` channels have a place in `sum.out`.
void CorrelateAside(Sum sum, int64_t size, int64_t count, int64_t channels) {
  Line out[kMaxOutputs];
  float* to = std::exchange(sum.out, out[0].value);
  const int64_t step = std::exchange(sum.out_step, kBlock);
  kCorrelate[size - 1](sum);
  for (int64_t t = 0; t < count; ++t) Store(out[t], channels, to + t * step);
}

// One strip of rows of one channel block of one image. All pointers are at that image and block.
void ConvolveStrip(const Shape& shape, int64_t channels, const float* x, const Line* taps,
                   int64_t begin, int64_t end, float* y) {
  const Pieces pieces(shape.width);
  const int64_t line_width = pieces.number * pieces.size + shape.span_w();
  const int64_t top = std::max<int64_t>(0, begin - shape.pad_h());
  const int64_t bottom = std::min(shape.height, end + shape.pad_h());
  const int64_t row = shape.width * shape.channels;
  Line* packed = Scratch((bottom - top) * line_width).data();

  int64_t next = top;  // to be packed
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

// One channel block of one image. All pointers are at that image and block.
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
      Sum sum{packed_x + seen * line_width, line_width, 1, shape.dilation_w,
              packed_g + (first - begin) * shape.width, shape.width, last - first, shape.width,
              total[i * total_width].value, kBlock, true};
      for (int64_t j = 0; j < total_width; j += pieces.size) {
        kCorrelate[pieces.size - 1](sum);
        sum.x += pieces.size * shape.dilation_w;
        sum.out += pieces.size * kBlock;
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

XLA_FFI_DEFINE_HANDLER_SYMBOL(DwconvConvolve, Convolve, Binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(DwconvKernelGradient, KernelGradient, Binding());
