#include "cuda/kernels/route.h"

#include "cuda/kernels/choose_experts.h"
#include "cuda/kernels/store_rows.cuh"
#include "cuda/launch.h"

namespace motet::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kVector = 8;                         // columns a lane takes at once
constexpr int kWarpColumns = kVector * kWarpSize;  // and a warp
constexpr int kAhead = 12;  // a lane's loads of weights under way: all of a row up to 3072

// Up to so many tokens, a block has one and a warp one expert; beyond, four times four.
constexpr int kFewRouted = 16;
constexpr int kMaxSharedColumns = 98 * 1024 / 4;  // of all tokens of a block

// Columns [column, column + 8) of a row of weights, zeros past its end.
__device__ __forceinline__ uint4 LoadWeights(const uint16_t* row, int column, int hidden,
                                             bool aligned) {
  uint4 words = make_uint4(0, 0, 0, 0);
  if (aligned) {
    if (column < hidden) words = *reinterpret_cast<const uint4*>(row + column);
    return words;
  }
  uint32_t halves[kVector];
#pragma unroll
  for (int i = 0; i < kVector; ++i) halves[i] = column + i < hidden ? row[column + i] : 0;
  return make_uint4(halves[0] | halves[1] << 16, halves[2] | halves[3] << 16,
                    halves[4] | halves[5] << 16, halves[6] | halves[7] << 16);
}

// Sums the products of eight columns in ascending order.
__device__ __forceinline__ float Dot8(const uint4& weights, const float4& low, const float4& high,
                                      float sum) {
  const auto even = [](uint32_t pair) { return BitsToFloat(pair << 16); };
  const auto odd = [](uint32_t pair) { return BitsToFloat(pair & 0xFFFF0000u); };
  sum = fmaf(even(weights.x), low.x, sum);
  sum = fmaf(odd(weights.x), low.y, sum);
  sum = fmaf(even(weights.y), low.z, sum);
  sum = fmaf(odd(weights.y), low.w, sum);
  sum = fmaf(even(weights.z), high.x, sum);
  sum = fmaf(odd(weights.z), high.y, sum);
  sum = fmaf(even(weights.w), high.z, sum);
  return fmaf(odd(weights.w), high.w, sum);
}

// Where a column lies in shared memory: a warp reads its columns in two halves, each 512 bytes
// that follow each other, for all lanes to be in different banks.
__device__ __forceinline__ int SharedAt(int column) {
  return (column & ~(kWarpColumns - 1)) | (column & 4) << 5 | (column & 0xF8) >> 1 | (column & 3);
}

// The norm of a block's tokens into shared memory [kTokens, stride], zeros past the end, the same
// bits whatever kTokens is; blocks of the first experts also store it.
template <int kTokens>
__device__ __forceinline__ void Normalise(const RouteArgs& a, int first_token, int stride,
                                          float* normed) {
  __shared__ float sums[kTokens][kWarps];
  const int thread = static_cast<int>(threadIdx.x);
  float squares[kTokens] = {};
#pragma unroll
  for (int n = 0; n < kTokens; ++n) {
    if (first_token + n >= a.num_tokens) break;
    const float* x = a.x + int64_t{first_token + n} * a.hidden;
    for (int c = thread; c < a.hidden; c += kThreads) {
      const float value = x[c];
      normed[n * stride + SharedAt(c)] = value;
      squares[n] = fmaf(value, value, squares[n]);
    }
  }
#pragma unroll
  for (int n = 0; n < kTokens; ++n) {
    squares[n] = WarpSum(squares[n]);
    if (LaneIndex() == 0) sums[n][WarpIndex()] = squares[n];
  }
  __syncthreads();
#pragma unroll
  for (int n = 0; n < kTokens; ++n) {
    const bool there = first_token + n < a.num_tokens;
    float total = 0;
    for (int w = 0; w < kWarps; ++w) total = Add(total, sums[n][w]);
    const float scale = rsqrtf(Add(total / static_cast<float>(a.hidden), a.eps));
    for (int c = thread; c < stride; c += kThreads) {
      float& value = normed[n * stride + SharedAt(c)];
      value = there && c < a.hidden ? Multiply(Multiply(value, scale), Bf16Value(a.norm[c])) : 0;
    }
  }
  __syncthreads();
  if (blockIdx.y > 0) return;
#pragma unroll
  for (int n = 0; n < kTokens; ++n) {
    if (first_token + n >= a.num_tokens) break;
    for (int c = 2 * thread; c < a.normed.stride; c += 2 * kThreads) {
      const float* pair = normed + n * stride + SharedAt(c);
      StorePair(a.normed, first_token + n, c, pair[0], pair[1]);
    }
  }
}

