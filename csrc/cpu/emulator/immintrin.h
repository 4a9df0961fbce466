// <immintrin.h> for tests of kernels_amx.cpp on CPUs that have AVX2 and no more: those intrinsics
// of AVX-512 and AMX that it uses, in plain C++ after Intel's Intrinsics Guide. A name missing here
// is an error of the compiler, which refuses its own ones.
#pragma once

#include_next <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#include "cpu/emulator/lanes.h"
#include "cpu/emulator/tiles.h"

#define __AVX512VNNI__ 1

// Some of the compilers' are macros.
#undef _mm512_inserti32x4
#undef _mm512_roundscale_ps
#undef _mm512_setr_epi32
#undef _mm512_shuffle_i32x4
#undef _mm512_slli_epi16
#undef _mm512_slli_epi32
#undef _mm512_srai_epi16
#undef _mm512_srli_epi16
#undef _mm512_srli_epi32

namespace motet {
namespace {

// Names in this namespace hide the compiler's own of the same name.

// Moves.
inline __m512 _mm512_castsi512_ps(__m512i a) { return lanes::Cast<__m512>(a); }
inline __m512i _mm512_castps_si512(__m512 a) { return lanes::Cast<__m512i>(a); }
inline __m512i _mm512_castsi128_si512(__m128i a) { return lanes::Broadcast(a); }  // above: anything
inline __m512i _mm512_broadcast_i32x4(__m128i a) { return lanes::Broadcast(a); }
inline __m512i _mm512_broadcast_i64x4(__m256i a) { return lanes::Broadcast(a); }
inline __m512i _mm512_setzero_si512() {
  return lanes::Make<int32_t>([](int) { return 0; });
}
inline __m512i _mm512_set1_epi32(int32_t a) {
  return lanes::Make<int32_t>([=](int) { return a; });
}
inline __m512i _mm512_set1_epi16(int16_t a) {
  return lanes::Make<int16_t>([=](int) { return a; });
}
inline __m512i _mm512_set1_epi8(int8_t a) {
  return lanes::Make<int8_t>([=](int) { return a; });
}
template <class... Int>
inline __m512i _mm512_setr_epi32(Int... a) {
  const int32_t at[] = {a...};
  static_assert(sizeof at == sizeof(__m512i));
  return lanes::Make<int32_t>([&](int i) { return at[i]; });
}
inline __m512 _mm512_set1_ps(float a) {
  return lanes::Make<float, __m512>([=](int) { return a; });
}
inline __m512 _mm512_setzero_ps() { return _mm512_set1_ps(0); }
inline __m512i _mm512_loadu_si512(const void* p) {
  return lanes::LoadMasked<uint8_t, __m512i>(~uint64_t{0}, p);
}
inline __m512i _mm512_load_si512(const void* p) { return _mm512_loadu_si512(p); }
inline void _mm512_storeu_si512(void* p, __m512i a) { std::memcpy(p, &a, sizeof a); }
inline __m512 _mm512_loadu_ps(const void* p) { return lanes::LoadMasked<float, __m512>(0xFFFF, p); }
inline void _mm512_store_ps(void* p, __m512 a) { std::memcpy(p, &a, sizeof a); }
inline __m128i _mm_maskz_loadu_epi8(__mmask16 mask, const void* p) {
  return lanes::LoadMasked<uint8_t, __m128i>(mask, p);
}
inline __m256i _mm256_maskz_loadu_epi16(__mmask16 mask, const void* p) {
  return lanes::LoadMasked<uint16_t, __m256i>(mask, p);
}
inline __m512i _mm512_maskz_loadu_epi8(__mmask64 mask, const void* p) {
  return lanes::LoadMasked<uint8_t, __m512i>(mask, p);
}
inline __m512 _mm512_maskz_loadu_ps(__mmask16 mask, const void* p) {
  return lanes::LoadMasked<float, __m512>(mask, p);
}
inline void _mm512_mask_storeu_ps(void* p, __mmask16 mask, __m512 a) {
  const lanes::Of<float, __m512> x(a);
  for (int i = 0; i < 16; ++i) {
    if (mask >> i & 1) std::memcpy(static_cast<float*>(p) + i, &x.at[i], sizeof(float));
  }
}

// Lanes that change places.
inline __m512i _mm512_unpacklo_epi32(__m512i a, __m512i b) {
  return lanes::Unpack<uint32_t>(a, b, 0);
}
inline __m512i _mm512_unpackhi_epi32(__m512i a, __m512i b) {
  return lanes::Unpack<uint32_t>(a, b, 1);
}
inline __m512i _mm512_unpacklo_epi64(__m512i a, __m512i b) {
  return lanes::Unpack<uint64_t>(a, b, 0);
}
inline __m512i _mm512_unpackhi_epi64(__m512i a, __m512i b) {
  return lanes::Unpack<uint64_t>(a, b, 1);
}
inline __m512i _mm512_inserti32x4(__m512i a, __m128i b, int part) {
  return lanes::Blend<uint32_t>(uint64_t{15} << 4 * part, a, lanes::Broadcast(b));
}
inline __m512i _mm512_shuffle_i32x4(__m512i a, __m512i b, int parts) {
  const lanes::Of<uint32_t, __m512i> x(a), y(b);
  return lanes::Make<uint32_t>([&](int i) {
    const int from = 4 * (parts >> i / 4 * 2 & 3) + i % 4;
    return i < 8 ? x[from] : y[from];
  });
}
inline __m512i _mm512_shuffle_epi8(__m512i a, __m512i index) {
  const lanes::Of<uint8_t, __m512i> x(a), at(index);
  return lanes::Make<uint8_t>(
      [&](int i) { return at[i] & 128 ? uint8_t{0} : x[i / 16 * 16 + at[i] % 16]; });
}
inline __m512i _mm512_permutexvar_epi16(__m512i index, __m512i a) {
  const lanes::Of<uint16_t, __m512i> x(a), at(index);
  return lanes::Make<uint16_t>([&](int i) { return x[at[i] % 32]; });
}
inline __m512i _mm512_permutex2var_epi32(__m512i a, __m512i index, __m512i b) {
  const lanes::Of<uint32_t, __m512i> x(a), y(b), at(index);
  return lanes::Make<uint32_t>([&](int i) {
    return at[i] & 16 ? y[static_cast<int>(at[i] % 16)] : x[static_cast<int>(at[i] % 16)];
  });
}
inline __m512i _mm512_mask_blend_epi8(__mmask64 mask, __m512i a, __m512i b) {
  return lanes::Blend<uint8_t>(mask, a, b);
}
inline __m512i _mm512_mask_blend_epi16(__mmask32 mask, __m512i a, __m512i b) {
  return lanes::Blend<uint16_t>(mask, a, b);
}

// Integers.
inline __m512i _mm512_add_epi32(__m512i a, __m512i b) {
  return lanes::Map<uint32_t>(a, b, [](uint32_t x, uint32_t y) { return x + y; });
}
inline __m512i _mm512_sub_epi32(__m512i a, __m512i b) {
  return lanes::Map<uint32_t>(a, b, [](uint32_t x, uint32_t y) { return x - y; });
}
inline __m512i _mm512_sub_epi8(__m512i a, __m512i b) {
  return lanes::Map<uint8_t>(a, b, [](uint8_t x, uint8_t y) { return x - y; });
}
inline __m512i _mm512_max_epi32(__m512i a, __m512i b) {
  return lanes::Map<int32_t>(a, b, [](int32_t x, int32_t y) { return x > y ? x : y; });
}
inline __m512i _mm512_and_si512(__m512i a, __m512i b) {
  return lanes::Map<uint32_t>(a, b, [](uint32_t x, uint32_t y) { return x & y; });
}
inline __m512i _mm512_slli_epi32(__m512i a, int n) {
  return lanes::Map<uint32_t>(a, [=](uint32_t x) { return x << n; });
}
inline __m512i _mm512_srli_epi32(__m512i a, int n) {
  return lanes::Map<uint32_t>(a, [=](uint32_t x) { return x >> n; });
}
inline __m512i _mm512_slli_epi16(__m512i a, int n) {
  return lanes::Map<uint16_t>(a, [=](uint16_t x) { return x << n; });
}
inline __m512i _mm512_srli_epi16(__m512i a, int n) {
  return lanes::Map<uint16_t>(a, [=](uint16_t x) { return x >> n; });
}
inline __m512i _mm512_dpwssd_epi32(__m512i sum, __m512i a, __m512i b) {
  const lanes::Of<uint32_t, __m512i> s(sum);
  const lanes::Of<int16_t, __m512i> x(a), y(b);
  return lanes::Make<uint32_t>([&](int i) {
    return s[i] + static_cast<uint32_t>(x[2 * i] * y[2 * i]) +
           static_cast<uint32_t>(x[2 * i + 1] * y[2 * i + 1]);
  });
}
inline __m512i _mm512_dpbusd_epi32(__m512i sum, __m512i a, __m512i b) {
  const lanes::Of<int32_t, __m512i> s(sum);
  const lanes::Of<uint8_t, __m512i> x(a);
  const lanes::Of<int8_t, __m512i> y(b);
  return lanes::Make<uint32_t>([&](int i) {
    int32_t dot = 0;
    for (int k = 4 * i; k < 4 * i + 4; ++k) dot += x[k] * y[k];
    return static_cast<uint32_t>(s[i]) + static_cast<uint32_t>(dot);
  });
}

// Conversions.
inline __m512i _mm512_cvtepu16_epi32(__m256i a) {
  const lanes::Of<uint16_t, __m256i> x(a);
  return lanes::Make<int32_t>([&](int i) { return x[i]; });
}
inline __m512i _mm512_maskz_cvtepi8_epi32(__mmask16 mask, __m128i a) {
  const lanes::Of<int8_t, __m128i> x(a);
  return lanes::Make<int32_t>([&](int i) { return mask >> i & 1 ? x[i] : 0; });
}
inline __m512 _mm512_maskz_cvtepi32_ps(__mmask16 mask, __m512i a) {
  const lanes::Of<int32_t, __m512i> x(a);
  return lanes::Make<float, __m512>(
      [&](int i) { return mask >> i & 1 ? static_cast<float>(x[i]) : 0.0f; });
}
inline __m512 _mm512_cvtepi32_ps(__m512i a) { return _mm512_maskz_cvtepi32_ps(0xFFFF, a); }
inline __m512 _mm512_cvtph_ps(__m256i a) {
  const lanes::Of<uint16_t, __m256i> x(a);
  return lanes::Make<float, __m512>([&](int i) { return _cvtsh_ss(x[i]); });
}

// Floats.
inline __m512 _mm512_add_ps(__m512 a, __m512 b) {
  return lanes::Map<float>(a, b, [](float x, float y) { return x + y; });
}
inline __m512 _mm512_sub_ps(__m512 a, __m512 b) {
  return lanes::Map<float>(a, b, [](float x, float y) { return x - y; });
}
inline __m512 _mm512_mul_ps(__m512 a, __m512 b) {
  return lanes::Map<float>(a, b, [](float x, float y) { return x * y; });
}
inline __m512 _mm512_mask_mul_ps(__m512 source, __mmask16 mask, __m512 a, __m512 b) {
  const lanes::Of<float, __m512> s(source), x(a), y(b);
  return lanes::Make<float, __m512>([&](int i) { return mask >> i & 1 ? x[i] * y[i] : s[i]; });
}
inline __m512 _mm512_min_ps(__m512 a, __m512 b) {
  return lanes::Map<float>(a, b, [](float x, float y) { return x < y ? x : y; });
}
inline __m512 _mm512_max_ps(__m512 a, __m512 b) {
  return lanes::Map<float>(a, b, [](float x, float y) { return x > y ? x : y; });
}
inline __m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) {
  const lanes::Of<float, __m512> x(a), y(b), z(c);
  return lanes::Make<float, __m512>([&](int i) { return std::fma(x[i], y[i], z[i]); });
}
inline __m512 _mm512_roundscale_ps(__m512 a, int /*to the nearest integer*/) {
  return lanes::Map<float>(a, [](float x) { return std::nearbyint(x); });
}
inline __m512 _mm512_scalef_ps(__m512 a, __m512 n) {
  return lanes::Map<float>(a, n, [](float x, float y) {
    if (std::isnan(y)) return y;
    return std::ldexp(x, static_cast<int>(std::fmin(std::fmax(std::floor(y), -400), 400)));
  });
}
inline float _mm512_reduce_add_ps(__m512 a) {
  return lanes::Reduce(a, [](float x, float y) { return x + y; });
}
inline float _mm512_reduce_max_ps(__m512 a) {
  return lanes::Reduce(a, [](float x, float y) { return x > y ? x : y; });
}

}  // namespace
}  // namespace motet
