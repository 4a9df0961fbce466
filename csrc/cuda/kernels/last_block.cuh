// Work that the last of some blocks does when all have done theirs.
#pragma once

#include "cuda/primitives.h"

namespace motet::cuda {

// True in the block of those that share `ticket` (0 at first) that is the last to come here: it
// then sees what all of them wrote, by LoadFresh or asynchronous copies. `place` is in shared
// memory.
__device__ __forceinline__ bool IsLastBlock(unsigned* ticket, unsigned blocks, unsigned& place) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) place = atomicAdd(ticket, 1u);
  __syncthreads();
  const bool last = place == blocks - 1;
  __syncthreads();
  if (last) __threadfence();
  return last;
}

}  // namespace motet::cuda