// A block has kTokens tokens and kWarps * kExperts experts. A lane sums its columns in ascending
// order, and the lanes' sums are added in one order: the same bits whatever the block's shape.
template <int kTokens, int kExperts>
__global__ void __launch_bounds__(kThreads) LogitsKernel(RouteArgs a, int stride) {
  auto* normed = reinterpret_cast<float*>(SharedMemory());
  const int first_expert = (static_cast<int>(blockIdx.y) * kWarps + WarpIndex()) * kExperts;
  const int lane_column = kVector * LaneIndex();
  const bool aligned = a.hidden % kVector == 0;
  const auto weights_at = [&](int e, int column) {
    const int expert = first_expert + e < a.num_experts ? first_expert + e : a.num_experts - 1;
    return LoadWeights(a.router + int64_t{expert} * a.hidden, column, a.hidden, aligned);
  };
  // Weights don't change: those of the first columns are under way before the inputs are there.
  constexpr int kEarly = kAhead / kExperts;
  uint4 early[kEarly][kExperts];
#pragma unroll
  for (int i = 0; i < kEarly; ++i) {
#pragma unroll
    for (int e = 0; e < kExperts; ++e) early[i][e] = weights_at(e, i * kWarpColumns + lane_column);
  }
  WaitForInputs();
  LetNextStart();
  const int first_token = static_cast<int>(blockIdx.x) * kTokens;
  Normalise<kTokens>(a, first_token, stride, normed);

  float sum[kTokens][kExperts] = {};
  const auto add = [&](const uint4(&weights)[kExperts], int column) {
#pragma unroll
    for (int n = 0; n < kTokens; ++n) {
      const auto* in = reinterpret_cast<const float4*>(normed + n * stride + SharedAt(column));
      const float4 low = in[0], high = in[kWarpSize];
#pragma unroll
      for (int e = 0; e < kExperts; ++e) sum[n][e] = Dot8(weights[e], low, high, sum[n][e]);
    }
  };
#pragma unroll
  for (int i = 0; i < kEarly; ++i) {
    if (i * kWarpColumns < stride) add(early[i], i * kWarpColumns + lane_column);
  }
  for (int column = kEarly * kWarpColumns + lane_column; column < stride; column += kWarpColumns) {
    uint4 weights[kExperts];
#pragma unroll
    for (int e = 0; e < kExperts; ++e) weights[e] = weights_at(e, column);
    add(weights, column);
  }
#pragma unroll
  for (int n = 0; n < kTokens; ++n) {
#pragma unroll
    for (int e = 0; e < kExperts; ++e) {
      const float total = WarpSum(sum[n][e]);
      const int expert = first_expert + e;
      if (LaneIndex() == 0 && first_token + n < a.num_tokens && expert < a.num_experts) {
        a.logits[int64_t{first_token + n} * a.num_experts + expert] =
            Add(total, Bf16Value(a.router_bias[expert]));
      }
    }
  }
}

template <int kTokens, int kExperts>
void LaunchLogits(const RouteArgs& a, int stride, cudaStream_t stream) {
  const int block_experts = kWarps * kExperts;
  const dim3 grid(static_cast<unsigned>((a.num_tokens + kTokens - 1) / kTokens),
                  static_cast<unsigned>((a.num_experts + block_experts - 1) / block_experts));
  Launch(LogitsKernel<kTokens, kExperts>,
         {grid, kThreads, int64_t{kTokens} * stride * static_cast<int64_t>(sizeof(float))}, stream,
         a, stride);
}

}  // namespace

void Route(const RouteArgs& args, Stream stream) {
  if (args.num_tokens == 0) return;
  const auto cuda_stream = static_cast<cudaStream_t>(stream);
  const int stride = (args.hidden + kWarpColumns - 1) / kWarpColumns * kWarpColumns;
  if (args.num_tokens <= kFewRouted || stride > kMaxSharedColumns / 4) {
    LaunchLogits<1, 1>(args, stride, cuda_stream);
  } else {
    LaunchLogits<4, 4>(args, stride, cuda_stream);
  }
  ChooseExpertsAndGroup({args.logits,
                         args.experts,
                         args.weights,
                         {args.num_tokens, args.slots, args.experts, args.num_experts,
                          args.experts_per_token, args.lists}},
                        stream);
}

}  // namespace motet::cuda
