// The matrix unit (sm_80 and later): products of bfloat16 with float32 sums.
#pragma once

struct alignas(16) Eight {
  unsigned w[4];
};

#ifndef EMULATED
#define SHARED_MEMORY(bytes) extern __shared__ Eight shared[];

// Rows 0-7 and 8-15 of a 16 x 8 matrix whose row m lies at `row(m)`; each 8 x 8 turned if TURNED.
template <bool TURNED, class Row>
__device__ inline void load_half(unsigned (&to)[2], int lane, Row row) {
  const unsigned at = (unsigned)__cvta_generic_to_shared(row(lane % 16));
  if (TURNED)
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1]) : "r"(at) : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1]) : "r"(at) : "memory");
}

// d += [low high] b, 16 x 16 by 16 x 8.
__device__ inline void multiply(float (&d)[4], const unsigned (&low)[2], const unsigned (&high)[2],
                                const unsigned (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
               "{%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(low[0]), "r"(low[1]), "r"(high[0]), "r"(high[1]), "r"(b[0]), "r"(b[1]));
}
#endif
