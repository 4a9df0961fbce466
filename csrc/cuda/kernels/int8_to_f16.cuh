// 8-bit integers as half precision.
#pragma once

#include "cuda/primitives.h"

namespace motet::cuda {

// A word of four bytes, integers plus 128, as two pairs of the integers times 1 / kUnits. As the
// lowest bits of the mantissa of 1024 / kUnits a byte adds itself / kUnits; that power of two and
// 128 / kUnits are taken away.
template <int kUnits>
__device__ __forceinline__ void IntegersToF16(uint32_t bytes, uint32_t& b0, uint32_t& b1) {
  static_assert(kUnits == 1 || kUnits == 64);
  constexpr uint32_t kPower = kUnits == 1 ? 0x64646464u : 0x4C4C4C4Cu;
  constexpr uint32_t kMinusZero = kUnits == 1 ? 0xE480E480u : 0xCC80CC80u;
  b0 = AddF16(PickBytes(bytes, kPower, 0x4140), kMinusZero);
  b1 = AddF16(PickBytes(bytes, kPower, 0x4342), kMinusZero);
}

}  // namespace motet::cuda
