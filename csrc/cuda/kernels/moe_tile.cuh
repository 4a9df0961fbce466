// What the kernels of moe.cu have in common: their argument, and tiles of weights times tokens.
//
// The order of sums is that of dense_tile.cuh, in all of them.
#pragma once

#include <type_traits>

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
  // Packed, less than 32 GB: [experts, tile rows] of `steps` tiles and Tile::kRowBytes.
  const uint8_t* weights;
  const uint16_t* bias;  // [experts, rows] bf16
  int rows;
  int steps;  // of kStepColumns columns
  Rows in;
  const int32_t* in_row;  // [pairs] the row of `in` of each pair; null: the pair's number
  const ExpertTile* tiles;
  bool lists_are_old;  // another kernel came between them and this: read them early

  __device__ __forceinline__ ExpertTile Work(int tile) const {
    const uint4 work = LoadFresh(reinterpret_cast<const uint4*>(tiles) + tile);
    return {static_cast<int>(work.x), static_cast<int>(work.y), static_cast<int>(work.z),
            static_cast<int>(work.w)};
  }
  __device__ __forceinline__ int TileRows() const { return (rows + kTileRows - 1) / kTileRows; }
  // Where a row of tiles starts, in vectors of 16 bytes: 32 bits, one register, can count them.
  template <class Tile>
  __device__ __forceinline__ int TilesAt(int expert, int tile_row) const {
    return (expert * TileRows() + tile_row) * RowVectors<Tile>();
  }
  template <class Tile>
  __device__ __forceinline__ int RowVectors() const {
    return steps * (Tile::kBytes / 16) + Tile::kRowBytes / 16;
  }
  // What the sums of a row are to be multiplied by.
  template <class Tile>
  __device__ __forceinline__ float Unit(int expert, int row) const {
    const int tile_row = row / kTileRows;
    if (tile_row >= TileRows()) return 0;
    return Tile::Unit(
        weights + int64_t{TilesAt<Tile>(expert, tile_row)} * 16 + steps * Tile::kBytes,
        row % kTileRows);
  }
  // Where a pair's row of `in` starts; kMaxMoeTokens rows have fewer than 2^31 values.
  __device__ __forceinline__ int InAt(int pair) const {
    return (in_row ? in_row[pair] : pair) * static_cast<int>(in.stride);
  }
  __device__ __forceinline__ float Bias(int expert, int row) const {
    return row < rows ? BitsToFloat(uint32_t{bias[int64_t{expert} * rows + row]} << 16) : 0.0f;
  }
};

// A lane's part of a tile of weights:
//
//   kBytes, kRowBytes    of a tile, and of what follows the tiles of a row of them
//   LoadIf(there, tile)  from global memory, if it is there; LoadShared(tile), from shared memory
//   Unit(row_bytes, row) what the sums of a row of the 16 are times
//   Decode(block)        the columns of a block of 32, as Multiply takes them: Decoded
//   kWide                whether Decoded is operands only, OperandA(): sums need no scales
//   Multiply(d, first, weights, x)   as a format's of dense_tile.cuh
struct Mxfp4Tile {
  static constexpr int kBytes = kMxfp4TileBytes, kRowBytes = kMxfp4RowBytes;
  static constexpr int kAtOnce = 6;     // steps that a lane keeps in the kernel for few tokens
  static constexpr int kStages = 4;     // of the kernel for many tokens
  static constexpr int kWarpTiles = 2;  // rows of them that a warp has there
  static constexpr bool kWide = true;

  struct Decoded {
    uint32_t a[2][4];  // operands of both halves

    __device__ __forceinline__ void OperandA(int half, uint32_t (&to)[4]) const {
#pragma unroll
      for (int i = 0; i < 4; ++i) to[i] = a[half][i];
    }
  };

  uint4 codes;
  uint32_t scales;

