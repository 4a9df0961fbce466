// Writing values into rows of rows.h.
#pragma once

#include "cuda/primitives.h"
#include "cuda/rows.h"

namespace motet::cuda {

// Columns [column, column + 2) of row i; column is even.
__device__ __forceinline__ void StorePair(const Rows& rows, int64_t i, int64_t column, float a,
                                          float b) {
  *reinterpret_cast<uint32_t*>(rows.data + i * rows.stride + column) = PackF16(a, b);
}
// Columns [column, column + 4) of row i; column is a multiple of four.
__device__ __forceinline__ void StoreFour(const Rows& rows, int64_t i, int64_t column,
                                          const float4& v) {
  const int64_t at = i * rows.stride + column;
  if (rows.format == RowFormat::kF16) {
    *reinterpret_cast<uint2*>(rows.high + at) = make_uint2(PackF16(v.x, v.y), PackF16(v.z, v.w));
    return;
  }
  const uint2 high = make_uint2(PackBf16(v.x, v.y), PackBf16(v.z, v.w));
  const auto rest = [](float a, float b, uint32_t pair) {
    return PackBf16(a - BitsToFloat(pair << 16), b - BitsToFloat(pair & 0xFFFF0000u));
  };
  *reinterpret_cast<uint2*>(rows.high + at) = high;
  *reinterpret_cast<uint2*>(rows.low + at) =
      make_uint2(rest(v.x, v.y, high.x), rest(v.z, v.w, high.y));
}

}  // namespace motet::cuda
