// For x86-64 compilers that do not know AMX.
#include "cpu/kernels/kernels.h"

namespace motet {

const KernelTable* AmxKernels() { return nullptr; }

}  // namespace motet
