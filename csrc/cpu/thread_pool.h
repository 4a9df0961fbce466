// A persistent team of threads for loops inside one step: spins for a moment between loops of the
// same step, then parks, so that an idle engine costs no CPU.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace motet {

class ThreadPool {
 public:
  // A team of `threads`, the calling thread among them.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(i) for every i in [0, count), each once, on any thread of the team; returns when
  // all are done. The body must not throw. One loop at a time.
  template <class Body>
  void ParallelFor(int64_t count, const Body& body) {
    Run(
        count, [](const void* context, int64_t i) { (*static_cast<const Body*>(context))(i); },
        &body);
  }

 private:
  using Function = void (*)(const void* context, int64_t i);
  void Run(int64_t count, Function function, const void* context);
  void Work();
  void Stop();
  void WorkerLoop();

  // The current loop: written before generation_ is raised, read after it was seen to rise.
  Function function_ = nullptr;
  const void* context_ = nullptr;
  int64_t count_ = 0;
  std::atomic<int64_t> next_{0};
  std::atomic<int> running_{0};
  std::atomic<uint32_t> generation_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace motet
