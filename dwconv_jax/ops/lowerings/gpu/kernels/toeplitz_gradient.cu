// The gradient of the kernel on the matrix unit: see matrix.cuh. With g for columns n,
//   S[a, n] += x[row m + i, first + a] g[row m, first + n] over rows m,
// and the diagonals a - n = j of S are the gradient. Writes [PARTIALS or BATCH, KH, KW, C] in float32.
//
//   KR        kernel rows of a block
//   PARTIALS  blocks that share the images of a summed gradient
#include "matrix.cuh"

constexpr int X_ROWS = MR + KR - 1, X_CHANNEL = IMAGES * X_ROWS * STRIDE;
constexpr int G_STRIDE = COLUMNS + (NT % 2 ? 0 : 8), G_CHANNEL = 16 * G_STRIDE;
constexpr int X_BYTES = CB * X_CHANNEL * 2, G_BYTES = CB * G_CHANNEL * 2;
constexpr int PRODUCT = 16 * STEPS * 8;  // of a channel and kernel row, in float32
constexpr int SHARED_BYTES =
    X_BYTES + G_BYTES > CB * PRODUCT * 4 ? X_BYTES + G_BYTES : CB * PRODUCT * 4;
static_assert(SHARED == SHARED_BYTES, "what the launch asks for");

SHARED_MEMORY(SHARED_BYTES)

// Writes [PARTIALS or BATCH, KH, KW, C] in float32.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    toeplitz_gradient(const Element* __restrict__ x, const Element* __restrict__ g,
                      float* __restrict__ out) {
  Element* x_map = (Element*)shared;
  Element* g_map = (Element*)((char*)shared + X_BYTES);
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const int first_channel = blockIdx.y * CB, first = blockIdx.z * KR;  // kernel row
  float sums[2][KR][STEPS][4] = {};

  constexpr int TILES = ROW_TILES * COLUMN_TILES;
  constexpr int ALL = PER_IMAGE ? TILES : TILES * ((BATCH + IMAGES - 1) / IMAGES);
#pragma unroll 1
  for (int tile = PER_IMAGE ? 0 : blockIdx.x; tile < ALL; tile += PER_IMAGE ? 1 : PARTIALS) {
    const int first_column = tile % COLUMN_TILES * COLUMNS;
    const int first_row = tile / COLUMN_TILES % ROW_TILES * MR;
    const int first_image = PER_IMAGE ? blockIdx.x : tile / TILES * IMAGES;
    __syncthreads();
    read_map<X_ROWS, SEEN, STRIDE>(x_map, x, first_image, first_row - PH + first,
                                   first_column - PW, first_channel);
    read_map<MR, COLUMNS, G_STRIDE>(g_map, g, first_image, first_row, first_column, first_channel);
    __syncthreads();
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int channel = 2 * warp + c;
      unsigned b[NT][2];
#pragma unroll
      for (int t = 0; t < NT; ++t)
        load_half<true>(b[t], lane,
                        [&](int m) { return g_map + channel * G_CHANNEL + m * G_STRIDE + 8 * t; });
#pragma unroll
      for (int i = 0; i < KR; ++i) {
        unsigned half[NT + 2 * STEPS - 1][2];
#pragma unroll
        for (int h = 0; h < NT + 2 * STEPS - 1; ++h) {
          load_half<true>(half[h], lane, [&](int m) {
            return x_map + channel * X_CHANNEL + (m / MR * X_ROWS + m % MR + i) * STRIDE + 8 * h;
          });
          const int t = h - (2 * STEPS - 1);
          if (t < 0) continue;
#pragma unroll
          for (int s = 0; s < STEPS; ++s) {
            const unsigned (&low)[2] = half[t + 2 * s], (&high)[2] = half[t + 2 * s + 1];
            // Turned, the second index runs along the product's rows: a0 a1 are columns 0-7, 8-15.
            const unsigned top[2] = {low[0], high[0]}, bottom[2] = {low[1], high[1]};
            multiply(sums[c][i][s], top, bottom, b[t]);
          }
        }
      }
    }
  }

  float* products = (float*)shared;  // [channel][a][n]
  out += ((long long)blockIdx.x * KH + first) * KW * C;
#pragma unroll
  for (int i = 0; i < KR; ++i) {
    __syncthreads();
#pragma unroll
    for (int c = 0; c < 2; ++c)
#pragma unroll
      for (int s = 0; s < STEPS; ++s)
#pragma unroll
        for (int r = 0; r < 4; ++r)
          products[(2 * warp + c) * PRODUCT + (16 * s + lane / 4 + r / 2 * 8) * 8 + lane % 4 * 2 +
                   r % 2] = sums[c][i][s][r];
    __syncthreads();
    for (int n = thread; n < KW * CB; n += THREADS) {
      const int j = n / CB, channel = n % CB;
      if (first + i >= KH || first_channel + channel >= C) continue;
      float sum = 0.f;
      for (int b = 0; b < 8; ++b) sum += products[channel * PRODUCT + (b + j) * 8 + b];
      out[(long long)(i * KW + j) * C + first_channel + channel] = sum;
    }
  }
}
