// Where an element is in packed weights; see pack.h.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/pack.h"

namespace motet::cuda {

struct TileElement {
  int row, column;
};

// What 16-bit half `half` of word `word` of a lane's vector holds.
__host__ __device__ inline TileElement F16Element(int vector, int lane, int word, int half) {
  const int g = lane / 4, t = lane % 4, c = vector / 2, h = vector % 2, j = word / 2;
  return {g + 8 * (word % 2), 32 * c + 8 * t + 4 * h + 2 * j + half};
}

// Row r of tile `tile` among the matrix's rows; past their end where rows are padded.
__host__ __device__ inline int64_t TileRow(RowOrder order, int64_t head_dim, int64_t tile, int r) {
  if (order == RowOrder::kPlain) return kTileRows * tile + r;
  const int64_t tiles = head_dim / kTileRows, head = tile / tiles, j = tile % tiles;
  return head * head_dim + 8 * j + (r < 8 ? r : head_dim / 2 + r - 8);
}

}  // namespace motet::cuda
