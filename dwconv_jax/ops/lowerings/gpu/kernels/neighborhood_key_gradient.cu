// The gradients of neighborhood attention in keys and values: see neighborhood.cuh. A key's neighbors
// are the queries that see it.
#define KEYS 1
#include "neighborhood.cuh"

constexpr int SHARED_BYTES = 2 * CHUNK_BYTES + CHUNK * SPAN * 8 + BIAS * BIASES * 4;
static_assert(SHARED == SHARED_BYTES, "what the launch asks for");

SHARED_MEMORY(SHARED_BYTES)

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    neighborhood_key_gradient(
        const Element* __restrict__ query, const Element* __restrict__ key,
        const Element* __restrict__ value, const Element* __restrict__ cotangent,
        const float* __restrict__ lse, const float* __restrict__ delta,
        WITH_BIAS(const float* __restrict__ bias, ) Element* __restrict__ key_gradient,
        Element* __restrict__ value_gradient) {
  Bf16* queries = (Bf16*)shared;
  Bf16* cotangents = queries + PARTS * PART;
  float2* of_queries = (float2*)(cotangents + PARTS * PART);  // log-sum-exp, delta
  float* biases = (float*)(of_queries + CHUNK * SPAN);
  const Tile t = locate();
  WITH_BIAS(read_biases(biases, bias, t);)
  const Position positions[2] = {position_of(t, 0), position_of(t, 1)};
  Left keys[STEPS], values[STEPS];
  read_positions(keys, key, positions);
  read_positions(values, value, positions);

  float key_sums[EIGHTHS][4] = {}, value_sums[EIGHTHS][4] = {};
#pragma unroll 1
  for (int first = t.block_rows.first; first < t.block_rows.end; first += CHUNK) {
    __syncthreads();
    read_neighbors(queries, query, t, first);
    read_neighbors(cotangents, cotangent, t, first);
    for (int n = threadIdx.x; n < CHUNK * SPAN; n += THREADS) {
      const int row = first + n / SPAN, column = t.columns.first + n % SPAN;
      const bool inside = row < t.block_rows.end && column < t.columns.end;
      const long long vector = t.origin + row * ROW + column * COLUMN;
      of_queries[n] = inside ? make_float2(lse[vector] * LOG2_E, delta[vector]) : make_float2(0.f, 0.f);
    }
    __syncthreads();
#pragma unroll 1
    for (int row = max(first, t.rows.first); row < min(first + CHUNK, t.rows.end); ++row) {
      const int at = (row - first) * SPAN * PITCH;
      float weights[SPAN / 8][4], gradients[SPAN / 8][4];
      float2 of_query[SPAN / 8][2];
#pragma unroll
      for (int n = 0; n < SPAN / 8; ++n)
#pragma unroll
        for (int c = 0; c < 2; ++c)
          of_query[n][c] = of_queries[(row - first) * SPAN + column_of(n, c)];
      compare(weights, keys, queries + at);
      weigh_seen(weights, positions, t, row, biases, 0.f, [&](float logit, int n, int i) {
        return power_of_two(logit - of_query[n][i % 2].x);
      });
      compare(gradients, values, cotangents + at);
#pragma unroll
      for (int n = 0; n < SPAN / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          gradients[n][i] = weights[n][i] * (gradients[n][i] - of_query[n][i % 2].y);
      mix(value_sums, weights, cotangents + at);
      mix(key_sums, gradients, queries + at);
    }
  }
  write_positions(key_gradient, key_sums, positions, {SCALE, SCALE});
  write_positions(value_gradient, value_sums, positions, {1.f, 1.f});
}