  __device__ __forceinline__ void LoadIf(bool there, const uint8_t* tile) {
    LoadOnceIf(there, reinterpret_cast<const uint4*>(tile) + LaneIndex(), codes);
    if (there) scales = Scales(tile);
  }
  __device__ __forceinline__ static Mxfp4Tile LoadShared(const uint8_t* tile) {
    return {reinterpret_cast<const uint4*>(tile)[LaneIndex()], Scales(tile)};
  }
  __device__ __forceinline__ static float Unit(const uint8_t* row_bytes, int row) {
    return UnitOf(row_bytes, row);
  }

  __device__ __forceinline__ Decoded Decode(int block) const {
    Decoded w;
    const uint32_t words[2] = {block == 0 ? codes.x : codes.z, block == 0 ? codes.y : codes.w};
    const uint32_t scale = Mxfp4ScaleF16(scales, 2 * block),
                   scale_plus_8 = Mxfp4ScaleF16(scales, 2 * block + 1);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      DecodeMxfp4Word(words[h], w.a[h]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        w.a[h][i] = MultiplyF16(w.a[h][i], i % 2 == 0 ? scale : scale_plus_8);
      }
    }
    return w;
  }

  template <int kRowTiles, int kTokenTiles, int kSums>
  __device__ __forceinline__ static void Multiply(float (&d)[kRowTiles][kSums][4], int first,
                                                  const Decoded (&weights)[kRowTiles],
                                                  const uint4 (&x)[kTokenTiles]) {
    MultiplyPlain(d, first, weights, x);
  }

 private:
  __device__ __forceinline__ static uint32_t Scales(const uint8_t* tile) {
    return reinterpret_cast<const uint32_t*>(tile + kMxfp4CodeBytes)[LaneIndex() / 4];
  }
};

// Of a format of dense_tile.cuh.
template <class Weights>
struct DenseTile {
  static constexpr int kBytes = static_cast<int>(Weights::kTileBytes),
                       kRowBytes = static_cast<int>(Weights::kRowBytes);
  static constexpr int kAtOnce = 1;
  static constexpr bool kScaled = std::is_same_v<typename Weights::Decoded, ScaledOperands>;
  static constexpr bool kWide = !kScaled;
  static constexpr int kStages = kScaled ? 3 : 2;     // by shared memory
  static constexpr int kWarpTiles = kScaled ? 1 : 2;  // by registers: scales take some

  using Decoded = typename Weights::Decoded;

  Weights weights[2];

  __device__ __forceinline__ void LoadIf(bool there, const uint8_t* tile) {
    if (there) *this = {{Weights::Load(tile, 0), Weights::Load(tile, 1)}};
  }
  __device__ __forceinline__ static DenseTile LoadShared(const uint8_t* tile) {
    return {{Weights::LoadPlain(tile, 0), Weights::LoadPlain(tile, 1)}};
  }
  __device__ __forceinline__ static float Unit(const uint8_t* row_bytes, int row) {
    return Weights::Unit(row_bytes, row);
  }

  __device__ __forceinline__ Decoded Decode(int block) const { return weights[block].Decode(); }

  template <int kRowTiles, int kTokenTiles, int kSums>
  __device__ __forceinline__ static void Multiply(float (&d)[kRowTiles][kSums][4], int first,
                                                  const Decoded (&decoded)[kRowTiles],
                                                  const uint4 (&x)[kTokenTiles]) {
    Weights::Multiply(d, first, decoded, x);
  }
};

// acc[r][n] += tiles[r] times tokens 8 n ... 8 n + 7, where rows(n, block) is the lane's operand
// B of a block of 32 columns.
template <class Tile, int kTiles, int kTokenTiles, class GetRows>
__device__ __forceinline__ void MultiplyAdd(float (&acc)[kTiles][kTokenTiles][4],
                                            const Tile (&tiles)[kTiles], const GetRows& rows) {
#pragma unroll
  for (int block = 0; block < 2; ++block) {
    typename Tile::Decoded weights[kTiles];
#pragma unroll
    for (int r = 0; r < kTiles; ++r) weights[r] = tiles[r].Decode(block);
#pragma unroll
    for (int n = 0; n < kTokenTiles; ++n) {
      const uint4 x[1] = {rows(n, block)};
      Tile::Multiply(acc, n, weights, x);
    }
  }
}

}  // namespace motet::cuda
