// Which instruction sets this build has kernels for and this CPU runs; the choice among them.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "cpu/kernels/kernels.h"

namespace motet {

// Features of the running CPU that kernels could use, by their usual names; one file a
// processor family.
std::vector<std::pair<std::string, bool>> CpuFeatures();

// Kernel tables that run here, best first; never empty: "portable" always runs.
std::vector<const KernelTable*> RunnableKernels();

// The best runnable table, or the one that the environment variable MOTET_ISA names. Throws
// InvalidRequestError when it names one that this build or this CPU does not have.
const KernelTable& SelectKernels();

}  // namespace motet
