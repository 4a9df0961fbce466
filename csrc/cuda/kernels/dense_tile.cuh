// Products of packed weights (pack.h) and Rows, 16 rows x 8 tokens at a time.
//
// The order of sums, whatever kernel computes them: the columns are cut into kSegments runs of
// whole steps; each is summed from zero in ascending order; the segments' sums are added to zero in
// ascending order; that is multiplied by the row's unit. Weights whose blocks of 32 columns have
// scales: a block is summed from zero before its scale is applied.
#pragma once

#include "cuda/kernels/int8_to_f16.cuh"
#include "cuda/kernels/pack.h"
#include "cuda/kernels/row_unit.cuh"
#include "cuda/primitives.h"
#include "cuda/rows.h"

namespace motet::cuda {

inline constexpr int kSegments = 8;

__device__ __forceinline__ int SegmentBegin(int steps, int segment) {
  return static_cast<int>(static_cast<unsigned>(segment * steps) / kSegments);
}

// Operands `b` of both halves of 32 columns: (x, y) and (z, w) of a lane's vector of Rows.
__device__ __forceinline__ uint32_t OperandB(const uint4& x, int half, int i) {
  return half == 0 ? (i == 0 ? x.x : x.y) : (i == 0 ? x.z : x.w);
}

// A lane's operands `a` of both halves of 32 columns, whose rows g and g + 8 have scales.
struct ScaledOperands {
  uint32_t a[2][4];
  float scale, scale_plus_8;
};

// d[r][first + n] += row tile r times token tile n.
template <int kRowTiles, int kTokenTiles, int kSums>
__device__ __forceinline__ void MultiplyScaled(float (&d)[kRowTiles][kSums][4], int first,
                                               const ScaledOperands (&weights)[kRowTiles],
                                               const uint4 (&x)[kTokenTiles]) {
  float sums[kRowTiles][kTokenTiles][4] = {};
#pragma unroll
  for (int h = 0; h < 2; ++h) {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n) {
        MmaF16(sums[r][n], weights[r].a[h], OperandB(x[n], h, 0), OperandB(x[n], h, 1));
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
    for (int n = 0; n < kTokenTiles; ++n) {
      float (&to)[4] = d[r][first + n];
      to[0] = fmaf(sums[r][n][0], weights[r].scale, to[0]);
      to[1] = fmaf(sums[r][n][1], weights[r].scale, to[1]);
      to[2] = fmaf(sums[r][n][2], weights[r].scale_plus_8, to[2]);
      to[3] = fmaf(sums[r][n][3], weights[r].scale_plus_8, to[3]);
    }
  }
}

// The same of weights whose sums need no scales: OperandA(half, a) is operand `a` of a half.
template <int kRowTiles, int kTokenTiles, int kSums, class Decoded>
__device__ __forceinline__ void MultiplyPlain(float (&d)[kRowTiles][kSums][4], int first,
                                              const Decoded (&weights)[kRowTiles],
                                              const uint4 (&x)[kTokenTiles]) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      uint32_t a[4];
      weights[r].OperandA(h, a);
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n) {
        MmaF16(d[r][first + n], a, OperandB(x[n], h, 0), OperandB(x[n], h, 1));
      }
    }
  }
}

// A format of weights is a lane's part of 32 columns of a row tile, those of half `c` of it:
//
//   kTileBytes, kRowBytes  of a whole tile, and of what follows the tiles of 16 rows
//   kStepsAhead            that the kernel for few tokens reads, by registers
//   Load(tile, c)          from global memory, for this warp alone; LoadPlain(tile, c), from shared
//                          memory or what the first-level cache may keep for others
//   Unit(row_bytes, row)   what the sums of a row of the 16 are times
//   Decode()               as Multiply takes it: Decoded
//   Multiply(d, first, weights, x)   d[r][first + n] += row tile r times token tile n, where
//                          weights[r] are decoded and x[n] is the lane's vector of Rows

