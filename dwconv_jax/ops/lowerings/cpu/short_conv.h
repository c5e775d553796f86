// The inner loops of the short convolution, and its only code that is compiled for several instruction
// sets.

#ifndef DWCONV_JAX_SHORT_CONV_H_
#define DWCONV_JAX_SHORT_CONV_H_

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "correlate.h"

namespace dwconv {

// Tokens that are computed together, which share the loads of taps and inputs.
constexpr int kTokens = 4;

// A vector of floats, and of integers as wide.
template <int kLanes>
struct Floats {
  typedef float Vector __attribute__((vector_size(kLanes * sizeof(float)), may_alias));
  typedef int32_t Integers __attribute__((vector_size(kLanes * sizeof(int32_t)), may_alias));
};

#define DWCONV_INLINE __attribute__((always_inline)) inline

// The first `count` lanes, the others zero.
template <int kLanes>
DWCONV_INLINE typename Floats<kLanes>::Vector LoadLanes(const float* from, int64_t count) {
  typename Floats<kLanes>::Vector v = {};
  if (count >= kLanes) {
    std::memcpy(&v, from, sizeof(v));
  } else {
    std::memcpy(&v, from, count * sizeof(float));
  }
  return v;
}

template <int kLanes>
DWCONV_INLINE void StoreLanes(typename Floats<kLanes>::Vector v, float* to, int64_t count) {
  if (count >= kLanes) {
    std::memcpy(to, &v, sizeof(v));
  } else {
    std::memcpy(to, &v, count * sizeof(float));
  }
}

// 1 / (1 + exp(-x)) to 2 units in the last place. exp(-x) = 2^n exp(r) with |r| <= ln(2) / 2.
template <int kLanes>
DWCONV_INLINE typename Floats<kLanes>::Vector Sigmoid(typename Floats<kLanes>::Vector x) {
  using Vector = typename Floats<kLanes>::Vector;
  using Integers = typename Floats<kLanes>::Integers;
  const Vector low = Vector{} - 87.0f, high = Vector{} + 88.0f;
  Vector v = -x;
  v = v < low ? low : v;
  v = v > high ? high : v;
  const Vector shift = Vector{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Vector shifted = v * 1.44269504f + shift;
  const Vector n = shifted - shift;
  const Vector r = (v - n * 0.693359375f) + n * 2.12194440e-4f;
  Vector p = Vector{} + 1.0f / 5040;
  for (const float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) p = p * r + c;
  Integers bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits + 127) << 23;  // the shift's own bits leave at the top
  Vector scale;
  std::memcpy(&scale, &bits, sizeof(scale));
  return 1.0f / (1.0f + p * scale);
}

// One or more tokens of a sequence, and where their channels lie.
struct Tokens {
  const float* const* x;  // the rows seen by the first tap: taps - 1 before each token, then itself
  const float* weights;   // taps + 1 rows of `stride`; the last is the bias
  int64_t taps, first;    // tokens see the taps from the first on
  int64_t channels, stride;
  bool silu;
};

// Sums the taps of tokens [0, kCount) at channel `c`.
template <int kLanes, int kCount>
DWCONV_INLINE void SumTaps(const Tokens& at, int64_t c, int64_t count,
                           typename Floats<kLanes>::Vector* sum) {
  const auto bias = LoadLanes<kLanes>(at.weights + at.taps * at.stride + c, count);
#pragma GCC unroll 4
  for (int t = 0; t < kCount; ++t) sum[t] = bias;
  for (int64_t j = at.first; j < at.taps; ++j) {
    const auto weight = LoadLanes<kLanes>(at.weights + j * at.stride + c, count);
#pragma GCC unroll 4
    for (int t = 0; t < kCount; ++t) sum[t] += weight * LoadLanes<kLanes>(at.x[j + t] + c, count);
  }
}

template <int kLanes, int kCount>
DWCONV_INLINE void ConvolveLanes(const Tokens& at, int64_t c, int64_t count, float* y) {
  typename Floats<kLanes>::Vector sum[kCount];
  SumTaps<kLanes, kCount>(at, c, count, sum);
#pragma GCC unroll 4
  for (int t = 0; t < kCount; ++t) {
    if (at.silu) sum[t] *= Sigmoid<kLanes>(sum[t]);
    StoreLanes<kLanes>(sum[t], y + t * at.stride + c, count);
  }
}

// The convolution of tokens [0, kCount).
template <int kLanes, int kCount>
DWCONV_INLINE void ConvolveTokens(const Tokens& at, float* y) {
  int64_t c = 0;
  for (; c + kLanes <= at.channels; c += kLanes) ConvolveLanes<kLanes, kCount>(at, c, kLanes, y);
  if (c < at.channels) ConvolveLanes<kLanes, kCount>(at, c, at.channels - c, y);
}

// Where the gradients of tokens go.
struct Cotangents {
  const float* g;       // of the first token's result; the next lie `stride` apart
  float* weights;       // rows `width` apart, to add to; null to add nothing
  float* carry;         // taps - 1 rows `width` apart: sums for inputs that later tokens see too
  float* const* x;      // rows of the inputs that no later token sees, one a token
  int64_t width;
};

template <int kLanes, int kCount, int kTaps>
DWCONV_INLINE void PullBackLanes(const Tokens& at, const Cotangents& to, int64_t c, int64_t count) {
  using Vector = typename Floats<kLanes>::Vector;
  const int64_t taps = kTaps ? kTaps : at.taps;
  Vector u[kCount] = {};  // the gradient before the activation
  if (at.silu) SumTaps<kLanes, kCount>(at, c, count, u);
#pragma GCC unroll 4
  for (int t = 0; t < kCount; ++t) {
    const Vector g = LoadLanes<kLanes>(to.g + t * at.stride + c, count);
    if (at.silu) {
      const Vector sigmoid = Sigmoid<kLanes>(u[t]);
      u[t] = g * sigmoid * (1.0f + u[t] * (1.0f - sigmoid));
    } else {
      u[t] = g;
    }
  }
  if (to.weights) {
    float* bias = to.weights + taps * to.width + c;
    Vector sum = LoadLanes<kLanes>(bias, count);
#pragma GCC unroll 4
    for (int t = 0; t < kCount; ++t) sum += u[t];
    StoreLanes<kLanes>(sum, bias, count);
#pragma GCC unroll 4
    for (int64_t j = at.first; j < taps; ++j) {
      float* weight = to.weights + j * to.width + c;
      sum = LoadLanes<kLanes>(weight, count);
#pragma GCC unroll 4
      for (int t = 0; t < kCount; ++t) sum += u[t] * LoadLanes<kLanes>(at.x[j + t] + c, count);
      StoreLanes<kLanes>(sum, weight, count);
    }
  }
#pragma GCC unroll 8
  for (int64_t i = 0; i < taps - 1 + kCount; ++i) {  // inputs from the first token's first tap on
    Vector sum = {};
    if (i < taps - 1) sum = LoadLanes<kLanes>(to.carry + i * to.width + c, count);
#pragma GCC unroll 4
    for (int t = 0; t < kCount; ++t) {
      const int64_t j = i - t;
      if (j >= at.first && j < taps) {
        sum += u[t] * LoadLanes<kLanes>(at.weights + j * at.stride + c, count);
      }
    }
    StoreLanes<kLanes>(sum, i < kCount ? to.x[i] + c : to.carry + (i - kCount) * to.width + c, count);
  }
}

// The gradients of tokens [0, kCount); kTaps is 0 or the number of taps.
template <int kLanes, int kCount, int kTaps>
DWCONV_INLINE void PullBackTokens(const Tokens& at, const Cotangents& to) {
  int64_t c = 0;
  for (; c + kLanes <= at.channels; c += kLanes) {
    PullBackLanes<kLanes, kCount, kTaps>(at, to, c, kLanes);
  }
  if (c < at.channels) PullBackLanes<kLanes, kCount, kTaps>(at, to, c, at.channels - c);
}

// What one instruction set offers: for one token, whose taps may begin late, and for kTokens.
struct ShortConvTable {
  void (*convolve_one)(const Tokens&, float*);
  void (*convolve)(const Tokens&, float*);
  void (*pull_back_one)(const Tokens&, const Cotangents&);
  void (*pull_back)(const Tokens&, const Cotangents&);
};

#define DWCONV_SHORT_CONV(name, lanes, attribute)                                        \
  template <int kCount>                                                                  \
  attribute void Convolve##name(const Tokens& at, float* y) {                            \
    ConvolveTokens<lanes, kCount>(at, y);                                                \
  }                                                                                      \
  template <int kCount>                                                                  \
  attribute void PullBack##name(const Tokens& at, const Cotangents& to) {                \
    if (kCount == kTokens && at.taps == 4 && at.first == 0) {                            \
      PullBackTokens<lanes, kCount, 4>(at, to);                                          \
    } else {                                                                             \
      PullBackTokens<lanes, kCount, 0>(at, to);                                          \
    }                                                                                    \
  }                                                                                      \
  inline ShortConvTable ShortConv##name() {                                              \
    return {Convolve##name<1>, Convolve##name<kTokens>, PullBack##name<1>,               \
            PullBack##name<kTokens>};                                                    \
  }

DWCONV_SHORT_CONV(Baseline, 4, )
#ifdef DWCONV_X86
DWCONV_SHORT_CONV(Avx2, 8, __attribute__((target("avx2,fma"))))
DWCONV_SHORT_CONV(Avx512, 16, __attribute__((target("avx512f"))))
#endif

inline ShortConvTable BestShortConv() {
#ifdef DWCONV_X86
  if (__builtin_cpu_supports("avx512f")) return ShortConvAvx512();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return ShortConvAvx2();
#endif
  return ShortConvBaseline();
}

inline const ShortConvTable kShortConv = BestShortConv();

}  // namespace dwconv

#endif  // DWCONV_JAX_SHORT_CONV_H_
