#include "cuda/kernels/norm.h"

#include "cuda/kernels/store_rows.cuh"
#include "cuda/launch.h"

namespace motet::cuda {
namespace {

constexpr int kThreads = 256;

// The sum of every thread's x, the same bits in each.
__device__ __forceinline__ float BlockSum(float x) {
  __shared__ float sums[kThreads / kWarpSize];
  x = WarpSum(x);
  if (LaneIndex() == 0) sums[WarpIndex()] = x;
  __syncthreads();
  float total = 0;
  for (const float sum : sums) total += sum;
  return total;
}

__global__ void __launch_bounds__(kThreads) RmsNormKernel(RmsNormArgs a) {
  WaitForInputs();
  LetNextStart();
  const int64_t i = blockIdx.x;
  const float* x = a.x + (a.rows ? a.rows[i] : i) * a.size;
  float squares = 0;
  for (int64_t j = threadIdx.x; j < a.size; j += kThreads) squares += x[j] * x[j];
  const float scale = rsqrtf(BlockSum(squares) / static_cast<float>(a.size) + a.eps);
  const auto value = [&](int64_t j) {
    return j < a.size ? x[j] * scale * Bf16Value(a.weight[j]) : 0.0f;
  };
  for (int64_t j = 2 * threadIdx.x; j < a.out.stride; j += 2 * kThreads) {
    StorePair(a.out, i, j, value(j), value(j + 1));
  }
}

}  // namespace

void RmsNorm(const RmsNormArgs& args, Stream stream) {
  if (args.num_rows == 0) return;
  Launch(RmsNormKernel, {dim3(static_cast<unsigned>(args.num_rows)), kThreads},
         static_cast<cudaStream_t>(stream), args);
}

}  // namespace motet::cuda
