// Memory of the KV cache: planned first, then reserved once. Pages of full layers and of sliding
// layers are counted separately, since sliding layers give theirs back behind the window.
#pragma once

#include <cstdint>
#include <vector>

#include "model/config.h"
#include "ops/ops.h"

namespace motet {

struct KvCachePlan {
  int64_t full_pages = 0, sliding_pages = 0;
  int64_t full_page_bytes = 0, sliding_page_bytes = 0;  // of all layers of the kind together

  int64_t bytes() const {
    return full_pages * full_page_bytes + sliding_pages * sliding_page_bytes;
  }
};

struct KvCacheLimits {
  KvDtype dtype;          // not kAuto
  int64_t max_context;    // tokens of one sequence
  int64_t max_sequences;  // running at once
  int64_t max_tokens;     // computed in one step
  bool prefix_cache;
};

// The least that lets one sequence fill its context while the others wait.
KvCachePlan MinimalKvCache(const ModelConfig& config, const KvCacheLimits& limits);

// As many full pages as fit `bytes`, at most what all sequences together can use; with a prefix
// cache sliding pages too, for those that are kept behind the window. Throws OutOfMemoryError,
// naming the largest context that would fit, when not even the minimum does.
KvCachePlan PlanKvCache(const ModelConfig& config, const KvCacheLimits& limits, int64_t bytes);

// Each layer's part of a device's memory of plan.bytes().
class KvCache {
 public:
  KvCache(const ModelConfig& config, const KvCachePlan& plan, void* memory);

  // Without page tables, which a step brings.
  const std::vector<LayerCache>& layers() const { return layers_; }

 private:
  std::vector<LayerCache> layers_;
};

}  // namespace motet
