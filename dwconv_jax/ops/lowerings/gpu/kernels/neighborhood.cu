// Neighborhood attention, by online softmax over rows of keys: see neighborhood.cuh.
#define KEYS 0
#include "neighborhood.cuh"

constexpr int SHARED_BYTES = 2 * CHUNK_BYTES + BIAS * BIASES * 4;
static_assert(SHARED == SHARED_BYTES, "what the launch asks for");
constexpr float UNSEEN = -1e30f;  // finite, so that rows that see nothing stay finite

SHARED_MEMORY(SHARED_BYTES)

// The largest, or the sum, over the four lanes that have a row of products.
__device__ inline float largest_of_row(float value) {
  value = max(value, __shfl_xor_sync(0xffffffffu, value, 1));
  return max(value, __shfl_xor_sync(0xffffffffu, value, 2));
}
__device__ inline float sum_of_row(float value) {
  value += __shfl_xor_sync(0xffffffffu, value, 1);
  return value + __shfl_xor_sync(0xffffffffu, value, 2);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    neighborhood(const Element* __restrict__ query, const Element* __restrict__ key,
                 const Element* __restrict__ value, WITH_BIAS(const float* __restrict__ bias, )
                 Element* __restrict__ out, float* __restrict__ lse) {
  Bf16* keys = (Bf16*)shared;
  Bf16* values = keys + PARTS * PART;
  float* biases = (float*)(values + PARTS * PART);
  const Tile t = locate();
  WITH_BIAS(read_biases(biases, bias, t);)
  const Position positions[2] = {position_of(t, 0), position_of(t, 1)};
  Left queries[STEPS];
  read_positions(queries, query, positions);

  float sums[EIGHTHS][4] = {}, peaks[2] = {UNSEEN, UNSEEN}, totals[2] = {};
#pragma unroll 1
  for (int first = t.block_rows.first; first < t.block_rows.end; first += CHUNK) {
    __syncthreads();
    read_neighbors(keys, key, t, first);
    read_neighbors(values, value, t, first);
    __syncthreads();
#pragma unroll 1
    for (int row = max(first, t.rows.first); row < min(first + CHUNK, t.rows.end); ++row) {
      const int at = (row - first) * SPAN * PITCH;
      float weights[SPAN / 8][4];
      compare(weights, queries, keys + at);
      weigh_seen(weights, positions, t, row, biases, UNSEEN,
                 [](float logit, int, int) { return logit; });
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float peak = peaks[half];
#pragma unroll
        for (int n = 0; n < SPAN / 8; ++n)
          peak = max(peak, max(weights[n][2 * half], weights[n][2 * half + 1]));
        peak = largest_of_row(peak);
        const float shrink = power_of_two(peaks[half] - peak);
        peaks[half] = peak;
        totals[half] *= shrink;
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
#pragma unroll
          for (int e = 0; e < EIGHTHS; ++e) sums[e][i] *= shrink;
#pragma unroll
          for (int n = 0; n < SPAN / 8; ++n) {
            weights[n][i] = power_of_two(weights[n][i] - peak);
            totals[half] += weights[n][i];
          }
        }
      }
      mix(sums, weights, values + at);
    }
  }

  float shares[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = sum_of_row(totals[half]);
    shares[half] = 1.f / total;
    if (positions[half].inside && threadIdx.x % 4 == 0)
      lse[positions[half].vector] = (peaks[half] + log2f(total)) * LN_2;
  }
  write_positions(out, sums, positions, shares);
}
