// Memory of the device and pinned memory of the host, owned. Host-only, as all headers of this
// folder but launch.h, check.h and primitives*.h are: the toolkit's headers are not needed.
#pragma once

#include <cstdint>
#include <utility>

namespace motet::cuda {

using Stream = void*;  // cudaStream_t

// Of one kind; `what` is for the message of the OutOfMemoryError that Allocate throws.
template <void* (*Allocate)(int64_t bytes, const char* what), void (*Free)(void*)>
class OwnedMemory {
 public:
  OwnedMemory() = default;
  OwnedMemory(int64_t bytes, const char* what)
      : data_(bytes ? Allocate(bytes, what) : nullptr), bytes_(bytes) {}
  ~OwnedMemory() {
    if (data_) Free(data_);  // freeing null would make a context on the device in use
  }
  OwnedMemory(OwnedMemory&& other) noexcept { *this = std::move(other); }
  OwnedMemory& operator=(OwnedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  template <class T>
  T* as(int64_t byte_offset = 0) const {
    return reinterpret_cast<T*>(static_cast<char*>(data_) + byte_offset);
  }
  int64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

void* AllocateOnDevice(int64_t bytes, const char* what);
void FreeOnDevice(void* memory);
void* AllocatePinned(int64_t bytes, const char* what);
void FreePinned(void* memory);

using DeviceMemory = OwnedMemory<AllocateOnDevice, FreeOnDevice>;
// Host memory that the device reads and writes at full speed while the host goes on.
using PinnedMemory = OwnedMemory<AllocatePinned, FreePinned>;

// In the order of the stream; host memory must be pinned and stay until the copy is done.
void CopyToDevice(void* device, const void* host, int64_t bytes, Stream stream);
void CopyToHost(void* host, const void* device, int64_t bytes, Stream stream);
void Fill(void* device, int byte, int64_t bytes, Stream stream);
void Synchronize(Stream stream);

class OwnedStream {
 public:
  OwnedStream();
  ~OwnedStream();
  OwnedStream(const OwnedStream&) = delete;
  OwnedStream& operator=(const OwnedStream&) = delete;
  operator Stream() const { return stream_; }

 private:
  Stream stream_ = nullptr;
};

// What was put into a stream between Begin and End, to be launched again as a whole.
class Graph {
 public:
  Graph() = default;
  ~Graph();
  Graph(Graph&& other) noexcept { std::swap(executable_, other.executable_); }
  Graph& operator=(Graph&& other) noexcept {
    std::swap(executable_, other.executable_);
    return *this;
  }

  static void Begin(Stream stream);
  static Graph End(Stream stream);
  // Gives up what was begun; for when building it threw.
  static void Abandon(Stream stream);
  void Launch(Stream stream) const;
  explicit operator bool() const { return executable_ != nullptr; }

 private:
  void* executable_ = nullptr;
};

}  // namespace motet::cuda
