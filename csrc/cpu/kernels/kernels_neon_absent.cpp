// For builds whose target is not AArch64.
#include "cpu/kernels/kernels.h"

namespace motet {

const KernelTable* NeonKernels() { return nullptr; }
const KernelTable* NeonDotprodKernels() { return nullptr; }

}  // namespace motet
