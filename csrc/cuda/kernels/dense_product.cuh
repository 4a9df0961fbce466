// What the kernels of dense.cu multiply.
#pragma once

#include "cuda/kernels/dense_tile.cuh"

namespace motet::cuda {

inline constexpr int kVectorBytes = 16;

// Up to three matrices of equal columns and format, one below the other.
struct DenseProduct {
  static constexpr int kMatrices = 3;

  WeightFormat format;
  int num_tokens;
  int steps;      // of kStepColumns columns
  int row_tiles;  // of all matrices
  // The weights fit the second-level cache: it reads them ahead, while the kernel before ends.
  bool prefetch;
  Rows in;
  const uint8_t* weights;
  int first_vector[kMatrices];  // of each matrix, from `weights`; 32 bits reach 32 GB
  int first_tile[kMatrices];    // row_tiles and more: no such matrix

  // The vector where a row tile starts.
  __device__ __forceinline__ int TileAt(int row_tile, int tile_vectors) const {
    int matrix = first_vector[0], first = 0;
#pragma unroll
    for (int i = 1; i < kMatrices; ++i) {
      if (row_tile < first_tile[i]) continue;
      matrix = first_vector[i];
      first = first_tile[i];
    }
    return matrix + (row_tile - first) * steps * tile_vectors;
  }
  __device__ __forceinline__ const uint8_t* Vectors(int first) const {
    return weights + int64_t{first} * kVectorBytes;
  }
};

__device__ __forceinline__ void Add(float (&total)[4], const float4& sums) {
  total[0] += sums.x;
  total[1] += sums.y;
  total[2] += sums.z;
  total[3] += sums.w;
}

}  // namespace motet::cuda
