// The convolution for large kernels: a thread holds ROWS x TW sums, and the kernel passes through
// shared memory in groups of KR rows.
#include "tiles.cuh"

extern "C" __global__ void __launch_bounds__(LANES* TILES, BLOCKS)
    tile(const Element* __restrict__ x, const Element* __restrict__ kernel,
         Element* __restrict__ out) {
  __shared__ __align__(16) float taps[KR * KW * LANES * V];
  kernel += (long long)image_of_kernel() * KH * KW * C;
  const int number = first_tile() + threadIdx.y, channel = channel_of_thread();
  const bool active = number < ALL_TILES && channel < C;
  const Tile t = locate(active ? number : 0);
  const long long image = (PER_IMAGE ? image_of_kernel() : t.image) * IMAGE;
  const Element* map = x + image + t.offset + channel;

  Values sums[ROWS][TW] = {};
#pragma unroll 1
  for (int first = 0; first < KH; first += KR) {
    __syncthreads();
    read_taps(kernel, first, KR, taps);
    __syncthreads();
    if (!active) continue;
    const int last = first + KR < KH ? first + KR : KH;
    int begin = t.first_row + first - PH, end = t.last_row + last - 1 - PH;
    begin = begin > 0 ? begin : 0;
    end = end < t.height ? end : t.height;
#pragma unroll 1
    for (int y = begin; y < end; ++y) {
      Packed row[SPAN];
      read_row<false>(map + (long long)y * ROW, t.first_column - PW, t.width, row);
      Values seen[SPAN];
#pragma unroll
      for (int s = 0; s < SPAN; ++s) seen[s] = widen(row[s]);
#pragma unroll
      for (int o = 0; o < ROWS; ++o) {
        const int i = y + PH - (t.first_row + o);  // kernel row
        if (i < first || i >= last) continue;
        const float* taps_of_row = taps + (i - first) * KW * LANES * V;
#pragma unroll
        for (int j = 0; j < KW; ++j) {
          const Values w = read_tap(taps_of_row, j);
#pragma unroll
          for (int u = 0; u < TW; ++u)
#pragma unroll
            for (int v = 0; v < V; ++v) sums[o][u].v[v] += seen[u + j].v[v] * w.v[v];
        }
      }
    }
  }
  if (!active) return;
  Element* result = out + image + t.offset + channel;
#pragma unroll
  for (int o = 0; o < ROWS; ++o)
    if (t.first_row + o < t.last_row)
      write_row(result + (long long)(t.first_row + o) * ROW, t, sums[o]);
}
