// primitives.h on the GPU. Where there is a choice it is sm_80's, which later ones have too.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace motet::cuda {

// Programmatic dependent launch; see launch.h.
__device__ __forceinline__ void WaitForInputs() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// The next kernel of the stream may start its blocks; it waits for the end of this one all the
// same.
__device__ __forceinline__ void LetNextStart() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// Collectives of whole warps.
__device__ __forceinline__ void SyncWarp() { __syncwarp(); }
template <class T>
__device__ __forceinline__ T ShuffleXor(T value, int mask) {
  return __shfl_xor_sync(0xFFFFFFFFu, value, mask);
}
template <class T>
__device__ __forceinline__ T Shuffle(T value, int lane) {
  return __shfl_sync(0xFFFFFFFFu, value, lane);
}
template <class T>
__device__ __forceinline__ T ShuffleUp(T value,
                                       int distance) {  // lanes below `distance`: their own
  return __shfl_up_sync(0xFFFFFFFFu, value, distance);
}
__device__ __forceinline__ uint32_t Ballot(bool predicate) {
  return __ballot_sync(0xFFFFFFFFu, predicate);
}
__device__ __forceinline__ uint32_t WarpMax(uint32_t x) {
  return __reduce_max_sync(0xFFFFFFFFu, x);
}
__device__ __forceinline__ uint32_t WarpMin(uint32_t x) {
  return __reduce_min_sync(0xFFFFFFFFu, x);
}

// d[16, 8] += a[16, 16] b[16, 8], sums in float (m16n8k16, row.col). Lane = 4 g + t holds
//   a: rows g and g + 8 of columns 2t, 2t+1 (a[0], a[1]) and 2t+8, 2t+9 (a[2], a[3])
//   b: rows 2t, 2t+1 (b0) and 2t+8, 2t+9 (b1) of column g
//   d: columns 2t, 2t+1 of row g (d[0], d[1]) and of row g + 8 (d[2], d[3])
__device__ __forceinline__ void MmaF16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                       uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four 8x8 matrices of 16-bit elements from shared memory: lane i gives the address of row i % 8 of
// matrix i / 8, 16 bytes; it gets elements 2t, 2t+1 of row g of each, or with Transposed, of the
// transposed one.
template <bool Transposed>
__device__ __forceinline__ void LoadMatrices(uint32_t (&r)[4], const void* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (Transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  }
}

// 16 bytes of global memory to shared memory, zeros if not valid. Arrives at the latest when
// CopyWait<n> has returned and all but the last n groups committed are waited for.
__device__ __forceinline__ void CopyAsync16(void* shared, const void* global, bool valid = true) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
}
// 4 bytes, through the first-level cache; else as CopyAsync16.
__device__ __forceinline__ void CopyAsync4(void* shared, const void* global) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(address), "l"(global) : "memory");
}
__device__ __forceinline__ void CopyCommit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int kGroupsLeft>
__device__ __forceinline__ void CopyWait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroupsLeft) : "memory");
}

__device__ __forceinline__ char* SharedMemory() {
  extern __shared__ __align__(128) char motet_shared[];
  return motet_shared;
}

// Weights are read once: past the first-level cache. Not ld.global.nc: ptxas moves those behind a
// WaitForInputs() that follows, seeing no order between them.
__device__ __forceinline__ uint4 LoadOnce(const uint4* p) {
  uint4 v;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}

// Into `v`, if `there`.
__device__ __forceinline__ void LoadOnceIf(bool there, const uint4* p, uint4& v) {
  asm volatile(
      "{\n\t.reg .pred there;\n\tsetp.ne.u32 there, %5, 0;\n\t"
      "@there ld.global.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];\n\t}"
      : "+r"(v.x), "+r"(v.y), "+r"(v.z), "+r"(v.w)
      : "l"(p), "r"(static_cast<uint32_t>(there)));
}

// Asks for memory to be brought to the second-level cache, by one thread; both are multiples of 16.
// Only where one instruction can (compute capability 9.0).
__device__ __forceinline__ void PrefetchToL2(const void* p, int64_t bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(p),
               "r"(static_cast<uint32_t>(bytes))
               : "memory");
#endif
}

// Past the first-level cache, which may have what was there before: for what other blocks of the
// kernel wrote, or another kernel, read before WaitForInputs(). That is allowed where the writer
// has ended: all kernels call LetNextStart() after WaitForInputs(), so when one starts, all but the
// one before it have.
template <class T>
__device__ __forceinline__ T LoadFresh(const T* p) {
  return __ldcg(p);
}
// True for the last of `count` threads that share `ticket`, which is 0 at first and then again: it
// sees what each of them, and all that they were at a barrier with, wrote before; and so do those
// that are at a barrier with it afterwards, by LoadFresh. (An atomic that orders what is around it
// is much faster than __threadfence(), whose order is that of all threads.)
__device__ __forceinline__ bool IsLastTicket(unsigned* ticket, unsigned count) {
  unsigned before;
  asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(ticket), "r"(count - 1)
               : "memory");
  return before == count - 1;
}
// The 128 bytes that hold p start on their way to the second-level cache.
__device__ __forceinline__ void PrefetchLineToL2(const void* p) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}

// Two 16-bit floats in a word, the first in the low half; round to nearest, ties to even.
__device__ __forceinline__ uint32_t PackF16(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ __forceinline__ uint32_t PackBf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
// Of such pairs, each rounded by itself.
__device__ __forceinline__ uint32_t AddF16(uint32_t a, uint32_t b) {
  uint32_t sum;
  asm("add.rn.f16x2 %0, %1, %2;" : "=r"(sum) : "r"(a), "r"(b));
  return sum;
}
__device__ __forceinline__ uint32_t MultiplyF16(uint32_t a, uint32_t b) {
  uint32_t product;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(product) : "r"(a), "r"(b));
  return product;
}
// Byte i of the result is byte s of the eight of a and b, a's first, where s is digit i of
// `selector` (hexadecimal, the lowest first).
__device__ __forceinline__ uint32_t PickBytes(uint32_t a, uint32_t b, uint32_t selector) {
  return __byte_perm(a, b, selector);
}
// Never one fused multiply-add with what is around them: the same bits wherever they stand, and as
// on the CPU.
__device__ __forceinline__ float Add(float a, float b) { return __fadd_rn(a, b); }
__device__ __forceinline__ double Add(double a, double b) { return __dadd_rn(a, b); }
__device__ __forceinline__ float Multiply(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double Multiply(double a, double b) { return __dmul_rn(a, b); }

__device__ __forceinline__ uint64_t RoundToUint64(float x) { return __float2ull_rn(x); }
__device__ __forceinline__ uint64_t MultiplyHigh(uint64_t a, uint64_t b) {
  return __umul64hi(a, b);
}
__device__ __forceinline__ int BitWidth(uint64_t x) {
  return 64 - __clzll(static_cast<long long>(x));
}

__device__ __forceinline__ int CountBits(uint32_t bits) { return __popc(bits); }
// 2^x to two units in the last place; subnormal results are 0.
__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float BitsToFloat(uint32_t bits) { return __uint_as_float(bits); }
__device__ __forceinline__ uint32_t FloatToBits(float x) { return __float_as_uint(x); }

}  // namespace motet::cuda
