#include "cuda/kernels/dummy.h"

#include <algorithm>

#include "cuda/kernels/pack.h"
#include "cuda/launch.h"
#include "cuda/primitives.h"

namespace motet::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 4096;
// Of packed formats that have codes and scales by turns.
constexpr int64_t kCodeWords = kInt8CodeBytes / 4, kBlockWords = kInt8HalfTileBytes / 4;
static_assert(kMxfp4TileBytes == kInt8HalfTileBytes);

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

// Words of scales become `scales` or, for some, 1 more where `larger` has ones.
__global__ void __launch_bounds__(kThreads)
    DummyBlocksKernel(uint32_t* out, int64_t words, uint32_t scales, uint32_t larger,
                      uint64_t seed) {
  WaitForInputs();
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < words; i += step) {
    const uint32_t bits = RandomBits(static_cast<uint64_t>(i), seed);
    out[i] = i % kBlockWords < kCodeWords ? bits : scales + (bits & larger);
  }
}

}  // namespace

void DummyBf16(uint16_t* out, int64_t count, float mean, uint64_t seed, Stream stream) {
  Launch(DummyBf16Kernel, {BlocksFor(count), kThreads}, static_cast<cudaStream_t>(stream), out,
         count, mean, seed);
}

void DummyBlocks(uint8_t* out, int64_t bytes, WeightFormat format, uint64_t seed, Stream stream) {
  // mxfp4: 2^-7 and 2^-6. int8: 2^-11, and a 128th more.
  const bool mxfp4 = format == WeightFormat::kMxfp4;
  const uint32_t scales = mxfp4 ? 0x78787878u : 0x3A003A00u;
  const uint32_t larger = mxfp4 ? 0x01010101u : 0x00010001u;
  Launch(DummyBlocksKernel, {BlocksFor(bytes / 4), kThreads}, static_cast<cudaStream_t>(stream),
         reinterpret_cast<uint32_t*>(out), bytes / 4, scales, larger, seed);
}

}  // namespace motet::cuda
