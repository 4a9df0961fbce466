// Selection by a whole block: where, going by rank, a sum of weights reaches a target.
#pragma once

#include "cuda/kernels/last_block.cuh"
#include "cuda/primitives.h"

namespace motet::cuda {

inline constexpr int kSelectThreads = 256;
inline constexpr int kSelectWarps = kSelectThreads / kWarpSize;
inline constexpr int kBinBits = 9;
inline constexpr int kBins = 1 << kBinBits;  // two a thread
static_assert(kBins == 2 * kSelectThreads);

// Sums of 64 bits in shared memory. Two words each: the GPU adds to 32 bits at once, but would
// compare and swap 64 in a loop.
struct Histogram {
  unsigned low[kBins], high[kBins];

  __device__ __forceinline__ void Clear() {
    for (int bin = static_cast<int>(threadIdx.x); bin < kBins; bin += kSelectThreads) {
      low[bin] = high[bin] = 0;
    }
  }
  __device__ __forceinline__ void Add(int bin, uint64_t value) {
    const auto word = static_cast<unsigned>(value);
    const bool carry = atomicAdd(&low[bin], word) + word < word;
    const unsigned rest = static_cast<unsigned>(value >> 32) + (carry ? 1u : 0u);
    if (rest > 0) atomicAdd(&high[bin], rest);
  }
  __device__ __forceinline__ uint64_t At(int bin) const {
    return uint64_t{high[bin]} << 32 | low[bin];
  }
};

// An element of what is selected from. Ranks are distinct; the lowest comes first.
struct Ranked {
  uint64_t rank, weight;  // weight 0: not there
};

// Where the target is reached: a rank or an index, its weight, and the weight of all before it.
struct Cut {
  uint64_t rank, weight, before;
  __device__ __forceinline__ uint64_t Reached() const { return before + weight; }
};

struct SelectShared {
  Histogram histogram;
  uint64_t warps[kSelectWarps];
  Cut cut;
  Ranked only;
  unsigned active;
};

// combine(x of every thread), the same in each; it must not mind the order.
template <class F>
__device__ __forceinline__ uint64_t BlockCombine(uint64_t x, SelectShared& shared, F combine) {
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) x = combine(x, ShuffleXor(x, mask));
  if (LaneIndex() == 0) shared.warps[WarpIndex()] = x;
  __syncthreads();
  x = shared.warps[0];
#pragma unroll
  for (int warp = 1; warp < kSelectWarps; ++warp) x = combine(x, shared.warps[warp]);
  __syncthreads();
  return x;
}
__device__ __forceinline__ uint64_t BlockSum(uint64_t x, SelectShared& shared) {
  return BlockCombine(x, shared, [](uint64_t a, uint64_t b) { return a + b; });
}
__device__ __forceinline__ uint64_t BlockMax(uint64_t x, SelectShared& shared) {
  return BlockCombine(x, shared, [](uint64_t a, uint64_t b) { return a > b ? a : b; });
}

// The sum of the lower threads' x, and that of all.
struct Scanned {
  uint64_t before, total;
};
__device__ __forceinline__ Scanned BlockScan(uint64_t x, SelectShared& shared) {
  uint64_t sum = x;
#pragma unroll
  for (int distance = 1; distance < kWarpSize; distance *= 2) {
    const uint64_t lower = ShuffleUp(sum, distance);
    if (LaneIndex() >= distance) sum += lower;
  }
  if (LaneIndex() == kWarpSize - 1) shared.warps[WarpIndex()] = sum;
  __syncthreads();
  Scanned scanned{sum - x, 0};
#pragma unroll
  for (int warp = 0; warp < kSelectWarps; ++warp) {
    if (warp < WarpIndex()) scanned.before += shared.warps[warp];
    scanned.total += shared.warps[warp];
  }
  __syncthreads();
  return scanned;
}

// The index at which the running sum of at(0) to at(n - 1) reaches the target, which is from 1 to
// the sum of all. The same in every thread.
template <class At>
__device__ __forceinline__ Cut FindReached(int64_t n, uint64_t target, SelectShared& shared,
                                           At at) {
  uint64_t done = 0;
  for (int64_t begin = 0; begin < n; begin += kBins) {
    const int64_t i = begin + 2 * threadIdx.x;
    const uint64_t first = i < n ? at(i) : 0, second = i + 1 < n ? at(i + 1) : 0;
    const Scanned scanned = BlockScan(first + second, shared);
    const uint64_t before = done + scanned.before;
    if (before < target && target <= before + first + second) {
      const bool in_first = target <= before + first;
      shared.cut = in_first ? Cut{static_cast<uint64_t>(i), first, before}
                            : Cut{static_cast<uint64_t>(i + 1), second, before + first};
    }
    done += scanned.total;
    if (target <= done) break;
  }
  __syncthreads();
  const Cut cut = shared.cut;
  __syncthreads();
  return cut;
}

// Of the elements at(0) to at(n - 1), with ranks below 2^bits, the one at which the sum of weights
// reaches `target`, which is from 1 to the sum of all. The same in every thread. A radix select:
// each pass fixes the next digit of the rank, until one element is left.
template <class At>
__device__ __forceinline__ Cut Select(int64_t n, int bits, uint64_t target, SelectShared& shared,
                                      At at) {
  uint64_t prefix = 0, before = 0;
  for (;;) {
    const int shift = bits > kBinBits ? bits - kBinBits : 0;
    const auto digit_mask = static_cast<unsigned>((1 << (bits - shift)) - 1);
    shared.histogram.Clear();
    if (threadIdx.x == 0) shared.active = 0;
    __syncthreads();
    unsigned active = 0;
    Ranked mine{};
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < n; i += kSelectThreads) {
      const Ranked element = at(i);
      if (element.weight == 0 || element.rank >> bits != prefix) continue;
      shared.histogram.Add(
          static_cast<int>(static_cast<unsigned>(element.rank >> shift) & digit_mask),
          element.weight);
      mine = element;
      ++active;
    }
    if (active > 0) atomicAdd(&shared.active, active);
    __syncthreads();
    if (shared.active == 1) {
      if (active == 1) shared.only = mine;
      __syncthreads();
      break;
    }
    const Cut digit = FindReached(kBins, target - before, shared, [&](int64_t bin) {
      return shared.histogram.At(static_cast<int>(bin));
    });
    before += digit.before;
    prefix = prefix << (bits - shift) | digit.rank;
    bits = shift;
  }
  const Cut cut{shared.only.rank, shared.only.weight, before};
  __syncthreads();
  return cut;
}

__device__ __forceinline__ bool IsLastBlock(unsigned* ticket, unsigned blocks,
                                            SelectShared& shared) {
  return IsLastBlock(ticket, blocks, shared.active);
}

}  // namespace motet::cuda
