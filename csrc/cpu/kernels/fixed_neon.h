// Fixed-point products of two blocks (a group) in NEON registers, eight rows side by side.
// The same functions as fixed_portable.h.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "base/fixed.h"
#include "base/mxfp4.h"
#include "cpu/kernels/vec_neon.h"

namespace motet {
namespace {

constexpr int kGroupBlocks = 2;

// A block's codes come apart into even and odd columns. 16 bits: both of the first block, then both
// of the second; bytes: the even ones of both blocks, then the odd ones.
template <class Integer>
inline int FixedIndex(int i) {
  const int group = i / (kGroupBlocks * kFixedBlockSize);
  const int block = i / kFixedBlockSize % kGroupBlocks, column = i % kFixedBlockSize;
  const int run = sizeof(Integer) == 1 ? column % 2 * 2 + block : block * 2 + column % 2;
  return (group * 4 + run) * 16 + column / 2;
}

// One row's group of weights, or a group of x, in the order of FixedIndex.
template <class Integer>
struct FixedWeights;
template <>
struct FixedWeights<int16_t> {
  int16x8_t words[8];
};
template <>
struct FixedWeights<int8_t> {
  int8x16_t words[4];
};

template <class Integer>
using FixedInputs = FixedWeights<Integer>;

// Four partial sums of each block.
struct FixedSums {
  int32x4_t block[kGroupBlocks];
};

// An MXFP4 weight's value, before its scale, for an integer of 1.
template <class Integer>
constexpr float kMxfp4Unit = 0.5f;

// Of each code of MXFP4, doubled, with kMxfp4Offset.
inline int8x16_t OffsetCodes() {
  static constexpr int8_t kCodes[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};
  return vld1q_s8(kCodes);
}

template <class Integer>
inline FixedWeights<Integer> DecodeMxfp4Group(const uint8_t* codes);

// Bytes with kMxfp4Offset.
template <>
inline FixedWeights<int8_t> DecodeMxfp4Group(const uint8_t* codes) {
  const int8x16_t table = OffsetCodes();
  FixedWeights<int8_t> w;
  for (int b = 0; b < kGroupBlocks; ++b) {
    const uint8x16_t all = vld1q_u8(codes + b * kMxfp4BlockBytes);
    w.words[b] = vqtbl1q_s8(table, vandq_u8(all, vdupq_n_u8(15)));
    w.words[2 + b] = vqtbl1q_s8(table, vshrq_n_u8(all, 4));
  }
  return w;
}

template <>
inline FixedWeights<int16_t> DecodeMxfp4Group(const uint8_t* codes) {
  static constexpr int8_t kCodes[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
  const int8x16_t table = vld1q_s8(kCodes);
  FixedWeights<int16_t> w;
  for (int b = 0; b < kGroupBlocks; ++b) {
    const uint8x16_t all = vld1q_u8(codes + b * kMxfp4BlockBytes);
    const int8x16_t even = vqtbl1q_s8(table, vandq_u8(all, vdupq_n_u8(15)));
    const int8x16_t odd = vqtbl1q_s8(table, vshrq_n_u8(all, 4));
    w.words[4 * b] = vmovl_s8(vget_low_s8(even));
    w.words[4 * b + 1] = vmovl_high_s8(even);
    w.words[4 * b + 2] = vmovl_s8(vget_low_s8(odd));
    w.words[4 * b + 3] = vmovl_high_s8(odd);
  }
  return w;
}

// `scales` of the group's two blocks. Of each register's 32-bit lanes the lower halves are even
// columns, the upper ones odd.
inline FixedWeights<int16_t> DecodeBf16Group(const uint8_t* bits, const uint8_t* scales) {
  FixedWeights<int16_t> w;
  const auto round = [](uint32x4_t bf16, float inverse) {
    return vreinterpretq_s16_s32(vcvtnq_s32_f32(vmulq_n_f32(vreinterpretq_f32_u32(bf16), inverse)));
  };
  for (int i = 0; i < 4; ++i) {  // halves of blocks
    const float inverse = InverseScale(scales[i / 2]);
    const uint32x4_t first = vreinterpretq_u32_u8(vld1q_u8(bits + 32 * i));
    const uint32x4_t second = vreinterpretq_u32_u8(vld1q_u8(bits + 32 * i + 16));
    const uint32x4_t upper = vdupq_n_u32(0xFFFF0000);
    const int even = i / 2 * 4 + i % 2, odd = even + 2;
    w.words[even] =
        vuzp1q_s16(round(vshlq_n_u32(first, 16), inverse), round(vshlq_n_u32(second, 16), inverse));
    w.words[odd] = vuzp1q_s16(round(vandq_u32(first, upper), inverse),
                              round(vandq_u32(second, upper), inverse));
  }
  return w;
}

inline FixedInputs<int16_t> LoadInputs(const int16_t* integers) {
  FixedInputs<int16_t> x;
  for (int i = 0; i < 8; ++i) x.words[i] = vld1q_s16(integers + 8 * i);
  return x;
}
inline FixedInputs<int8_t> LoadInputs(const int8_t* integers) {
  FixedInputs<int8_t> x;
  for (int i = 0; i < 4; ++i) x.words[i] = vld1q_s8(integers + 16 * i);
  return x;
}

inline FixedSums MultiplyGroup(const FixedWeights<int16_t>& w, const FixedInputs<int16_t>& x) {
  FixedSums sums;
  for (int b = 0; b < kGroupBlocks; ++b) {
    const int16x8_t *left = w.words + 4 * b, *right = x.words + 4 * b;
    int32x4_t sum = vmull_s16(vget_low_s16(left[0]), vget_low_s16(right[0]));
    sum = vmlal_high_s16(sum, left[0], right[0]);
    for (int i = 1; i < 4; ++i) {
      sum = vmlal_s16(sum, vget_low_s16(left[i]), vget_low_s16(right[i]));
      sum = vmlal_high_s16(sum, left[i], right[i]);
    }
    sums.block[b] = sum;
  }
  return sums;
}

inline FixedSums MultiplyGroup(const FixedWeights<int8_t>& w, const FixedInputs<int8_t>& x) {
  FixedSums sums;
  for (int b = 0; b < kGroupBlocks; ++b) {
#ifdef __ARM_FEATURE_DOTPROD
    sums.block[b] = vdotq_s32(vdotq_s32(vdupq_n_s32(0), w.words[b], x.words[b]), w.words[2 + b],
                              x.words[2 + b]);
#else  // four products of at most 24 * 127 fit 16 bits
    int16x8_t sum = vmull_s8(vget_low_s8(w.words[b]), vget_low_s8(x.words[b]));
    sum = vmlal_high_s8(sum, w.words[b], x.words[b]);
    sum = vmlal_s8(sum, vget_low_s8(w.words[2 + b]), vget_low_s8(x.words[2 + b]));
    sums.block[b] = vpaddlq_s16(vmlal_high_s8(sum, w.words[2 + b], x.words[2 + b]));
#endif
  }
  return sums;
}

inline FixedSums AddSums(FixedSums a, const FixedSums& b) {
  for (int i = 0; i < kGroupBlocks; ++i) a.block[i] = vaddq_s32(a.block[i], b.block[i]);
  return a;
}

// Sums of four rows, from partial ones of each.
inline int32x4_t SumsOfFour(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d) {
  return vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
}

// Eight rows of int8 weights, a word of four each, times x's word.
inline int8x16_t WithoutOffset(const uint8_t* weights) {
  return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(weights), vdupq_n_u8(kInt8Offset)));
}
inline int8x16_t WordOf(const int8_t* x) {
  int32_t word;
  std::memcpy(&word, x, sizeof word);
  return vreinterpretq_s8_s32(vdupq_n_s32(word));
}

#ifdef __ARM_FEATURE_DOTPROD

struct Int8Sums {
  int32x4_t rows[2];
};
inline Int8Sums NoSums() { return {{vdupq_n_s32(0), vdupq_n_s32(0)}}; }
inline Vec ToFloats(const Int8Sums& sums) {
  return {vcvtq_f32_s32(sums.rows[0]), vcvtq_f32_s32(sums.rows[1])};
}
inline Int8Sums AddWords(Int8Sums sums, const uint8_t* weights, const int8_t* x) {
  const int8x16_t word = WordOf(x);
  for (int i = 0; i < 2; ++i) {
    sums.rows[i] = vdotq_s32(sums.rows[i], WithoutOffset(weights + 16 * i), word);
  }
  return sums;
}

#else

// Two partial sums of each row.
struct Int8Sums {
  int32x4_t rows[4];
};
inline Int8Sums NoSums() {
  return {{vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)}};
}
inline Vec ToFloats(const Int8Sums& sums) {
  return {vcvtq_f32_s32(vpaddq_s32(sums.rows[0], sums.rows[1])),
          vcvtq_f32_s32(vpaddq_s32(sums.rows[2], sums.rows[3]))};
}
inline Int8Sums AddWords(Int8Sums sums, const uint8_t* weights, const int8_t* x) {
  const int8x16_t word = WordOf(x);
  for (int i = 0; i < 2; ++i) {
    const int8x16_t w = WithoutOffset(weights + 16 * i);
    sums.rows[2 * i] = vpadalq_s16(sums.rows[2 * i], vmull_s8(vget_low_s8(w), vget_low_s8(word)));
    sums.rows[2 * i + 1] = vpadalq_s16(sums.rows[2 * i + 1], vmull_high_s8(w, word));
  }
  return sums;
}

