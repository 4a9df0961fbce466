#include "cuda/kernels/pack.h"

#include "cuda/kernels/packed_index.cuh"
#include "cuda/kernels/row_unit.cuh"
#include "cuda/launch.h"
#include "cuda/primitives.h"

namespace motet::cuda {
namespace {

constexpr int kUnitThreads = 256;
constexpr int kF16Threads = 128;  // the vectors of a tile
constexpr int kInt8Threads = 2 * kWarpSize;

__device__ __forceinline__ uint32_t WeightBits(const PackArgs& a, int64_t row, int64_t column) {
  return row < a.rows && column < a.cols ? a.weight[row * a.cols + column] : 0;
}

// The byte of a row's unit; a warp a row, also of those that only fill up tiles.
__global__ void __launch_bounds__(kUnitThreads)
    UnitsKernel(PackArgs a, int64_t rows, int64_t tile_row_bytes) {
  WaitForInputs();
  const int64_t i = (int64_t{blockIdx.x} * kUnitThreads + threadIdx.x) / kWarpSize;
  if (i >= rows) return;
  const int64_t tile = i / kTileRows;
  const int r = static_cast<int>(i % kTileRows);
  const int64_t row = TileRow(a.order, a.head_dim, tile, r);
  uint32_t largest = 0;
  for (int64_t column = LaneIndex(); column < a.cols; column += kWarpSize) {
    largest = max(largest, WeightBits(a, row, column) & 0x7FFF);
  }
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) {
    largest = max(largest, ShuffleXor(largest, mask));
  }
  if (LaneIndex() > 0) return;
  // An exponent field of 127 is that of 2^0, which 2^15 units are.
  constexpr uint32_t kFieldOfByte0 = 127 + 15 - 128;
  const uint32_t field = max(largest >> 7, kFieldOfByte0);
  a.out[(tile + 1) * tile_row_bytes - kF16RowBytes + r] =
      static_cast<uint8_t>(field - kFieldOfByte0);
}

__global__ void __launch_bounds__(kF16Threads)
    PackF16Kernel(PackArgs a, int64_t steps, int64_t tile_row_bytes) {
  WaitForInputs();
  const int64_t tile = blockIdx.x / steps, step = blockIdx.x % steps;
  uint8_t* tiles = a.out + tile * tile_row_bytes;
  const uint8_t* units = tiles + tile_row_bytes - kF16RowBytes;
  const int vector = static_cast<int>(threadIdx.x) / kWarpSize;
  const auto value = [&](int word, int half) {
    const TileElement at = F16Element(vector, LaneIndex(), word, half);
    const uint32_t bits =
        WeightBits(a, TileRow(a.order, a.head_dim, tile, at.row), kStepColumns * step + at.column);
    return InUnits(Bf16Value(static_cast<uint16_t>(bits)), units[at.row]);
  };
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) words[i] = PackF16(value(i, 0), value(i, 1));
  reinterpret_cast<uint4*>(tiles + step * kF16TileBytes)[threadIdx.x] =
      make_uint4(words[0], words[1], words[2], words[3]);
}

// A warp has 32 columns of a tile.
__global__ void __launch_bounds__(kInt8Threads) PackInt8Kernel(PackArgs a, int64_t steps) {
  WaitForInputs();
  const int64_t tile = blockIdx.x / steps, step = blockIdx.x % steps;
  const int g = LaneIndex() / 4, t = LaneIndex() % 4;
  const int64_t first_column = kStepColumns * step + 32 * WarpIndex() + 8 * t;
  uint32_t words[4] = {}, scales = 0;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int64_t row = TileRow(a.order, a.head_dim, tile, g + 8 * i);
    uint32_t weights[8], largest = 0;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      weights[j] = WeightBits(a, row, first_column + j);
      largest = max(largest, weights[j] & 0x7FFF);
    }
#pragma unroll
    for (int mask = 1; mask < 4; mask *= 2) largest = max(largest, ShuffleXor(largest, mask));
    const uint16_t scale = Int8Scale(static_cast<uint16_t>(largest));
    scales |= uint32_t{scale} << (16 * i);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float weight = Bf16Value(static_cast<uint16_t>(weights[j]));
      const uint32_t byte = scale == 0 ? kInt8Offset : Int8Byte(weight, Bf16Value(scale));
      words[2 * (j / 4) + i] |= byte << (8 * (j % 4));
    }
  }
  uint8_t* out = a.out + int64_t{blockIdx.x} * kInt8TileBytes + WarpIndex() * kInt8HalfTileBytes;
  reinterpret_cast<uint4*>(out)[LaneIndex()] = make_uint4(words[0], words[1], words[2], words[3]);
  if (t == 0) reinterpret_cast<uint32_t*>(out + kInt8CodeBytes)[g] = scales;
}

}  // namespace

void Pack(const PackArgs& args, Stream stream) {
  const int64_t steps = PaddedColumns(args.cols) / kStepColumns;
  const int64_t tile_row_bytes = TileRowBytes(args.format, args.cols);
  const int64_t tile_rows = (args.rows + kTileRows - 1) / kTileRows, rows = tile_rows * kTileRows;
  const dim3 tiles(static_cast<unsigned>(tile_rows * steps));
  auto* cuda_stream = static_cast<cudaStream_t>(stream);
  if (args.format == WeightFormat::kInt8) {
    Launch(PackInt8Kernel, {tiles, kInt8Threads}, cuda_stream, args, steps);
    return;
  }
  const int64_t blocks = (rows * kWarpSize + kUnitThreads - 1) / kUnitThreads;
  Launch(UnitsKernel, {dim3(static_cast<unsigned>(blocks)), kUnitThreads}, cuda_stream, args, rows,
         tile_row_bytes);
  Launch(PackF16Kernel, {tiles, kF16Threads}, cuda_stream, args, steps, tile_row_bytes);
}

}  // namespace motet::cuda
