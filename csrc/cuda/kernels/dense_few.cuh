// At most 8 tokens: bound by reading the weights, once. A block is a row tile. Each of its warps
// has one segment of the columns; one more reads what is needed besides, and at the end adds and
// stores.
#pragma once

#include "cuda/kernels/dense_product.cuh"
#include "cuda/launch.h"

namespace motet::cuda {

inline constexpr int kFewTokens = 8;
inline constexpr int kFewThreads = (kSegments + 1) * kWarpSize;
inline constexpr int kFewSharedBytes = kSegments * kWarpSize * 16;

// A warp's product of one row tile, steps [begin, end), with tokens in global memory. Weights are
// read kStepsAhead steps before their use, the first of them at construction: they are constant, so
// that may be before WaitForInputs().
template <class Weights>
class TileProduct {
 public:
  __device__ __forceinline__ TileProduct(const uint8_t* tile, int begin, int end)
      : tile_(tile), begin_(begin), end_(end) {
#pragma unroll
    for (int i = 0; i < kStepsAhead; ++i) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        if (begin + i < end) ahead_[i][c] = Load(begin + i, c);
      }
    }
  }

  // Starts to bring the rest of the weights to the second-level cache.
  __device__ __forceinline__ void PrefetchRest() const {
    const int64_t first = begin_ + kStepsAhead;
    if (first < end_ && LaneIndex() == 0) {
      PrefetchToL2(tile_ + first * kTileBytes, (end_ - first) * kTileBytes);
    }
  }

  // `offset` is where the row of this lane's token g = lane / 4 starts in `rows`, negative where
  // there is no such token.
  __device__ __forceinline__ void Accumulate(float (&d)[4], const Rows& rows, int64_t offset) {
    const int lane_column = 8 * (LaneIndex() % 4);
    for (int first = begin_; first < end_; first += kStepsAhead) {
#pragma unroll
      for (int i = 0; i < kStepsAhead; ++i) {
        const int step = first + i;
        if (step >= end_) break;
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          uint4 x[1] = {};
          if (offset >= 0) {
            const int64_t at = offset + kStepColumns * step + 32 * c + lane_column;
            x[0] = *reinterpret_cast<const uint4*>(rows.data + at);
          }
          const typename Weights::Decoded weights[1] = {ahead_[i][c].Decode()};
          Weights::Multiply(reinterpret_cast<float (&)[1][1][4]>(d), 0, weights, x);
          if (step + kStepsAhead < end_) ahead_[i][c] = Load(step + kStepsAhead, c);
        }
      }
    }
  }

 private:
  static constexpr int64_t kTileBytes = Weights::kTileBytes;
  static constexpr int kStepsAhead = Weights::kStepsAhead;

  __device__ __forceinline__ Weights Load(int step, int c) const {
    return Weights::Load(tile_ + step * kTileBytes, c);
  }

  const uint8_t* tile_;
  int begin_, end_;
  Weights ahead_[kStepsAhead][2];
};

template <class Weights, class Store>
__global__ void __launch_bounds__(kFewThreads, 3) FewTokensKernel(DenseProduct p, Store store) {
  const int tile = static_cast<int>(blockIdx.x), segment = WarpIndex(), lane = LaneIndex();
  auto* sums = reinterpret_cast<float4*>(SharedMemory());  // [kSegments, lanes]
  typename Store::LaneRows rows{};
  typename Store::LaneTokens tokens{};
  float2 units{};
  if (segment < kSegments) {
    TileProduct<Weights> product(p.Vectors(p.TileAt<Weights>(tile)), SegmentBegin(p.steps, segment),
                                 SegmentBegin(p.steps, segment + 1));
    if (p.prefetch) product.PrefetchRest();
    WaitForInputs();
    LetNextStart();
    const int token = lane / 4;
    float d[4] = {};
    product.Accumulate(d, p.in, token < p.num_tokens ? token * p.in.stride : -1);
    sums[segment * kWarpSize + lane] = make_float4(d[0], d[1], d[2], d[3]);
  } else {
    units = p.Units<Weights>(tile);
    WaitForInputs();
    LetNextStart();
    rows = store.Rows(tile);
    tokens = store.Load(rows, 2 * (lane % 4));
  }
  __syncthreads();
  if (segment < kSegments) return;
  float total[4] = {};
#pragma unroll
  for (int s = 0; s < kSegments; ++s) Add(total, sums[s * kWarpSize + lane]);
  Multiply(total, units);
  store(rows, tokens, total);
}

template <class Weights, class Store>
void LaunchFewTokens(const DenseProduct& p, const Store& store, Stream stream) {
  Launch(FewTokensKernel<Weights, Store>,
         {dim3(static_cast<unsigned>(p.row_tiles)), kFewThreads, kFewSharedBytes},
         static_cast<cudaStream_t>(stream), p, store);
}

}  // namespace motet::cuda
