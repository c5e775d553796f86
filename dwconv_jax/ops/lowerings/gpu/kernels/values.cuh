// The V neighboring channels that a thread of the register kernels works on: 2, or 1 of an odd C.
#pragma once
#include "bf16.cuh"

#if BF16
typedef unsigned short Element;
#if V == 2
typedef unsigned Packed;
#else
typedef unsigned short Packed;
#endif
#else
typedef float Element;
#if V == 2
typedef float2 Packed;
#else
typedef float Packed;
#endif
#endif

struct Values {
  float v[V];
};

__device__ inline Packed zero() {
#if !BF16 && V == 2
  return make_float2(0.f, 0.f);
#else
  return 0;
#endif
}

__device__ inline Values widen(Packed p) {
  Values r;
#if BF16
  r.v[0] = low_half(p);
#if V == 2
  r.v[1] = high_half(p);
#endif
#elif V == 2
  r.v[0] = p.x;
  r.v[1] = p.y;
#else
  r.v[0] = p;
#endif
  return r;
}

__device__ inline Packed narrow(Values r) {
#if BF16
  return (Packed)pack_bf16(r.v[0], V == 2 ? r.v[V - 1] : 0.f);
#elif V == 2
  return make_float2(r.v[0], r.v[1]);
#else
  return r.v[0];
#endif
}

__device__ inline Packed read(const Element* from) { return *(const Packed*)from; }
