// Fixed-point products of two blocks (a group) in AVX2 registers, eight rows side by side.
// The same functions as fixed_portable.h. The lower 128-bit lane belongs to the first block.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "base/fixed.h"
#include "base/mxfp4.h"
#include "cpu/kernels/vec_avx2.h"

namespace motet {
namespace {

// A group's codes come apart into even and odd columns, and each of them into first and second
// halves: four registers, each with eight words of either block.
constexpr int kGroupBlocks = 2;

template <class Integer>
inline int FixedIndex(int i) {
  const int group = i / (kGroupBlocks * kFixedBlockSize);
  const int block = i / kFixedBlockSize % kGroupBlocks, column = i % kFixedBlockSize;
  if constexpr (sizeof(Integer) == 1) {  // halves stay together
    return (group * 2 + column % 2) * kFixedBlockSize + block * 16 + column / 2;
  }
  const int reg = column % 2 * 2 + column / 16;
  return group * kGroupBlocks * kFixedBlockSize + reg * 16 + block * 8 + column / 2 % 8;
}

// One row's group of weights, or a group of x.
template <class Integer>
struct FixedWeights {
  __m256i words[2 * sizeof(Integer)];
};

template <class Integer>
using FixedInputs = FixedWeights<Integer>;

// Four partial sums of the first block, four of the second.
using FixedSums = __m256i;

// An MXFP4 weight's value, before its scale, for an integer of 1: half, for the doubled codes, and
// for 16 bits the 256 that DecodeMxfp4Group leaves in.
template <class Integer>
constexpr float kMxfp4Unit = sizeof(Integer) == 1 ? 0.5f : 0.5f / 256;

template <class Integer>
inline FixedWeights<Integer> DecodeMxfp4Group(const uint8_t* codes);

// Bytes with kMxfp4Offset.
template <>
inline FixedWeights<int8_t> DecodeMxfp4Group(const uint8_t* codes) {
  const __m256i table = _mm256_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0,
                                         12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0);
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i all = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
  return {{_mm256_shuffle_epi8(table, _mm256_and_si256(all, nibble)),
           _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(all, 4), nibble))}};
}

// A look-up gives bytes; unpacking them into the upper half of words keeps their sign.
template <>
inline FixedWeights<int16_t> DecodeMxfp4Group(const uint8_t* codes) {
  const __m256i table = _mm256_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12, 0,
                                         1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
  const __m256i nibble = _mm256_set1_epi8(15), zero = _mm256_setzero_si256();
  const __m256i all = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
  const __m256i even = _mm256_shuffle_epi8(table, _mm256_and_si256(all, nibble));
  const __m256i odd =
      _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(all, 4), nibble));
  return {{_mm256_unpacklo_epi8(zero, even), _mm256_unpackhi_epi8(zero, even),
           _mm256_unpacklo_epi8(zero, odd), _mm256_unpackhi_epi8(zero, odd)}};
}

// `scales` of the group's two blocks. Of each register's 32-bit lanes the lower halves are even
// columns, the upper ones odd.
inline FixedWeights<int16_t> DecodeBf16Group(const uint8_t* bits, const uint8_t* scales) {
  const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xFFFF0000));
  __m256i even[4], odd[4];  // block, half of it
  for (int i = 0; i < 4; ++i) {
    const __m256 inverse = _mm256_set1_ps(InverseScale(scales[i / 2]));
    const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bits) + i);
    even[i] = _mm256_cvtps_epi32(
        _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(both, 16)), inverse));
    odd[i] = _mm256_cvtps_epi32(
        _mm256_mul_ps(_mm256_castsi256_ps(_mm256_and_si256(both, upper)), inverse));
  }
  const auto pack = [](__m256i first, __m256i second) {  // undoes the packing's order of lanes
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(first, second), 0xD8);
  };
  return {
      {pack(even[0], even[2]), pack(even[1], even[3]), pack(odd[0], odd[2]), pack(odd[1], odd[3])}};
}

template <class Integer>
inline FixedInputs<Integer> LoadInputs(const Integer* integers) {
  const auto* p = reinterpret_cast<const __m256i*>(integers);
  FixedInputs<Integer> x;
  for (__m256i& words : x.words) words = _mm256_loadu_si256(p++);
  return x;
}

