#include "cpu/peaks.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "cpu/isa.h"
#include "cpu/large_buffer.h"
#include "cpu/thread_pool.h"

namespace motet {
namespace {

constexpr int kRepetitions = 5;  // the best counts: a shared machine may be busy for some

// Calls body(thread) on every thread at once; returns the least seconds that all took.
template <class Body>
double BestSeconds(int threads, const Body& body) {
  ThreadPool pool(threads);
  double best = 1e9;
  for (int i = 0; i < kRepetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    pool.ParallelFor(threads, body);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::min(best, seconds.count());
  }
  return best;
}

}  // namespace

double PeakReadRate(int threads) {
  constexpr int64_t kBytes = int64_t{256} << 20;  // of each thread: past every cache
  std::vector<LargeBuffer> buffers;
  for (int i = 0; i < threads; ++i) {
    buffers.emplace_back(kBytes, "a measurement");
    std::fill_n(buffers.back().data(), kBytes, uint8_t{1});
  }
  std::vector<uint64_t> sums(threads);
  const double seconds = BestSeconds(threads, [&](int64_t thread) {
    const auto* words = reinterpret_cast<const uint64_t*>(buffers[thread].data());
    uint64_t sum = 0;
    for (int64_t i = 0; i < kBytes / 8; ++i) sum += words[i];
    sums[thread] += sum;
  });
  return static_cast<double>(threads * kBytes) / seconds;
}

double PeakMultiplyRate(Precision precision, int threads) {
  if (precision == Precision::kF32) return 0;
  const KernelTable& kernels = SelectKernels();
  const auto dots =
      precision == Precision::kExact ? kernels.peak_fixed_dots : kernels.peak_int8_dots;
  constexpr int64_t kRounds = 1 << 19;
  std::vector<int64_t> done(threads);
  const double seconds =
      BestSeconds(threads, [&](int64_t thread) { done[thread] = dots(kRounds); });
  return static_cast<double>(done[0] * threads) / seconds;
}

}  // namespace motet
