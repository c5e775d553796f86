// What the kernels of neighborhood attention share (sm_80 and later). Maps are
// [image][row][column][head][D]; positions equal modulo the dilation are a map of their own.
//
// A block has a head of an image and WARPS warps below each other. A warp has 16 positions, TR rows
// of them: the rows of its matrix products. It walks down the map and multiplies them with their
// neighbors, SPAN in a row of the map; what a position does not see gets no weight. Positions are
// queries and neighbors are keys, or the reverse where KEYS. Logits never leave registers.
//
// Macros:
//   H W HEADS D BF16  of the maps; D is a multiple of 16
//   KH KW DH DW       rows and columns of the neighborhood, and between its taps
//   UP LEFT           rows and columns of it before the query
//   CLAMP_H CLAMP_W   whether it stays inside the map, rather than being cut off
//   BIAS SCALE        whether there is a position bias; the scale of the products
//   WARPS TR          of a block; rows of the map in a warp's 16 positions
//   SPAN              neighbors in a row, a multiple of 16
//   CHUNK             rows of neighbors in shared memory at a time
//   SHARED BLOCKS     bytes of dynamic shared memory; blocks of a multiprocessor, at least
//   KEYS              set by the kernel
#pragma once
#include "parts.cuh"

#if BIAS
#define WITH_BIAS(...) __VA_ARGS__
#else
#define WITH_BIAS(...)
#endif

constexpr int THREADS = 32 * WARPS;
constexpr int TC = 16 / TR;                                       // columns of a warp's positions
constexpr int TILES_DOWN = ((H + DH - 1) / DH + WARPS * TR - 1) / (WARPS * TR);
constexpr int TILES_ACROSS = ((W + DW - 1) / DW + TC - 1) / TC;
constexpr int ROW = DH * W * HEADS, COLUMN = DW * HEADS;          // vectors to the next row, column
constexpr int STEPS = D / 16, EIGHTHS = D / 8;
constexpr int PITCH = D + 8;                                      // an odd number of 16 bytes
constexpr int PART = CHUNK * SPAN * PITCH, CHUNK_BYTES = 2 * PARTS * PART;
constexpr int BIAS_COLUMNS = 2 * KW - 1, BIASES = (2 * KH - 1) * BIAS_COLUMNS;
constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;

#ifndef EMULATED
__device__ inline float power_of_two(float value) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(value));
  return power;
}
#endif

// Positions [first, end) along an axis.
struct Range {
  int first, end;
};

__device__ inline bool contains(Range range, int position) {
  return position >= range.first && position < range.end;
}

// The neighbors of positions `first` to `last`, inclusive, as far as there are such.
template <int KERNEL, int BEFORE, bool CLAMP>
__device__ inline Range neighbors(int first, int last, int length) {
  if (first >= length) return {0, 0};
  last = min(last, length - 1);
  int begin = KEYS ? first + BEFORE + 1 - KERNEL : first - BEFORE;
  int end = KEYS ? last + BEFORE + 1 : last - BEFORE + KERNEL;
  if (CLAMP && KEYS) {
    if (first < KERNEL) begin = 0;
    if (last >= length - KERNEL) end = length;
  } else if (CLAMP) {
    begin = min(begin, length - KERNEL);
    end = max(end, KERNEL);
  }
  return {max(begin, 0), min(end, length)};
}

// What a warp works on.
struct Tile {
  int head;
  int height, width;       // of the map of its dilation group
  int row, column;         // of its first position
  long long origin;        // of the map: the number of its first vector
  Range rows, block_rows;  // of the neighbors of the warp, and of its block
  Range columns;           // of the neighbors of its block
};

__device__ inline Tile locate() {
  int number = blockIdx.x / HEADS;
  const int across = number % TILES_ACROSS, down = number / TILES_ACROSS % TILES_DOWN;
  number /= TILES_ACROSS * TILES_DOWN;
  const int right = number % DW, below = number / DW % DH, image = number / (DW * DH);
  Tile t;
  t.head = blockIdx.x % HEADS;
  t.height = (H - below + DH - 1) / DH;
  t.width = (W - right + DW - 1) / DW;
  t.origin = (((long long)image * H + below) * W + right) * HEADS + t.head;
  const int first = down * WARPS * TR;
  t.row = first + threadIdx.x / 32 * TR;
  t.column = across * TC;
  t.rows = neighbors<KH, UP, CLAMP_H>(t.row, t.row + TR - 1, t.height);
  t.block_rows = neighbors<KH, UP, CLAMP_H>(first, first + WARPS * TR - 1, t.height);
  t.columns = neighbors<KW, LEFT, CLAMP_W>(t.column, t.column + TC - 1, t.width);
  return t;
}

// A position of a lane: rows lane / 4 and lane / 4 + 8 of the products are its.
struct Position {
  int row, column;
  Range rows, columns;  // of its neighbors
  bool inside;          // the map
  long long vector;     // its number
};

__device__ inline Position position_of(const Tile& t, int half) {
  const int m = threadIdx.x % 32 / 4 + 8 * half;
  Position p;
  p.row = t.row + m / TC;
  p.column = t.column + m % TC;
  p.inside = p.row < t.height && p.column < t.width;
  p.rows = neighbors<KH, UP, CLAMP_H>(p.row, p.row, t.height);
  p.columns = neighbors<KW, LEFT, CLAMP_W>(p.column, p.column, t.width);
  p.vector = t.origin + p.row * ROW + p.column * COLUMN;
  return p;
}

