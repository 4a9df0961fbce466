// A persistent team of threads for loops inside one step: spins for a moment between loops of the
// same step, then parks, so that an idle engine costs no CPU.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
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

  // Calls body(i) for every i in [0, count), count < 2^31, each once, on any thread of the team;
  // returns when all are done. The body must not throw. One loop at a time.
  //
  // Each thread goes through a run of its own, so that what it asks memory for beforehand is what
  // it comes to next, and then helps others from the ends of theirs.
  template <class Body>
  void ParallelFor(int64_t count, const Body& body) {
    Run(
        count, [](const void* context, int64_t i) { (*static_cast<const Body*>(context))(i); },
        &body);
  }

 private:
  using Function = void (*)(const void* context, int64_t i);
  void Run(int64_t count, Function function, const void* context);
  class alignas(64) Share {
   public:
    void Set(int64_t begin, int64_t end) {
      range_.store(static_cast<uint64_t>(end) << 32 | static_cast<uint64_t>(begin),
                   std::memory_order_relaxed);
    }
    int64_t Take(bool first);

   private:
    std::atomic<uint64_t> range_{0};  // begin in the lower half, end in the upper
  };
  void Work(int thread);
  void Stop();
  void WorkerLoop(int thread);

  // The current loop: written before generation_ is raised, read after it was seen to rise.
  Function function_ = nullptr;
  const void* context_ = nullptr;
  std::unique_ptr<Share[]> shares_;  // [size()]
  std::atomic<int> running_{0};
  std::atomic<uint32_t> generation_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace motet
