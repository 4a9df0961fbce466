#if defined(__APPLE__)
#include <sys/sysctl.h>
#else
#include <sys/auxv.h>
#endif

#include <cstddef>

#include "cpu/isa.h"

namespace motet {
namespace {

bool HasDotProducts() {
#if defined(__APPLE__)
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &value, &size, nullptr, 0) == 0 && value != 0;
#else
  constexpr unsigned long kAsimdDp = 1ul << 20;  // HWCAP_ASIMDDP, which old headers lack
  return (getauxval(AT_HWCAP) & kAsimdDp) != 0;
#endif
}

}  // namespace

std::vector<std::pair<std::string, bool>> CpuFeatures() {
  return {{"neon", true}, {"asimddp", HasDotProducts()}};
}

}  // namespace motet
