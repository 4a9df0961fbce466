#include "cuda/kernels/moe.h"

#include "cuda/kernels/moe_few.cuh"
#include "cuda/kernels/moe_many.cuh"
#include "cuda/kernels/moe_output.cuh"
#include "cuda/kernels/moe_wide.cuh"
#include "cuda/launch.h"

namespace motet::cuda {
namespace {

constexpr int kCombineThreads = 128;

__device__ __forceinline__ float AddScaled(float sum, float scale, float x) {
  return fmaf(scale, x, sum);
}
__device__ __forceinline__ float4 AddScaled(const float4& sum, float scale, const float4& x) {
  return make_float4(fmaf(scale, x.x, sum.x), fmaf(scale, x.y, sum.y), fmaf(scale, x.z, sum.z),
                     fmaf(scale, x.w, sum.w));
}

// x[t] += the weighted outputs of t's experts, in the order of its choices. A thread has the
// columns of a Vector: float4, or float where `hidden` is not a multiple of four.
template <class Vector>
__global__ void __launch_bounds__(kCombineThreads)
    CombineKernel(const float* down, const float* weights, const int32_t* pair_of_choice,
                  int experts_per_token, int hidden, float* x) {
  constexpr int kColumns = sizeof(Vector) / sizeof(float);
  const int64_t t = blockIdx.y;
  const int column = kColumns * static_cast<int>(blockIdx.x * kCombineThreads + threadIdx.x);
  const bool has_column = column < hidden;
  auto* const to = reinterpret_cast<Vector*>(x + t * hidden + column);
  // Of the inputs, the kernel before this one made only `down`.
  int pair[kMaxExpertsPerToken];
  float weight[kMaxExpertsPerToken];
#pragma unroll
  for (int j = 0; j < kMaxExpertsPerToken; ++j) {
    if (j >= experts_per_token) break;
    pair[j] = LoadFresh(pair_of_choice + t * experts_per_token + j);
    weight[j] = LoadFresh(weights + t * experts_per_token + j);
  }
  Vector sum{};
  if (has_column) sum = LoadFresh(to);
  WaitForInputs();
  LetNextStart();
  if (!has_column || pair[0] < 0) return;  // below 0: the token is not there
  Vector value[kMaxExpertsPerToken];
#pragma unroll
  for (int j = 0; j < kMaxExpertsPerToken; ++j) {
    if (j >= experts_per_token) break;
    value[j] = *reinterpret_cast<const Vector*>(down + int64_t{pair[j]} * hidden + column);
  }
#pragma unroll
  for (int j = 0; j < kMaxExpertsPerToken; ++j) {
    if (j < experts_per_token) sum = AddScaled(sum, weight[j], value[j]);
  }
  *to = sum;
}

template <class Tile, class Output>
void LaunchProduct(const MoeArgs& args, const ExpertProduct& product, int64_t out_rows,
                   const Output& output, cudaStream_t stream) {
  const auto blocks = [&](int rows) {
    return dim3(static_cast<unsigned>((out_rows + rows - 1) / rows),
                static_cast<unsigned>(
                    MaxExpertTiles(args.num_tokens, args.num_experts, args.experts_per_token)));
  };
  if (AreFewMoeTokens(args.num_tokens)) {
    Launch(MoeFewKernel<Tile, Output>, {blocks(kTileRows), kMoeThreads}, stream, product, output);
    return;
  }
  if constexpr (Tile::kWide) {
    if (args.kernel == MoeKernel::kWarpgroupMma ||
        (args.kernel == MoeKernel::kAuto && HasWarpgroups())) {
      Launch(MoeWideKernel<Tile, Output>, {blocks(kWideRows), kMoeThreads,
              WideStages<Tile, kManyMoeTokens>::kBytes + kWideAlignment},
             stream, product, output);
      return;
    }
  }
  using Stage = ManyStage<Tile>;
  static_assert(Stage::kAllBytes <= kSharedEverywhere);
  Launch(MoeManyKernel<Tile, Output>, {blocks(Stage::kRows), kMoeThreads, Stage::kAllBytes}, stream,
         product, output);
}

template <class Tile>
void MoeOf(const MoeArgs& args, cudaStream_t stream) {
  const int64_t hidden = args.down.rows, intermediate = args.down.cols;
  const int64_t pairs = int64_t{args.num_tokens} * args.experts_per_token;
  const Rows activations = RowsIn(args.scratch, intermediate);
  auto* down =
      reinterpret_cast<float*>(static_cast<char*>(args.scratch) + RowsBytes(pairs, intermediate));
  const auto product = [&](const WeightMatrix& w, const uint16_t* bias, const Rows& in,
                           const int32_t* in_row) {
    return ExpertProduct{
        w.data, bias,   static_cast<int>(w.rows), static_cast<int>(in.stride / kStepColumns),
        in,     in_row, args.lists.tiles,         in_row == nullptr};
  };
  LaunchProduct<Tile>(args,
                      product(args.gate_up, args.gate_up_bias, args.normed, args.lists.pair_token),
                      2 * activations.stride, ActivationOutput{activations, args.limit}, stream);
  LaunchProduct<Tile>(args, product(args.down, args.down_bias, activations, nullptr), hidden,
                      FloatOutput{down, static_cast<int>(hidden)}, stream);
  const auto combine = [&](auto* kernel, int columns) {
    const int64_t block = int64_t{kCombineThreads} * columns;
    Launch(kernel,
           {dim3(static_cast<unsigned>((hidden + block - 1) / block),
                 static_cast<unsigned>(args.num_tokens)),
            kCombineThreads},
           stream, down, args.weights, args.lists.pair_of_choice, args.experts_per_token,
           static_cast<int>(hidden), args.x);
  };
  if (hidden % 4 == 0) {
    combine(CombineKernel<float4>, 4);
  } else {
    combine(CombineKernel<float>, 1);
  }
}

}  // namespace

int64_t MoeScratchBytes(int num_tokens, int experts_per_token, int64_t hidden,
                        int64_t intermediate) {
  const int64_t pairs = int64_t{num_tokens} * experts_per_token;
  return RowsBytes(pairs, intermediate) + pairs * hidden * static_cast<int64_t>(sizeof(float));
}

void Moe(const MoeArgs& args, Stream stream) {
  if (args.num_tokens == 0) return;
  const auto cuda_stream = static_cast<cudaStream_t>(stream);
  switch (args.down.format) {
    case WeightFormat::kMxfp4:
      return MoeOf<Mxfp4Tile>(args, cuda_stream);
    case WeightFormat::kBf16:
      return MoeOf<DenseTile<F16Weights>>(args, cuda_stream);
    case WeightFormat::kInt8:
      return MoeOf<DenseTile<Int8Weights>>(args, cuda_stream);
  }
}

}  // namespace motet::cuda