// The vectors of the positions.
__device__ inline void read_positions(Left (&to)[STEPS], const Element* from,
                                      const Position (&positions)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const Element* vector = from + positions[half].vector * D + threadIdx.x % 4 * 2;
#pragma unroll
    for (int e = 0; e < EIGHTHS; ++e) {
      unsigned parts[PARTS] = {};
      if (positions[half].inside) read_pair(parts, vector + 8 * e);
#pragma unroll
      for (int p = 0; p < PARTS; ++p) to[e / 2][p][e % 2][half] = parts[p];
    }
  }
}

// Sums, times a factor of each position, to their vectors.
__device__ inline void write_positions(Element* to, const float (&sums)[EIGHTHS][4],
                                       const Position (&positions)[2], const float (&factors)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (!positions[half].inside) continue;
    Element* vector = to + positions[half].vector * D + threadIdx.x % 4 * 2;
#pragma unroll
    for (int e = 0; e < EIGHTHS; ++e)
      write_pair(vector + 8 * e, sums[e][2 * half] * factors[half],
                 sums[e][2 * half + 1] * factors[half]);
  }
}

// The next CHUNK rows of neighbors to shared memory as [part][row][column][PITCH], zeros around them:
// a warp reads a row at a time.
__device__ inline void read_neighbors(Bf16* to, const Element* from, const Tile& t, int first_row) {
  from += (t.origin + t.columns.first * COLUMN) * D;
  for (int row = threadIdx.x / 32; row < CHUNK; row += WARPS) {
    const Element* vectors = from + (long long)(first_row + row) * (ROW * D);
#pragma unroll
    for (int n = threadIdx.x % 32; n < SPAN * EIGHTHS; n += 32) {
      const int column = n / EIGHTHS, eighth = n % EIGHTHS;
      Eight parts[PARTS] = {};
      if (first_row + row < t.block_rows.end && t.columns.first + column < t.columns.end)
        read_eight(parts, vectors + column * (COLUMN * D) + 8 * eighth);
#pragma unroll
      for (int p = 0; p < PARTS; ++p)
        *(Eight*)(to + p * PART + (row * SPAN + column) * PITCH + 8 * eighth) = parts[p];
    }
  }
}

// Products of the positions with a row of neighbors: 16 x D by D x SPAN.
__device__ inline void compare(float (&products)[SPAN / 8][4], const Left (&positions)[STEPS],
                               const Bf16* row) {
#pragma unroll
  for (int n = 0; n < SPAN / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) products[n][i] = 0.f;
#pragma unroll
    for (int s = 0; s < STEPS; ++s) {
      unsigned right[PARTS][2];
#pragma unroll
      for (int p = 0; p < PARTS; ++p)
        load_half<false>(right[p], threadIdx.x % 32, [&](int m) {
          return row + p * PART + (8 * n + m % 8) * PITCH + 16 * s + m / 8 * 8;
        });
      multiply_parts(products[n], positions[s], right);
    }
  }
}

// sums += weights of the positions times a row of neighbors: 16 x SPAN by SPAN x D.
__device__ inline void mix(float (&sums)[EIGHTHS][4], const float (&weights)[SPAN / 8][4],
                           const Bf16* row) {
#pragma unroll
  for (int s = 0; s < SPAN / 16; ++s) {
    Left left;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      unsigned parts[PARTS];
      const float(&pairs)[4] = weights[2 * s + i / 2];
      split(pairs[i % 2 * 2], pairs[i % 2 * 2 + 1], parts);
#pragma unroll
      for (int p = 0; p < PARTS; ++p) left[p][i / 2][i % 2] = parts[p];
    }
#pragma unroll
    for (int e = 0; e < EIGHTHS; ++e) {
      unsigned right[PARTS][2];
#pragma unroll
      for (int p = 0; p < PARTS; ++p)
        load_half<true>(right[p], threadIdx.x % 32, [&](int m) {
          return row + p * PART + (16 * s + m) * PITCH + 8 * e;
        });
      if (BF16) {
        multiply_parts(sums[e], left, right);
      } else {  // over many rows, the matrix unit, which truncates sums, would lose digits
        float of_step[4] = {};
        multiply_parts(of_step, left, right);
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[e][i] += of_step[i];
      }
    }
  }
}

// The column of element i of products n, as an offset from the first.
__device__ inline int column_of(int n, int i) { return 8 * n + threadIdx.x % 4 * 2 + i % 2; }

// The biases of the head, in powers of two, to shared memory.
__device__ inline void read_biases(float* to, const float* from, const Tile& t) {
  for (int n = threadIdx.x; n < BIASES; n += THREADS) to[n] = from[t.head * BIASES + n] * LOG2_E;
}

// Replaces products with a row of neighbors by `weigh(logit, n, i)`, or by `unseen` what a position
// does not see. Logits are in powers of two.
template <class Weigh>
__device__ inline void weigh_seen(float (&products)[SPAN / 8][4], const Position (&positions)[2],
                                  const Tile& t, int row, const float* biases, float unseen,
                                  Weigh weigh) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const Position& p = positions[half];
    const unsigned seen = contains(p.rows, row) ? p.columns.end - p.columns.first : 0;
    WITH_BIAS(const int down = (KEYS ? p.row - row : row - p.row) + KH - 1;)
#pragma unroll
    for (int n = 0; n < SPAN / 8; ++n)
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i) {
        const int column = t.columns.first + column_of(n, i);
        float weight = unseen;
        if ((unsigned)(column - p.columns.first) < seen) {
          float logit = products[n][i] * (float)((SCALE) * LOG2_E);
          WITH_BIAS(const int across = (KEYS ? p.column - column : column - p.column) + KW - 1;
                    logit += biases[down * BIAS_COLUMNS + across];)
          weight = weigh(logit, n, i);
        }
        products[n][i] = weight;
      }
  }
}
