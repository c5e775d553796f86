// The convolution for small kernels: a thread holds the sums of KH output rows and walks down its
// tile, so that it reads and widens each row of x once.
#include "tiles.cuh"

extern "C" __global__ void __launch_bounds__(LANES* TILES, BLOCKS)
    slide(const Element* __restrict__ x, const Element* __restrict__ kernel,
          Element* __restrict__ out) {
  __shared__ __align__(16) float taps[KH * KW * LANES * V];
  read_taps(kernel + (long long)image_of_kernel() * KH * KW * C, 0, KH, taps);
  __syncthreads();
  const int number = first_tile() + threadIdx.y, channel = channel_of_thread();
  if (number >= ALL_TILES || channel >= C) return;
  const Tile t = locate(number);
  const long long image = (PER_IMAGE ? image_of_kernel() : t.image) * IMAGE;
  const Element* map = x + image + t.offset + channel;
  Element* result = out + image + t.offset + channel;

  // sums[m] belongs to output row y - PH + m; kernel row KH - 1 - m adds to it.
  Values sums[KH][TW] = {};
  Packed next[SPAN];
  const int begin = t.first_row > PH ? t.first_row - PH : 0;
  const int end = t.last_row + PH < t.height ? t.last_row + PH : t.height;
  read_row<false>(map + (long long)begin * ROW, t.first_column - PW, t.width, next);
#pragma unroll 1
  for (int y = begin; y < end; ++y) {
    Values seen[SPAN];
#pragma unroll
    for (int s = 0; s < SPAN; ++s) seen[s] = widen(next[s]);
    if (y + 1 < end)
      read_row<false>(map + (long long)(y + 1) * ROW, t.first_column - PW, t.width, next);
#pragma unroll
    for (int m = 0; m < KH; ++m) {
#pragma unroll
      for (int j = 0; j < KW; ++j) {
        const Values w = read_tap(taps, (KH - 1 - m) * KW + j);
#pragma unroll
        for (int u = 0; u < TW; ++u)
#pragma unroll
          for (int v = 0; v < V; ++v) {
            // The first product of a row also moves the sums up by one row.
            const float before = j ? sums[m][u].v[v] : m + 1 < KH ? sums[m + 1][u].v[v] : 0.f;
            sums[m][u].v[v] = before + seen[u + j].v[v] * w.v[v];
          }
      }
    }
    if (y - PH >= t.first_row) write_row(result + (long long)(y - PH) * ROW, t, sums[0]);
  }
#pragma unroll
  for (int m = 1; m < KH; ++m) {
    const int row = end - 1 - PH + m;
    if (row >= t.first_row && row < t.last_row)
      write_row(result + (long long)row * ROW, t, sums[m]);
  }
}
