#include "cuda/kernels/norm.h"

#include "cuda/kernels/row.cuh"
#include "cuda/launch.h"

namespace motet::cuda {
namespace {

template <bool kSimple>
__global__ void __launch_bounds__(kRowThreads) RmsNormKernel(RmsNormArgs a, float inverse_size) {
  __shared__ float squares[kRowWarps];
  const int size = static_cast<int>(a.size);
  const int first = 4 * static_cast<int>(threadIdx.x);
  // Neither the weights nor which rows come from the kernel before this one.
  uint2 weight[kHeldSteps];
#pragma unroll
  for (int s = 0; s < kHeldSteps; ++s) {
    weight[s] = LoadFour<kSimple>(a.weight, first + s * kRowStep, size);
  }
  const int64_t i = blockIdx.x;
  const float* row = a.x + (a.rows ? LoadFresh(a.rows + i) : i) * a.size;
  WaitForInputs();
  LetNextStart();
  float4 x[kHeldSteps];
#pragma unroll
  for (int s = 0; s < kHeldSteps; ++s) x[s] = LoadFour<kSimple>(row, first + s * kRowStep, size);
  float sum = 0;
#pragma unroll
  for (int s = 0; s < kHeldSteps; ++s) sum = AddProducts(x[s], x[s], sum);
  ForRest<kSimple>(size, [&](int c) {
    const float4 rest = LoadFour<kSimple>(row, c, size);
    sum = AddProducts(rest, rest, sum);
  });
  sum = WarpSum(sum);
  if (LaneIndex() == 0) squares[WarpIndex()] = sum;
  __syncthreads();
  const float scale = NormScale(squares, inverse_size, a.eps);
#pragma unroll
  for (int s = 0; s < kHeldSteps; ++s) {
    StoreNormed(a.out, i, first + s * kRowStep, x[s], scale, weight[s]);
  }
  ForRest<kSimple>(a.out.stride, [&](int c) {
    StoreNormed(a.out, i, c, LoadFour<kSimple>(row, c, size), scale,
                LoadFour<kSimple>(a.weight, c, size));
  });
}

}  // namespace

void RmsNorm(const RmsNormArgs& args, Stream stream) {
  if (args.num_rows == 0) return;
  const auto kernel = IsSimpleRow(args.size) ? RmsNormKernel<true> : RmsNormKernel<false>;
  Launch(kernel, {dim3(static_cast<unsigned>(args.num_rows)), kRowThreads},
         static_cast<cudaStream_t>(stream), args, 1.0f / static_cast<float>(args.size));
}

}  // namespace motet::cuda
