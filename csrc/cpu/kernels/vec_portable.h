// Eight float lanes in plain C++; the compiler maps them to whatever the target always has.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/bf16.h"
#include "base/f16.h"
#include "base/mxfp4.h"

namespace motet {
namespace {

struct Vec {
  float lane[8];
};

template <class Function>
Vec Each(Function f) {
  Vec r;
  for (int i = 0; i < 8; ++i) r.lane[i] = f(i);
  return r;
}

Vec Set(float x) {
  return Each([&](int) { return x; });
}
Vec Load(const float* p) {
  Vec r;
  std::memcpy(r.lane, p, sizeof r.lane);
  return r;
}
void Store(float* p, Vec a) { std::memcpy(p, a.lane, sizeof a.lane); }
Vec LoadBf16(const uint16_t* p) {
  return Each([&](int i) { return Bf16ToFloat(p[i]); });
}
Vec LoadF16(const uint16_t* p) {
  return Each([&](int i) { return F16ToFloat(p[i]); });
}
Vec Add(Vec a, Vec b) {
  return Each([&](int i) { return a.lane[i] + b.lane[i]; });
}
Vec Sub(Vec a, Vec b) {
  return Each([&](int i) { return a.lane[i] - b.lane[i]; });
}
Vec Mul(Vec a, Vec b) {
  return Each([&](int i) { return a.lane[i] * b.lane[i]; });
}
Vec Div(Vec a, Vec b) {
  return Each([&](int i) { return a.lane[i] / b.lane[i]; });
}
Vec Min(Vec a, Vec b) {
  return Each([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
}
Vec Max(Vec a, Vec b) {
  return Each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
// a * b + c. Rounded twice here, once where the hardware fuses; with bf16 factors the product is
// exact in float and both agree.
Vec MulAdd(Vec a, Vec b, Vec c) {
  return Each([&](int i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
}
Vec Round(Vec a) {
  return Each([&](int i) { return std::nearbyintf(a.lane[i]); });
}
// a * 2^n for integral n in [-126, 127].
Vec Scale2(Vec a, Vec n) {
  return Each([&](int i) {
    const uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(n.lane[i]) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return a.lane[i] * power;
  });
}

// Sum and maximum of the lanes, in the order of a tree of halves.
float ReduceAdd(Vec a) {
  const float* v = a.lane;
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}
float ReduceMax(Vec a) {
  float m = a.lane[0];
  for (int i = 1; i < 8; ++i) m = a.lane[i] > m ? a.lane[i] : m;
  return m;
}

// One MXFP4 block to 32 floats.
void DecodeMxfp4Block(const uint8_t* codes, uint8_t scale, Vec* out) {
  const float factor = Mxfp4Scale(scale);
  for (int j = 0; j < kMxfp4BlockBytes; ++j) {
    out[j / 4].lane[2 * j % 8] = kE2m1[codes[j] & 15] * factor;
    out[j / 4].lane[2 * j % 8 + 1] = kE2m1[codes[j] >> 4] * factor;
  }
}

}  // namespace
}  // namespace motet
