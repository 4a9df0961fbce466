// Products of the experts for many tokens each, on Hopper (wide_product.cuh). A block has 128 rows
// of an expert's matrix and up to 64 of its tokens; two blocks share a multiprocessor, for decoding
// weights is a chain of instructions that other warps must fill in.
#pragma once

#include "cuda/kernels/moe_store.cuh"
#include "cuda/kernels/wide_product.cuh"

namespace motet::cuda {

#ifdef MOTET_HAS_WARPGROUPS

template <class Tile, int kTokens, class Output>
__device__ __forceinline__ void WideTokens(const ExpertProduct& p, const ExpertTile& work,
                                           const Output& output) {
  const int first_row = static_cast<int>(blockIdx.x) * kWideRows;
  // Rows that only fill up the block take others' weights, and become zeros: their units are.
  const int tile_row = min(first_row / kTileRows + WarpIndex(), p.TileRows() - 1);
  float total[1][kTokens / kTokenTile][4] = {};
  // Tokens that only fill it up are the last one again, and not stored.
  WideProduct<Tile, kTokens>(
      reinterpret_cast<const uint4*>(p.weights) + p.TilesAt<Tile>(work.expert, tile_row), p.steps,
      p.in.data, [&](int i) { return p.InAt(work.first + min(i, work.count - 1)); }, [] {},
      total[0]);
  StoreSums<Tile>(p, work, first_row, total, reinterpret_cast<float*>(WideSharedMemory()), output);
}

#endif

// Calls output.StoreFour(pair, row, values of four rows); row may be past the last.
template <class Tile, class Output>
__global__ void __launch_bounds__(kMoeThreads, 2) MoeWideKernel(ExpertProduct p, Output output) {
#ifdef MOTET_HAS_WARPGROUPS
  WaitForInputs();
  LetNextStart();
  const ExpertTile work = p.tiles[blockIdx.y];
  if (work.count == 0) return;
  if (work.count <= 16) {
    WideTokens<Tile, 16>(p, work, output);
  } else if (work.count <= 32) {
    WideTokens<Tile, 32>(p, work, output);
  } else if (work.count <= 48) {
    WideTokens<Tile, 48>(p, work, output);
  } else {
    WideTokens<Tile, kManyMoeTokens>(p, work, output);
  }
#endif
}

}  // namespace motet::cuda
