// Arrays of numpy in device memory, for the bindings of CUDA's kernels.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/memory.h"

namespace motet {

template <class T>
using Array = pybind11::array_t<T, pybind11::array::c_style | pybind11::array::forcecast>;

inline void Expect(bool ok, const char* what) {
  if (!ok) throw std::invalid_argument(std::string("expected ") + what);
}

template <class T>
class OnDevice {
 public:
  // Every byte 0xFF: NaN, for what is not written to be seen.
  OnDevice(int64_t count, cuda::Stream stream)
      : count_(count), stream_(stream), memory_(count * static_cast<int64_t>(sizeof(T)), "a test") {
    if (count) cuda::Fill(memory_.as<char>(), 0xFF, memory_.bytes(), stream);
  }
  OnDevice(const Array<T>& array, cuda::Stream stream) : OnDevice(array.size(), stream) {
    if (count_ == 0) return;
    cuda::PinnedMemory pinned(memory_.bytes(), "a test");
    std::memcpy(pinned.as<char>(), array.data(), static_cast<size_t>(memory_.bytes()));
    cuda::CopyToDevice(data(), pinned.as<char>(), memory_.bytes(), stream);
    cuda::Synchronize(stream);
  }

  T* data() const { return memory_.as<T>(); }
  Array<T> Host(const std::vector<pybind11::ssize_t>& shape) const {
    Array<T> array(shape);
    if (array.size() == 0) return array;
    cuda::PinnedMemory pinned(memory_.bytes(), "a test");
    cuda::CopyToHost(pinned.as<char>(), data(), memory_.bytes(), stream_);
    cuda::Synchronize(stream_);
    std::memcpy(array.mutable_data(), pinned.as<char>(), static_cast<size_t>(array.nbytes()));
    return array;
  }

 private:
  int64_t count_;
  cuda::Stream stream_;
  cuda::DeviceMemory memory_;
};

// One a file of kernels; cuda_ops.cpp calls them all.
void BindCudaDense(pybind11::module_& m);
void BindCudaAttention(pybind11::module_& m);
void BindCudaEmbed(pybind11::module_& m);
void BindCudaNorm(pybind11::module_& m);
void BindCudaSample(pybind11::module_& m);
void BindCudaMoe(pybind11::module_& m);
void BindCudaMxfp4(pybind11::module_& m);
void BindCudaNorm(pybind11::module_& m);
void BindCudaRoute(pybind11::module_& m);

}  // namespace motet
