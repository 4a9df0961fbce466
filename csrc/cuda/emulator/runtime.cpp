// The host's side of the emulator: memory, streams (which run what they are given as late as may
// be, when the host waits for them) and graphs (which keep it).
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cuda/emulator/cuda_runtime.h"
#include "cuda/emulator/early_start.h"

struct motet_emulator_graph {
  std::vector<std::function<void()>> work;
};

namespace motet::emulator {

struct Stream {
  motet_emulator_graph* capture = nullptr;
  std::mutex mutex;  // guards:
  std::vector<std::function<void()>> queue;
};

void Enqueue(Stream* stream, std::function<void()> work) {
  if (!stream) Fail("the default stream, which all others would wait for");
  if (stream->capture) return stream->capture->work.push_back(std::move(work));
  const std::lock_guard lock(stream->mutex);
  stream->queue.push_back(std::move(work));
}

namespace {

std::mutex streams_mutex;
std::set<Stream*> streams;

void Synchronize(Stream* stream) {
  const std::lock_guard lock(stream->mutex);
  for (const auto& work : std::exchange(stream->queue, {})) work();
  EndOvertaking();
}

constexpr size_t kAlignment = 16;  // less than the real one, so that accesses past the end are seen

std::mutex mutex;
struct Allocation {
  void* mapping;
  size_t mapped, size;
};
std::map<void*, Allocation> allocations;  // by what was handed out
size_t allocated = 0;

size_t TotalMemory() {
  const char* bytes = std::getenv("MOTET_EMULATOR_MEMORY");
  return bytes ? std::strtoull(bytes, nullptr, 10) : size_t{4} << 30;
}

size_t MappingSize(size_t size) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return (size + page - 1) / page * page + page;
}

}  // namespace
}  // namespace motet::emulator

using motet::emulator::Enqueue;

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "emulated error";
}
cudaError_t cudaGetLastError() { return cudaSuccess; }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::strcpy(properties->name, "emulated");
  properties->major = 8;
  properties->minor = 0;
  properties->multiProcessorCount = 4;
  properties->l2CacheSize = 1 << 20;
  properties->totalGlobalMem = motet::emulator::TotalMemory();
  properties->sharedMemPerBlockOptin = 163 << 10;
  properties->sharedMemPerMultiprocessor = 164 << 10;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const std::lock_guard lock(motet::emulator::mutex);
  *total = motet::emulator::TotalMemory();
  *free = *total - std::min(*total, motet::emulator::allocated);
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }

cudaError_t cudaMalloc(void** pointer, size_t size) {
  using namespace motet::emulator;
  const std::lock_guard lock(mutex);
  if (allocated + size > TotalMemory()) return cudaErrorMemoryAllocation;
  const size_t mapped = MappingSize(size), page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return cudaErrorMemoryAllocation;
  char* end = static_cast<char*>(memory) + mapped - page;
  mprotect(end, page, PROT_NONE);
  *pointer = end - (size + kAlignment - 1) / kAlignment * kAlignment;
  std::memset(*pointer, 0xFF, size);
  TrackMemory(static_cast<char*>(memory), mapped - page);
  allocations[*pointer] = {memory, mapped, size};
  allocated += size;
  return cudaSuccess;
}
cudaError_t cudaFree(void* pointer) {
  using namespace motet::emulator;
  if (!pointer) return cudaSuccess;
  {  // as the real one does
    const std::lock_guard lock(streams_mutex);
    for (Stream* stream : streams) Synchronize(stream);
  }
  const std::lock_guard lock(mutex);
  const auto found = allocations.find(pointer);
  if (found == allocations.end()) return cudaErrorInvalidValue;
  allocated -= found->second.size;
  ForgetMemory(static_cast<char*>(found->second.mapping));
  munmap(found->second.mapping, found->second.mapped);
  allocations.erase(found);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** pointer, size_t size) {
  *pointer = std::malloc(size);
  return *pointer ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeHost(void* pointer) {
  std::free(pointer);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind,
                            cudaStream_t stream) {
  Enqueue(stream, [=] {
    motet::emulator::BetweenKernels([=] {
      motet::emulator::HostWrites(to, size);
      std::memcpy(to, from, size);
    });
  });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t size, cudaStream_t stream) {
  Enqueue(stream, [=] {
    motet::emulator::BetweenKernels([=] {
      motet::emulator::HostWrites(to, size);
      std::memset(to, value, size);
    });
  });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  using namespace motet::emulator;
  const std::lock_guard lock(streams_mutex);
  *stream = *streams.insert(new Stream).first;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  using namespace motet::emulator;
  const std::lock_guard lock(streams_mutex);
  Synchronize(stream);
  streams.erase(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream->capture) return cudaErrorStreamCaptureUnsupported;
  motet::emulator::Synchronize(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  stream->capture = new motet_emulator_graph;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = std::exchange(stream->capture, nullptr);
  return *graph ? cudaSuccess : cudaErrorInvalidValue;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  *executable = new motet_emulator_graph(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  Enqueue(stream, [graph = *executable] {
    motet::emulator::EndOvertaking();
    for (const auto& work : graph.work) work();
    motet::emulator::EndOvertaking();
  });
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
