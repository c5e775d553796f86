// bfloat16 as the upper half of a float32.
#pragma once

#ifndef EMULATED
// Two floats rounded to nearest, ties to even; the first in the lower half.
__device__ inline unsigned pack_bf16(float low, float high) {
  unsigned bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}
#endif

__device__ inline float low_half(unsigned bits) { return __uint_as_float(bits << 16); }
__device__ inline float high_half(unsigned bits) { return __uint_as_float(bits & 0xffff0000u); }
