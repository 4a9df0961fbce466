// Weights as the kernels' matrix instructions read them. Packed once, on the device.
//
// A matrix becomes tiles of 16 rows x 64 columns, padded with zeros; the tiles of 16 rows follow
// each other in ascending order of columns. A lane's share of a tile comes in vectors of 16 bytes,
// lane after lane, so that a warp reads one run of memory.
//
//   bf16    as half precision, [4 vectors, 32 lanes, 16 bytes]: vector 2 c + h is the operand `a`
//           of MmaF16 for half h of the columns 32 c ... 32 c + 31. Behind the tiles of 16 rows are
//           the bytes of their units (row_unit.cuh), and others that keep vectors in lines of 128
//           bytes: weight = f16 * unit, where the row's largest f16 is in [2^15, 2^16), or less
//           where its weight is less than 2^-113. That is exact for weights of 2^-32 of the row's
//           largest or more; others are rounded to multiples of 2^-24 units: 2^-39 of the power of
//           two below that largest
//   mxfp4   [32 lanes, 16 bytes] of codes, then 32 bytes of scales; behind the tiles of 16 rows, 16
//           bytes of units (mxfp4.cuh)
//   int8    two times (c) [32 lanes, 16 bytes], then [8 (g), 2] scales of rows g and g + 8: word
//           2 h + i of lane 4 g + t has row g + 8 i's bytes of columns 8 t + 4 h ... + 3 of the 32,
//           from which the operand's words i and 2 + i of half h are made (base/int8_weights.h)
//
// Of 32 columns, slot 2 t + b (+ 8 with j) of half h holds column 8 t + 4 h + 2 j + b: then a lane
// finds what it multiplies for both halves in 8 neighbouring columns of plain Rows.
#pragma once

#include <cstdint>

#include "base/matrix.h"
#include "cuda/memory.h"
#include "cuda/rows.h"

namespace motet::cuda {

inline constexpr int kTileRows = 16;
inline constexpr int64_t kF16TileBytes = kTileRows * kStepColumns * 2, kF16RowBytes = 128;
inline constexpr int64_t kMxfp4TileBytes = 32 * 16 + 32, kMxfp4RowBytes = 16;
inline constexpr int64_t kInt8CodeBytes = 32 * 16;  // of 32 columns, whose scales follow
inline constexpr int64_t kInt8HalfTileBytes = kInt8CodeBytes + kTileRows * 2;
inline constexpr int64_t kInt8TileBytes = 2 * kInt8HalfTileBytes;

constexpr int64_t TileBytes(WeightFormat format) {
  return format == WeightFormat::kMxfp4  ? kMxfp4TileBytes
         : format == WeightFormat::kInt8 ? kInt8TileBytes
                                         : kF16TileBytes;
}

// Behind the tiles of 16 rows.
constexpr int64_t RowBytes(WeightFormat format) {
  return format == WeightFormat::kMxfp4  ? kMxfp4RowBytes
         : format == WeightFormat::kInt8 ? 0
                                         : kF16RowBytes;
}

constexpr int64_t TileRowBytes(WeightFormat format, int64_t cols) {
  const int64_t steps = (cols + kStepColumns - 1) / kStepColumns;
  return steps * TileBytes(format) + RowBytes(format);
}

constexpr int64_t PackedBytes(WeightFormat format, int64_t rows, int64_t cols) {
  const int64_t tile_rows = (rows + kTileRows - 1) / kTileRows;
  return tile_rows * TileRowBytes(format, cols);
}

enum class RowOrder {
  kPlain,
  // Of each head, tile j has rows 8 j ... 8 j + 7 and those half a head on: a lane's two rows, g
  // and g + 8, are what RoPE rotates.
  kRope,
};

struct PackArgs {
  const uint16_t* weight;  // [rows, cols] bf16, on the device; for kInt8, finite
  int64_t rows, cols;
  RowOrder order;
  int64_t head_dim;     // kRope only: a multiple of 16, of which `rows` is one
  WeightFormat format;  // kBf16 or kInt8
  uint8_t* out;         // PackedBytes(format, rows, cols), on the device, of 16 bytes' alignment
};
void Pack(const PackArgs& args, Stream stream);

}  // namespace motet::cuda
