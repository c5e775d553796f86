// What the matrix-unit kernels share (sm_80 and later): depth-wise convolution of bfloat16 NHWC maps
// with stride 1, zero padding, odd kernels, and C a multiple of 8.
//
// For one channel and kernel row i, 8 columns of output are 16 columns of input times a banded matrix
//   D[m, n] += A[m, s] B[s, n],   A[m, s] = x[row m + i, first + s],   B[s, n] = kernel[i, s - n]
// with 16 rows m of the map at a time: one mma.m16n8k16 for 128 x KW multiply-adds while KW <= 9, two
// up to 25, three up to 41. A block holds CB channels of its rows in shared memory, turned to
// [channel][row][column] on the way in and back on the way out.
//
// Macros:
//   BATCH H W C KH KW PER_IMAGE BLOCKS  as in tiles.cuh
//   CB      channels of a block: 16, or 8 where those do not fit shared memory
//   MR      rows of one image in the 16 of a product: 16, or 8 where two images share it
//   NT      products beside each other, 8 columns each
//   SHARED  bytes of dynamic shared memory at launch
#pragma once
#include "bf16.cuh"
#include "mma.cuh"

typedef unsigned short Element;

constexpr int THREADS = 32 * CB / 2;  // two channels a warp
constexpr int EIGHTHS = CB / 8;
constexpr int PH = (KH - 1) / 2, PW = (KW - 1) / 2;
constexpr int IMAGES = 16 / MR;                        // in a block
constexpr int STEPS = (8 + KW - 1 + 15) / 16;          // products along the columns seen
constexpr int COLUMNS = NT * 8;                        // of output, in a block
constexpr int SEEN = COLUMNS + 16 * STEPS - 8;         // columns of input
constexpr int STRIDE = SEEN + (SEEN / 8 % 2 ? 0 : 8);  // an odd number of 16 bytes: no bank conflicts
constexpr int ROW_TILES = (H + MR - 1) / MR, COLUMN_TILES = (W + COLUMNS - 1) / COLUMNS;

#ifndef EMULATED
// The lower or the upper halves of two words.
__device__ inline unsigned pick(unsigned a, unsigned b, bool high) {
  return __byte_perm(a, b, high ? 0x7632 : 0x5410);
}
#endif

// A part of the map to shared memory as [channel][image, row][column], zeros around it: 8 channels of
// two columns become 8 words.
template <int COUNT, int WIDTH, int PITCH>
__device__ inline void read_map(Element* to_map, const Element* x, int first_image, int first_row,
                                int first_column, int first_channel) {
#pragma unroll 2
  for (int n = threadIdx.x; n < IMAGES * COUNT * WIDTH / 2 * EIGHTHS; n += THREADS) {
    const int eighth = n % EIGHTHS, pair = n / EIGHTHS % (WIDTH / 2);
    const int row = n / (EIGHTHS * WIDTH / 2);
    const int image = first_image + row / COUNT, y = first_row + row % COUNT;
    const int column = first_column + 2 * pair, channel = first_channel + 8 * eighth;
    const bool inside = image < BATCH && y >= 0 && y < H && channel < C;
    const Element* from = x + (((long long)image * H + y) * W + column) * C + channel;
    Eight left = {}, right = {};
    if (inside && column >= 0 && column < W) left = *(const Eight*)from;
    if (inside && column + 1 >= 0 && column + 1 < W) right = *(const Eight*)(from + C);
    constexpr int SIZE = IMAGES * COUNT * PITCH;
    unsigned* to = (unsigned*)(to_map + 8 * eighth * SIZE + row * PITCH + 2 * pair);
#pragma unroll
    for (int c = 0; c < 8; ++c) to[c * (SIZE / 2)] = pick(left.w[c / 2], right.w[c / 2], c % 2);
  }
}
