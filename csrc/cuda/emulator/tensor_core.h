// Products of a warp as the least exact of tensor cores have them. What hardware does is not
// documented; measured, products are exact, a few of them and the sum so far are aligned to the
// largest, and what does not fit is cut off, not rounded. (Fasi et al., "Numerical behavior of
// NVIDIA tensor cores", 2021.) Later ones take more products at a time and keep a bit or two more.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "cuda/emulator/f16.h"

namespace motet::cuda::emulated {

inline constexpr int kProductsAtOnce = 4;

inline float AddProducts(float sum, const double (&products)[kProductsAtOnce]) {
  const auto exponent = [](double x) {
    return static_cast<int>(std::bit_cast<uint64_t>(x) >> 52 & 0x7FF) - 1023;
  };
  double plain = sum;
  int largest = exponent(sum);
  for (const double product : products) {
    plain += product;
    largest = largest < exponent(product) ? exponent(product) : largest;
  }
  constexpr int kNotFinite = 1024, kZero = -1023, kBits = 24;
  if (largest == kNotFinite || largest == kZero) return static_cast<float>(plain);
  const auto power_of_two = [](int n) {
    return std::bit_cast<double>(static_cast<uint64_t>(n + 1023) << 52);
  };
  const double up = power_of_two(kBits - 1 - largest);
  auto total = static_cast<int64_t>(sum * up);
  for (const double product : products) total += static_cast<int64_t>(product * up);
  int cut = 0;
  for (; total >= int64_t{1} << kBits || total <= -(int64_t{1} << kBits); ++cut) total /= 2;
  return static_cast<float>(static_cast<double>(total) * power_of_two(largest - kBits + 1 + cut));
}

struct Mma {
  float* d;
  const uint32_t* a;
  uint32_t b[2];

  static void Combine(void* const* lanes) {
    float a[16][16], b[16][8];
    for (int lane = 0; lane < 32; ++lane) {
      const auto& o = *static_cast<Mma*>(lanes[lane]);
      const int g = lane / 4, t = lane % 4;
      for (int half = 0; half < 2; ++half) {
        for (int i = 0; i < 4; ++i) {
          a[g + i % 2 * 8][2 * t + half + i / 2 * 8] =
              F16ToFloat(static_cast<uint16_t>(o.a[i] >> (16 * half)));
        }
        for (int i = 0; i < 2; ++i) {
          b[2 * t + half + 8 * i][g] = F16ToFloat(static_cast<uint16_t>(o.b[i] >> (16 * half)));
        }
      }
    }
    for (int lane = 0; lane < 32; ++lane) {
      const auto& o = *static_cast<Mma*>(lanes[lane]);
      const int g = lane / 4, t = lane % 4;
      for (int i = 0; i < 4; ++i) {
        const float (&row)[16] = a[g + i / 2 * 8];
        for (int first = 0; first < 16; first += kProductsAtOnce) {
          double products[kProductsAtOnce];
          for (int k = 0; k < kProductsAtOnce; ++k) {
            products[k] = static_cast<double>(row[first + k]) * b[first + k][2 * t + i % 2];
          }
          o.d[i] = AddProducts(o.d[i], products);
        }
      }
    }
  }
};

}  // namespace motet::cuda::emulated
