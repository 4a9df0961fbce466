# One line a file: kernels (compiled by nvcc, or as C++ for the emulator), host code, bindings, and
# what stands in for them where there is no compiler.
set(cuda_kernels
  csrc/cuda/kernels/choose_experts.cu
  csrc/cuda/kernels/dense.cu
  csrc/cuda/kernels/moe.cu
  csrc/cuda/kernels/norm.cu
  csrc/cuda/kernels/pack.cu
  csrc/cuda/kernels/pack_mxfp4.cu
  csrc/cuda/kernels/route.cu)
set(cuda_sources
  csrc/cuda/device.cpp
  csrc/cuda/launch.cpp
  csrc/cuda/memory.cpp)
set(cuda_bindings
  csrc/bindings/cuda_dense.cpp
  csrc/bindings/cuda_moe.cpp
  csrc/bindings/cuda_mxfp4.cpp
  csrc/bindings/cuda_norm.cpp
  csrc/bindings/cuda_ops.cpp
  csrc/bindings/cuda_route.cpp)
set(cuda_absent_sources
  csrc/cuda/device_absent.cpp)
set(cuda_absent_bindings
  csrc/bindings/cuda_ops_absent.cpp)
