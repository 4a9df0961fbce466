// What the two kernels of moe.cu have in common: tiles of weights times tokens, and what becomes of
// the sums. Both add in the order that launch-independent results need: a block of 32 columns from
// zero, a segment's blocks in ascending order, then the segments; so a token's result is the same
// bits from either.
#pragma once

#include "cuda/kernels/experts.h"
#include "cuda/kernels/mxfp4.cuh"
#include "cuda/kernels/store_rows.cuh"
#include "cuda/primitives.h"
#include "cuda/rows.h"

namespace motet::cuda {

inline constexpr int kSegments = 8;  // runs of steps of kStepColumns columns, see SegmentBegin()
inline constexpr int kTileTokens = 8;

__device__ __forceinline__ int SegmentBegin(int segment, int steps) {
  return segment * steps / kSegments;
}

// One product of the experts: out = in Wᵀ + bias.
struct ExpertProduct {
  const uint8_t* weights;  // packed, [experts, tile rows, steps] tiles
  const uint16_t* bias;    // [experts, rows] bf16
  int rows;
  int steps;  // of kStepColumns columns
  Rows in;
  const int32_t* in_row;    // [pairs] the row of `in` of each pair; null: the pair's number
  const ExpertTile* tiles;  // [gridDim.y]

  __device__ __forceinline__ int TileRows() const { return (rows + kTileRows - 1) / kTileRows; }
  __device__ __forceinline__ int64_t InRow(int pair) const { return in_row ? in_row[pair] : pair; }
  __device__ __forceinline__ float Bias(int expert, int row) const {
    return row < rows ? BitsToFloat(uint32_t{bias[int64_t{expert} * rows + row]} << 16) : 0.0f;
  }
};

// A lane's part of a tile of MXFP4 weights.
struct Mxfp4Tile {
  static constexpr int kBytes = kMxfp4TileBytes;
  static constexpr int kRowArrays = 1;            // RowFormat::kF16
  static constexpr float kUnit = kMxfp4CodeUnit;  // sums are of the weights divided by this

  uint4 codes;
  uint32_t scales;

  __device__ __forceinline__ static Mxfp4Tile Load(const uint8_t* tile) {
    const int lane = LaneIndex();
    const auto* scales = reinterpret_cast<const uint32_t*>(tile + kMxfp4CodeBytes) + lane / 4;
    return {LoadOnce(reinterpret_cast<const uint4*>(tile) + lane), *scales};
  }
  __device__ __forceinline__ static Mxfp4Tile LoadShared(const uint8_t* tile) {
    const int lane = LaneIndex();
    return {reinterpret_cast<const uint4*>(tile)[lane],
            reinterpret_cast<const uint32_t*>(tile + kMxfp4CodeBytes)[lane / 4]};
  }

  // acc[n] += the tile times tokens 8n .. 8n+7. rows(n, block, array) is the lane's operand B of a
  // block, 16 bytes.
  template <int kTokenTiles, class GetRows>
  __device__ __forceinline__ void MultiplyAdd(float (&acc)[kTokenTiles][4],
                                              const GetRows& rows) const {
#pragma unroll
    for (int block = 0; block < 2; ++block) {
      uint32_t a0[4], a1[4];
      DecodeMxfp4Word(block == 0 ? codes.x : codes.z, a0);
      DecodeMxfp4Word(block == 0 ? codes.y : codes.w, a1);
      const float scale = BitsToFloat(Mxfp4ScaleBits(scales, 2 * block));
      const float scale_plus_8 = BitsToFloat(Mxfp4ScaleBits(scales, 2 * block + 1));
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n) {
        const uint4 b = rows(n, block, 0);
        float sum[4] = {};
        MmaF16(sum, a0, b.x, b.y);
        MmaF16(sum, a1, b.z, b.w);
        acc[n][0] = fmaf(sum[0], scale, acc[n][0]);
        acc[n][1] = fmaf(sum[1], scale, acc[n][1]);
        acc[n][2] = fmaf(sum[2], scale_plus_8, acc[n][2]);
        acc[n][3] = fmaf(sum[3], scale_plus_8, acc[n][3]);
      }
    }
  }
};

__device__ __forceinline__ float SwiGlu(float gate, float up, float limit) {
  constexpr float kAlpha = 1.702f;
  const float g = fminf(gate, limit), u = fminf(fmaxf(up, -limit), limit);
  const float sigmoid = 1.0f / Add(1.0f, expf(Multiply(-kAlpha, g)));
  return Multiply(Multiply(Add(u, 1.0f), g), sigmoid);
}

}  // namespace motet::cuda
