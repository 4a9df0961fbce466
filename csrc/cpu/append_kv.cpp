#include "cpu/append_kv.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/f16.h"
#include "base/page.h"

namespace motet {
namespace {

constexpr float kLargestF16 = 65504;

float Limited(float x) { return std::isnan(x) ? 0 : std::clamp(x, -kLargestF16, kLargestF16); }

float ScaleOf(const float* x, int64_t size) {
  float largest = 0;
  for (int64_t i = 0; i < size; ++i) largest = std::max(largest, std::abs(Limited(x[i])));
  const float scale = largest / 127;
  return scale < std::numeric_limits<float>::min() ? 0 : scale;  // 1 / scale stays finite
}

// Calls write(i, integer) for each of x.
template <class Write>
void Quantize(const float* x, int64_t size, float scale, const Write& write) {
  constexpr float kRound = 0x1.8p23f;  // added and taken away rounds to nearest, ties to even
  for (int64_t i = 0; i < size; ++i) {
    const float integer = scale == 0 ? 0 : Limited(x[i]) / scale + kRound - kRound;
    write(i, static_cast<int8_t>(integer));
  }
}

void AppendInt8(const AppendKvArgs& a) {
  auto* keys = static_cast<int8_t*>(a.keys);
  auto* values = static_cast<int8_t*>(a.values);
  const int64_t elements = a.head_dim * kPageTokens;
  const float key_scale = ScaleOf(a.k, a.head_dim), value_scale = ScaleOf(a.v, a.head_dim);
  reinterpret_cast<float*>(keys + elements)[a.slot] = key_scale;
  reinterpret_cast<float*>(values + elements)[a.slot] = value_scale;
  Quantize(a.k, a.head_dim, key_scale,
           [&](int64_t d, int8_t integer) { keys[d * kPageTokens + a.slot] = integer; });
  Quantize(a.v, a.head_dim, value_scale,
           [&](int64_t d, int8_t integer) { values[a.slot * a.head_dim + d] = integer; });
}

template <class Element, class Convert>
void Append(const AppendKvArgs& a, const Convert& convert) {
  auto* keys = static_cast<Element*>(a.keys);
  auto* values = static_cast<Element*>(a.values);
  for (int64_t d = 0; d < a.head_dim; ++d) {
    keys[d * kPageTokens + a.slot] = convert(a.k[d]);
    values[a.slot * a.head_dim + d] = convert(a.v[d]);
  }
}

}  // namespace

void AppendKv(KvDtype dtype, const AppendKvArgs& args) {
  if (dtype == KvDtype::kInt8) return AppendInt8(args);
  if (dtype == KvDtype::kF32) return Append<float>(args, [](float x) { return x; });
  Append<uint16_t>(args, FloatToF16);
}

}  // namespace motet
