#include "cuda/kernels/pack.h"

#include "cuda/kernels/packed_index.cuh"
#include "cuda/launch.h"
#include "cuda/primitives.h"

namespace motet::cuda {
namespace {

constexpr int kThreads = 128;  // the vectors of a tile

__global__ void __launch_bounds__(kThreads) PackBf16Kernel(PackBf16Args a, int64_t steps) {
  WaitForInputs();
  const int64_t tile = blockIdx.x / steps, step = blockIdx.x % steps;
  const int vector = static_cast<int>(threadIdx.x) / kWarpSize;
  const auto element = [&](int word, int half) -> uint32_t {
    const TileElement at = Bf16Element(vector, LaneIndex(), word, half);
    const int64_t row = TileRow(a.order, a.head_dim, tile, at.row);
    const int64_t column = kStepColumns * step + at.column;
    return row < a.rows && column < a.cols ? a.weight[row * a.cols + column] : 0;
  };
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) words[i] = element(i, 0) | element(i, 1) << 16;
  reinterpret_cast<uint4*>(a.out)[int64_t{blockIdx.x} * kThreads + threadIdx.x] =
      make_uint4(words[0], words[1], words[2], words[3]);
}

}  // namespace

void PackBf16(const PackBf16Args& args, Stream stream) {
  const int64_t steps = PaddedColumns(args.cols) / kStepColumns;
  const int64_t tiles = PackedBytes(WeightFormat::kBf16, args.rows, args.cols) / kBf16TileBytes;
  Launch(PackBf16Kernel, {dim3(static_cast<unsigned>(tiles)), kThreads},
         static_cast<cudaStream_t>(stream), args, steps);
}

}  // namespace motet::cuda
