#include "cuda/kernels/pack_mxfp4.h"

#include <bit>
#include <cstring>

#include "base/f16.h"
#include "cuda/kernels/mxfp4.cuh"
#include "cuda/kernels/row_unit.cuh"
#include "cuda/launch.h"

namespace motet::cuda {
namespace {

constexpr int kThreads = 256;

struct Packing : PackMxfp4Args {
  int64_t tile_rows;       // of a matrix
  int64_t tile_row_bytes;  // packed

  // Of tile row `i` among those of all matrices.
  __device__ __forceinline__ uint8_t* TileRow(int64_t i) const { return out + i * tile_row_bytes; }
  __device__ __forceinline__ uint8_t* LargestScales(int64_t i) const {
    return TileRow(i + 1) - kMxfp4RowBytes;
  }
};

// The largest scale of each row; a warp a row, also of those that only fill up tiles.
__global__ void __launch_bounds__(kThreads) LargestScalesKernel(Packing a, int64_t rows) {
  WaitForInputs();
  LetNextStart();
  const int64_t warp = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kWarpSize;
  if (warp >= rows) return;
  const int64_t tile_row = warp / kTileRows;
  const int64_t row = tile_row % a.tile_rows * kTileRows + warp % kTileRows;
  const int64_t blocks = row < a.rows ? a.columns / kMxfp4BlockSize : 0;
  const int64_t first = (tile_row / a.tile_rows * a.rows + row) * blocks;
  int largest = 0;
  for (int64_t block = LaneIndex(); block < blocks; block += kWarpSize) {
    const uint4 codes = reinterpret_cast<const uint4*>(a.blocks)[first + block];
    constexpr uint32_t kMagnitudes = 0x77777777u;
    if (((codes.x | codes.y | codes.z | codes.w) & kMagnitudes) == 0) continue;
    const int scale = a.scales[first + block];
    largest = scale > largest ? scale : largest;
  }
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) {
    const int other = ShuffleXor(largest, mask);
    largest = other > largest ? other : largest;
  }
  if (LaneIndex() == 0) {
    a.LargestScales(tile_row)[warp % kTileRows] = static_cast<uint8_t>(largest);
  }
}

// One thread a tile and lane.
__global__ void __launch_bounds__(kThreads) PackKernel(Packing a, int64_t tiles) {
  WaitForInputs();
  LetNextStart();
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t tile = thread / kWarpSize;
  if (tile >= tiles) return;
  const int lane = LaneIndex(), g = lane / 4, t = lane % 4;
  const int64_t steps = (a.columns + kStepColumns - 1) / kStepColumns;
  const int64_t tile_row = tile / steps, matrix = tile_row / a.tile_rows;
  const int64_t row = tile_row % a.tile_rows * kTileRows + g;
  const int64_t blocks = a.columns / kMxfp4BlockSize;

  uint32_t codes[2][2] = {};  // 8 columns of (row, block)
  uint32_t scales = 0;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int largest = a.LargestScales(tile_row)[g + 8 * i];
#pragma unroll
    for (int b = 0; b < 2; ++b) {
      const int64_t block = tile % steps * 2 + b;
      if (row + 8 * i >= a.rows || block >= blocks) continue;
      const int64_t at = (matrix * a.rows + row + 8 * i) * blocks + block;
      codes[i][b] = reinterpret_cast<const uint32_t*>(a.blocks + at * kMxfp4BlockBytes)[t];
      scales |= Mxfp4ScaleByte(a.scales[at], largest) << (8 * (2 * b + i));
    }
  }
  uint8_t* out = a.TileRow(tile_row) + tile % steps * kMxfp4TileBytes;
  uint4 words;
  words.x = PackMxfp4Word(codes[0][0] & 0xFFFFu, codes[1][0] & 0xFFFFu);
  words.y = PackMxfp4Word(codes[0][0] >> 16, codes[1][0] >> 16);
  words.z = PackMxfp4Word(codes[0][1] & 0xFFFFu, codes[1][1] & 0xFFFFu);
  words.w = PackMxfp4Word(codes[0][1] >> 16, codes[1][1] >> 16);
  reinterpret_cast<uint4*>(out)[lane] = words;
  if (t == 0) reinterpret_cast<uint32_t*>(out + kMxfp4CodeBytes)[g] = scales;
}

float F16Value(uint16_t bits) {  // not of infinities
  const float sign = bits & 0x8000u ? -1.0f : 1.0f;
  return sign * std::bit_cast<float>(uint32_t{bits & 0x7FFFu} << 13) * 0x1p112f;
}

}  // namespace

void PackMxfp4(const PackMxfp4Args& args, Stream stream) {
  const Packing packing{args, (args.rows + kTileRows - 1) / kTileRows,
                        TileRowBytes(WeightFormat::kMxfp4, args.columns)};
  const int64_t tile_rows = args.count * packing.tile_rows;
  const int64_t tiles = tile_rows * ((args.columns + kStepColumns - 1) / kStepColumns);
  if (tiles == 0) return;
  const auto blocks = [](int64_t warps) {
    return dim3(static_cast<unsigned>((warps * kWarpSize + kThreads - 1) / kThreads));
  };
  auto* cuda_stream = static_cast<cudaStream_t>(stream);
  const int64_t rows = tile_rows * kTileRows;
  Launch(LargestScalesKernel, {blocks(rows), kThreads}, cuda_stream, packing, rows);
  Launch(PackKernel, {blocks(tiles), kThreads}, cuda_stream, packing, tiles);
}

void UnpackMxfp4(const uint8_t* packed, int64_t rows, int64_t columns, float* out) {
  const int64_t tile_row_bytes = TileRowBytes(WeightFormat::kMxfp4, columns);
  for (int64_t r = 0; r < rows; ++r) {
    const uint32_t largest =
        packed[(r / kTileRows + 1) * tile_row_bytes - kMxfp4RowBytes + r % kTileRows];
    const auto unit = std::bit_cast<float>(UnitBits(largest));
    for (int64_t c = 0; c < columns; ++c) {
      const Mxfp4Place place = PlaceOfMxfp4(columns, r, c);
      const uint8_t* tile = packed + place.tile;
      uint32_t word, a[4];
      std::memcpy(&word, tile + 4 * place.word, 4);
      DecodeMxfp4Word(word, a);
      const auto scale = static_cast<uint16_t>(tile[kMxfp4CodeBytes + place.scale] << 8);
      const float code = F16Value(static_cast<uint16_t>(a[place.pair] >> (16 * place.half)));
      const uint16_t operand = FloatToF16(code * F16Value(scale));
      out[r * columns + c] = F16Value(operand) * unit;
    }
  }
}

}  // namespace motet::cuda
