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
  template <class Weights>
  __device__ __forceinline__ int TileAt(int row_tile) const {
    int matrix = first_vector[0], first = 0;
#pragma unroll
    for (int i = 1; i < kMatrices; ++i) {
      if (row_tile < first_tile[i]) continue;
      matrix = first_vector[i];
      first = first_tile[i];
    }
    constexpr int kTileVectors = static_cast<int>(Weights::kTileBytes / kVectorBytes),
                  kRowVectors = static_cast<int>(Weights::kRowBytes / kVectorBytes);
    return matrix + (row_tile - first) * (steps * kTileVectors + kRowVectors);
  }
  __device__ __forceinline__ const uint8_t* Vectors(int first) const {
    return weights + int64_t{first} * kVectorBytes;
  }
  // Of a lane's rows of a row tile, g and g + 8.
  template <class Weights>
  __device__ __forceinline__ float2 Units(int row_tile) const {
    const uint8_t* row_bytes = Vectors(TileAt<Weights>(row_tile)) + steps * Weights::kTileBytes;
    const int g = LaneIndex() / 4;
    return make_float2(Weights::Unit(row_bytes, g), Weights::Unit(row_bytes, g + 8));
  }
};

__device__ __forceinline__ void Add(float (&total)[4], const float4& sums) {
  total[0] += sums.x;
  total[1] += sums.y;
  total[2] += sums.z;
  total[3] += sums.w;
}

// Of a lane's rows, g and g + 8.
__device__ __forceinline__ void Multiply(float (&sums)[4], const float2& units) {
  sums[0] = Multiply(sums[0], units.x);
  sums[1] = Multiply(sums[1], units.x);
  sums[2] = Multiply(sums[2], units.y);
  sums[3] = Multiply(sums[3], units.y);
}

}  // namespace motet::cuda
