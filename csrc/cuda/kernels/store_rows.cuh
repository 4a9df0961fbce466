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
  *reinterpret_cast<uint2*>(rows.data + i * rows.stride + column) =
      make_uint2(PackF16(v.x, v.y), PackF16(v.z, v.w));
}

}  // namespace motet::cuda
