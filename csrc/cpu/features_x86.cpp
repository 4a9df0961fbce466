#include <cpuid.h>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "cpu/isa.h"

namespace motet {
namespace {

// What not every compiler's __builtin_cpu_supports knows. (Intel SDM, volume 2, CPUID)
constexpr unsigned kF16c = 1u << 29;     // leaf 1, ECX
constexpr unsigned kAmxTile = 1u << 24;  // leaf 7, sub-leaf 0, EDX
constexpr unsigned kAmxInt8 = 1u << 25;

struct Leaf {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  explicit Leaf(unsigned number) { __get_cpuid_count(number, 0, &eax, &ebx, &ecx, &edx); }
};

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
  const unsigned edx = Leaf(7).edx;
  return {{"avx2", __builtin_cpu_supports("avx2") != 0},
          {"fma", __builtin_cpu_supports("fma") != 0},
          {"f16c", (Leaf(1).ecx & kF16c) != 0},
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
