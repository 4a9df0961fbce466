// Rows that matrices are multiplied by: [n, stride] half precision, zeros from `size` to `stride`.
// Products take kStepColumns columns at a time, hence the stride.
#pragma once

#include <cstdint>

namespace motet::cuda {

inline constexpr int kStepColumns = 64;

constexpr int64_t PaddedColumns(int64_t size) {
  return (size + kStepColumns - 1) / kStepColumns * kStepColumns;
}

struct Rows {
  uint16_t* data;  // [n, stride]
  int64_t stride;  // PaddedColumns(size)
};

constexpr int64_t RowsBytes(int64_t n, int64_t size) { return n * PaddedColumns(size) * 2; }

// In `memory` of RowsBytes(n, size).
inline Rows RowsIn(void* memory, int64_t size) {
  return {static_cast<uint16_t*>(memory), PaddedColumns(size)};
}

}  // namespace motet::cuda
