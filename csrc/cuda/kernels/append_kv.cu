#include "cuda/kernels/append_kv.h"

#include "cuda/kernels/int8_page.cuh"
#include "cuda/launch.h"

namespace motet::cuda {
namespace {

constexpr int kThreads = 128;

// As the CPU has it (ops/kv_page.h), to the bit.
__device__ __forceinline__ float Limited(float x) {
  constexpr float kLargestF16 = 65504;
  return x != x ? 0 : fminf(fmaxf(x, -kLargestF16), kLargestF16);
}
__device__ __forceinline__ float ScaleOf(float largest) {
  constexpr float kSmallestNormal = 0x1p-126f;
  const float scale = largest / 127;
  return scale < kSmallestNormal ? 0 : scale;
}
__device__ __forceinline__ uint32_t ByteOf(float x, float scale) {
  // Added, it leaves the integer in the lowest bits, rounded to nearest, ties to even, plus 128.
  constexpr float kRound = 0x1.8p23f + 128;
  return FloatToBits(Add(scale == 0 ? 0 : x / scale, kRound)) & 0xFF;
}

// A warp has the keys or the values of one token and KV head, a lane four columns that follow one
// another.
__global__ void __launch_bounds__(kThreads) AppendInt8Kernel(AppendInt8Args a) {
  WaitForInputs();
  LetNextStart();
  const int64_t row = int64_t{blockIdx.x} * (kThreads / kWarpSize) + WarpIndex();
  const auto token = static_cast<int>(row / (2 * a.kv_heads));
  if (token >= a.num_tokens) return;
  const int slot = a.slots[token], position = a.positions[token];
  if (slot < 0) return;
  const auto head = static_cast<int>(row % (2 * a.kv_heads));
  const bool is_value = head >= a.kv_heads;
  const int column = LaneIndex() * 4;
  const bool mine = column < a.head_dim;
  float4 x = make_float4(0, 0, 0, 0);
  if (mine) x = *reinterpret_cast<const float4*>(a.kv + row * a.head_dim + column);
  x = make_float4(Limited(x.x), Limited(x.y), Limited(x.z), Limited(x.w));
  const float largest =
      WarpMax(fmaxf(fmaxf(fabsf(x.x), fabsf(x.y)), fmaxf(fabsf(x.z), fabsf(x.w))));
  const float scale = ScaleOf(largest);

  const int64_t page =
      a.cache.page_table[slot * a.cache.pages_per_sequence + position / kPageTokens];
  const int64_t part = page * a.kv_heads + (is_value ? head - a.kv_heads : head);
  auto* bytes = static_cast<uint8_t*>(is_value ? a.cache.values : a.cache.keys) +
                part * Int8HeadBytes(a.head_dim);
  const int place = position % kPageTokens;
  if (LaneIndex() == 0) {
    reinterpret_cast<float*>(bytes + kPageTokens * a.head_dim)[place] = scale;
  }
  if (!mine) return;
  const float numbers[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int at = is_value ? Int8ValueAt(place, column + i) : Int8KeyAt(place, column + i);
    bytes[at] = static_cast<uint8_t>(ByteOf(numbers[i], scale));
  }
}

}  // namespace

void AppendInt8(const AppendInt8Args& args, Stream stream) {
  constexpr int64_t kRows = kThreads / kWarpSize;
  const int64_t rows = int64_t{args.num_tokens} * 2 * args.kv_heads;
  if (rows == 0) return;
  Launch(AppendInt8Kernel, {dim3(static_cast<unsigned>((rows + kRows - 1) / kRows)), kThreads},
         static_cast<cudaStream_t>(stream), args);
}

}  // namespace motet::cuda
