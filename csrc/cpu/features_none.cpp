// For targets that have no kernels of their own.
#include "cpu/isa.h"

namespace motet {

std::vector<std::pair<std::string, bool>> CpuFeatures() { return {}; }

}  // namespace motet
