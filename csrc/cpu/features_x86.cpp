#include <cpuid.h>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "cpu/isa.h"

namespace motet {
namespace {

// Intel SDM, volume 2, CPUID: leaf 7, sub-leaf 0, bits of EDX. (Not every compiler's
// __builtin_cpu_supports knows these.)
constexpr unsigned kAmxTile = 1u << 24;
constexpr unsigned kAmxInt8 = 1u << 25;

unsigned Leaf7Edx() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) ? edx : 0;
}

// Asks for the state of tiles, 8 KiB a thread that the system saves, without which the first tile
// instruction ends the process. Linux gives it to a process and all its threads. (Linux's
// Documentation/arch/x86/xstate.rst)
bool RequestTileData() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM, which old headers lack
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

bool HasTileData(unsigned features) {
  static const bool granted = (features & kAmxTile) != 0 && RequestTileData();
  return granted;
}

}  // namespace

std::vector<std::pair<std::string, bool>> CpuFeatures() {
  __builtin_cpu_init();
  const unsigned edx = Leaf7Edx();
  return {{"avx2", __builtin_cpu_supports("avx2") != 0},
          {"fma", __builtin_cpu_supports("fma") != 0},
          {"f16c", __builtin_cpu_supports("f16c") != 0},
          {"avx512f", __builtin_cpu_supports("avx512f") != 0},
          {"avx512bw", __builtin_cpu_supports("avx512bw") != 0},
          {"avx512vl", __builtin_cpu_supports("avx512vl") != 0},
          {"avx512vnni", __builtin_cpu_supports("avx512vnni") != 0},
          {"avx512bf16", __builtin_cpu_supports("avx512bf16") != 0},
          {"amx-tile", (edx & kAmxTile) != 0},
          {"amx-int8", (edx & kAmxInt8) != 0},
          {"xtiledata", HasTileData(edx)}};  // the system lets this process use tiles
}

}  // namespace motet
