// What becomes of the experts' products.
#pragma once

#include "cuda/kernels/moe_tile.cuh"

namespace motet::cuda {

// Rows alternate gate and up; two of them make an activation. Padding columns get zeros, since
// there sums and biases are zero.
struct ActivationOutput {
  Rows rows;  // [pairs, intermediate]
  float limit;

  __device__ __forceinline__ void Store(bool valid, int pair, int row, float value) const {
    const float up = ShuffleXor(value, 1);
    const float y = SwiGlu(value, up, limit);
    const float next = ShuffleXor(y, 2);
    if (valid && LaneIndex() % 4 == 0) StorePair(rows, pair, row / 2, y, next);
  }
};

struct FloatOutput {
  float* out;  // [pairs, size]
  int size;

  __device__ __forceinline__ void Store(bool valid, int pair, int row, float value) const {
    if (valid && row < size) out[int64_t{pair} * size + row] = value;
  }
};

}  // namespace motet::cuda
