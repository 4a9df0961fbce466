// What the kernels of dense.cu multiply.
#pragma once

#include "cuda/kernels/dense_tile.cuh"

namespace motet::cuda {

// Up to three matrices of equal columns, one below the other.
struct DenseProduct {
  static constexpr int kMatrices = 3;

  int num_tokens;
  int steps;      // of kStepColumns columns
  int row_tiles;  // of all matrices
  // The weights fit the second-level cache: it reads them ahead, while the kernel before ends.
  bool prefetch;
  Rows in;
  const uint8_t* weights[kMatrices];
  int first_tile[kMatrices];  // row_tiles and more: no such matrix

  __device__ __forceinline__ const uint8_t* Tile(int row_tile) const {
    const uint8_t* matrix = weights[0];
    int first = 0;
#pragma unroll
    for (int i = 1; i < kMatrices; ++i) {
      if (row_tile < first_tile[i]) continue;
      matrix = weights[i];
      first = first_tile[i];
    }
    return matrix + int64_t{row_tile - first} * steps * kBf16TileBytes;
  }
};

__device__ __forceinline__ void Add(float (&total)[4], const float4& sums) {
  total[0] += sums.x;
  total[1] += sums.y;
  total[2] += sums.z;
  total[3] += sums.w;
}

}  // namespace motet::cuda
