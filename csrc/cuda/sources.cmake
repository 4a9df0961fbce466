# One line a file: kernels (compiled by nvcc, or as C++ for the emulator), host code, bindings, and
# what stands in for them where there is no compiler.
set(cuda_kernels
  csrc/cuda/kernels/attention.cu
  csrc/cuda/kernels/embed.cu
  csrc/cuda/kernels/norm.cu)
set(cuda_sources
  csrc/cuda/device.cpp
  csrc/cuda/launch.cpp
  csrc/cuda/memory.cpp)
set(cuda_bindings
  csrc/bindings/cuda_attention.cpp
  csrc/bindings/cuda_embed.cpp
  csrc/bindings/cuda_norm.cpp
  csrc/bindings/cuda_ops.cpp)
set(cuda_absent_sources
  csrc/cuda/device_absent.cpp)
set(cuda_absent_bindings
  csrc/bindings/cuda_ops_absent.cpp)
