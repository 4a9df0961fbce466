#include "cuda/kernels/dummy.h"

#include <algorithm>

#include "base/mxfp4.h"
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

// least + some of the bits of `mask`, for each word.
__global__ void __launch_bounds__(kThreads)
    DummyWordsKernel(uint32_t* out, int64_t count, uint32_t least, uint32_t mask, uint64_t seed) {
  WaitForInputs();
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += step) {
    out[i] = least + (RandomBits(static_cast<uint64_t>(i), seed) & mask);
  }
}

}  // namespace

void DummyBf16(uint16_t* out, int64_t count, float mean, uint64_t seed, Stream stream) {
  Launch(DummyBf16Kernel, {BlocksFor(count), kThreads}, static_cast<cudaStream_t>(stream), out,
         count, mean, seed);
}

void DummyMxfp4(uint32_t* blocks, uint32_t* scales, int64_t count, uint64_t seed, Stream stream) {
  const int64_t words = count * kMxfp4BlockBytes / 4, scale_words = (count + 3) / 4;
  auto* cuda_stream = static_cast<cudaStream_t>(stream);
  Launch(DummyWordsKernel, {BlocksFor(words), kThreads}, cuda_stream, blocks, words, 0u, ~0u, seed);
  // 2^-7 and 2^-6: weights of some hundredths.
  Launch(DummyWordsKernel, {BlocksFor(scale_words), kThreads}, cuda_stream, scales, scale_words,
         0x78787878u, 0x01010101u, ~seed);
}

}  // namespace motet::cuda
