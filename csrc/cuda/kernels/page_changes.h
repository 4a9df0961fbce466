#pragma once

#include "cuda/memory.h"

namespace motet::cuda {

struct PageChange {
  int32_t at, page;
};

// table[at] = page, for each change.
struct PageChangesArgs {
  int32_t* table;
  const PageChange* changes;  // [count]
  int64_t count;
};
void ApplyPageChanges(const PageChangesArgs& args, Stream stream);

}  // namespace motet::cuda