struct F16Weights {
  static constexpr int64_t kTileBytes = kF16TileBytes, kRowBytes = kF16RowBytes;
  static constexpr int kStepsAhead = 2;  // 32 KB in flight a block

  using Decoded = F16Weights;

  uint4 operands[2];  // `a` of each half

  __device__ __forceinline__ static F16Weights Load(const uint8_t* tile, int c) {
    const uint4* from = Vectors(tile, c);
    return {{LoadOnce(from), LoadOnce(from + kWarpSize)}};
  }
  __device__ __forceinline__ static F16Weights LoadPlain(const uint8_t* tile, int c) {
    const uint4* from = Vectors(tile, c);
    return {{from[0], from[kWarpSize]}};
  }
  __device__ __forceinline__ static float Unit(const uint8_t* row_bytes, int row) {
    return UnitOf(row_bytes, row);
  }
  __device__ __forceinline__ const Decoded& Decode() const { return *this; }
  __device__ __forceinline__ void OperandA(int half, uint32_t (&to)[4]) const {
    to[0] = operands[half].x, to[1] = operands[half].y;
    to[2] = operands[half].z, to[3] = operands[half].w;
  }

  template <int kRowTiles, int kTokenTiles, int kSums>
  __device__ __forceinline__ static void Multiply(float (&d)[kRowTiles][kSums][4], int first,
                                                  const Decoded (&weights)[kRowTiles],
                                                  const uint4 (&x)[kTokenTiles]) {
    MultiplyPlain(d, first, weights, x);
  }

 private:
  __device__ __forceinline__ static const uint4* Vectors(const uint8_t* tile, int c) {
    return reinterpret_cast<const uint4*>(tile) + 2 * c * kWarpSize + LaneIndex();
  }
};

struct Int8Weights {
  static constexpr int64_t kTileBytes = kInt8TileBytes, kRowBytes = 0;
  static constexpr int kStepsAhead = 3;  // 26 KB in flight a block

  using Decoded = ScaledOperands;

  uint4 bytes;
  uint32_t scales;  // of rows g and g + 8, bf16

  __device__ __forceinline__ static Int8Weights Load(const uint8_t* tile, int c) {
    return {LoadOnce(Vector(tile, c)), Scales(tile, c)};
  }
  __device__ __forceinline__ static Int8Weights LoadPlain(const uint8_t* tile, int c) {
    return {*Vector(tile, c), Scales(tile, c)};
  }
  __device__ __forceinline__ static float Unit(const uint8_t*, int) { return 1; }
  __device__ __forceinline__ Decoded Decode() const {
    Decoded w;
    IntegersToF16<1>(bytes.x, w.a[0][0], w.a[0][2]);
    IntegersToF16<1>(bytes.y, w.a[0][1], w.a[0][3]);
    IntegersToF16<1>(bytes.z, w.a[1][0], w.a[1][2]);
    IntegersToF16<1>(bytes.w, w.a[1][1], w.a[1][3]);
    w.scale = BitsToFloat(scales << 16);
    w.scale_plus_8 = BitsToFloat(scales & 0xFFFF0000u);
    return w;
  }

  template <int kRowTiles, int kTokenTiles, int kSums>
  __device__ __forceinline__ static void Multiply(float (&d)[kRowTiles][kSums][4], int first,
                                                  const Decoded (&weights)[kRowTiles],
                                                  const uint4 (&x)[kTokenTiles]) {
    MultiplyScaled(d, first, weights, x);
  }

 private:
  __device__ __forceinline__ static const uint4* Vector(const uint8_t* tile, int c) {
    return reinterpret_cast<const uint4*>(tile + c * kInt8HalfTileBytes) + LaneIndex();
  }
  __device__ __forceinline__ static uint32_t Scales(const uint8_t* tile, int c) {
    return reinterpret_cast<const uint32_t*>(tile + c * kInt8HalfTileBytes +
                                             kInt8CodeBytes)[LaneIndex() / 4];
  }
};

}  // namespace motet::cuda
