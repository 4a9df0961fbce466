// Includes before the kernels: only headers whose functions have internal linkage, since this file
// may be compiled with flags that other files are not.
#include <cstdint>
#include <cstring>

#include "cpu/kernels/fixed_neon.h"
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/vec_neon.h"

// The kernels are written against the header above.
#include "cpu/kernels/attention.inl"
#include "cpu/kernels/elementwise.inl"
#include "cpu/kernels/fixed_store.inl"
#include "cpu/kernels/matmul.inl"
#include "cpu/kernels/matmul_fixed.inl"
#include "cpu/kernels/peak.inl"
#include "cpu/kernels/quantize.inl"

namespace motet {

const KernelTable* NeonKernels() {
  static constexpr KernelTable kTable = {"neon",
                                         Matmul,
                                         MatmulFixed,
                                         QuantizeFixed,
                                         MatmulInt8,
                                         QuantizeInt8,
                                         RmsNorm,
                                         Rope,
                                         Swiglu,
                                         Attention<uint16_t>,
                                         Attention<float>,
                                         Attention<int8_t>,
                                         PeakDots<int16_t>,
                                         PeakDots<int8_t>};
  return &kTable;
}

}  // namespace motet
