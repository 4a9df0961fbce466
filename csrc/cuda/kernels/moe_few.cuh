// Products of the experts for few tokens each: bound by reading the weights, once. A block has 16
// rows of an expert's matrix, each of its warps a segment of the columns, whose weights it reads
// all at once, before the inputs are there if it can know the expert; then it takes the expert's
// tokens eight at a time.
#pragma once

#include "cuda/kernels/moe_tile.cuh"

namespace motet::cuda {

// Calls output.StoreRows(there, pair, row, value) by whole warps whose lanes have consecutive rows.
template <class Tile, class Output>
__global__ void __launch_bounds__(kMoeThreads, 3) MoeFewKernel(ExpertProduct p, Output output) {
  constexpr int kStride = kTileRows + 4;  // of a token: lanes of different t in different banks
  constexpr int kAtOnce = Tile::kAtOnce;
  __shared__ float partial[2][kSegments][kTokenTile * kStride];
  if (!p.lists_are_old) WaitForInputs();
  const ExpertTile work = p.Work();

  const int lane = LaneIndex(), g = lane / 4, t = lane % 4, segment = WarpIndex();
  const int tile_row = static_cast<int>(blockIdx.x);
  const int first = SegmentBegin(p.steps, segment);
  // Rows that only fill up the output have no weights.
  const bool has_weights = tile_row < p.TileRows() && work.count > 0;
  const int steps = has_weights ? SegmentBegin(p.steps, segment + 1) - first : 0;
  const int weights_at = p.TilesAt<Tile>(work.expert, tile_row) + first * (Tile::kBytes / 16);
  Tile tiles[kAtOnce];
  const auto load = [&](int begin) {
    const auto* weights = reinterpret_cast<const uint4*>(p.weights) + weights_at;
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (begin + i >= steps) break;
      tiles[i] = Tile::Load(reinterpret_cast<const uint8_t*>(weights) + (begin + i) * Tile::kBytes);
    }
  };
  load(0);
  const int output_row = tile_row * kTileRows + static_cast<int>(threadIdx.x) % kTileRows;
  const float unit = has_weights ? p.Unit<Tile>(work.expert, output_row) : 0;
  if (p.lists_are_old) WaitForInputs();
  LetNextStart();

  for (int chunk = 0; chunk * kTokenTile < work.count; ++chunk) {
    const int n = chunk * kTokenTile + g;
    const bool valid = n < work.count;
    const int at = (valid ? p.InAt(work.first + n) : 0) + first * kStepColumns + 8 * t;
    const uint16_t* in = p.in.data + at;

    float acc[1][1][4] = {};
    for (int begin = 0; begin < steps; begin += kAtOnce) {
      if (steps > kAtOnce && chunk + begin > 0) load(begin);
      // A step's operands are read while the one before it is multiplied.
      uint4 next[2] = {}, now[2];
      const auto fetch = [&](int step) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          if (!valid) break;
          next[i] = *reinterpret_cast<const uint4*>(in + step * kStepColumns + 32 * i);
        }
      };
      fetch(0);
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (begin + i >= steps) break;
#pragma unroll
        for (int j = 0; j < 2; ++j) now[j] = next[j];
        if (i + 1 < kAtOnce && begin + i + 1 < steps) fetch(i + 1);
        MultiplyAdd(acc, reinterpret_cast<const Tile(&)[1]>(tiles[i]),
                    [&](int, int block) { return now[block]; });
      }
      in += kAtOnce * kStepColumns;
    }

    // Two buffers: a warp may be a chunk ahead of others, not two.
    float* mine = partial[chunk % 2][segment];
    mine[2 * t * kStride + g] = acc[0][0][0];
    mine[(2 * t + 1) * kStride + g] = acc[0][0][1];
    mine[2 * t * kStride + g + 8] = acc[0][0][2];
    mine[(2 * t + 1) * kStride + g + 8] = acc[0][0][3];
    __syncthreads();
    const int token = static_cast<int>(threadIdx.x) / kTileRows;
    const int row = static_cast<int>(threadIdx.x) % kTileRows;
    if (token < kTokenTile) {
      float sum = 0;
#pragma unroll
      for (int s = 0; s < kSegments; ++s) {
        sum = Add(sum, partial[chunk % 2][s][token * kStride + row]);
      }
      const int i = chunk * kTokenTile + token;
      output.StoreRows(i < work.count, work.first + i, output_row,
                       Add(Multiply(sum, unit), p.Bias(work.expert, output_row)));
    }
  }
}

}  // namespace motet::cuda
