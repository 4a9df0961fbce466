// Non-owning views of weights as the checkpoint stores them.
#pragma once

#include <cstdint>

#include "base/int8_weights.h"

namespace motet {

enum class WeightFormat { kBf16, kMxfp4, kInt8 };

// int8 weights (int8_weights.h) on the CPU: sixteen rows side by side, so that a dot of four bytes
// in each 32-bit lane makes sixteen outputs at once.
//   data   [ceil(rows/16), ScaleCols(), 8, 16, 4]   byte (p, r, i): that of row r and column
//                                                   8 (p/2) + p%2 + 2 i, as nibbles of MXFP4 fall
//                                                   apart
//   scales [ceil(rows/16), ScaleCols(), 16] bf16
inline constexpr int kInt8Rows = 16;
inline constexpr int kInt8BlockBytes = 32 * kInt8Rows;  // of data

// A matrix W [rows, cols], row-major but for int8; an op computes x · Wᵀ.
struct WeightMatrix {
  WeightFormat format = WeightFormat::kBf16;
  const uint8_t* data = nullptr;  // bf16: [rows, cols] x 2 bytes; mxfp4: see mxfp4.h; int8: above
  // [rows, ScaleCols()] powers of two of 32 columns each, as E8M0. mxfp4: the checkpoint's own;
  // bf16: of the weights as integers, see fixed.h, or null where only floats are multiplied; int8:
  // above.
  const uint8_t* scales = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;

  int64_t ScaleCols() const { return (cols + 31) / 32; }
  int64_t RowBytes() const { return format == WeightFormat::kBf16 ? cols * 2 : cols / 2; }
  int64_t Int8Blocks() const { return (rows + kInt8Rows - 1) / kInt8Rows * ScaleCols(); }
  int64_t DataBytes() const {
    return format == WeightFormat::kInt8 ? Int8Blocks() * kInt8BlockBytes : rows * RowBytes();
  }
  int64_t ScaleBytes() const {
    return format == WeightFormat::kInt8 ? Int8Blocks() * kInt8Rows * 2 : rows * ScaleCols();
  }
};

// The same matrix for each expert, one after the other: [experts, rows, cols].
struct ExpertMatrices {
  WeightMatrix first;

  WeightMatrix Expert(int64_t e) const {
    WeightMatrix w = first;
    w.data += e * w.DataBytes();
    if (w.scales) w.scales += e * w.ScaleBytes();
    return w;
  }
};

using Bf16Vector = const uint16_t*;  // length in the comment where it is declared

}  // namespace motet
