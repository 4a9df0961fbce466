// Products of packed bf16 weights (pack.h) and Rows of kSplit, 16 rows x 8 tokens at a time.
//
// The order of sums, whatever kernel computes them: the columns are cut into kSegments runs of
// whole steps; each is summed from zero in ascending order, `high` before `low` at every 16
// columns; the segments' sums are added to zero in ascending order.
#pragma once

#include "cuda/kernels/pack.h"
#include "cuda/primitives.h"
#include "cuda/rows.h"

namespace motet::cuda {

inline constexpr int kSegments = 8;
inline constexpr int kStepVectors = kBf16TileBytes / 16;  // of 16 bytes, a tile

__device__ __forceinline__ int SegmentBegin(int steps, int segment) {
  return static_cast<int>(static_cast<unsigned>(segment * steps) / kSegments);
}

// 32 columns: d[r][first + n] += row tile r times token tile n, where weights[r][h], high[n] and
// low[n] are this lane's vectors.
template <int kRowTiles, int kTokenTiles, int kSums>
__device__ __forceinline__ void MultiplySplit(float (&d)[kRowTiles][kSums][4], int first,
                                              const uint4 (&weights)[kRowTiles][2],
                                              const uint4 (&high)[kTokenTiles],
                                              const uint4 (&low)[kTokenTiles]) {
  const auto multiply = [&](int h, const uint4(&x)[kTokenTiles]) {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      const uint4& w = weights[r][h];
      const uint32_t a[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n) {
        MmaBf16(d[r][first + n], a, h ? x[n].z : x[n].x, h ? x[n].w : x[n].y);
      }
    }
  };
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    multiply(h, high);
    multiply(h, low);
  }
}

// A warp's product of one row tile, steps [begin, end), with tokens in global memory. Weights are
// read kStepsAhead steps before their use, the first of them at construction: they are constant, so
// that may be before WaitForInputs().
template <int kStepsAhead>
class TileProduct {
 public:
  __device__ __forceinline__ TileProduct(const uint8_t* tile, int begin, int end)
      : weights_(reinterpret_cast<const uint4*>(tile) + LaneIndex()), begin_(begin), end_(end) {
#pragma unroll
    for (int i = 0; i < kStepsAhead; ++i) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        if (begin + i < end) Load(ahead_[i][c], begin + i, c);
      }
    }
  }

  // Starts to bring the rest of the weights to the second-level cache.
  __device__ __forceinline__ void PrefetchRest() const {
    const int64_t first = begin_ + kStepsAhead;
    if (first < end_ && LaneIndex() == 0) {
      PrefetchToL2(weights_ + first * kStepVectors, (end_ - first) * kBf16TileBytes);
    }
  }

  // offsets[n] is where the row of this lane's token g = lane / 4 of token tile n starts in `rows`,
  // negative where there is no such token.
  template <int kTokenTiles>
  __device__ __forceinline__ void Accumulate(float (&d)[1][kTokenTiles][4], const Rows& rows,
                                             const int64_t (&offsets)[kTokenTiles]) {
    const int lane_column = 8 * (LaneIndex() % 4);
    for (int first = begin_; first < end_; first += kStepsAhead) {
#pragma unroll
      for (int i = 0; i < kStepsAhead; ++i) {
        const int step = first + i;
        if (step >= end_) break;
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          uint4 high[kTokenTiles], low[kTokenTiles];
#pragma unroll
          for (int n = 0; n < kTokenTiles; ++n) {
            high[n] = low[n] = make_uint4(0, 0, 0, 0);
            if (offsets[n] < 0) continue;
            const int64_t at = offsets[n] + kStepColumns * step + 32 * c + lane_column;
            high[n] = *reinterpret_cast<const uint4*>(rows.high + at);
            low[n] = *reinterpret_cast<const uint4*>(rows.low + at);
          }
          MultiplySplit(d, 0, ahead_[i][c], high, low);
          if (step + kStepsAhead < end_) Load(ahead_[i][c], step + kStepsAhead, c);
        }
      }
    }
  }

 private:
  __device__ __forceinline__ void Load(uint4 (&w)[1][2], int step, int c) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      w[0][h] = LoadOnce(weights_ + int64_t{step} * kStepVectors + (2 * c + h) * kWarpSize);
    }
  }

  const uint4* weights_;
  int begin_, end_;
  uint4 ahead_[kStepsAhead][2][1][2];
};

}  // namespace motet::cuda
