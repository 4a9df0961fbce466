// Eight float lanes in plain C++; the compiler maps them to whatever the target always has.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/bf16.h"
#include "base/mxfp4.h"

namespace motet {
namespace {

// Four lanes as the compilers' own vector type, which every target has in some form: loops over
// lanes are left to chance by them.
using Four = float __attribute__((vector_size(16)));
using FourInts = int32_t __attribute__((vector_size(16)));
using FourBits = uint32_t __attribute__((vector_size(16)));

struct Vec {
  Four low, high;
};

// Both halves of the result of f on halves.
template <class Function, class... Vecs>
inline Vec Halves(Function f, Vecs... v) {
  return {f(v.low...), f(v.high...)};
}
inline Vec Set(float x) { return {Four{x, x, x, x}, Four{x, x, x, x}}; }
inline Vec Load(const float* p) {
  Vec r;
  std::memcpy(&r, p, sizeof r);
  return r;
}
// A vector of f(lane).
template <class Function>
inline Vec Each(Function f) {
  float lanes[8];
  for (int i = 0; i < 8; ++i) lanes[i] = f(i);
  return Load(lanes);
}
template <class Function>
inline Vec FromInts(Function f) {
  return {__builtin_convertvector((FourInts{f(0), f(1), f(2), f(3)}), Four),
          __builtin_convertvector((FourInts{f(4), f(5), f(6), f(7)}), Four)};
}
inline void Store(float* p, Vec a) { std::memcpy(p, &a, sizeof a); }
inline Vec LoadBf16(const uint16_t* p) {
  return Each([&](int i) { return Bf16ToFloat(p[i]); });
}
// The exponents' biases differ by 112; a product makes subnormals normal, too.
inline Vec LoadF16(const uint16_t* p) {
  const auto four = [](const uint16_t* half) {
    uint16_t __attribute__((vector_size(8))) halves;
    std::memcpy(&halves, half, sizeof halves);
    const FourBits bits = __builtin_convertvector(halves, FourBits);
    const FourBits magnitude = (bits & 0x7fffu) << 13;
    // Infinities and NaN have all bits of the exponent.
    const FourBits special = magnitude >= 0x0f800000u ? FourBits{} + 0x7f800000u : FourBits{};
    const Four value = (Four)magnitude * 0x1p112f;
    return (Four)((FourBits)value | special | (bits & 0x8000u) << 16);
  };
  return {four(p), four(p + 4)};
}
inline Vec LoadInt8(const int8_t* p) {
  return FromInts([&](int i) { return int32_t{p[i]}; });
}
inline Vec Add(Vec a, Vec b) {
  return Halves([](Four x, Four y) { return x + y; }, a, b);
}
inline Vec Sub(Vec a, Vec b) {
  return Halves([](Four x, Four y) { return x - y; }, a, b);
}
inline Vec Mul(Vec a, Vec b) {
  return Halves([](Four x, Four y) { return x * y; }, a, b);
}
inline Vec Div(Vec a, Vec b) {
  return Halves([](Four x, Four y) { return x / y; }, a, b);
}
inline Vec Min(Vec a, Vec b) {
  return Halves([](Four x, Four y) { return x < y ? x : y; }, a, b);
}
inline Vec Max(Vec a, Vec b) {
  return Halves([](Four x, Four y) { return x > y ? x : y; }, a, b);
}
// a * b + c. Rounded twice here, once where the hardware fuses; with bf16 factors the product is
// exact in float and both agree.
inline Vec MulAdd(Vec a, Vec b, Vec c) {
  return Halves([](Four x, Four y, Four z) { return x * y + z; }, a, b, c);
}
// To the nearest integer, ties to even, for |a| up to 2^22.
inline Vec Round(Vec a) {
  return Halves([](Four x) { return x + 0x1.8p23f - 0x1.8p23f; }, a);
}
// a * 2^n for integral n in [-126, 127].
inline Vec Scale2(Vec a, Vec n) {
  return Halves(
      [](Four x, Four power) {
        const FourBits exponent = (FourBits)(power + (0x1.8p23f + 127));
        return x * (Four)(exponent << 23);
      },
      a, n);
}

// Heads by vectors whose sums attention keeps in registers.
constexpr int kTileHeads = 8, kTileVecs = 1;

// Lane i of vector j becomes lane j of vector i.
inline void Transpose(Vec (&a)[8]) {
  float lanes[8][8];
  for (int i = 0; i < 8; ++i) Store(lanes[i], a[i]);
  for (int i = 0; i < 8; ++i) a[i] = Each([&](int j) { return lanes[j][i]; });
}

// Sum and maximum of the lanes, in the order of a tree of halves.
inline float ReduceAdd(Vec a) {
  const Four v = a.low + a.high;
  return (v[0] + v[2]) + (v[1] + v[3]);
}
inline float ReduceMax(Vec a) {
  const Four v = a.low > a.high ? a.low : a.high;
  const float even = v[0] > v[2] ? v[0] : v[2], odd = v[1] > v[3] ? v[1] : v[3];
  return even > odd ? even : odd;
}

// One MXFP4 block to 32 floats.
inline void DecodeMxfp4Block(const uint8_t* codes, uint8_t scale, Vec* out) {
  const float factor = Mxfp4Scale(scale);
  float values[kMxfp4BlockSize];
  for (int j = 0; j < kMxfp4BlockBytes; ++j) {
    values[2 * j] = kE2m1[codes[j] & 15] * factor;
    values[2 * j + 1] = kE2m1[codes[j] >> 4] * factor;
  }
  for (int j = 0; j < 4; ++j) out[j] = Load(values + 8 * j);
}

}  // namespace
}  // namespace motet
