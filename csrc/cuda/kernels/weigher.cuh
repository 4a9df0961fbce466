// Weights of tokens, and their rank by logit.
#pragma once

#include "cuda/kernels/sample.h"
#include "cuda/kernels/select.cuh"
#include "cuda/primitives.h"

namespace motet::cuda {

inline constexpr float kInfinity = __builtin_huge_valf();
inline constexpr float kLargest = 0x1.fffffep127f;

// A bit pattern that orders as the float does: NaN as -inf, and -0 as 0.
__device__ __forceinline__ uint32_t OrderedBits(float x) {
  if (!(x > -kInfinity)) x = -kInfinity;
  const uint32_t bits = x == 0.0f ? 0u : FloatToBits(x);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float FromOrderedBits(uint32_t ordered) {
  return BitsToFloat(ordered >> 31 ? ordered & 0x7FFFFFFFu : ~ordered);
}

// exp(x) for x in [-80, 0], the same bits as in cpu/sample.cpp.
__device__ __forceinline__ float Exp(float x) {
  constexpr float kLog2E = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 0x1.8p23f;
  const float n = Add(Add(Multiply(x, kLog2E), kRound), -kRound);
  const float r = Add(Add(x, Multiply(n, -kLn2High)), Multiply(n, -kLn2Low));
  constexpr float kTerms[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
  float sum = 1.0f / 5040;
#pragma unroll
  for (const float term : kTerms) sum = Add(Multiply(sum, r), term);
  return BitsToFloat(FloatToBits(sum) + (static_cast<uint32_t>(static_cast<int>(n)) << 23));
}

// exp((logit - max) / temperature) of the tokens that min_p leaves, in units so small that a sum
// over the vocabulary just fits 64 bits.
struct Weigher {
  float floor, top, scale, units;

  Weigher() = default;
  __device__ __forceinline__ Weigher(const DrawParams& params, float max, int vocab_bits) {
    double depth = 80.0;
    if (params.min_p > 0.0) depth = fmin(depth, -log(params.min_p));
    const double lowest = Add(static_cast<double>(max), -Multiply(depth, params.temperature));
    floor = lowest > -static_cast<double>(kLargest) ? static_cast<float>(lowest) : -kLargest;
    top = max > kLargest ? kLargest : max;
    scale = static_cast<float>(1.0 / params.temperature);
    units = BitsToFloat(static_cast<uint32_t>(127 + 64 - vocab_bits) << 23);  // 2^(64 - vocab_bits)
  }

  __device__ __forceinline__ float Exponent(float x) const {
    const float exponent = Multiply(Add(x > kLargest ? kLargest : x, -top), scale);
    return exponent > -80.0f ? exponent : -80.0f;
  }
  // 0 for NaN, and for what is too small to be drawn.
  __device__ __forceinline__ uint64_t operator()(float x) const {
    const float weight = Exp(Exponent(x)) * units;
    return RoundToUint64(x >= floor ? weight : 0.0f);
  }
  // In the order of rank, equal for equal logits.
  __device__ __forceinline__ int Bin(float x) const {
    constexpr float kBinsPerUnit = 16.0f;  // 32 in all: below exp(-32) there is next to no weight
    const int bin = static_cast<int>(Exponent(x) * -kBinsPerUnit);
    return bin < kBins ? bin : kBins - 1;
  }
};

}  // namespace motet::cuda
