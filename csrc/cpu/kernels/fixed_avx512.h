// What AVX-512 kernels need to know about fixed-point rows: the order of a block's integers and
// the dot product of pairs.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "base/fixed.h"
#include "base/mxfp4.h"

namespace motet {
namespace {

// A 32-bit lane holds a word: two integers of 16 bits or four of 8 bits, columns of a block that
// shifts by i codes of MXFP4 bring to the same place in eight codes j:
//   16 bits   8 j + i and 8 j + i + 4
//    8 bits   8 j + i, and 2, 4 and 6 on
// Four blocks' words (j, i) follow each other as [i][block][j]: sixteen of one i fill a register.
template <class Integer>
constexpr int kPerWord = 4 / static_cast<int>(sizeof(Integer));
template <class Integer>
constexpr int kWords = kFixedBlockSize / kPerWord<Integer>;  // of a block
template <class Integer>
constexpr int kShifts = kWords<Integer> / 4;

// The first integer of a word.
template <class Integer>
constexpr int WordIndex(int block, int j, int i) {
  return kPerWord<Integer> * (16 * i + 4 * block + j);
}

template <class Integer>
inline int FixedIndex(int k) {
  const int column = k % kFixedBlockSize, of_eight = column % 8;
  return WordIndex<Integer>(k / kFixedBlockSize, column / 8, of_eight % kShifts<Integer>) +
         of_eight / kShifts<Integer>;
}

// The integers of a row's block: WordIndex(0, j, i) from here.
template <class Integer>
inline const Integer* BlockOf(const Integer* row, int64_t block) {
  return row + block / kFixedGroup * kFixedGroup * kFixedBlockSize +
         WordIndex<Integer>(static_cast<int>(block % kFixedGroup), 0, 0);
}

// An MXFP4 weight's value, before its scale, for an integer of 1.
template <class Integer>
constexpr float kMxfp4Unit = 0.5f;

// sum += the dot products of words in each lane.
template <class Integer>
inline __m512i Dot(__m512i sum, __m512i weights, __m512i x);

template <>
inline __m512i Dot<int16_t>(__m512i sum, __m512i weights, __m512i x) {
#ifdef __AVX512VNNI__
  return _mm512_dpwssd_epi32(sum, weights, x);
#else
  return _mm512_add_epi32(sum, _mm512_madd_epi16(weights, x));
#endif
}

// Weights have no sign here.
template <>
inline __m512i Dot<int8_t>(__m512i sum, __m512i weights, __m512i x) {
#ifdef __AVX512VNNI__
  return _mm512_dpbusd_epi32(sum, weights, x);
#else  // in words: sums of two products would not fit 16 bits
  const __m512i even = _mm512_madd_epi16(_mm512_and_si512(weights, _mm512_set1_epi16(255)),
                                         _mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8));
  const __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16(weights, 8), _mm512_srai_epi16(x, 8));
  return _mm512_add_epi32(sum, _mm512_add_epi32(even, odd));
#endif
}

}  // namespace
}  // namespace motet
