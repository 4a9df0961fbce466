// For builds whose target is not x86-64.
#include "cpu/kernels/kernels.h"

namespace motet {

const KernelTable* Avx2Kernels() { return nullptr; }
const KernelTable* Avx512Kernels() { return nullptr; }
const KernelTable* Avx512VnniKernels() { return nullptr; }
const KernelTable* AmxKernels() { return nullptr; }

}  // namespace motet
