#include "cuda/kernels/dummy.h"

#include <algorithm>

#include "cuda/kernels/pack.h"
#include "cuda/launch.h"
#include "cuda/primitives.h"

namespace motet::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 4096;

dim3 BlocksFor(int64_t threads) {
  return dim3(static_cast<unsigned>(std::min((threads + kThreads - 1) / kThreads, kMaxBlocks)));
}

// 32 bits of a hash of the index (a finaliser of the kind of MurmurHash3's; quality matters
// little).
__device__ __forceinline__ uint32_t RandomBits(uint64_t index, uint64_t seed) {
  uint64_t x = index + seed * 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 33)) * 0xFF51AFD7ED558CCDu;
  x = (x ^ (x >> 33)) * 0xC4CEB9FE1A85EC53u;
  return static_cast<uint32_t>(x >> 32);
}

__global__ void __launch_bounds__(kThreads)
    DummyBf16Kernel(uint16_t* out, int64_t count, float mean, uint64_t seed) {
  WaitForInputs();
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += step) {
    const float uniform = static_cast<float>(RandomBits(static_cast<uint64_t>(i), seed)) * 0x1p-32f;
    out[i] = static_cast<uint16_t>(PackBf16(mean + (uniform - 0.5f) * 0.1f, 0));
  }
}

__global__ void __launch_bounds__(kThreads)
    DummyMxfp4Kernel(uint32_t* out, int64_t tiles, uint64_t seed) {
  WaitForInputs();
  constexpr int64_t kWords = kMxfp4TileBytes / 4, kCodeWords = 128;
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < tiles * kWords; i += step) {
    const uint32_t bits = RandomBits(static_cast<uint64_t>(i), seed);
    // 2^-7 and 2^-6: weights of some hundredths.
    out[i] = i % kWords < kCodeWords ? bits : 0x78787878u + (bits & 0x01010101u);
  }
}

}  // namespace

void DummyBf16(uint16_t* out, int64_t count, float mean, uint64_t seed, Stream stream) {
  Launch(DummyBf16Kernel, {BlocksFor(count), kThreads}, static_cast<cudaStream_t>(stream), out,
         count, mean, seed);
}

void DummyMxfp4(uint8_t* out, int64_t tiles, uint64_t seed, Stream stream) {
  Launch(DummyMxfp4Kernel, {BlocksFor(tiles * kMxfp4TileBytes / 4), kThreads},
         static_cast<cudaStream_t>(stream), reinterpret_cast<uint32_t*>(out), tiles, seed);
}

}  // namespace motet::cuda
