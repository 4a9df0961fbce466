// Rows that matrices are multiplied by: [n, stride] 16-bit floats, zeros from `size` to `stride`.
//
//   kF16    half precision, for MXFP4 and int8 weights
//   kSplit  two rows of bf16 whose sum is the value to 16 bits, for bf16 weights: they are
//           multiplied one after the other
//
// Products take kStepColumns columns at a time, hence the stride.
#pragma once

#include <cstdint>

#include "base/matrix.h"

namespace motet::cuda {

inline constexpr int kStepColumns = 64;

constexpr int64_t PaddedColumns(int64_t size) {
  return (size + kStepColumns - 1) / kStepColumns * kStepColumns;
}

enum class RowFormat { kF16, kSplit };

// What weights are multiplied by.
constexpr RowFormat RowFormatOf(WeightFormat format) {
  return format == WeightFormat::kBf16 ? RowFormat::kSplit : RowFormat::kF16;
}

struct Rows {
  RowFormat format;
  uint16_t* high;  // [n, stride]
  uint16_t* low;   // [n, stride], kSplit only
  int64_t stride;  // PaddedColumns(size)
};

constexpr int64_t RowsBytes(RowFormat format, int64_t n, int64_t size) {
  return n * PaddedColumns(size) * (format == RowFormat::kSplit ? 4 : 2);
}

// In `memory` of RowsBytes(format, n, size).
inline Rows RowsIn(void* memory, RowFormat format, int64_t n, int64_t size) {
  auto* high = static_cast<uint16_t*>(memory);
  const int64_t stride = PaddedColumns(size);
  return {format, high, format == RowFormat::kSplit ? high + n * stride : nullptr, stride};
}

}  // namespace motet::cuda
