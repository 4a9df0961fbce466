// What becomes of the experts' products.
#pragma once

#include "cuda/kernels/store_rows.cuh"
#include "cuda/primitives.h"

namespace motet::cuda {

__device__ __forceinline__ float SwiGlu(float gate, float up, float limit) {
  constexpr float kAlpha = 1.702f;
  const float g = fminf(gate, limit), u = fminf(fmaxf(up, -limit), limit);
  const float sigmoid = 1.0f / Add(1.0f, expf(Multiply(-kAlpha, g)));
  return Multiply(Multiply(Add(u, 1.0f), g), sigmoid);
}

// Rows alternate gate and up, and two of them make an activation. Columns that only fill up
// `rows` get zeros, since their sums and biases are zero.
struct ActivationOutput {
  Rows rows;  // [pairs, intermediate]
  float limit;

  __device__ __forceinline__ void StoreFour(int pair, int row, const float4& v) const {
    if (row / 2 >= rows.stride) return;
    StorePair(rows, pair, row / 2, SwiGlu(v.x, v.y, limit), SwiGlu(v.z, v.w, limit));
  }
};

struct FloatOutput {
  float* out;  // [pairs, size]
  int size;

  __device__ __forceinline__ void StoreFour(int pair, int row, const float4& v) const {
    float* to = out + int64_t{pair} * size + row;
    if (row + 4 <= size && size % 4 == 0) {
      *reinterpret_cast<float4*>(to) = v;
      return;
    }
    const float values[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (row + i < size) to[i] = values[i];
    }
  }
};

}  // namespace motet::cuda
