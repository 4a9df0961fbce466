// From a page of 8-bit integers (int8_page.cuh) to operands of products.
#pragma once

#include "cuda/kernels/attention_chunk.cuh"
#include "cuda/kernels/int8_page.cuh"
#include "cuda/kernels/int8_to_f16.cuh"

namespace motet::cuda {

template <int kDim>
inline constexpr int kBlocks = kDim / 16;  // of columns

// Values become 1/64 of their integers and their scales 64 times themselves: those of small values
// are then no subnormal numbers before the values are, and the largest, 65504 / 127, still fits.
inline constexpr int kKeyUnits = 1, kValueUnits = 64;

// A lane's four words as operands, (x, y) and (z, w) of each vector.
template <int kUnits>
__device__ __forceinline__ void Operands(const uint4& words, uint4 (&b)[2]) {
  IntegersToF16<kUnits>(words.x, b[0].x, b[0].y);
  IntegersToF16<kUnits>(words.y, b[0].z, b[0].w);
  IntegersToF16<kUnits>(words.z, b[1].x, b[1].y);
  IntegersToF16<kUnits>(words.w, b[1].z, b[1].w);
}

// Scales of a page's values as a lane multiplies by them: pairs of the elements of words, one lane
// t after the other.
struct alignas(16) ValueScales {
  uint16_t scales[kPageTokens];

  __device__ __forceinline__ void Set(float scale) {  // of token `lane`
    const int token = LaneIndex();
    scales[token % 8 / 2 * 8 + token / 8 * 2 + token % 2] =
        static_cast<uint16_t>(PackF16(Multiply(scale, kValueUnits), 0));
  }
  __device__ __forceinline__ uint4 OfLane() const {
    return reinterpret_cast<const uint4*>(scales)[LaneIndex() % 4];
  }
};

// Of values: each vector has a column's tokens.
__device__ __forceinline__ void ScaledOperands(const uint4& words, const uint4& scales,
                                               uint4 (&b)[2]) {
  Operands<kValueUnits>(words, b);
#pragma unroll
  for (uint4& column : b) {
    column.x = MultiplyF16(column.x, scales.x);
    column.y = MultiplyF16(column.y, scales.y);
    column.z = MultiplyF16(column.z, scales.z);
    column.w = MultiplyF16(column.w, scales.w);
  }
}

// Of token `lane` of a page that starts at a position. Where nobody sees it there may be NaN.
__device__ __forceinline__ float ScaleOrZero(const float* scales, int start,
                                             const KeyRange& range) {
  const int position = start + LaneIndex();
  const float scale = scales[LaneIndex()];
  return position >= range.begin && position < range.end ? scale : 0.0f;
}

// Of keys 8n + 2t and + 1.
__device__ __forceinline__ void MultiplyScores(float (&s)[4], const float2& scales) {
  s[0] = Multiply(s[0], scales.x);
  s[1] = Multiply(s[1], scales.y);
  s[2] = Multiply(s[2], scales.x);
  s[3] = Multiply(s[3], scales.y);
}

// A KV head's part of a page of keys or values. Of no page it is the first one's: nothing sees what
// is read there, and integers are always finite.
template <int kDim>
class Int8Page {
 public:
  __device__ __forceinline__ Int8Page(const AttentionArgs& args, const void* pages, int kv_head,
                                      int page) {
    const int head = max(page, 0) * args.kv_heads + kv_head;
    bytes_ = static_cast<const char*>(pages) + int64_t{head} * Int8HeadBytes(kDim);
  }

  __device__ __forceinline__ void Prefetch() const {
    for (int i = LaneIndex() * 128; i < Int8HeadBytes(kDim); i += kWarpSize * 128) {
      PrefetchLineToL2(bytes_ + i);
    }
  }
  // The lane's words.
  __device__ __forceinline__ const uint4* Block(int i) const {
    return reinterpret_cast<const uint4*>(bytes_) + i * kWarpSize + LaneIndex();
  }
  __device__ __forceinline__ const float* Scales() const {
    return reinterpret_cast<const float*>(bytes_ + kPageTokens * kDim);
  }

 private:
  const char* bytes_;
};

}  // namespace motet::cuda
