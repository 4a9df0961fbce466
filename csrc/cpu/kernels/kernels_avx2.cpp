// Includes before the kernels: only headers whose functions have internal linkage, since this file
// may be compiled with flags that other files are not.
#include <cstdint>
#include <cstring>

#include "cpu/kernels/fixed_avx2.h"
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/vec_avx2.h"

// The kernels are written against the header above.
#include "cpu/kernels/attention.inl"
#include "cpu/kernels/elementwise.inl"
#include "cpu/kernels/matmul.inl"
#include "cpu/kernels/matmul_fixed_avx2.inl"
#include "cpu/kernels/matmul_fixed_few_avx2.inl"
#include "cpu/kernels/peak_avx2.inl"
#include "cpu/kernels/quantize.inl"

namespace motet {

const KernelTable* Avx2Kernels() {
  static constexpr KernelTable kTable = {
      .name = "avx2",
      .matmul = Matmul,
      .matmul_fixed = MatmulFixed,
      .quantize_fixed = QuantizeFixed,
      .matmul_int8 = MatmulInt8,
      .quantize_int8 = QuantizeInt8,
      .rms_norm = RmsNorm,
      .rope = Rope,
      .swiglu = Swiglu,
      .attention_f16 = Attention<uint16_t>,
      .attention_f32 = Attention<float>,
      .attention_int8 = Attention<int8_t>,
      .peak_fixed_dots = PeakDots<int16_t>,
      .peak_int8_dots = PeakDots<int8_t>,
  };
  return &kTable;
}

}  // namespace motet
