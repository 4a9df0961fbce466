// What becomes of the experts' products.
#pragma once

#include "cuda/kernels/moe_many.cuh"
#include "cuda/kernels/store_rows.cuh"

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
  static constexpr int kTileActivations = kTileRows / 2;
  static constexpr int kBlockActivations = kManyRows / 2;
  static_assert(kBlockActivations == kStepColumns);  // a block fills whole steps
  static constexpr int kSharedStride = kBlockActivations + 2;
  static constexpr int kSharedBytes = kManyMoeTokens * kSharedStride * 4;

  Rows rows;  // [pairs, intermediate]
  float limit;

  __device__ __forceinline__ void StoreRows(bool there, int pair, int row, float value) const {
    const float up = ShuffleXor(value, 1);
    const float y = SwiGlu(value, up, limit);
    const float next = ShuffleXor(y, 2);
    if (there && LaneIndex() % 4 == 0) StorePair(rows, pair, row / 2, y, next);
  }

  template <int kTokenTiles, class Values>
  __device__ __forceinline__ void StoreTile(const ExpertTile& work, int tile_row,
                                            const Values& values) const {
    auto* shared = reinterpret_cast<float*>(SharedMemory());
    const int lane = LaneIndex(), g = lane / 4, t = lane % 4;
    const bool has_up = g % 2 == 1;  // of gates in lane - 4; takes over their second token
    __syncthreads();                 // all are done with their sums
#pragma unroll 1
    for (int n = 0; n < kTokenTiles; ++n) {
      const float4 v = values(n);
#pragma unroll
      for (int half = 0; half < 2; ++half) {  // row g, and g + 8
        const float first = half == 0 ? v.x : v.z, second = half == 0 ? v.y : v.w;
        const float other = ShuffleXor(has_up ? first : second, 4);
        const float y = SwiGlu(has_up ? other : first, has_up ? second : other, limit);
        const int token = n * kTokenTile + 2 * t + g % 2;
        const int at = tile_row % (kManyRows / kTileRows) * kTileActivations + 4 * half + g / 2;
        shared[token * kSharedStride + at] = y;
      }
    }
    __syncthreads();
    constexpr int kPairs = kBlockActivations / 2;
    const int column = 2 * static_cast<int>(threadIdx.x % kPairs);
    for (int i = static_cast<int>(threadIdx.x) / kPairs; i < work.count;
         i += kMoeThreads / kPairs) {
      const float* y = shared + i * kSharedStride + column;
      StorePair(rows, work.first + i, static_cast<int>(blockIdx.x) * kBlockActivations + column,
                y[0], y[1]);
    }
  }
};

struct FloatOutput {
  static constexpr int kSharedBytes = 0;

  float* out;  // [pairs, size]
  int size;

  __device__ __forceinline__ void StoreRows(bool there, int pair, int row, float value) const {
    if (there && row < size) out[int64_t{pair} * size + row] = value;
  }

  template <int kTokenTiles, class Values>
  __device__ __forceinline__ void StoreTile(const ExpertTile& work, int tile_row,
                                            const Values& values) const {
    const int lane = LaneIndex(), row = tile_row * kTileRows + lane / 4;
#pragma unroll 1
    for (int n = 0; n < kTokenTiles; ++n) {
      const float4 v = values(n);
      const int i = n * kTokenTile + lane % 4 * 2, pair = work.first + i;
      StoreRows(i < work.count, pair, row, v.x);
      StoreRows(i + 1 < work.count, pair + 1, row, v.y);
      StoreRows(i < work.count, pair, row + 8, v.z);
      StoreRows(i + 1 < work.count, pair + 1, row + 8, v.w);
    }
  }
};

}  // namespace motet::cuda
