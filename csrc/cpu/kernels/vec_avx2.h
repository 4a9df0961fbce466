// Eight float lanes in one AVX2 register. The same operations as vec_portable.h.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "base/bf16.h"
#include "base/mxfp4.h"

namespace motet {
namespace {

using Vec = __m256;

inline Vec Set(float x) { return _mm256_set1_ps(x); }
inline Vec Load(const float* p) { return _mm256_loadu_ps(p); }
inline void Store(float* p, Vec a) { _mm256_storeu_ps(p, a); }
inline Vec LoadBf16(const uint16_t* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
inline Vec LoadF16(const uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Vec LoadInt8(const int8_t* p) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}
inline Vec Add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
inline Vec Sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
inline Vec Mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
inline Vec Div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
inline Vec Min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
inline Vec Max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
inline Vec MulAdd(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
inline Vec Round(Vec a) {
  return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline Vec Scale2(Vec a, Vec n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}

// Heads by vectors whose sums attention keeps in registers.
constexpr int kTileHeads = 4, kTileVecs = 2;

// Lane i of vector j becomes lane j of vector i.
inline void Transpose(Vec (&a)[8]) {
  Vec pairs[8], quads[8];
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int j = 0; j < 2; ++j) {
      quads[i + 2 * j] = _mm256_shuffle_ps(pairs[i + j], pairs[i + 2 + j], 0x44);
      quads[i + 2 * j + 1] = _mm256_shuffle_ps(pairs[i + j], pairs[i + 2 + j], 0xEE);
    }
  }
  for (int i = 0; i < 4; ++i) {
    a[i] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20);
    a[i + 4] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31);
  }
}

inline float ReduceAdd(Vec a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
inline float ReduceMax(Vec a) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

// Eight codes live in 4 bytes, low nibble first: every lane takes the whole word and shifts its
// own code down (the table look-up reads three bits) and its sign bit up.
inline void DecodeMxfp4Block(const uint8_t* codes, uint8_t scale, Vec* out) {
  const __m256i down = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
  const __m256i up = _mm256_setr_epi32(28, 24, 20, 16, 12, 8, 4, 0);
  const __m256 magnitudes =
      _mm256_mul_ps(_mm256_loadu_ps(kE2m1), _mm256_set1_ps(Mxfp4Scale(scale)));
  for (int j = 0; j < 4; ++j) {
    int32_t word;
    std::memcpy(&word, codes + 4 * j, sizeof word);
    const __m256i all = _mm256_set1_epi32(word);
    const __m256 value = _mm256_permutevar8x32_ps(magnitudes, _mm256_srlv_epi32(all, down));
    const __m256 sign =
        _mm256_and_ps(_mm256_castsi256_ps(_mm256_sllv_epi32(all, up)), _mm256_set1_ps(-0.0f));
    out[j] = _mm256_xor_ps(value, sign);
  }
}

}  // namespace
}  // namespace motet
