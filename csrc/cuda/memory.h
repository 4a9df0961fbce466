// Memory of the device and pinned memory of the host, owned. Host-only, as all headers of this
// folder but launch.h, check.h and primitives*.h are: the toolkit's headers are not needed.
#pragma once

#include <cstdint>
#include <utility>

namespace motet::cuda {

using Stream = void*;  // cudaStream_t

class DeviceMemory {
 public:
  DeviceMemory() = default;
  // `what` is for the message of the OutOfMemoryError that it throws.
  DeviceMemory(int64_t bytes, const char* what);
  ~DeviceMemory();
  DeviceMemory(DeviceMemory&& other) noexcept { *this = std::move(other); }
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
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

// Host memory that the device reads and writes at full speed while the host goes on.
class PinnedMemory {
 public:
  PinnedMemory() = default;
  PinnedMemory(int64_t bytes, const char* what);
  ~PinnedMemory();
  PinnedMemory(PinnedMemory&& other) noexcept { *this = std::move(other); }
  PinnedMemory& operator=(PinnedMemory&& other) noexcept {
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
