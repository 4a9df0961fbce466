// CUDA's runtime on the CPU, for tests where there is no GPU: the same kernel sources, compiled as
// C++, with every thread of a block a fiber. It holds the part of the runtime that motet uses; a
// file finds it in place of the toolkit's by its include path.
//
// It is for finding wrong answers, not for speed: device memory starts as NaN and ends at a page
// that can't be touched, shared memory starts as NaN in every block, asynchronous copies arrive
// only where they are waited for, blocks start before the kernel that they follow (early_start.h),
// streams work when the host waits for them, tensor cores and approximate functions are as inexact
// as may be, and the order of warps, lanes and blocks follows MOTET_EMULATOR_SEED. What it can't
// show: a host pointer used as a device one, what first-level caches hold of old values.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
// Blocks run one after the other.
#define __shared__ static

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace motet::emulator {

struct Block {
  uint3 index;
  dim3 size, grid;
};
const uint3& ThreadIndex();
const Block& CurrentBlock();
void Barrier();
void WaitForInputs();
void LetNextStart();
// Waits for the other lanes of the warp; the last to come calls combine(operands of all 32).
void Meet(const char* what, void* operands, void (*combine)(void* const* lanes));
char* SharedBytes();
void QueueCopy(void* shared, const void* global, size_t bytes, size_t valid);
void CommitCopies();
void Touch(const void* global, int64_t bytes);  // fails where it can't be read
void WaitCopies(int groups_left);
// Products of a warpgroup are made when they are waited for: what they read must last until then.
void QueueProduct(std::function<void()> product);
void CommitProducts();
void WaitProducts(int groups_left);

[[noreturn]] void Fail(const std::string& what);

struct Stream;
void Run(const Stream* stream, dim3 grid, dim3 block, size_t shared_bytes,
         const std::function<void()>& kernel);
// Copies of other threads of the host: pages that a kernel is not shown yet must not change.
void BetweenKernels(const std::function<void()>& work);
void Enqueue(Stream* stream, std::function<void()> work);

}  // namespace motet::emulator

#define threadIdx (::motet::emulator::ThreadIndex())
#define blockIdx (::motet::emulator::CurrentBlock().index)
#define blockDim (::motet::emulator::CurrentBlock().size)
#define gridDim (::motet::emulator::CurrentBlock().grid)

inline void __syncthreads() { ::motet::emulator::Barrier(); }
template <class T>
T AtomicAdd(T* address, T value) {
  const T before = *address;
  *address += value;
  return before;
}
inline int atomicAdd(int* address, int value) { return AtomicAdd(address, value); }
inline unsigned atomicAdd(unsigned* address, unsigned value) { return AtomicAdd(address, value); }
inline unsigned long long atomicAdd(unsigned long long* address, unsigned long long value) {
  return AtomicAdd(address, value);
}
inline void __threadfence() {}
inline void sincospi(double x, double* sine, double* cosine) {
  *sine = std::sin(x * 3.14159265358979323846);
  *cosine = std::cos(x * 3.14159265358979323846);
}
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }

using cudaStream_t = ::motet::emulator::Stream*;
using cudaGraph_t = struct motet_emulator_graph*;
using cudaGraphExec_t = struct motet_emulator_graph*;

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorStreamCaptureUnsupported = 900,
};
enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
};
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed = 2 };
inline constexpr unsigned cudaStreamNonBlocking = 1;

struct cudaDeviceProp {
  char name[256];
  int major, minor, multiProcessorCount, l2CacheSize;
  size_t totalGlobalMem, sharedMemPerBlockOptin, sharedMemPerMultiprocessor;
};

const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaMalloc(void** pointer, size_t size);
cudaError_t cudaFree(void* pointer);
cudaError_t cudaMallocHost(void** pointer, size_t size);
cudaError_t cudaFreeHost(void* pointer);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* to, int value, size_t size, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);
