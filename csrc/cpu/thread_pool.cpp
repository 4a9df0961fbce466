#include "cpu/thread_pool.h"

#include <chrono>

namespace motet {
namespace {

// Long enough to bridge the gap between two ops of a step, short enough not to be seen in `top`.
constexpr auto kSpinTime = std::chrono::microseconds(50);

void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Returns when `value` differs from `old`: spins first, then sleeps in the kernel.
template <class T>
void WaitForChange(const std::atomic<T>& value, T old) {
  const auto start = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - start < kSpinTime) {
    for (int i = 0; i < 32; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
      Pause();
    }
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int threads) : shares_(new Share[threads]) {
  workers_.reserve(threads - 1);  // of a fixed size() before any of them works
  try {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { WorkerLoop(i); });
  } catch (...) {  // the system has no more threads: end those that did start
    Stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { Stop(); }

void ThreadPool::Stop() {
  stop_.store(true);
  generation_.fetch_add(1);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

// One index of a share: its owner takes the first, a thief the last. Returns -1 if none is left.
int64_t ThreadPool::Share::Take(bool first) {
  uint64_t range = range_.load(std::memory_order_relaxed);
  for (;;) {
    const auto begin = static_cast<uint32_t>(range), end = static_cast<uint32_t>(range >> 32);
    if (begin == end) return -1;
    const uint64_t rest = first ? range + 1 : range - (uint64_t{1} << 32);
    if (range_.compare_exchange_weak(range, rest, std::memory_order_relaxed)) {
      return first ? begin : end - 1;
    }
  }
}

void ThreadPool::Work(int thread) {
  for (int64_t i; (i = shares_[thread].Take(true)) >= 0;) function_(context_, i);
  for (int other = 1; other < size(); ++other) {
    Share& share = shares_[(thread + other) % size()];
    for (int64_t i; (i = share.Take(false)) >= 0;) function_(context_, i);
  }
}

void ThreadPool::Run(int64_t count, Function function, const void* context) {
  if (workers_.empty() || count == 1) {
    for (int64_t i = 0; i < count; ++i) function(context, i);
    return;
  }
  function_ = function;
  context_ = context;
  for (int i = 0; i < size(); ++i) {
    shares_[i].Set(count * i / size(), count * (i + 1) / size());
  }
  running_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  Work(0);
  for (int left; (left = running_.load(std::memory_order_acquire)) != 0;) {
    WaitForChange(running_, left);
  }
}

void ThreadPool::WorkerLoop(int thread) {
  for (uint32_t seen = 0;;) {
    WaitForChange(generation_, seen);
    seen = generation_.load(std::memory_order_acquire);
    if (stop_.load()) return;
    Work(thread);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
  }
}

}  // namespace motet
