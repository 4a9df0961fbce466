// What the kernels of moe.cu have in common: their argument, and tiles of weights times tokens.
//
// The order of sums is that of dense_tile.cuh, in all of them.
#pragma once

#include "cuda/kernels/dense_tile.cuh"
#include "cuda/kernels/experts.h"
#include "cuda/kernels/mxfp4.cuh"
#include "cuda/primitives.h"
#include "cuda/rows.h"

namespace motet::cuda {

inline constexpr int kMoeThreads = kSegments * kWarpSize;
inline constexpr int kTokenTile = 8;  // tokens of an mma

// One product of the experts: out = in Wᵀ + bias.
struct ExpertProduct {
  const uint8_t* weights;  // packed, [experts, tile rows, steps] tiles, less than 32 GB
  const uint16_t* bias;    // [experts, rows] bf16
  int rows;
  int steps;  // of kStepColumns columns
  Rows in;
  const int32_t* in_row;    // [pairs] the row of `in` of each pair; null: the pair's number
  const ExpertTile* tiles;  // [gridDim.y]
  bool lists_are_old;       // another kernel came between them and this: read them early

  __device__ __forceinline__ ExpertTile Work() const {
    const uint4 work = LoadFresh(reinterpret_cast<const uint4*>(tiles) + blockIdx.y);
    return {static_cast<int>(work.x), static_cast<int>(work.y), static_cast<int>(work.z), 0};
  }
  __device__ __forceinline__ int TileRows() const { return (rows + kTileRows - 1) / kTileRows; }
  // Where a pair's row of `in` starts; kMaxMoeTokens rows have fewer than 2^31 values.
  __device__ __forceinline__ int InAt(int pair) const {
    return (in_row ? in_row[pair] : pair) * static_cast<int>(in.stride);
  }
  __device__ __forceinline__ float Bias(int expert, int row) const {
    return row < rows ? BitsToFloat(uint32_t{bias[int64_t{expert} * rows + row]} << 16) : 0.0f;
  }
};

// A lane's part of a tile of weights. MultiplyAdd: acc[n] += the tile times tokens 8n .. 8n+7,
// where rows(n, block, array) is the lane's operand B of a block of 32 columns in Rows' `high` or,
// if kRowArrays is 2, `low`.
struct Mxfp4Tile {
  static constexpr int kBytes = kMxfp4TileBytes;
  static constexpr int kAtOnce = 6;     // that a lane keeps: of all of a segment up to 3072 columns
  static constexpr int kStages = 4;     // of the kernel for many tokens
  static constexpr int kBlocks = 2;     // of it, a multiprocessor
  static constexpr int kRowArrays = 1;  // RowFormat::kF16
  static constexpr float kUnit = kMxfp4CodeUnit;  // sums are of the weights divided by this

  uint4 codes;
  uint32_t scales;

  __device__ __forceinline__ static Mxfp4Tile Load(const uint8_t* tile) {
    const int lane = LaneIndex();
    return {LoadOnce(reinterpret_cast<const uint4*>(tile) + lane), Scales(tile, lane)};
  }
  __device__ __forceinline__ static Mxfp4Tile LoadShared(const char* shared) {
    const int lane = LaneIndex();
    const auto* tile = reinterpret_cast<const uint8_t*>(shared);
    return {reinterpret_cast<const uint4*>(tile)[lane], Scales(tile, lane)};
  }

  template <int kTokenTiles, class GetRows>
  __device__ __forceinline__ void MultiplyAdd(float (&acc)[kTokenTiles][4],
                                              const GetRows& rows) const {
    auto& d = reinterpret_cast<float (&)[1][kTokenTiles][4]>(acc);
#pragma unroll
    for (int block = 0; block < 2; ++block) {
      ScaledOperands weights[1];
      DecodeMxfp4Word(block == 0 ? codes.x : codes.z, weights[0].a[0]);
      DecodeMxfp4Word(block == 0 ? codes.y : codes.w, weights[0].a[1]);
      weights[0].scale = BitsToFloat(Mxfp4ScaleBits(scales, 2 * block));
      weights[0].scale_plus_8 = BitsToFloat(Mxfp4ScaleBits(scales, 2 * block + 1));
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n) {
        const uint4 x[1] = {rows(n, block, 0)};
        MultiplyScaled(d, n, weights, x);
      }
    }
  }

 private:
  __device__ __forceinline__ static uint32_t Scales(const uint8_t* tile, int lane) {
    return reinterpret_cast<const uint32_t*>(tile + kMxfp4CodeBytes)[lane / 4];
  }
};

// Of a format of dense_tile.cuh.
template <class Weights>
struct DenseTile {
  static constexpr int kBytes = static_cast<int>(Weights::kTileBytes);
  static constexpr int kAtOnce = 1;
  static constexpr int kStages = 2;
  static constexpr int kRowArrays = Weights::kRowArrays;
  static constexpr int kBlocks = kRowArrays == 1 ? 2 : 1;  // by shared memory
  static constexpr float kUnit = 1;

  Weights weights[2];

  __device__ __forceinline__ static DenseTile Load(const uint8_t* tile) {
    return {{Weights::Load(tile, 0), Weights::Load(tile, 1)}};
  }
  __device__ __forceinline__ static DenseTile LoadShared(const char* shared) {
    const auto* tile = reinterpret_cast<const uint8_t*>(shared);
    return {{Weights::LoadShared(tile, 0), Weights::LoadShared(tile, 1)}};
  }

  template <int kTokenTiles, class GetRows>
  __device__ __forceinline__ void MultiplyAdd(float (&acc)[kTokenTiles][4],
                                              const GetRows& rows) const {
    auto& d = reinterpret_cast<float (&)[1][kTokenTiles][4]>(acc);
#pragma unroll
    for (int block = 0; block < 2; ++block) {
      const typename Weights::Decoded decoded[1] = {weights[block].Decode()};
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n) {
        uint4 x[kRowArrays][1];
#pragma unroll
        for (int array = 0; array < kRowArrays; ++array) x[array][0] = rows(n, block, array);
        Weights::Multiply(d, n, decoded, x);
      }
    }
  }
};

}  // namespace motet::cuda
