// Numbers as the matrix unit takes them: bfloat16, or float32 as the sum of three bfloat16, of whose
// products six count.
//
// Macros:
//   BF16  whether arrays are bfloat16, rather than float32
#pragma once
#include "bf16.cuh"
#include "mma.cuh"

#if BF16
typedef unsigned short Element;
#else
typedef float Element;
#endif
typedef unsigned short Bf16;
constexpr int PARTS = BF16 ? 1 : 3;

// Two numbers as sums of PARTS pairs of bfloat16.
__device__ inline void split(float low, float high, unsigned (&parts)[PARTS]) {
#pragma unroll
  for (int p = 0; p < PARTS; ++p) {
    parts[p] = pack_bf16(low, high);
    low -= low_half(parts[p]);
    high -= high_half(parts[p]);
  }
}

__device__ inline void read_pair(unsigned (&parts)[PARTS], const Element* from) {
#if BF16
  parts[0] = *(const unsigned*)from;
#else
  const float2 pair = *(const float2*)from;
  split(pair.x, pair.y, parts);
#endif
}

__device__ inline void write_pair(Element* to, float low, float high) {
#if BF16
  *(unsigned*)to = pack_bf16(low, high);
#else
  *(float2*)to = make_float2(low, high);
#endif
}

// Eight numbers as sums of PARTS vectors of bfloat16.
__device__ inline void read_eight(Eight (&parts)[PARTS], const Element* from) {
#if BF16
  parts[0] = *(const Eight*)from;
#else
#pragma unroll
  for (int pair = 0; pair < 4; ++pair) {
    unsigned of_pair[PARTS];
    read_pair(of_pair, from + 2 * pair);
#pragma unroll
    for (int p = 0; p < PARTS; ++p) parts[p].w[pair] = of_pair[p];
  }
#endif
}

// The left side of products: 16 rows, as the matrix unit takes them.
typedef unsigned Left[PARTS][2][2];  // [part][columns 0-7 or 8-15][rows 0-7 or 8-15]

// sums += left right, without products of parts that float32 would drop; small ones come first.
__device__ inline void multiply_parts(float (&sums)[4], const Left& left,
                                      const unsigned (&right)[PARTS][2]) {
#pragma unroll
  for (int order = PARTS - 1; order >= 0; --order)
#pragma unroll
    for (int p = 0; p <= order; ++p) multiply(sums, left[p][0], left[p][1], right[order - p]);
}
