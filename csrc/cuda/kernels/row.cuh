// A row of activations shared out among the threads of a block: each has four columns at a time,
// 16 bytes of floats, and adds up its own in ascending order; threads' sums are added in one order.
// So a row's sums have the same bits in every kernel that forms them this way.
#pragma once

#include "cuda/kernels/store_rows.cuh"
#include "cuda/primitives.h"

namespace motet::cuda {

constexpr int kRowThreads = 256;
constexpr int kRowWarps = kRowThreads / kWarpSize;
constexpr int kRowStep = 4 * kRowThreads;  // columns that a block takes at a time
constexpr int kHeldSteps = 3;              // that threads keep in registers

// Rows that kernels are fast for: kept in registers as a whole, and all columns four at a time.
// The others' kernels have kSimple = false.
constexpr bool IsSimpleRow(int64_t size) { return size % 4 == 0 && size <= kHeldSteps * kRowStep; }

// Columns [column, column + 4), zeros past the end. Simple rows follow each other from an address
// that is a multiple of 16. By LoadFresh: rows are read once, and some before WaitForInputs().
template <bool kSimple>
__device__ __forceinline__ float4 LoadFour(const float* row, int column, int size) {
  if constexpr (kSimple) {
    return column < size ? LoadFresh(reinterpret_cast<const float4*>(row + column))
                         : make_float4(0, 0, 0, 0);
  } else {
    const auto at = [&](int c) { return c < size ? LoadFresh(row + c) : 0.0f; };
    return make_float4(at(column), at(column + 1), at(column + 2), at(column + 3));
  }
}
// The same of bf16.
template <bool kSimple>
__device__ __forceinline__ uint2 LoadFour(const uint16_t* row, int column, int size) {
  if constexpr (kSimple) {
    return column < size ? *reinterpret_cast<const uint2*>(row + column) : make_uint2(0, 0);
  } else {
    const auto at = [&](int c) { return c < size ? uint32_t{row[c]} : 0u; };
    return make_uint2(at(column) | at(column + 1) << 16, at(column + 2) | at(column + 3) << 16);
  }
}

template <bool kSimple>
__device__ __forceinline__ void StoreFour(float* row, int column, int size, const float4& v) {
  if constexpr (kSimple) {
    if (column < size) *reinterpret_cast<float4*>(row + column) = v;
  } else {
    const auto set = [&](int c, float value) {
      if (c < size) row[c] = value;
    };
    set(column, v.x), set(column + 1, v.y), set(column + 2, v.z), set(column + 3, v.w);
  }
}

// body(column) for the thread's columns that are not held.
template <bool kSimple, class Body>
__device__ __forceinline__ void ForRest(int64_t size, const Body& body) {
  if constexpr (!kSimple) {
#pragma unroll 1
    for (int c = 4 * static_cast<int>(threadIdx.x) + kHeldSteps * kRowStep; c < size;
         c += kRowStep) {
      body(c);
    }
  }
}

__device__ __forceinline__ float4 Bf16Values(const uint2& bits) {
  return make_float4(BitsToFloat(bits.x << 16), BitsToFloat(bits.x & 0xFFFF0000u),
                     BitsToFloat(bits.y << 16), BitsToFloat(bits.y & 0xFFFF0000u));
}
__device__ __forceinline__ float4 Multiply(const float4& a, const float4& b) {
  return make_float4(Multiply(a.x, b.x), Multiply(a.y, b.y), Multiply(a.z, b.z),
                     Multiply(a.w, b.w));
}
__device__ __forceinline__ float4 Multiply(const float4& a, float b) {
  return Multiply(a, make_float4(b, b, b, b));
}
// sum + the products, in ascending order.
__device__ __forceinline__ float AddProducts(const float4& a, const float4& b, float sum) {
  return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

// Of warps' sums.
__device__ __forceinline__ float SumOfWarps(const float* sums) {
  float total = sums[0];
#pragma unroll
  for (int warp = 1; warp < kRowWarps; ++warp) total = Add(total, sums[warp]);
  return total;
}

// What an RMS norm multiplies a row by, from each warp's sum of squares.
__device__ __forceinline__ float NormScale(const float* squares, float inverse_size, float eps) {
  return rsqrtf(Add(Multiply(SumOfWarps(squares), inverse_size), eps));
}

// Of row i, where it has the column.
__device__ __forceinline__ void StoreNormed(const Rows& rows, int64_t i, int column,
                                            const float4& x, float scale, const uint2& weights) {
  if (column >= rows.stride) return;
  StoreFour(rows, i, column, Multiply(Multiply(x, scale), Bf16Values(weights)));
}

}  // namespace motet::cuda
