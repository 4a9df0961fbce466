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
#include "cpu/kernels/fixed_rows_avx512.inl"
#include "cpu/kernels/fixed_store.inl"
#include "cpu/kernels/matmul.inl"
#include "cpu/kernels/peak_avx512.inl"
#include "cpu/kernels/quantize.inl"

// Written against those, and the last against all.
#include "cpu/kernels/matmul_fixed_few_avx512.inl"

#include "cpu/kernels/matmul_fixed_avx512.inl"

// What there is by the table's names.
#include "cpu/kernels/kernel_table.inl"

namespace motet {

const KernelTable* Avx512VnniKernels() {
  static constexpr KernelTable kTable = TableNamed("avx512vnni");
  return &kTable;
}

}  // namespace motet
