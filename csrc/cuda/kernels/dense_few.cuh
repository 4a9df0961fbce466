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

template <class Store>
__global__ void __launch_bounds__(kFewThreads, 3) FewTokensKernel(DenseProduct p, Store store) {
  constexpr int kStepsAhead = 2;  // 32 KB in flight a block
  const int tile = static_cast<int>(blockIdx.x), segment = WarpIndex(), lane = LaneIndex();
  auto* sums = reinterpret_cast<float4*>(SharedMemory());  // [kSegments, lanes]
  typename Store::LaneRows rows{};
  typename Store::LaneTokens tokens{};
  if (segment < kSegments) {
    TileProduct<kStepsAhead> product(p.Tile(tile), SegmentBegin(p.steps, segment),
                                     SegmentBegin(p.steps, segment + 1));
    if (p.prefetch) product.PrefetchRest();
    WaitForInputs();
    LetNextStart();
    const int token = lane / 4;
    const int64_t offsets[1] = {token < p.num_tokens ? token * p.in.stride : -1};
    float d[1][1][4] = {};
    product.Accumulate(d, p.in, offsets);
    sums[segment * kWarpSize + lane] = make_float4(d[0][0][0], d[0][0][1], d[0][0][2], d[0][0][3]);
  } else {
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
  store(rows, tokens, total);
}

template <class Store>
void LaunchFewTokens(const DenseProduct& p, const Store& store, Stream stream) {
  Launch(FewTokensKernel<Store>,
         {dim3(static_cast<unsigned>(p.row_tiles)), kFewThreads, kFewSharedBytes},
         static_cast<cudaStream_t>(stream), p, store);
}

}  // namespace motet::cuda
