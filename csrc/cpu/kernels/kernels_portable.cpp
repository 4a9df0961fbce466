// Includes before the kernels: only headers whose functions have internal linkage, since this file
// may be compiled with flags that other files are not.
#include <cstdint>
#include <cstring>

#include "cpu/kernels/kernels.h"
#include "cpu/kernels/vec_portable.h"

// The kernels are written against the header above.
#include "cpu/kernels/attention.inl"
#include "cpu/kernels/elementwise.inl"
#include "cpu/kernels/matmul.inl"

namespace motet {

const KernelTable* PortableKernels() {
  static constexpr KernelTable kTable = {
      "portable",          Matmul,           RmsNorm,    Rope, Swiglu,
      Attention<uint16_t>, Attention<float>, RoundToBf16};
  return &kTable;
}

}  // namespace motet
