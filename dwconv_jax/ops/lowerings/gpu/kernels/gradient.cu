// The gradient of the kernel: a thread holds the sums of KR kernel rows and walks over its tiles, XR
// rows of x at a time. Writes [PARTIALS or BATCH, KH, KW, C] in float32; XLA adds the partials.
//
//   SKIP      1: branches around rows outside the map, 0: multiplies them as zeros
//   PARTIALS  blocks that share the images of a summed gradient
#include "tiles.cuh"

constexpr int AT_ONCE = 7;  // taps that pass through shared memory together

extern "C" __global__ void __launch_bounds__(LANES* TILES, BLOCKS)
    gradient(const Element* __restrict__ x, const Element* __restrict__ g,
             float* __restrict__ out) {
  __shared__ float parts[TILES][AT_ONCE * LANES * V];
  const int channel = channel_of_thread();
  const int first = blockIdx.z * KR;  // kernel row
  Values sums[KR][KW] = {};

  const int step = PER_IMAGE ? TILES : PARTIALS * TILES;
  int number = PER_IMAGE ? threadIdx.y : blockIdx.x * TILES + threadIdx.y;
#pragma unroll 1
  for (; number < ALL_TILES && channel < C; number += step) {
    const Tile t = locate(number);
    const long long image = (PER_IMAGE ? blockIdx.x : t.image) * IMAGE;
    const Element* map = x + image + t.offset + channel;
    const Element* cotangents = g + image + t.offset + channel;
#pragma unroll 1
    for (int y = t.first_row; y < t.last_row; y += XR) {
      Values seen[XR][SPAN];
#pragma unroll
      for (int r = 0; r < XR; ++r) {
        Packed row[SPAN];
        // A row past the tile counts as zeros, by its width.
        const int width = y + r < t.last_row ? t.width : 0;
        read_row<false>(map + (long long)(y + r) * ROW, t.first_column - PW, width, row);
#pragma unroll
        for (int s = 0; s < SPAN; ++s) seen[r][s] = widen(row[s]);
      }
      // Row `from` of the cotangents meets row r of x at kernel row i.
#pragma unroll
      for (int d = 0; d < KR + XR - 1; ++d) {
        const int from = y + PH - first + (XR - 1) - d;
        const bool inside = (unsigned)from < (unsigned)t.height;
        if (SKIP && !inside) continue;
        Packed packed[TW];
        read_row<WHOLE && SKIP>(cotangents + (long long)from * ROW, t.first_column,
                                inside ? t.width : 0, packed);
#pragma unroll
        for (int u = 0; u < TW; ++u) {
          const Values c = widen(packed[u]);
#pragma unroll
          for (int r = 0; r < XR; ++r) {
            const int i = d - (XR - 1) + r;
            if (i < 0 || i >= KR) continue;
#pragma unroll
            for (int j = 0; j < KW; ++j)
#pragma unroll
              for (int v = 0; v < V; ++v) sums[i][j].v[v] += seen[r][u + j].v[v] * c.v[v];
          }
        }
      }
    }
  }

  // The tiles of a block are added in a fixed order.
  const int thread = threadIdx.y * LANES + threadIdx.x;
  out += ((long long)blockIdx.x * KH + first) * KW * C;
#pragma unroll
  for (int begin = 0; begin < KR * KW; begin += AT_ONCE) {
    __syncthreads();
#pragma unroll
    for (int k = 0; k < AT_ONCE; ++k)
      if (begin + k < KR * KW) {
#pragma unroll
        for (int v = 0; v < V; ++v)
          parts[threadIdx.y][(k * LANES + threadIdx.x) * V + v] =
              sums[(begin + k) / KW][(begin + k) % KW].v[v];
      }
    __syncthreads();
    for (int n = thread; n < AT_ONCE * LANES * V; n += LANES * TILES) {
      const int tap = begin + n / (LANES * V), to = blockIdx.y * LANES * V + n % (LANES * V);
      if (tap >= KR * KW || first + tap / KW >= KH || to >= C) continue;
      float sum = 0.f;
      for (int s = 0; s < TILES; ++s) sum += parts[s][n];
      out[(long long)tap * C + to] = sum;
    }
  }
}
