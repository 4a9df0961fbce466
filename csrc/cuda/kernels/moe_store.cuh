// How the kernels for many tokens store their sums.
#pragma once

#include "cuda/kernels/moe_tile.cuh"

namespace motet::cuda {

// Sums leave through shared memory: of a token, the rows, whose lanes of different t are in
// different banks.
template <int kRows>
inline constexpr int kSumStride = kRows + 4;

// Stores the sums of a block's rows, from `first_row` on, and the work's tokens; a warp has
// kWarpTiles row tiles of 16. `shared` is for all of them, the kernel's operands are done with.
template <class Tile, int kWarpTiles, int kTokenTiles, class Output>
__device__ __forceinline__ void StoreSums(const ExpertProduct& p, const ExpertTile& work,
                                          int first_row,
                                          const float (&total)[kWarpTiles][kTokenTiles][4],
                                          float* shared, const Output& output) {
  constexpr int kRows = kMoeThreads / kWarpSize * kWarpTiles * kTileRows;
  constexpr int kStride = kSumStride<kRows>;
  const int g = LaneIndex() / 4, t = LaneIndex() % 4;
  __syncthreads();  // all are done with their operands
#pragma unroll
  for (int r = 0; r < kWarpTiles; ++r) {
    float* to = shared + (WarpIndex() * kWarpTiles + r) * kTileRows + g;
#pragma unroll
    for (int n = 0; n < kTokenTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int token = n * kTokenTile + 2 * t + i % 2;
        to[token * kStride + i / 2 * 8] = total[r][n][i];
      }
    }
  }
  __syncthreads();
  constexpr int kFours = kRows / 4;
  const int column = 4 * static_cast<int>(threadIdx.x % kFours), row = first_row + column;
  float unit[4], bias[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    unit[i] = p.Unit<Tile>(work.expert, row + i);
    bias[i] = p.Bias(work.expert, row + i);
  }
  for (int i = static_cast<int>(threadIdx.x) / kFours; i < work.count; i += kMoeThreads / kFours) {
    const float4 sum = *reinterpret_cast<const float4*>(shared + i * kStride + column);
    output.StoreFour(
        work.first + i, row,
        {Add(Multiply(sum.x, unit[0]), bias[0]), Add(Multiply(sum.y, unit[1]), bias[1]),
         Add(Multiply(sum.z, unit[2]), bias[2]), Add(Multiply(sum.w, unit[3]), bias[3])});
  }
}

}  // namespace motet::cuda
