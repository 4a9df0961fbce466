// A row of weights in half precision has a unit, a power of two, which its sums are multiplied by.
// Behind the tiles of 16 rows is a byte for each: the unit is 2^(byte - 128).
#pragma once

#include "cuda/primitives.h"

namespace motet::cuda {

// The bits of the float 2^(byte - 128).
constexpr __host__ __device__ __forceinline__ uint32_t UnitBits(uint32_t byte) {
  return byte > 1 ? (byte - 1) << 23 : 0x00200000u << byte;  // subnormal numbers
}

// `bytes` is where the tiles of the 16 rows end.
__device__ __forceinline__ float UnitOf(const uint8_t* bytes, int row) {
  return BitsToFloat(UnitBits(bytes[row]));
}

// A weight over its unit; infinite and NaN ones stay that. In two factors, for 2^128 is no float.
__device__ __forceinline__ float InUnits(float weight, uint32_t byte) {
  return Multiply(Multiply(weight, BitsToFloat((254 - byte) << 23)), 2);
}

}  // namespace motet::cuda
