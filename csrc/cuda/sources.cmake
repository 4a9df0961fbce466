# One line a file: kernels (compiled by nvcc, or as C++ for the emulator), host code, bindings, and
# what stands in for them where there is no compiler.
set(cuda_kernels
  csrc/cuda/kernels/dense.cu
  csrc/cuda/kernels/dummy.cu
  csrc/cuda/kernels/norm.cu
  csrc/cuda/kernels/pack.cu
  csrc/cuda/kernels/page_changes.cu)
set(cuda_sources
  csrc/cuda/backend.cpp
  csrc/cuda/device.cpp
  csrc/cuda/launch.cpp
  csrc/cuda/memory.cpp
  csrc/cuda/weight_layout.cpp
  csrc/cuda/weight_store.cpp
  csrc/cuda/workspace.cpp
  csrc/engine/cuda_device.cpp
  csrc/engine/cuda_step.cpp)
set(cuda_bindings
  csrc/bindings/cuda_dense.cpp
  csrc/bindings/cuda_norm.cpp
  csrc/bindings/cuda_ops.cpp)
set(cuda_absent_sources
  csrc/cuda/device_absent.cpp
  csrc/engine/cuda_device_absent.cpp)
set(cuda_absent_bindings
  csrc/bindings/cuda_ops_absent.cpp)
