// Fixed-point products in AVX2 registers: the order of a block's integers, what weights are decoded
// to, and the dot product of words.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "base/fixed.h"
#include "base/mxfp4.h"
#include "cpu/kernels/vec_avx2.h"

namespace motet {
namespace {

// A 32-bit lane holds a word: two integers of 16 bits or four of 8 bits. Times bf16 weights they
// lie as their columns do. Else they are columns of a block that one shift brings to the same place
// in eight codes j of MXFP4:
//   16 bits   8 j + i and 8 j + i + 4
//    8 bits   8 j + i, and 2, 4 and 6 on
// and two blocks' words (j, i) follow each other as [i][block][j]: eight of one i fill a register.
template <class Integer>
constexpr int kPerWord = 4 / static_cast<int>(sizeof(Integer));
template <class Integer>
constexpr int kWords = kFixedBlockSize / kPerWord<Integer>;  // of a block
template <class Integer>
constexpr int kShifts = kWords<Integer> / 4;

// Where the words of a block start, and word kShifts j + i from there.
template <WeightFormat Weights, class Integer>
constexpr int64_t WordsOf(int64_t block) {
  if (Weights == WeightFormat::kBf16) return block * kWords<Integer>;
  return block / 2 * 2 * kWords<Integer> + block % 2 * 4;
}
template <WeightFormat Weights, class Integer>
constexpr int WordOf(int p) {
  return Weights == WeightFormat::kBf16 ? p : p % kShifts<Integer> * 8 + p / kShifts<Integer>;
}

// An MXFP4 weight's value, before its scale, for an integer of 1: half, for the doubled codes, and
// for 16 bits the 256 that DecodeMxfp4 leaves in.
template <class Integer>
constexpr float kMxfp4Unit = sizeof(Integer) == 1 ? 0.5f : 0.5f / 256;

// Exchanges i and j of four by four dwords.
inline void TransposeFours(const __m128i* in, __m128i* out) {
  const __m128i a = _mm_unpacklo_epi32(in[0], in[1]), b = _mm_unpackhi_epi32(in[0], in[1]);
  const __m128i c = _mm_unpacklo_epi32(in[2], in[3]), d = _mm_unpackhi_epi32(in[2], in[3]);
  out[0] = _mm_unpacklo_epi64(a, c);
  out[1] = _mm_unpackhi_epi64(a, c);
  out[2] = _mm_unpacklo_epi64(b, d);
  out[3] = _mm_unpackhi_epi64(b, d);
}

// Writes a block's integers in their order: `block` of the group at `group`.
template <class Integer>
inline void StoreBlock(const float* values, WeightFormat weights, int block, Integer* group) {
  constexpr bool kBytes = sizeof(Integer) == 1;
  const bool in_order = weights == WeightFormat::kBf16;  // never of bytes
  const __m128i bytes = _mm_setr_epi8(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
  __m128i words[4], of_shift[4];
  for (int j = 0; j < 4; ++j) {
    const __m256i v = _mm256_cvtps_epi32(_mm256_loadu_ps(values + 8 * j));
    const __m128i low = _mm256_castsi256_si128(v), high = _mm256_extracti128_si256(v, 1);
    if (kBytes) {
      words[j] = _mm_shuffle_epi8(_mm_packs_epi32(low, high), bytes);
    } else {
      words[j] = in_order ? _mm_packs_epi32(low, high)
                          : _mm_blend_epi16(low, _mm_slli_epi32(high, 16), 0xAA);
    }
  }
  TransposeFours(words, of_shift);
  for (int i = 0; i < kShifts<Integer>; ++i) {
    const int64_t word = in_order ? block * kWords<Integer> + 4 * i
                                  : WordsOf<WeightFormat::kMxfp4, Integer>(block) + 8 * i;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(group + word * kPerWord<Integer>),
                     in_order ? words[i] : of_shift[i]);
  }
}

// What a block's sums of bytes start from: two halves of 16 bits, for the words' lower and upper
// bytes.
inline int32_t BlockStart(const float* values, int32_t offset) {
  __m128 low = _mm_setzero_ps(), high = _mm_setzero_ps();
  for (int j = 0; j < 4; ++j) {
    low = _mm_add_ps(low, _mm_loadu_ps(values + 8 * j));
    high = _mm_add_ps(high, _mm_loadu_ps(values + 8 * j + 4));
  }
  const __m128 pairs = _mm_hadd_ps(low, high);  // low, low, high, high
  const __m128i sums = _mm_cvtps_epi32(_mm_hadd_ps(pairs, pairs));
  const __m128i starts =
      _mm_mullo_epi16(_mm_packs_epi32(sums, sums), _mm_set1_epi16(static_cast<int16_t>(-offset)));
  return _mm_cvtsi128_si32(starts);
}

// words[i] of eight columns, from dwords of their codes.
template <class Integer>
inline void DecodeMxfp4(__m256i dwords, __m256i* words);

// Bytes with kMxfp4Offset.
template <>
inline void DecodeMxfp4<int8_t>(__m256i dwords, __m256i* words) {
  const __m256i table = _mm256_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0,
                                         12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0);
  const __m256i nibble = _mm256_set1_epi8(15);
  words[0] = _mm256_shuffle_epi8(table, _mm256_and_si256(dwords, nibble));
  words[1] = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(dwords, 4), nibble));
}