#endif

// Eight rows' sums of one block each, as floats.
inline void SumsOfRows(const FixedSums* rows, Vec* block0, Vec* block1) {
  Vec* out[kGroupBlocks] = {block0, block1};
  for (int b = 0; b < kGroupBlocks; ++b) {
    const auto four = [&](const FixedSums* r) {
      return vcvtq_f32_s32(SumsOfFour(r[0].block[b], r[1].block[b], r[2].block[b], r[3].block[b]));
    };
    *out[b] = {four(rows), four(rows + 4)};
  }
}

inline void ScalesOfRows(const uint8_t* const* rows, int n, Vec* out) {
  uint8x16_t r[8];
  for (int i = 0; i < 8; ++i) {
    uint64_t bytes = 0;
    std::memcpy(&bytes, rows[i], static_cast<size_t>(n));
    r[i] = vcombine_u8(vcreate_u8(bytes), vcreate_u8(0));
  }
  // Transposes 8 x 8 bytes: interleaves rows 0 and 4, 2 and 6, ..., then those, three times.
  uint8x16_t two[4], four[4];
  for (int i = 0; i < 4; ++i) two[i] = vzip1q_u8(r[i], r[i + 4]);
  for (int i = 0; i < 2; ++i) {
    four[2 * i] = vzip1q_u8(two[i], two[i + 2]);
    four[2 * i + 1] = vzip2q_u8(two[i], two[i + 2]);
  }
  const uint32x4_t smallest = vdupq_n_u32(0x00400000);  // scale 0 is 2^-127, a subnormal
  const auto powers = [&](uint16x4_t scales) {
    return vreinterpretq_f32_u32(vmaxq_u32(vshlq_n_u32(vmovl_u16(scales), 23), smallest));
  };
  for (int i = 0; i < 2; ++i) {
    const uint8x16_t blocks[2] = {vzip1q_u8(four[i], four[i + 2]), vzip2q_u8(four[i], four[i + 2])};
    for (int j = 0; j < 2; ++j) {
      const uint16x8_t first = vmovl_u8(vget_low_u8(blocks[j])), second = vmovl_high_u8(blocks[j]);
      Vec* at = out + 4 * i + 2 * j;
      at[0] = {powers(vget_low_u16(first)), powers(vget_high_u16(first))};
      at[1] = {powers(vget_low_u16(second)), powers(vget_high_u16(second))};
    }
  }
}

}  // namespace
}  // namespace motet
