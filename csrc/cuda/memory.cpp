#include "cuda/memory.h"

#include <string>

#include "base/error.h"
#include "cuda/check.h"

namespace motet::cuda {
namespace {

cudaStream_t Handle(Stream stream) { return static_cast<cudaStream_t>(stream); }

// `error` is that of an allocation.
void* Allocated(cudaError_t error, void* memory, int64_t bytes, const char* what,
                const char* where) {
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw OutOfMemoryError("the device refused " + std::to_string(bytes) + " bytes of " + where +
                           " for " + what);
  }
  Check(error, what);
  return memory;
}

}  // namespace

void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // so that it is not reported again where nothing is wrong
  const std::string message = std::string(what) + ": " + cudaGetErrorString(error);
  if (error == cudaErrorMemoryAllocation) throw OutOfMemoryError(message);
  throw DeviceError(message);
}

void* AllocateOnDevice(int64_t bytes, const char* what) {
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, static_cast<size_t>(bytes));
  return Allocated(error, memory, bytes, what, "its memory");
}

void FreeOnDevice(void* memory) { cudaFree(memory); }

void* AllocatePinned(int64_t bytes, const char* what) {
  void* memory = nullptr;
  const cudaError_t error = cudaMallocHost(&memory, static_cast<size_t>(bytes));
  return Allocated(error, memory, bytes, what, "pinned host memory");
}

void FreePinned(void* memory) { cudaFreeHost(memory); }

void CopyToDevice(void* device, const void* host, int64_t bytes, Stream stream) {
  Check(cudaMemcpyAsync(device, host, static_cast<size_t>(bytes), cudaMemcpyHostToDevice,
                        Handle(stream)),
        "copy to the device");
}

void CopyToHost(void* host, const void* device, int64_t bytes, Stream stream) {
  Check(cudaMemcpyAsync(host, device, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost,
                        Handle(stream)),
        "copy from the device");
}

void Fill(void* device, int byte, int64_t bytes, Stream stream) {
  Check(cudaMemsetAsync(device, byte, static_cast<size_t>(bytes), Handle(stream)), "fill");
}

void Synchronize(Stream stream) {
  Check(cudaStreamSynchronize(Handle(stream)), "waiting for the device");
}

OwnedStream::OwnedStream() {
  cudaStream_t stream;
  Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream");
  stream_ = stream;
}

OwnedStream::~OwnedStream() { cudaStreamDestroy(Handle(stream_)); }

Graph::~Graph() {
  if (executable_) cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(executable_));
}

void Graph::Begin(Stream stream) {
  // Relaxed: a kernel that is launched for the first time is loaded now, which may allocate.
  Check(cudaStreamBeginCapture(Handle(stream), cudaStreamCaptureModeRelaxed), "a graph");
}

Graph Graph::End(Stream stream) {
  cudaGraph_t graph;
  Check(cudaStreamEndCapture(Handle(stream), &graph), "a graph");
  cudaGraphExec_t executable;
  const cudaError_t error = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  Check(error, "a graph");
  Graph result;
  result.executable_ = executable;
  return result;
}

void Graph::Abandon(Stream stream) {
  cudaGraph_t graph = nullptr;
  if (cudaStreamEndCapture(Handle(stream), &graph) == cudaSuccess && graph) {
    cudaGraphDestroy(graph);
  }
  cudaGetLastError();
}

void Graph::Launch(Stream stream) const {
  Check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(executable_), Handle(stream)),
        "launching a graph");
}

}  // namespace motet::cuda
