// What the register kernels (slide, tile, gradient) share: depth-wise convolution of NHWC maps with
// stride 1, zero padding and odd kernels, in tiles of ROWS x TW positions and V channels a thread.
//
// Everything about the shape is a macro, so that offsets are constants:
//   BATCH H W C  the maps            KH KW DH DW  kernel and dilation
//   BF16         1: bfloat16, 0: float32
//   V            channels of a thread; 2, or 1 where C is odd
//   LANES        threads along channels          TILES  threads along tiles; a block is LANES x TILES
//   ROWS TW      rows and columns of a tile
//   PER_IMAGE    1: a kernel for each image, 0: one for all
//   BLOCKS       blocks that the registers of a multiprocessor must allow
//
// Dilation splits a map into DH x DW maps of every DH-th row and DW-th column; a tile lies in one.
// No system header is used: NVRTC compiles these files, and so does g++ after emulate.h.
#pragma once
#include "values.cuh"

constexpr int PH = (KH - 1) / 2, PW = (KW - 1) / 2;
constexpr int SPAN = TW + KW - 1;                 // columns that a tile sees
constexpr int COLUMN = DW * C, ROW = DH * W * C;  // strides within a map of the dilation
constexpr long long IMAGE = (long long)H * W * C;
constexpr int COLUMN_TILES = ((W + DW - 1) / DW + TW - 1) / TW;
constexpr int ROW_TILES = ((H + DH - 1) / DH + ROWS - 1) / ROWS;
constexpr int TILES_OF_IMAGE = ROW_TILES * DH * DW * COLUMN_TILES;
constexpr int BLOCKS_OF_IMAGE = (TILES_OF_IMAGE + TILES - 1) / TILES;
constexpr bool WHOLE = DW == 1 && W % TW == 0;  // no tile reaches past the right edge

struct Tile {
  int image, first_row, last_row, first_column, height, width, offset;
};

// Where a tile lies: rows [first_row, last_row) and columns from first_column of the dilation's map.
__device__ inline Tile locate(int tile) {
  Tile t;
  t.first_column = tile % COLUMN_TILES * TW;
  tile /= COLUMN_TILES;
  const int column_phase = tile % DW;
  tile /= DW;
  const int row_phase = tile % DH;
  tile /= DH;
  t.first_row = tile % ROW_TILES * ROWS;
  t.image = tile / ROW_TILES;
  t.height = (H - row_phase + DH - 1) / DH;
  t.width = (W - column_phase + DW - 1) / DW;
  t.last_row = t.first_row + ROWS < t.height ? t.first_row + ROWS : t.height;
  t.offset = (row_phase * W + column_phase) * C;
  return t;
}

// The image whose kernel this block of a forward kernel uses, and the first of its tiles.
__device__ inline int image_of_kernel() { return PER_IMAGE ? blockIdx.x / BLOCKS_OF_IMAGE : 0; }
__device__ inline int first_tile() {
  const int block = PER_IMAGE ? blockIdx.x % BLOCKS_OF_IMAGE : blockIdx.x;
  return block * TILES;
}
constexpr int ALL_TILES = PER_IMAGE ? TILES_OF_IMAGE : BATCH * TILES_OF_IMAGE;

__device__ inline int channel_of_thread() { return (blockIdx.y * LANES + threadIdx.x) * V; }

// The columns [first, first + COUNT) of a row, zeros outside [0, width).
template <bool ALL_INSIDE, int COUNT>
__device__ inline void read_row(const Element* row, int first, int width, Packed (&to)[COUNT]) {
  row += (long long)first * COLUMN;
#pragma unroll
  for (int s = 0; s < COUNT; ++s) {
    const bool inside = ALL_INSIDE || (unsigned)(first + s) < (unsigned)width;
    to[s] = inside ? read(row + s * COLUMN) : zero();
  }
}

__device__ inline void write_row(Element* row, const Tile& t, const Values (&sums)[TW]) {
#pragma unroll
  for (int u = 0; u < TW; ++u)
    if (WHOLE || t.first_column + u < t.width)
      *(Packed*)(row + (long long)(t.first_column + u) * COLUMN) = narrow(sums[u]);
}

// Kernel rows [first, first + rows) of this block's channels into shared memory, as float32.
__device__ inline void read_taps(const Element* kernel, int first, int rows, float* taps) {
  const int thread = threadIdx.y * LANES + threadIdx.x;
  const int first_channel = blockIdx.y * LANES * V;
  for (int n = thread; n < rows * KW * LANES; n += LANES * TILES) {
    const int tap = first * KW + n / LANES, channel = first_channel + n % LANES * V;
    const bool inside = channel < C && tap < KH * KW;
    const Values w = widen(inside ? read(kernel + (long long)tap * C + channel) : zero());
#pragma unroll
    for (int v = 0; v < V; ++v) taps[n * V + v] = w.v[v];
  }
}

__device__ inline Values read_tap(const float* taps, int tap) {
  Values w;
#if V == 2
  const float2 both = *(const float2*)(taps + (tap * LANES + threadIdx.x) * 2);
  w.v[0] = both.x;
  w.v[1] = both.y;
#else
  w.v[0] = taps[tap * LANES + threadIdx.x];
#endif
  return w;
}
