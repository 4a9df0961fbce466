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
#include "cpu/kernels/fixed_rows_avx512.inl"
#include "cpu/kernels/fixed_store.inl"
#include "cpu/kernels/matmul.inl"
#include "cpu/kernels/quantize.inl"

// Written against those, and each against the ones before it.
#include "cpu/kernels/matmul_fixed_few_avx512.inl"

#include "cpu/kernels/matmul_fixed_avx512.inl"

#include "cpu/kernels/tiles_amx.inl"

#include "cpu/kernels/matmul_fixed_amx.inl"
#include "cpu/kernels/peak_amx.inl"

// What there is by the table's names.
#include "cpu/kernels/kernel_table.inl"

namespace motet {

const KernelTable* AmxKernels() {
  static constexpr KernelTable kTable = [] {
    KernelTable table = TableNamed("amx");
    table.matmul_fixed = MatmulFixedAmx;
    table.matmul_int8 = MatmulInt8Amx;
    return table;
  }();
  return &kTable;
}

}  // namespace motet
