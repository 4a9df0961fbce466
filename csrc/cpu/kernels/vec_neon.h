// Eight float lanes in two NEON registers. The same operations as vec_portable.h.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "base/bf16.h"
#include "base/mxfp4.h"

namespace motet {
namespace {

struct Vec {
  float32x4_t low, high;
};

inline Vec Set(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x)}; }
inline Vec Load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4)}; }
inline void Store(float* p, Vec a) {
  vst1q_f32(p, a.low);
  vst1q_f32(p + 4, a.high);
}
inline Vec LoadBf16(const uint16_t* p) {
  const uint16x8_t bits = vld1q_u16(p);
  return {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(bits), 16)),
          vreinterpretq_f32_u32(vshll_high_n_u16(bits, 16))};
}
inline Vec FromF16(uint16x8_t bits) {
  const float16x8_t halves = vreinterpretq_f16_u16(bits);
  return {vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)};
}
inline Vec LoadF16(const uint16_t* p) { return FromF16(vld1q_u16(p)); }
inline Vec LoadInt8(const int8_t* p) {
  const int16x8_t words = vmovl_s8(vld1_s8(p));
  return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(words))), vcvtq_f32_s32(vmovl_high_s16(words))};
}
inline Vec Add(Vec a, Vec b) { return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)}; }
inline Vec Sub(Vec a, Vec b) { return {vsubq_f32(a.low, b.low), vsubq_f32(a.high, b.high)}; }
inline Vec Mul(Vec a, Vec b) { return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)}; }
inline Vec Div(Vec a, Vec b) { return {vdivq_f32(a.low, b.low), vdivq_f32(a.high, b.high)}; }
inline Vec Min(Vec a, Vec b) { return {vminq_f32(a.low, b.low), vminq_f32(a.high, b.high)}; }
inline Vec Max(Vec a, Vec b) { return {vmaxq_f32(a.low, b.low), vmaxq_f32(a.high, b.high)}; }
inline Vec MulAdd(Vec a, Vec b, Vec c) {
  return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)};
}
inline Vec Round(Vec a) { return {vrndnq_f32(a.low), vrndnq_f32(a.high)}; }
inline float32x4_t Scale2(float32x4_t a, float32x4_t n) {
  const int32x4_t exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
  return vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23)));
}
inline Vec Scale2(Vec a, Vec n) { return {Scale2(a.low, n.low), Scale2(a.high, n.high)}; }

// Heads by vectors whose sums attention keeps in registers.
constexpr int kTileHeads = 8, kTileVecs = 1;

// Lane i of vector j becomes lane j of vector i.
inline void Transpose(float32x4_t (&a)[4]) {
  const auto join = [](float32x4_t x, float32x4_t y, bool upper) {
    const float64x2_t c = vreinterpretq_f64_f32(x), d = vreinterpretq_f64_f32(y);
    return vreinterpretq_f32_f64(upper ? vzip2q_f64(c, d) : vzip1q_f64(c, d));
  };
  const float32x4_t even01 = vtrn1q_f32(a[0], a[1]), odd01 = vtrn2q_f32(a[0], a[1]);
  const float32x4_t even23 = vtrn1q_f32(a[2], a[3]), odd23 = vtrn2q_f32(a[2], a[3]);
  a[0] = join(even01, even23, false);
  a[1] = join(odd01, odd23, false);
  a[2] = join(even01, even23, true);
  a[3] = join(odd01, odd23, true);
}
inline void Transpose(Vec (&a)[8]) {
  float32x4_t low[2][4], high[2][4];
  for (int i = 0; i < 8; ++i) {
    low[i / 4][i % 4] = a[i].low;
    high[i / 4][i % 4] = a[i].high;
  }
  for (int i = 0; i < 2; ++i) {
    Transpose(low[i]);
    Transpose(high[i]);
  }
  for (int i = 0; i < 4; ++i) {
    a[i] = {low[0][i], low[1][i]};
    a[i + 4] = {high[0][i], high[1][i]};
  }
}

inline float ReduceAdd(Vec a) {
  const float32x4_t four = vaddq_f32(a.low, a.high);
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(vpadd_f32(two, two), 0);
}
inline float ReduceMax(Vec a) { return vmaxvq_f32(vmaxq_f32(a.low, a.high)); }

// The values of e2m1 in half precision have a lower byte of zeros: the look-up finds the upper one.
inline void DecodeMxfp4Block(const uint8_t* codes, uint8_t scale, Vec* out) {
  static constexpr uint8_t kUpper[16] = {0x00, 0x38, 0x3C, 0x3E, 0x40, 0x42, 0x44, 0x46,
                                         0x80, 0xB8, 0xBC, 0xBE, 0xC0, 0xC2, 0xC4, 0xC6};
  const uint8x16_t table = vld1q_u8(kUpper), all = vld1q_u8(codes);
  const uint8x16_t even = vqtbl1q_u8(table, vandq_u8(all, vdupq_n_u8(15)));
  const uint8x16_t odd = vqtbl1q_u8(table, vshrq_n_u8(all, 4));
  const uint8x16_t first = vzip1q_u8(even, odd), second = vzip2q_u8(even, odd);
  const Vec factor = Set(Mxfp4Scale(scale));
  out[0] = Mul(FromF16(vshll_n_u8(vget_low_u8(first), 8)), factor);
  out[1] = Mul(FromF16(vshll_high_n_u8(first, 8)), factor);
  out[2] = Mul(FromF16(vshll_n_u8(vget_low_u8(second), 8)), factor);
  out[3] = Mul(FromF16(vshll_high_n_u8(second, 8)), factor);
}

}  // namespace
}  // namespace motet
