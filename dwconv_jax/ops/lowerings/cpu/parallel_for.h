// A parallel loop over XLA's thread pool.

#ifndef DWCONV_JAX_PARALLEL_FOR_H_
#define DWCONV_JAX_PARALLEL_FOR_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>

#include "xla/ffi/api/ffi.h"

namespace dwconv {

// Runs `work(i)` for all i < count on the calling thread and XLA's. The caller works until nothing is
// left to claim, so it never waits for a thread that has not started.
template <typename Work>
void ParallelFor(xla::ffi::ThreadPool& pool, int64_t count, const Work& work) {
  struct Progress {
    std::atomic<int64_t> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable finished;
  };
  auto progress = std::make_shared<Progress>();
  // A late thread finds nothing to claim: it touches `progress`, which it shares, but never `work`.
  auto run = [progress, count, &work] {
    int64_t finished = 0;
    for (int64_t i; (i = progress->next.fetch_add(1)) < count; ++finished) work(i);
    if (finished && progress->done.fetch_add(finished) + finished == count) {
      std::lock_guard<std::mutex> lock(progress->mutex);
      progress->finished.notify_one();
    }
  };
  const int64_t helpers = std::min(pool.num_threads(), count) - 1;
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule(decltype(run)(run));
  run();

  const auto all_done = [&] { return progress->done.load() == count; };
  for (int spin = 0; spin < 64 && !all_done(); ++spin) std::this_thread::yield();
  if (all_done()) return;
  std::unique_lock<std::mutex> lock(progress->mutex);
  progress->finished.wait(lock, all_done);
}

}  // namespace dwconv

#endif  // DWCONV_JAX_PARALLEL_FOR_H_
