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

}  // namespace motet::cuda