// A look-up gives bytes; those in the upper half of 16 bits keep their sign there.
template <>
inline void DecodeMxfp4<int16_t>(__m256i dwords, __m256i* words) {
  const __m256i table = _mm256_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12, 0,
                                         1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i upper = _mm256_set1_epi16(static_cast<int16_t>(0xFF00));
  const __m256i even = _mm256_shuffle_epi8(table, _mm256_and_si256(dwords, nibble));
  const __m256i odd =
      _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(dwords, 4), nibble));
  words[0] = _mm256_slli_epi16(even, 8);
  words[1] = _mm256_slli_epi16(odd, 8);
  words[2] = _mm256_and_si256(even, upper);
  words[3] = _mm256_and_si256(odd, upper);
}

// Pairs of columns to words. Adding 1.5 * 2^23 rounds to an integer and leaves it in the lowest
// bits.
inline __m256i DecodeBf16(__m256i pairs, __m256 inverse_scale) {
  const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xFFFF0000));
  const __m256 magic = _mm256_set1_ps(12582912.0f);
  const auto round = [&](__m256i bits) {
    return _mm256_castps_si256(_mm256_fmadd_ps(_mm256_castsi256_ps(bits), inverse_scale, magic));
  };
  const __m256i low = round(_mm256_slli_epi32(pairs, 16));
  const __m256i high = round(_mm256_and_si256(pairs, upper));
  return _mm256_blend_epi16(low, _mm256_slli_epi32(high, 16), 0xAA);
}

// Of powers of two.
inline __m256 InverseScales(__m256 scales) {
  return _mm256_castsi256_ps(
      _mm256_sub_epi32(_mm256_set1_epi32(254 << 23), _mm256_castps_si256(scales)));
}

// A block's products of two integers a lane are added up as 32 bits. Those of x's bytes and codes
// with kMxfp4Offset as 16 bits: they may wrap around, but with what BlockStart took out sixteen of
// at most 12 * 127 fit. Those of x's bytes and int8 weights do not, and x takes the weights' signs.
template <WeightFormat Format, class Integer>
struct Products {
  static constexpr bool kPairs = sizeof(Integer) == 1 && Format == WeightFormat::kMxfp4;

  // Of a tile's words.
  static __m256i Weights(__m256i words) {
    if (Format != WeightFormat::kInt8) return words;
    return _mm256_xor_si256(words, _mm256_set1_epi8(static_cast<char>(kInt8Offset)));
  }

  static __m256i Start(int32_t start) {
    return kPairs ? _mm256_set1_epi32(start) : _mm256_setzero_si256();
  }

  // sums += the dot products of words in each lane.
  static void Add(__m256i& sums, __m256i weights, __m256i x) {
    if constexpr (sizeof(Integer) == 2) {
      sums = _mm256_add_epi32(sums, _mm256_madd_epi16(weights, x));
    } else if constexpr (kPairs) {
      sums = _mm256_add_epi16(sums, _mm256_maddubs_epi16(weights, x));
    } else {
      const __m256i pairs =
          _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(x, weights));
      sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    // Compilers would reorder sums of integers, to keep all products first, in memory.
    asm("" : "+x"(sums));
  }

  static __m256 Floats(__m256i sums) {
    if constexpr (kPairs) sums = _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
    return _mm256_cvtepi32_ps(sums);
  }
};

}  // namespace
}  // namespace motet
