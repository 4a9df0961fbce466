#include "cpu/kernels/kernels.h"

namespace motet {

const KernelTable* Avx2Kernels() { return nullptr; }

}  // namespace motet