// 32 products of at most 2^14 * 12 * 256, or 2^13 * 2^13 * 255/256, stay below 2^31.
inline FixedSums MultiplyGroup(const FixedWeights<int16_t>& w, const FixedInputs<int16_t>& x) {
  const __m256i even = _mm256_add_epi32(_mm256_madd_epi16(w.words[0], x.words[0]),
                                        _mm256_madd_epi16(w.words[1], x.words[1]));
  const __m256i odd = _mm256_add_epi32(_mm256_madd_epi16(w.words[2], x.words[2]),
                                       _mm256_madd_epi16(w.words[3], x.words[3]));
  return _mm256_add_epi32(even, odd);
}

// Four products of at most 24 * 127 fit 16 bits.
inline FixedSums MultiplyGroup(const FixedWeights<int8_t>& w, const FixedInputs<int8_t>& x) {
  return _mm256_madd_epi16(_mm256_add_epi16(_mm256_maddubs_epi16(w.words[0], x.words[0]),
                                            _mm256_maddubs_epi16(w.words[1], x.words[1])),
                           _mm256_set1_epi16(1));
}

// Eight rows of int8 weights, a word of four each, times x's word.
using Int8Sums = __m256i;
inline Int8Sums NoSums() { return _mm256_setzero_si256(); }
inline Vec ToFloats(Int8Sums sums) { return _mm256_cvtepi32_ps(sums); }

// The dot takes one operand without a sign: weights give theirs to x. Two products of at most
// 127 * 127 fit 16 bits.
inline Int8Sums AddWords(Int8Sums sums, const uint8_t* weights, const int8_t* x) {
  int32_t word;
  std::memcpy(&word, x, sizeof word);
  const __m256i w = _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights)),
                                     _mm256_set1_epi8(static_cast<char>(kInt8Offset)));
  const __m256i pairs =
      _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(_mm256_set1_epi32(word), w));
  return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

inline FixedSums AddSums(FixedSums a, FixedSums b) { return _mm256_add_epi32(a, b); }

// Pairs of partial sums of two rows: [a02 b02 a13 b13] in each lane.
inline __m256i AddPairs(__m256i a, __m256i b) {
  return _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
}

inline void SumsOfRows(const FixedSums* rows, Vec* block0, Vec* block1) {
  __m256i four[2];
  for (int i = 0; i < 2; ++i) {
    const __m256i ab = AddPairs(rows[4 * i], rows[4 * i + 1]);
    const __m256i cd = AddPairs(rows[4 * i + 2], rows[4 * i + 3]);
    four[i] = _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
  }
  *block0 = _mm256_cvtepi32_ps(_mm256_permute2x128_si256(four[0], four[1], 0x20));
  *block1 = _mm256_cvtepi32_ps(_mm256_permute2x128_si256(four[0], four[1], 0x31));
}

inline void ScalesOfRows(const uint8_t* const* rows, int n, Vec* out) {
  __m128i r[8];
  for (int i = 0; i < 8; ++i) {
    uint64_t bytes = 0;
    std::memcpy(&bytes, rows[i], static_cast<size_t>(n));
    r[i] = _mm_cvtsi64_si128(static_cast<int64_t>(bytes));
  }
  // Transposes 8 x 8 bytes by three rounds of interleaving.
  __m128i two[4];
  for (int i = 0; i < 4; ++i) two[i] = _mm_unpacklo_epi8(r[2 * i], r[2 * i + 1]);
  const __m128i low_a = _mm_unpacklo_epi16(two[0], two[1]);
  const __m128i low_b = _mm_unpacklo_epi16(two[2], two[3]);
  const __m128i high_a = _mm_unpackhi_epi16(two[0], two[1]);
  const __m128i high_b = _mm_unpackhi_epi16(two[2], two[3]);
  const __m128i blocks[4] = {_mm_unpacklo_epi32(low_a, low_b), _mm_unpackhi_epi32(low_a, low_b),
                             _mm_unpacklo_epi32(high_a, high_b),
                             _mm_unpackhi_epi32(high_a, high_b)};
  const __m256i smallest = _mm256_set1_epi32(0x00400000);  // scale 0 is 2^-127, a subnormal
  for (int i = 0; i < 4; ++i) {
    const __m256i first = _mm256_slli_epi32(_mm256_cvtepu8_epi32(blocks[i]), 23);
    const __m256i second =
        _mm256_slli_epi32(_mm256_cvtepu8_epi32(_mm_srli_si128(blocks[i], 8)), 23);
    out[2 * i] = _mm256_castsi256_ps(_mm256_max_epi32(first, smallest));
    out[2 * i + 1] = _mm256_castsi256_ps(_mm256_max_epi32(second, smallest));
  }
}

}  // namespace
}  // namespace motet
