#include "cpu/isa.h"

#include <algorithm>
#include <cstdlib>

#include "base/error.h"

namespace motet {
namespace {

#ifdef MOTET_AMX_EMULATED
constexpr bool kAmxEmulated = true;
#else
constexpr bool kAmxEmulated = false;
#endif

}  // namespace

std::vector<const KernelTable*> RunnableKernels() {
  const auto features = CpuFeatures();
  const auto has = [&](const char* feature) {
    return std::find(features.begin(), features.end(), std::pair{std::string(feature), true}) !=
           features.end();
  };
  const bool avx2 = Avx2Kernels() && has("avx2") && has("fma") && has("f16c");
  const bool avx512 = avx2 && has("avx512f") && has("avx512bw") && has("avx512vl");
  const bool vnni = avx512 && has("avx512vnni");
  const bool amx = vnni && has("amx-tile") && has("amx-int8") && has("xtiledata");
  std::vector<const KernelTable*> tables;
  if (amx && AmxKernels() && !kAmxEmulated) tables.push_back(AmxKernels());
  if (vnni) tables.push_back(Avx512VnniKernels());
  if (avx512) tables.push_back(Avx512Kernels());
  if (avx2) tables.push_back(Avx2Kernels());
  if (NeonDotprodKernels() && has("asimddp")) tables.push_back(NeonDotprodKernels());
  if (NeonKernels() && has("neon")) tables.push_back(NeonKernels());
  if (avx2 && kAmxEmulated) tables.push_back(AmxKernels());  // never chosen unasked
  tables.push_back(PortableKernels());
  return tables;
}

const KernelTable& SelectKernels() {
  const std::vector<const KernelTable*> tables = RunnableKernels();
  const char* wanted = std::getenv("MOTET_ISA");
  if (!wanted || !*wanted) return *tables.front();
  std::string names;
  for (const KernelTable* table : tables) {
    if (std::string(wanted) == table->name) return *table;
    names += (names.empty() ? "" : ", ") + std::string(table->name);
  }
  throw InvalidRequestError("MOTET_ISA", "MOTET_ISA: expected one of " + names +
                                             " on this CPU, found " + std::string(wanted));
}

}  // namespace motet
