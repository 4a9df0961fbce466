#include "engine/kv_cache.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "base/page.h"
#include "ops/kv_page.h"
#include "sched/scheduler.h"

namespace motet {
namespace {

// Sliding pages for each page of full layers: what PageTables keeps long behind the window.
constexpr int64_t kFullPagesPerKept = 4;

}  // namespace

KvCachePlan MinimalKvCache(const ModelConfig& config, const KvCacheLimits& limits) {
  const int64_t layer_page_bytes = 2 * KvPageBytes(config, limits.dtype);  // keys and values
  const int64_t sliding =
      std::count(config.layer_is_sliding.begin(), config.layer_is_sliding.end(), true);
  KvCachePlan plan;
  plan.full_page_bytes = (config.num_layers - sliding) * layer_page_bytes;
  plan.sliding_page_bytes = sliding * layer_page_bytes;
  plan.full_pages = PagesFor(limits.max_context);
  plan.sliding_pages = SlidingPagesInUse(config.sliding_window, limits.max_sequences,
                                         limits.max_tokens, limits.max_context);
  return plan;
}

KvCachePlan PlanKvCache(const ModelConfig& config, const KvCacheLimits& limits, int64_t bytes) {
  KvCachePlan plan = MinimalKvCache(config, limits);
  if (plan.bytes() > bytes) {
    KvCacheLimits smaller = limits;
    int64_t fits = 0;
    for (int64_t step = PagesFor(limits.max_context); step > 0; step /= 2) {
      while (fits + step < PagesFor(limits.max_context)) {
        smaller.max_context = (fits + step) * kPageTokens;
        if (MinimalKvCache(config, smaller).bytes() > bytes) break;
        fits += step;
      }
    }
    const std::string what = "the KV cache of max_context=" + std::to_string(limits.max_context) +
                             " needs " + std::to_string(plan.bytes()) +
                             " bytes, kv_cache_bytes allows " + std::to_string(bytes);
    throw OutOfMemoryError(
        what + (fits ? "; max_context=" + std::to_string(fits * kPageTokens) + " would fit"
                     : "; no context would fit"));
  }
  const int64_t kept_bytes = limits.prefix_cache ? plan.sliding_page_bytes : 0;
  const int64_t needed = plan.full_pages, useful = limits.max_sequences * needed;
  const int64_t room = bytes - plan.sliding_pages * plan.sliding_page_bytes;
  const int64_t four = kFullPagesPerKept * plan.full_page_bytes + kept_bytes;
  plan.full_pages =
      four == 0 ? useful : std::clamp(room * kFullPagesPerKept / four, needed, useful);
  if (limits.prefix_cache) {
    const int64_t kept = plan.full_pages / kFullPagesPerKept;
    plan.sliding_pages +=
        kept_bytes == 0 ? plan.full_pages : std::min(kept, (bytes - plan.bytes()) / kept_bytes);
  }
  return plan;
}

KvCache::KvCache(const ModelConfig& config, const KvCachePlan& plan, void* memory) {
  const int64_t sliding =
      std::count(config.layer_is_sliding.begin(), config.layer_is_sliding.end(), true);
  const int64_t full = config.num_layers - sliding;
  char* next = static_cast<char*>(memory);
  for (const bool is_sliding : config.layer_is_sliding) {
    const int64_t half = is_sliding ? plan.sliding_pages * plan.sliding_page_bytes / sliding / 2
                                    : plan.full_pages * plan.full_page_bytes / full / 2;
    layers_.push_back({next, next + half, nullptr, 0, is_sliding ? config.sliding_window : 0});
    next += 2 * half;
  }
}

}  // namespace motet
