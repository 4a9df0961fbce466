// Includes before the kernels: only headers whose functions have internal linkage, since this file
// may be compiled with flags that other files are not.
#include <cstdint>
#include <cstring>

#include "cpu/kernels/fixed_avx512.h"
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/vec_avx2.h"
#include "cpu/kernels/vec_avx512.h"

// The kernels are written against the headers above.
#include "cpu/kernels/attention_avx512.inl"
#include "cpu/kernels/elementwise.inl"
#include "cpu/kernels/fixed_store.inl"
#include "cpu/kernels/matmul.inl"
#include "cpu/kernels/matmul_fixed_avx512.inl"
#include "cpu/kernels/peak_avx512.inl"
#include "cpu/kernels/quantize.inl"

namespace motet {

const KernelTable* Avx512VnniKernels() {
  static constexpr KernelTable kTable = {"avx512vnni",
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
