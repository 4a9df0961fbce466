// Includes before the kernels: only headers whose functions have internal linkage, since this file
// may be compiled with flags that other files are not.
#include <cstdint>
#include <cstring>

#include "cpu/kernels/fixed_portable.h"
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/vec_portable.h"

// The kernels are written against the header above.
#include "cpu/kernels/attention.inl"
#include "cpu/kernels/elementwise.inl"
#include "cpu/kernels/fixed_store.inl"
#include "cpu/kernels/matmul.inl"
#include "cpu/kernels/matmul_fixed.inl"
#include "cpu/kernels/peak.inl"
#include "cpu/kernels/quantize.inl"

// What there is by the table's names.
#include "cpu/kernels/kernel_table.inl"

namespace motet {

const KernelTable* PortableKernels() {
  static constexpr KernelTable kTable = TableNamed("portable");
  return &kTable;
}

}  // namespace motet
