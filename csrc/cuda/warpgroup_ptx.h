// Products of a warpgroup, four warps that follow each other: only where code is for 9.0a. (PTX
// ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions")
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace motet::cuda {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// What this thread wrote to shared memory, or copied to it and waited for, is there for products of
// a warpgroup once a barrier comes after this.
__device__ __forceinline__ void FenceForWarpgroup() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
// Before the first product after registers of operands or sums were written.
__device__ __forceinline__ void WarpgroupFence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

// d[64, kTokens] = a[64, 16] b[16, kTokens], added to d if `accumulate`. Warp i of the four has
// rows 16 i to 16 i + 15, operands and sums as MmaF16 has them. `b` is in shared memory, of each
// token 64 columns, 128 bytes, the first token at a multiple of 1024; chunks of 16 bytes change
// places: chunk c of token n lies at c ^ n % 8. It points to the first of the 16 columns in token
// 0.
//
// Operands and sums must not be touched until WarpgroupWait() says that they are done with:
// operands are to be kept till then by KeepOperands(). Sums are those of mma.sync to the bit, as
// measured on an H200.
template <int kTokens>
__device__ __forceinline__ void WarpgroupMmaF16(float (&d)[kTokens / 8][4], const uint32_t (&a)[4],
                                                const char* b, bool accumulate);

// Below, once for each number of tokens, since the instruction names every register of d.
namespace ptx {
// K-major, swizzled in 128 bytes; eight tokens are 1024 bytes.
__device__ __forceinline__ uint64_t MatrixDescriptor(const char* b) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(b));
  return uint64_t{address >> 4 & 0x3FFF} | uint64_t{1} << 16 | uint64_t{1024 >> 4} << 32 |
         uint64_t{1} << 62;
}
}  // namespace ptx

template <>
__device__ __forceinline__ void WarpgroupMmaF16<16>(float (&d)[2][4], const uint32_t (&a)[4],
                                                    const char* b, bool accumulate) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %13, 0; "
      "wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7"
      "}, {%8, %9, %10, %11}, %12, p, 1, 1, 0;}"
      : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]), "+f"(d[1][0]), "+f"(d[1][1]),
        "+f"(d[1][2]), "+f"(d[1][3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(ptx::MatrixDescriptor(b)),
        "r"(static_cast<int>(accumulate)));
}
template <>
__device__ __forceinline__ void WarpgroupMmaF16<32>(float (&d)[4][4], const uint32_t (&a)[4],
                                                    const char* b, bool accumulate) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %21, 0; "
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
      "}, {%16, %17, %18, %19}, %20, p, 1, 1, 0;}"
      : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]), "+f"(d[1][0]), "+f"(d[1][1]),
        "+f"(d[1][2]), "+f"(d[1][3]), "+f"(d[2][0]), "+f"(d[2][1]), "+f"(d[2][2]), "+f"(d[2][3]),
        "+f"(d[3][0]), "+f"(d[3][1]), "+f"(d[3][2]), "+f"(d[3][3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(ptx::MatrixDescriptor(b)),
        "r"(static_cast<int>(accumulate)));
}
template <>
__device__ __forceinline__ void WarpgroupMmaF16<48>(float (&d)[6][4], const uint32_t (&a)[4],
                                                    const char* b, bool accumulate) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %29, 0; "
      "wgmma.mma_async.sync.aligned.m64n48k16.f32.f16.f16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23"
      "}, {%24, %25, %26, %27}, %28, p, 1, 1, 0;}"
      : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]), "+f"(d[1][0]), "+f"(d[1][1]),
        "+f"(d[1][2]), "+f"(d[1][3]), "+f"(d[2][0]), "+f"(d[2][1]), "+f"(d[2][2]), "+f"(d[2][3]),
        "+f"(d[3][0]), "+f"(d[3][1]), "+f"(d[3][2]), "+f"(d[3][3]), "+f"(d[4][0]), "+f"(d[4][1]),
        "+f"(d[4][2]), "+f"(d[4][3]), "+f"(d[5][0]), "+f"(d[5][1]), "+f"(d[5][2]), "+f"(d[5][3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(ptx::MatrixDescriptor(b)),
        "r"(static_cast<int>(accumulate)));
}
template <>
__device__ __forceinline__ void WarpgroupMmaF16<64>(float (&d)[8][4], const uint32_t (&a)[4],
                                                    const char* b, bool accumulate) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %37, 0; "
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
      "}, {%32, %33, %34, %35}, %36, p, 1, 1, 0;}"
      : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]), "+f"(d[1][0]), "+f"(d[1][1]),
        "+f"(d[1][2]), "+f"(d[1][3]), "+f"(d[2][0]), "+f"(d[2][1]), "+f"(d[2][2]), "+f"(d[2][3]),
        "+f"(d[3][0]), "+f"(d[3][1]), "+f"(d[3][2]), "+f"(d[3][3]), "+f"(d[4][0]), "+f"(d[4][1]),
        "+f"(d[4][2]), "+f"(d[4][3]), "+f"(d[5][0]), "+f"(d[5][1]), "+f"(d[5][2]), "+f"(d[5][3]),
        "+f"(d[6][0]), "+f"(d[6][1]), "+f"(d[6][2]), "+f"(d[6][3]), "+f"(d[7][0]), "+f"(d[7][1]),
        "+f"(d[7][2]), "+f"(d[7][3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(ptx::MatrixDescriptor(b)),
        "r"(static_cast<int>(accumulate)));
}

__device__ __forceinline__ void WarpgroupCommit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// All but the last kGroupsLeft groups committed are done.
template <int kGroupsLeft>
__device__ __forceinline__ void WarpgroupWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroupsLeft) : "memory");
}

// Operands of products that have been waited for. Compilers think them dead at the product, and put
// something else into their registers while it still reads them, unless they are needed later.
__device__ __forceinline__ void KeepOperands(const uint32_t (&a)[2][4]) {
#pragma unroll
  for (const auto& operand : a) {
    asm volatile("" ::"r"(operand[0]), "r"(operand[1]), "r"(operand[2]), "r"(operand[3]));
  }
}

#endif

}  // namespace motet::cuda
