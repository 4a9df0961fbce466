// Non-owning views of weights as the checkpoint stores them.
#pragma once

#include <cstdint>

namespace motet {

enum class WeightFormat { kBf16, kMxfp4 };

// A row-major matrix W [rows, cols]; an op computes x · Wᵀ.
struct WeightMatrix {
  WeightFormat format = WeightFormat::kBf16;
  const uint8_t* data = nullptr;  // bf16: [rows, cols] x 2 bytes; mxfp4: blocks, see mxfp4.h
  // [rows, ScaleCols()] powers of two of 32 columns each, as E8M0. mxfp4: the checkpoint's own;
  // bf16: of the weights as integers, see fixed.h, or null where only floats are multiplied.
  const uint8_t* scales = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;

  int64_t ScaleCols() const { return (cols + 31) / 32; }
  int64_t RowBytes() const { return format == WeightFormat::kBf16 ? cols * 2 : cols / 2; }
};

// The same matrix for each expert, one after the other: [experts, rows, cols].
struct ExpertMatrices {
  WeightMatrix first;

  WeightMatrix Expert(int64_t e) const {
    WeightMatrix w = first;
    w.data += e * w.rows * w.RowBytes();
    if (w.scales) w.scales += e * w.rows * w.ScaleCols();
    return w;
  }
};

using Bf16Vector = const uint16_t*;  // length in the comment where it is declared

}  // namespace motet
