// The small sum that the convolution and its kernel gradient share, and the only code that is compiled
// for several instruction sets.

#ifndef DWCONV_JAX_CORRELATE_H_
#define DWCONV_JAX_CORRELATE_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
#define DWCONV_X86 1
#endif

namespace dwconv {

// Channels are processed in blocks of one cache line.
constexpr int kBlock = 16;
struct alignas(64) Line {
  float value[kBlock];
};

// The outputs of a sum stay in registers, of which AVX2 has 16.
constexpr int kMaxOutputs = 14;

// Long sums are added up in parts of about this many products, at least one row each: the rounding
// error of a single float32 accumulator would grow with the size of the map.
constexpr int64_t kPartialSum = 64;

// Sets the line at out + t * out_step, or adds to it if `add`, to the sum over r < rows, s < taps of
// a[r * a_row + s] * x[r * x_row + s * x_tap + t * x_out].
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
  do {  // at least once: where no row of the kernel sees the map, the sum is zero
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
      float* out = sum.out + t * sum.out_step + lane;  // unaligned inside a map
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
    if (sum.x_out == 1) {  // a constant stride gives immediate addresses
      CorrelateLanes<kLanes, kOutputs>(sum, 1, lane);
    } else {
      CorrelateLanes<kLanes, kOutputs>(sum, sum.x_out, lane);
    }
  }
}

// One function per number of outputs; entry 0 is for one output.
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

inline CorrelateTable BestTable() {
  const auto outputs = std::make_integer_sequence<int, kMaxOutputs>();
#ifdef DWCONV_X86
  if (__builtin_cpu_supports("avx512f")) return TableAvx512(outputs);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return TableAvx2(outputs);
#endif
  return TableBaseline(outputs);
}

inline const CorrelateTable kCorrelate = BestTable();

}  // namespace dwconv

#endif  // DWCONV_JAX_CORRELATE_H_
