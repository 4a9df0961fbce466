// Many tokens on Hopper (wide_product.cuh): a block has 128 rows and 64 tokens.
#pragma once

#include "cuda/kernels/dense_product.cuh"
#include "cuda/kernels/moe_tile.cuh"
#include "cuda/kernels/wide_product.cuh"
#include "cuda/launch.h"

namespace motet::cuda {

inline constexpr int kDenseWideTokens = 64;

template <class Weights, class Store>
__global__ void __launch_bounds__(kWideThreads, 2) DenseWideKernel(DenseProduct p, Store store) {
#ifdef MOTET_HAS_WARPGROUPS
  const int tile = static_cast<int>(blockIdx.y) * kWideWarps + WarpIndex();
  const int first_token = static_cast<int>(blockIdx.x) * kDenseWideTokens;
  // Tiles and tokens that only fill up the block are the last one again, and not stored.
  const int tile_there = min(tile, p.row_tiles - 1);
  float total[kDenseWideTokens / 8][4] = {};
  WideProduct<DenseTile<Weights>, kDenseWideTokens>(
      reinterpret_cast<const uint4*>(p.weights) + p.TileAt<Weights>(tile_there), p.steps, p.in.data,
      [&](int i) { return min(first_token + i, p.num_tokens - 1) * static_cast<int>(p.in.stride); },
      [] {
        WaitForInputs();
        LetNextStart();
      },
      total);
  if (tile >= p.row_tiles) return;
  const auto rows = store.Rows(tile);
  const float2 units = p.Units<Weights>(tile);
  constexpr int kAtOnce = 2;  // by registers
#pragma unroll
  for (int first = 0; first < kDenseWideTokens / 8; first += kAtOnce) {
    typename Store::LaneTokens tokens[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      tokens[i] = store.Load(rows, first_token + 8 * (first + i) + 2 * (LaneIndex() % 4));
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      Multiply(total[first + i], units);
      store(rows, tokens[i], total[first + i]);
    }
  }
#endif
}

template <class Weights, class Store>
void LaunchWide(const DenseProduct& p, const Store& store, Stream stream) {
  const auto blocks = [](int size, int of) { return static_cast<unsigned>((size + of - 1) / of); };
  Launch(DenseWideKernel<Weights, Store>,
         {dim3(blocks(p.num_tokens, kDenseWideTokens), blocks(p.row_tiles, kWideWarps)),
          kWideThreads, WideStages<DenseTile<Weights>, kDenseWideTokens>::kBytes + kWideAlignment},
         static_cast<cudaStream_t>(stream), p, store);
}

}  // namespace motet::cuda
