// The convolution on the matrix unit: see matrix.cuh.
#include "matrix.cuh"

constexpr int ROWS = MR + KH - 1;         // of input, of an image
constexpr int CHANNEL = IMAGES * ROWS * STRIDE;
constexpr int TAPS = 8 + 16 * STEPS + 8;  // a kernel row between zeros
constexpr int OUT_STRIDE = COLUMNS + (COLUMNS % 32 ? 0 : 8);
constexpr int INPUT_BYTES = CB * CHANNEL * 2, OUTPUT_BYTES = CB / 2 * 16 * OUT_STRIDE * 4;
constexpr int MAP_BYTES = INPUT_BYTES > OUTPUT_BYTES ? INPUT_BYTES : OUTPUT_BYTES;
constexpr int SHARED_BYTES = MAP_BYTES + CB * KH * TAPS * 2;
static_assert(SHARED == SHARED_BYTES, "what the launch asks for");

SHARED_MEMORY(SHARED_BYTES)

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    toeplitz(const Element* __restrict__ x, const Element* __restrict__ kernel,
             Element* __restrict__ out) {
  Element* map = (Element*)shared;
  Element* taps = (Element*)((char*)shared + MAP_BYTES);
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const int first_column = blockIdx.x % COLUMN_TILES * COLUMNS;
  const int first_row = blockIdx.x / COLUMN_TILES % ROW_TILES * MR;
  const int first_image = blockIdx.x / (COLUMN_TILES * ROW_TILES) * IMAGES;
  const int first_channel = blockIdx.y * CB;

  // Taps, each kernel row between zeros: tap j of row i of channel c at (c * KH + i) * TAPS + 8 + j.
  if (PER_IMAGE) kernel += (long long)first_image * KH * KW * C;
  for (int n = thread; n < CB * KH * TAPS; n += THREADS) {
    const int c = n % CB, j = n / CB % TAPS - 8, i = n / (CB * TAPS);
    const bool inside = j >= 0 && j < KW && first_channel + c < C;
    taps[(c * KH + i) * TAPS + 8 + j] = inside ? kernel[(i * KW + j) * C + first_channel + c] : 0;
  }
  read_map<ROWS, SEEN, STRIDE>(map, x, first_image, first_row - PH, first_column - PW, first_channel);
  __syncthreads();

  float sums[2][NT][4] = {};
#pragma unroll 1
  for (int i = 0; i < KH; ++i) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int channel = 2 * warp + c;
      // B[s, n] = tap s - n; a register holds s and s + 1.
      const Element* row_of_taps = taps + (channel * KH + i) * TAPS + 8 + lane % 4 * 2 - lane / 4;
      unsigned b[STEPS][2];
#pragma unroll
      for (int s = 0; s < 2 * STEPS; ++s)
        b[s / 2][s % 2] = row_of_taps[8 * s] | (unsigned)row_of_taps[8 * s + 1] << 16;
      const auto row = [&](int m) {
        return map + channel * CHANNEL + (m / MR * ROWS + m % MR + i) * STRIDE;
      };
      unsigned half[NT + 2 * STEPS - 1][2];
#pragma unroll
      for (int h = 0; h < NT + 2 * STEPS - 1; ++h) {
        load_half<false>(half[h], lane, [&](int m) { return row(m) + 8 * h; });
        const int t = h - (2 * STEPS - 1);
        if (t < 0) continue;
#pragma unroll
        for (int s = 0; s < STEPS; ++s)
          multiply(sums[c][t], half[t + 2 * s], half[t + 2 * s + 1], b[s]);
      }
    }
  }
  __syncthreads();

  unsigned* pairs = (unsigned*)shared + warp * 16 * OUT_STRIDE;  // [pair][row][column]
#pragma unroll
  for (int t = 0; t < NT; ++t)
#pragma unroll
    for (int r = 0; r < 4; ++r)
      pairs[(lane / 4 + r / 2 * 8) * OUT_STRIDE + 8 * t + lane % 4 * 2 + r % 2] =
          pack_bf16(sums[0][t][r], sums[1][t][r]);
  __syncthreads();
  for (int n = thread; n < 16 * COLUMNS; n += THREADS) {
    const int m = n / COLUMNS, column = first_column + n % COLUMNS;
    const int image = first_image + m / MR, y = first_row + m % MR;
    if (image >= BATCH || y >= H || column >= W) continue;
    const unsigned* from = (const unsigned*)shared + m * OUT_STRIDE + n % COLUMNS;
    Element* to = out + (((long long)image * H + y) * W + column) * C + first_channel;
#pragma unroll
    for (int eighth = 0; eighth < EIGHTHS; ++eighth) {
      if (first_channel + 8 * eighth >= C) continue;
      Eight all;
#pragma unroll
      for (int p = 0; p < 4; ++p) all.w[p] = from[(4 * eighth + p) * 16 * OUT_STRIDE];
      *(Eight*)(to + 8 * eighth) = all;
    }
  }
}
