// Work that the last of some blocks does when all have done theirs.
#pragma once

#include "cuda/primitives.h"

namespace motet::cuda {

// True in the block of those that share `ticket` (0 at first, and then again) that is the last to
// come here: it then sees what all of them wrote, by LoadFresh or asynchronous copies. `answer` is
// in shared memory.
__device__ __forceinline__ bool IsLastBlock(unsigned* ticket, unsigned blocks, unsigned& answer) {
  __syncthreads();
  if (threadIdx.x == 0) answer = IsLastTicket(ticket, blocks) ? 1 : 0;
  __syncthreads();
  const bool last = answer != 0;
  __syncthreads();
  return last;
}

}  // namespace motet::cuda
