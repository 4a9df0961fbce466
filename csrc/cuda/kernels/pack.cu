#include "cuda/kernels/pack.h"

#include "cuda/kernels/packed_index.cuh"
#include "cuda/launch.h"
#include "cuda/primitives.h"

namespace motet::cuda {
namespace {

constexpr int kThreads = 128;  // the vectors of a tile
constexpr int kInt8Threads = 2 * kWarpSize;

__device__ __forceinline__ uint32_t WeightBits(const PackArgs& a, int64_t row, int64_t column) {
  return row < a.rows && column < a.cols ? a.weight[row * a.cols + column] : 0;
}

__global__ void __launch_bounds__(kThreads) PackBf16Kernel(PackArgs a, int64_t steps) {
  WaitForInputs();
  const int64_t tile = blockIdx.x / steps, step = blockIdx.x % steps;
  const int vector = static_cast<int>(threadIdx.x) / kWarpSize;
  const auto element = [&](int word, int half) -> uint32_t {
    const TileElement at = Bf16Element(vector, LaneIndex(), word, half);
    return WeightBits(a, TileRow(a.order, a.head_dim, tile, at.row),
                      kStepColumns * step + at.column);
  };
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) words[i] = element(i, 0) | element(i, 1) << 16;
  reinterpret_cast<uint4*>(a.out)[int64_t{blockIdx.x} * kThreads + threadIdx.x] =
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
  const int64_t tiles = PackedBytes(args.format, args.rows, args.cols) / TileBytes(args.format);
  const bool int8 = args.format == WeightFormat::kInt8;
  Launch(int8 ? PackInt8Kernel : PackBf16Kernel,
         {dim3(static_cast<unsigned>(tiles)), int8 ? kInt8Threads : kThreads},
         static_cast<cudaStream_t>(stream), args, steps);
}

}  // namespace motet::cuda
