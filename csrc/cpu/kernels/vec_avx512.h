// Sixteen float lanes in one AVX-512 register: those operations of vec_avx2.h that kernels of this
// width need.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace motet {
namespace {

inline __m512 Like(__m512, float x) { return _mm512_set1_ps(x); }
inline __m512 Add(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
inline __m512 Sub(__m512 a, __m512 b) { return _mm512_sub_ps(a, b); }
inline __m512 Mul(__m512 a, __m512 b) { return _mm512_mul_ps(a, b); }
inline __m512 Min(__m512 a, __m512 b) { return _mm512_min_ps(a, b); }
inline __m512 Max(__m512 a, __m512 b) { return _mm512_max_ps(a, b); }
inline __m512 MulAdd(__m512 a, __m512 b, __m512 c) { return _mm512_fmadd_ps(a, b, c); }
inline __m512 Round(__m512 a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline __m512 Scale2(__m512 a, __m512 n) { return _mm512_scalef_ps(a, n); }

// Lanes that are not `there` are neither read nor anything but 0.
inline __m512 LoadLanes(__mmask16 there, const float* p) { return _mm512_maskz_loadu_ps(there, p); }
inline __m512 LoadLanes(__mmask16 there, const uint16_t* half_precision) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(there, half_precision));
}
inline __m512 LoadLanes(__mmask16 there, const int8_t* p) {
  const __m512i wide = _mm512_maskz_cvtepi8_epi32(there, _mm_maskz_loadu_epi8(there, p));
  return _mm512_maskz_cvtepi32_ps(there, wide);
}

}  // namespace
}  // namespace motet
