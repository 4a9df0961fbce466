#include "cuda/kernels/page_changes.h"

#include "cuda/launch.h"
#include "cuda/primitives.h"

namespace motet::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) PageChangesKernel(PageChangesArgs a) {
  WaitForInputs();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < a.count) a.table[a.changes[i].at] = a.changes[i].page;
}

}  // namespace

void ApplyPageChanges(const PageChangesArgs& args, Stream stream) {
  if (args.count == 0) return;
  Launch(PageChangesKernel,
         {dim3(static_cast<unsigned>((args.count + kThreads - 1) / kThreads)), kThreads},
         static_cast<cudaStream_t>(stream), args);
}

}  // namespace motet::cuda
