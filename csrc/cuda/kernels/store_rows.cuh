// Writing values into rows of rows.h.
#pragma once

#include "cuda/primitives.h"
#include "cuda/rows.h"

namespace motet::cuda {

// Columns [column, column + 2) of row i; column is even.
__device__ __forceinline__ void StorePair(const Rows& rows, int64_t i, int64_t column, float a,
                                          float b) {
  const int64_t at = i * rows.stride + column;
  if (rows.format == RowFormat::kF16) {
    *reinterpret_cast<uint32_t*>(rows.high + at) = PackF16(a, b);
    return;
  }
  const uint32_t high = PackBf16(a, b);
  *reinterpret_cast<uint32_t*>(rows.high + at) = high;
  *reinterpret_cast<uint32_t*>(rows.low + at) =
      PackBf16(a - BitsToFloat(high << 16), b - BitsToFloat(high & 0xFFFF0000u));
}

}  // namespace motet::cuda
