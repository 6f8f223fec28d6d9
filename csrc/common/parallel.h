// How a CPU kernel spreads its work. The kernels bring no threads of their own: the caller hands them
// a way to run ranges (torch's pool, another program's, or `serial`), so that nothing is oversubscribed.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>

namespace yolact {

using Range = std::function<void(int64_t begin, int64_t end)>;

struct Parallel {
  int threads;                                                                  // how many may run at once
  std::function<void(int64_t count, int64_t grain, const Range& body)> ranges;  // body over [0, count), in any split
};

inline Parallel serial() {
  return {1, [](int64_t count, int64_t, const Range& body) {
            if (count > 0) body(0, count);
          }};
}

// How many workers for_each puts to `count` items: as many workspaces are needed.
inline int64_t workers_for(const Parallel& parallel, int64_t count) {
  return count < parallel.threads ? count : parallel.threads;
}

// Runs work(i, worker) once for each i in [0, count); no two items run at once on one worker. Items are drawn from a
// common counter, because a full-frame detection costs a hundred times a small one and equal halves would leave one
// thread waiting.
template <class Work>
void for_each_on_worker(const Parallel& parallel, int64_t count, Work&& work) {
  if (parallel.threads <= 1 || count <= 1) {
    for (int64_t i = 0; i < count; ++i) work(i, 0);
    return;
  }
  std::atomic<int64_t> next{0};
  std::atomic_flag failed = ATOMIC_FLAG_INIT;
  std::exception_ptr failure;  // the first; carried over by hand, for `ranges` may lead through C
  parallel.ranges(workers_for(parallel, count), 1, [&](int64_t worker, int64_t) {
    try {
      for (int64_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) work(i, worker);
    } catch (...) {
      if (!failed.test_and_set()) failure = std::current_exception();
      next = count;
    }
  });
  if (failure) std::rethrow_exception(failure);
}

// Runs work(i) once for each i in [0, count).
template <class Work>
void for_each(const Parallel& parallel, int64_t count, Work&& work) {
  for_each_on_worker(parallel, count, [&](int64_t i, int64_t) { work(i); });
}

}  // namespace yolact
