// Writes into the KV cache.
#pragma once

#include <cstdint>

#include "model/config.h"

namespace motet {

// One token of one KV head and the parts of its pages that are the head's, see ops/kv_page.h.
struct AppendKvArgs {
  const float* k;  // [head_dim]
  const float* v;  // [head_dim]
  int64_t head_dim;
  int64_t slot;  // of the token in its page
  void* keys;
  void* values;
};

// `dtype` is not kAuto.
void AppendKv(KvDtype dtype, const AppendKvArgs& args);

}  // namespace motet
