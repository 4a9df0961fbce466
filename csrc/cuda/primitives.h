// What kernels need of the machine beyond C++: collectives of a warp, tensor cores, asynchronous
// copies, small floats. Names and operands are PTX's. (PTX ISA, "Matrix multiply-accumulate
// operation using mma instruction", "cp.async", "ldmatrix")
//
// Two implementations: instructions in primitives_ptx.h, and emulator/primitives.h on the CPU.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#ifdef MOTET_CUDA_EMULATED
#include "cuda/emulator/primitives.h"
#else
#include "cuda/primitives_ptx.h"
#include "cuda/warpgroup_ptx.h"
#endif

// Whether this is compiled for where products of warpgroups are (warpgroup_ptx.h).
#if defined(MOTET_CUDA_EMULATED) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define MOTET_HAS_WARPGROUPS
#endif

namespace motet::cuda {

inline constexpr int kWarpSize = 32;

__device__ __forceinline__ int LaneIndex() { return static_cast<int>(threadIdx.x % kWarpSize); }
__device__ __forceinline__ int WarpIndex() { return static_cast<int>(threadIdx.x / kWarpSize); }

__device__ __forceinline__ float Bf16Value(uint16_t bits) {
  return BitsToFloat(uint32_t{bits} << 16);
}

// The same bits in every lane: additions of the same pairs in the same order.
__device__ __forceinline__ float WarpSum(float x) {
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) x += ShuffleXor(x, mask);
  return x;
}

__device__ __forceinline__ float WarpMax(float x) {
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) x = fmaxf(x, ShuffleXor(x, mask));
  return x;
}

}  // namespace motet::cuda
