// Runs a CUDA kernel on a CPU, a block at a time: every thread is a coroutine that gives way at
// __syncthreads(). It checks results; it is slow, and does not show data races between barriers.
#pragma once
#include <ucontext.h>

#include <cstring>
#include <utility>

#define EMULATED 1
#define SHARED_MEMORY(bytes) static Eight shared[(bytes) / 16 + 1];
#define __device__
#define __global__
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#undef __restrict__
#define __restrict__

struct float2 {
  float x, y;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
extern "C" float exp2f(float);
extern "C" float log2f(float);
inline float power_of_two(float value) { return exp2f(value); }
template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
  return a < b ? b : a;
}
inline unsigned round_to_bf16(float value) {  // to nearest, ties to even
  unsigned bits;
  std::memcpy(&bits, &value, 4);
  return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}
inline unsigned pack_bf16(float low, float high) {
  return round_to_bf16(low) | round_to_bf16(high) << 16;
}

struct Index {
  int x, y, z;
};
static Index threadIdx, blockIdx;

namespace emulation {
struct Thread {
  ucontext_t context;
  Index index;
  bool done = false;
  char stack[256 << 10];
};
static ucontext_t scheduler;
static Thread* current;
struct Barrier {
  int arrived = 0, round = 0;
};
static Barrier of_block, of_warp[64];
static int alive, alive_in_warp[64];

static int warp_of(const Thread* thread) { return thread->index.x / 32; }  // of one-dimensional blocks

static void wait(Barrier& barrier, const int& participants) {
  Thread* self = current;
  const int round = barrier.round;
  ++barrier.arrived;
  while (true) {
    if (barrier.round == round && barrier.arrived >= participants) {
      barrier.arrived = 0;
      ++barrier.round;
    }
    if (barrier.round != round) return;
    swapcontext(&self->context, &scheduler);
  }
}
inline void warp_barrier() { wait(of_warp[warp_of(current)], alive_in_warp[warp_of(current)]); }
static void (*body)();

static void enter() {
  body();
  current->done = true;
  --alive;
  --alive_in_warp[warp_of(current)];
  swapcontext(&current->context, &scheduler);
}

// One launch of `body`, which reads threadIdx and blockIdx.
static void run(Index grid, Index block) {
  const int count = block.x * block.y * block.z;
  Thread* const threads = new Thread[count];
  for (int bz = 0; bz < grid.z; ++bz)
    for (int by = 0; by < grid.y; ++by)
      for (int bx = 0; bx < grid.x; ++bx) {
        alive = count;
        of_block = {};
        for (Barrier& barrier : of_warp) barrier = {};
        for (int& count : alive_in_warp) count = 0;
        for (int n = 0; n < count; ++n) {
          Thread& thread = threads[n];
          thread.index = {n % block.x, n / block.x % block.y, n / (block.x * block.y)};
          thread.done = false;
          ++alive_in_warp[warp_of(&thread)];
          getcontext(&thread.context);
          thread.context.uc_stack.ss_sp = thread.stack;
          thread.context.uc_stack.ss_size = sizeof thread.stack;
          thread.context.uc_link = nullptr;
          makecontext(&thread.context, enter, 0);
        }
        for (bool running = true; running;) {
          running = false;
          for (int n = 0; n < count; ++n) {
            Thread& thread = threads[n];
            if (thread.done) continue;
            running = true;
            current = &thread;
            threadIdx = thread.index;
            blockIdx = {bx, by, bz};
            swapcontext(&scheduler, &thread.context);
          }
        }
      }
  delete[] threads;
}

// A kernel, and the addresses of its arguments.
template <class... Parameters>
struct Call {
  static inline void (*kernel)(Parameters...);
  static inline void* const* arrays;
  template <std::size_t... I>
  static void run(std::index_sequence<I...>) {
    kernel((Parameters)arrays[I]...);
  }
};

template <class... Parameters>
void launch(Index grid, Index block, void (*kernel)(Parameters...), void* const* arrays) {
  using This = Call<Parameters...>;
  This::kernel = kernel, This::arrays = arrays;
  body = [] { This::run(std::index_sequence_for<Parameters...>()); };
  run(grid, block);
}
}  // namespace emulation

inline void __syncthreads() { emulation::wait(emulation::of_block, emulation::alive); }
inline void __syncwarp() { emulation::warp_barrier(); }
inline float __shfl_xor_sync(unsigned, float value, int mask) {
  static float all[64][32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  all[warp][lane] = value;
  emulation::warp_barrier();
  const float other = all[warp][lane ^ mask];
  emulation::warp_barrier();
  return other;
}

// The matrix unit, as mma.cuh has it.
inline unsigned pick(unsigned a, unsigned b, bool high) {
  return high ? (a >> 16) | (b & 0xffff0000u) : (a & 0xffffu) | (b << 16);
}
template <bool TURNED, class Row>
inline void load_half(unsigned (&to)[2], int lane, Row row) {
  for (int h = 0; h < 2; ++h) {
    const int first = lane % 4 * 2 + 8 * h, column = lane / 4;
    if (TURNED)
      to[h] = row(first)[column] | (unsigned)row(first + 1)[column] << 16;
    else
      std::memcpy(&to[h], row(lane / 4 + 8 * h) + lane % 4 * 2, 4);
  }
}
inline void multiply(float (&d)[4], const unsigned (&low)[2], const unsigned (&high)[2],
                     const unsigned (&b)[2]) {
  static unsigned all[64][32][6];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const unsigned mine[6] = {low[0], low[1], high[0], high[1], b[0], b[1]};
  std::memcpy(all[warp][lane], mine, sizeof mine);
  emulation::warp_barrier();
  for (int r = 0; r < 4; ++r) {
    const int m = lane / 4 + r / 2 * 8, n = lane % 4 * 2 + r % 2;
    for (int s = 0; s < 16; ++s) {
      const unsigned* row = all[warp][m % 8 * 4 + s % 8 / 2];
      const unsigned* column = all[warp][n * 4 + s % 8 / 2];
      const unsigned a = row[s / 8 * 2 + m / 8] >> s % 2 * 16, w = column[4 + s / 8] >> s % 2 * 16;
      d[r] += __uint_as_float(a << 16) * __uint_as_float(w << 16);
    }
  }
  emulation::warp_barrier();
}
