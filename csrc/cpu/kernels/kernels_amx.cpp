// Includes before the kernels: only headers whose functions have internal linkage, since this file
// may be compiled with flags that other files are not.
#include <immintrin.h>

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
#include "cpu/kernels/quantize.inl"

// And these against those above.
#include "cpu/kernels/tiles_amx.inl"

#include "cpu/kernels/matmul_fixed_amx.inl"
#include "cpu/kernels/peak_amx.inl"

namespace motet {

const KernelTable* AmxKernels() {
  static constexpr KernelTable kTable = {
      .name = "amx",
      .matmul = Matmul,
      .matmul_fixed = MatmulFixedAmx,
      .quantize_fixed = QuantizeFixed,
      .matmul_int8 = MatmulInt8Amx,
      .quantize_int8 = QuantizeInt8,
      .rms_norm = RmsNorm,
      .rope = Rope,
      .swiglu = Swiglu,
      .attention_f16 = Attention<uint16_t>,
      .attention_f32 = Attention<float>,
      .attention_int8 = Attention<int8_t>,
      .peak_fixed_dots = PeakSplitTiles,
      .peak_int8_dots = PeakTiles,
  };
  return &kTable;
}

}  // namespace motet
