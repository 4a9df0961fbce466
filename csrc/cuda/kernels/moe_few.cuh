// Products of the experts for few tokens each. A block has 16 rows of an expert's matrix, each of
// its warps a segment of the columns, whose weights it reads once, all at once; then it takes the
// expert's tokens eight at a time.
#pragma once

#include "cuda/kernels/moe_tile.cuh"

namespace motet::cuda {

constexpr int kFewThreads = kSegments * kWarpSize;
constexpr int kFewAtOnce = 6;  // steps whose weights are in registers: all of a segment up to 3072

// The sums of a block's tokens and rows become `Output`: Store(output, expert, pair, row, value),
// by whole warps whose lanes have consecutive rows, four at least.
template <class Tile, class Output>
__global__ void __launch_bounds__(kFewThreads, 3) FewKernel(ExpertProduct p, Output output) {
  constexpr int kStride = kTileRows + 4;  // of a token: lanes of different t in different banks
  __shared__ float partial[2][kSegments][kTileTokens * kStride];
  WaitForInputs();
  LetNextStart();
  const ExpertTile work = p.tiles[blockIdx.y];
  if (work.count == 0) return;

  const int lane = LaneIndex(), g = lane / 4, t = lane % 4, segment = WarpIndex();
  const int tile_row = static_cast<int>(blockIdx.x);
  const int first = SegmentBegin(segment, p.steps);
  // Rows that only fill up the output have no weights.
  const int steps = tile_row < p.TileRows() ? SegmentBegin(segment + 1, p.steps) - first : 0;
  const uint8_t* weights =
      p.weights +
      ((int64_t{work.expert} * p.TileRows() + tile_row) * p.steps + first) * Tile::kBytes;

  Tile tiles[kFewAtOnce];
  const auto load = [&](int begin) {
#pragma unroll
    for (int i = 0; i < kFewAtOnce; ++i) {
      if (begin + i < steps) tiles[i] = Tile::Load(weights + int64_t{begin + i} * Tile::kBytes);
    }
  };
  load(0);

  const int row = static_cast<int>(threadIdx.x) % kTileRows;
  const int token = static_cast<int>(threadIdx.x) / kTileRows;
  const float bias = p.Bias(work.expert, tile_row * kTileRows + row);

  for (int chunk = 0; chunk * kTileTokens < work.count; ++chunk) {
    const int n = chunk * kTileTokens + g;
    const bool valid = n < work.count;
    const int64_t at =
        valid ? p.InRow(work.first + n) * p.in.stride + first * kStepColumns + 8 * t : 0;
    const auto operand = [&](int step, int block, int array) {
      if (!valid) return make_uint4(0, 0, 0, 0);
      const uint16_t* in = (array == 0 ? p.in.high : p.in.low) + at;
      return *reinterpret_cast<const uint4*>(in + step * kStepColumns + 32 * block);
    };
    float acc[1][4] = {};
    for (int begin = 0; begin < steps; begin += kFewAtOnce) {
      if (steps > kFewAtOnce && (chunk > 0 || begin > 0)) load(begin);
      // A step's operands are read while the one before it is multiplied.
      uint4 next[2][Tile::kRowArrays];
      const auto fetch = [&](int step) {
#pragma unroll
        for (int i = 0; i < 2 * Tile::kRowArrays; ++i) {
          next[i % 2][i / 2] = operand(step, i % 2, i / 2);
        }
      };
      fetch(begin);
#pragma unroll
      for (int i = 0; i < kFewAtOnce; ++i) {
        if (begin + i >= steps) break;
        uint4 now[2][Tile::kRowArrays];
#pragma unroll
        for (int j = 0; j < 2 * Tile::kRowArrays; ++j) now[j % 2][j / 2] = next[j % 2][j / 2];
        if (i + 1 < kFewAtOnce && begin + i + 1 < steps) fetch(begin + i + 1);
        tiles[i].MultiplyAdd(acc, [&](int, int block, int array) { return now[block][array]; });
      }
    }

    // Two buffers: a warp may be a chunk ahead of others, not two.
    float* mine = partial[chunk % 2][segment];
    mine[2 * t * kStride + g] = acc[0][0];
    mine[(2 * t + 1) * kStride + g] = acc[0][1];
    mine[2 * t * kStride + g + 8] = acc[0][2];
    mine[(2 * t + 1) * kStride + g + 8] = acc[0][3];
    __syncthreads();
    if (token < kTileTokens) {
      float sum = 0;
#pragma unroll
      for (int s = 0; s < kSegments; ++s) {
        sum = Add(sum, partial[chunk % 2][s][token * kStride + row]);
      }
      const int n_out = chunk * kTileTokens + token;
      output.Store(n_out < work.count, work.first + n_out, tile_row * kTileRows + row,
                   Add(Multiply(sum, Tile::kUnit), bias));
    }
  }
}

}  // namespace motet::cuda
