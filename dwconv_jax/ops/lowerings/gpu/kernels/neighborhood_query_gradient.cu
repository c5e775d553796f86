// The gradients of neighborhood attention in queries and biases: see neighborhood.cuh.
#define KEYS 0
#include "neighborhood.cuh"

constexpr int OF_WARP = 16 * SPAN + BIASES;  // floats: a row of gradients, sums for each bias
constexpr int SHARED_BYTES = 2 * CHUNK_BYTES + BIAS * (BIASES + WARPS * OF_WARP) * 4;
static_assert(SHARED == SHARED_BYTES, "what the launch asks for");

SHARED_MEMORY(SHARED_BYTES)

// Adds the gradients of a row of logits to those of the biases: a lane sums a diagonal.
__device__ inline void add_to_biases(float* of_warp, const float (&gradients)[SPAN / 8][4],
                                     const Tile& t, int row) {
  float* sums = of_warp + 16 * SPAN;
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int n = 0; n < SPAN / 8; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      of_warp[(lane / 4 + i / 2 * 8) * SPAN + column_of(n, i)] = gradients[n][i];
  __syncwarp();
  for (int n = lane; n < TR * BIAS_COLUMNS; n += 32) {
    const int down = row - (t.row + n / BIAS_COLUMNS) + KH - 1, across = n % BIAS_COLUMNS;
    if (down < 0 || down > 2 * KH - 2) continue;
    float sum = 0.f;
    for (int c = 0; c < TC; ++c) {
      const int column = t.column + c + across - (KW - 1) - t.columns.first;
      if (column >= 0 && column < SPAN) sum += of_warp[(n / BIAS_COLUMNS * TC + c) * SPAN + column];
    }
    sums[down * BIAS_COLUMNS + across] += sum;
  }
  __syncwarp();
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    neighborhood_query_gradient(
        const Element* __restrict__ query, const Element* __restrict__ key,
        const Element* __restrict__ value, const Element* __restrict__ cotangent,
        const float* __restrict__ lse, const float* __restrict__ delta,
        WITH_BIAS(const float* __restrict__ bias, ) Element* __restrict__ query_gradient
        WITH_BIAS(, float* __restrict__ bias_gradients)) {
  Bf16* keys = (Bf16*)shared;
  Bf16* values = keys + PARTS * PART;
  float* biases = (float*)(values + PARTS * PART);
  const Tile t = locate();
#if BIAS
  float* of_warps = biases + BIASES;
  read_biases(biases, bias, t);
  for (int n = threadIdx.x; n < WARPS * OF_WARP; n += THREADS) of_warps[n] = 0.f;
#endif
  const Position positions[2] = {position_of(t, 0), position_of(t, 1)};
  Left queries[STEPS], cotangents[STEPS];
  read_positions(queries, query, positions);
  read_positions(cotangents, cotangent, positions);
  float lses[2], deltas[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const Position& p = positions[half];
    lses[half] = p.inside ? lse[p.vector] * LOG2_E : 0.f;
    deltas[half] = p.inside ? delta[p.vector] : 0.f;
  }

  float sums[EIGHTHS][4] = {};
#pragma unroll 1
  for (int first = t.block_rows.first; first < t.block_rows.end; first += CHUNK) {
    __syncthreads();
    read_neighbors(keys, key, t, first);
    read_neighbors(values, value, t, first);
    __syncthreads();
#pragma unroll 1
    for (int row = max(first, t.rows.first); row < min(first + CHUNK, t.rows.end); ++row) {
      const int at = (row - first) * SPAN * PITCH;
      float weights[SPAN / 8][4], gradients[SPAN / 8][4];
      compare(weights, queries, keys + at);
      weigh_seen(weights, positions, t, row, biases, 0.f,
                 [&](float logit, int, int i) { return power_of_two(logit - lses[i / 2]); });
      compare(gradients, cotangents, values + at);
#pragma unroll
      for (int n = 0; n < SPAN / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) gradients[n][i] = weights[n][i] * (gradients[n][i] - deltas[i / 2]);
      WITH_BIAS(add_to_biases(of_warps + threadIdx.x / 32 * OF_WARP, gradients, t, row);)
      mix(sums, gradients, keys + at);
    }
  }
  write_positions(query_gradient, sums, positions, {SCALE, SCALE});

#if BIAS
  // The warps of a block are added in a fixed order.
  __syncthreads();
  bias_gradients += (long long)blockIdx.x * BIASES;
  for (int n = threadIdx.x; n < BIASES; n += THREADS) {
    float sum = 0.f;
    for (int w = 0; w < WARPS; ++w) sum += of_warps[w * OF_WARP + 16 * SPAN + n];
    bias_gradients[n] = sum;
  }
#endif
}
