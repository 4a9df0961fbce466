#include "cuda/kernels/combine.h"

#include "cuda/kernels/experts.h"
#include "cuda/kernels/row.cuh"
#include "cuda/launch.h"

namespace motet::cuda {
namespace {

// A block has a token, as in RmsNorm.
template <bool kSimple>
__global__ void __launch_bounds__(kRowThreads, 2) CombineKernel(CombineArgs a, float inverse_size) {
  __shared__ float squares[kRowWarps];
  const int first = 4 * static_cast<int>(threadIdx.x), k = a.experts_per_token;
  const int64_t t = blockIdx.x;
  float* const row = a.x + t * a.hidden;
  const bool norms = a.norm.weight != nullptr;
  // Of the inputs, the kernel before this one made only `outputs`.
  float weight[kMaxExpertsPerToken];
  // From the thread's first column on; nothing if the token is not there.
  const float* output[kMaxExpertsPerToken];
  int size[kMaxExpertsPerToken];
#pragma unroll
  for (int j = 0; j < kMaxExpertsPerToken; ++j) {
    const int pair = j < k ? LoadFresh(a.pair_of_choice + t * k + j) : -1;
    weight[j] = j < k ? LoadFresh(a.weights + t * k + j) : 0.0f;
    if (pair < 0) weight[j] = 0;
    output[j] = a.outputs + int64_t{pair} * a.hidden + first;
    size[j] = pair < 0 ? 0 : a.hidden - first;
  }
  float4 x[kHeldSteps];
  uint2 norm[kHeldSteps];
#pragma unroll
  for (int s = 0; s < kHeldSteps; ++s) {
    x[s] = LoadFour<kSimple>(row, first + s * kRowStep, a.hidden);
    if (norms) norm[s] = LoadFour<kSimple>(a.norm.weight, first + s * kRowStep, a.hidden);
  }
  WaitForInputs();
  LetNextStart();

  struct Outputs {
    float4 of[kMaxExpertsPerToken];
  };
  const auto load = [&](int column) {
    Outputs out;
#pragma unroll
    for (int j = 0; j < kMaxExpertsPerToken; ++j) {
      out.of[j] = LoadFour<kSimple>(output[j], column - first, size[j]);
    }
    return out;
  };
  const auto combine = [&](int column, float4& sum, const Outputs& out) {
#pragma unroll
    for (int j = 0; j < kMaxExpertsPerToken; ++j) {
      sum = make_float4(fmaf(weight[j], out.of[j].x, sum.x), fmaf(weight[j], out.of[j].y, sum.y),
                        fmaf(weight[j], out.of[j].z, sum.z), fmaf(weight[j], out.of[j].w, sum.w));
    }
    StoreFour<kSimple>(row, column, a.hidden, sum);
  };
  Outputs out[kHeldSteps];
#pragma unroll
  for (int s = 0; s < kHeldSteps; ++s) out[s] = load(first + s * kRowStep);
  float sum = 0;
#pragma unroll
  for (int s = 0; s < kHeldSteps; ++s) {
    combine(first + s * kRowStep, x[s], out[s]);
    sum = AddProducts(x[s], x[s], sum);
  }
  ForRest<kSimple>(a.hidden, [&](int column) {
    float4 rest = LoadFour<kSimple>(row, column, a.hidden);
    combine(column, rest, load(column));
    sum = AddProducts(rest, rest, sum);
  });
  if (!norms) return;
  sum = WarpSum(sum);
  if (LaneIndex() == 0) squares[WarpIndex()] = sum;
  __syncthreads();
  const float scale = NormScale(squares, inverse_size, a.norm.eps);
#pragma unroll
  for (int s = 0; s < kHeldSteps; ++s) {
    StoreNormed(a.norm.out, t, first + s * kRowStep, x[s], scale, norm[s]);
  }
  ForRest<kSimple>(a.norm.out.stride, [&](int column) {
    StoreNormed(a.norm.out, t, column, LoadFour<kSimple>(row, column, a.hidden), scale,
                LoadFour<kSimple>(a.norm.weight, column, a.hidden));
  });
}

}  // namespace

void Combine(const CombineArgs& args, Stream stream) {
  if (args.num_tokens == 0) return;
  const auto kernel = IsSimpleRow(args.hidden) ? CombineKernel<true> : CombineKernel<false>;
  Launch(kernel, {dim3(static_cast<unsigned>(args.num_tokens)), kRowThreads},
         static_cast<cudaStream_t>(stream), args, 1.0f / static_cast<float>(args.hidden));
}

}  // namespace motet::cuda
