#include "cuda/kernels/pack_mxfp4.h"

#include <bit>
#include <cstring>

#include "cuda/kernels/mxfp4.cuh"
#include "cuda/launch.h"

namespace motet::cuda {
namespace {

constexpr int kThreads = 256;

// One thread a tile and lane.
__global__ void __launch_bounds__(kThreads) PackKernel(PackMxfp4Args a, int64_t tiles) {
  WaitForInputs();
  LetNextStart();
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t tile = thread / kWarpSize;
  if (tile >= tiles) return;
  const int lane = LaneIndex(), g = lane / 4, t = lane % 4;
  const int64_t steps = (a.columns + kStepColumns - 1) / kStepColumns;
  const int64_t tile_rows = (a.rows + kTileRows - 1) / kTileRows;
  const int64_t matrix = tile / (tile_rows * steps);
  const int64_t row = tile / steps % tile_rows * kTileRows + g;
  const int64_t blocks = a.columns / kMxfp4BlockSize;

  uint32_t codes[2][2] = {};  // 8 columns of (row, block)
  uint32_t scales = 0;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int b = 0; b < 2; ++b) {
      const int64_t block = tile % steps * 2 + b;
      if (row + 8 * i >= a.rows || block >= blocks) continue;
      const int64_t at = (matrix * a.rows + row + 8 * i) * blocks + block;
      codes[i][b] = reinterpret_cast<const uint32_t*>(a.blocks + at * kMxfp4BlockBytes)[t];
      scales |= uint32_t{a.scales[at]} << (8 * (2 * b + i));
    }
  }
  uint8_t* out = a.out + tile * kMxfp4TileBytes;
  uint4 words;
  words.x = PackMxfp4Word(codes[0][0] & 0xFFFFu, codes[1][0] & 0xFFFFu);
  words.y = PackMxfp4Word(codes[0][0] >> 16, codes[1][0] >> 16);
  words.z = PackMxfp4Word(codes[0][1] & 0xFFFFu, codes[1][1] & 0xFFFFu);
  words.w = PackMxfp4Word(codes[0][1] >> 16, codes[1][1] >> 16);
  reinterpret_cast<uint4*>(out)[lane] = words;
  if (t == 0) reinterpret_cast<uint32_t*>(out + kMxfp4CodeBytes)[g] = scales;
}

float F16Value(uint16_t bits) {  // of a decoded code: no infinities
  const float sign = bits & 0x8000u ? -1.0f : 1.0f;
  return sign * std::bit_cast<float>(uint32_t{bits & 0x7FFFu} << 13) * 0x1p112f;
}

}  // namespace

void PackMxfp4(const PackMxfp4Args& args, Stream stream) {
  const int64_t bytes = PackedBytes(WeightFormat::kMxfp4, args.rows, args.columns);
  const int64_t tiles = args.count * (bytes / kMxfp4TileBytes);
  if (tiles == 0) return;
  const int64_t blocks = (tiles * kWarpSize + kThreads - 1) / kThreads;
  Launch(PackKernel, {dim3(static_cast<unsigned>(blocks)), kThreads},
         static_cast<cudaStream_t>(stream), args, tiles);
}

void UnpackMxfp4(const uint8_t* packed, int64_t rows, int64_t columns, float* out) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      const Mxfp4Place place = PlaceOfMxfp4(columns, r, c);
      const uint8_t* tile = packed + place.tile * kMxfp4TileBytes;
      uint32_t word, a[4], scale;
      std::memcpy(&word, tile + 4 * place.word, 4);
      DecodeMxfp4Word(word, a);
      scale = Mxfp4ScaleBits(tile[kMxfp4CodeBytes + place.scale], 0);
      out[r * columns + c] = F16Value(static_cast<uint16_t>(a[place.pair] >> (16 * place.half))) *
                             kMxfp4CodeUnit * std::bit_cast<float>(scale);
    }
  }
}

}  // namespace motet::cuda
