// What the scheduler knows of a request.
#pragma once

#include <cstdint>
#include <vector>

#include "sched/page_index.h"

namespace motet {

struct Sequence {
  std::vector<int32_t> tokens;  // prompt, then output
  int64_t n_prompt = 0;
  int64_t max_tokens = 0;  // prompt and output together
  int64_t arrival = 0;     // requests are served in this order
  PageKey root;            // stands for what comes before the first page: pages are found under it

  int64_t max_chunk = 0;       // tokens a step at most; 0: what the budget allows
  bool all_logits = false;     // logits of every prompt position, not only the last
  int64_t logits_taken = 0;    // prompt positions whose logits need not be computed again
  bool stalled = false;        // its reader is behind: no step may compute its next token
  std::vector<int32_t> draft;  // tokens that may follow, to be checked in the same step

  // The scheduler's own.
  int64_t computed = 0;       // tokens whose keys and values are in the cache
  int64_t cached_tokens = 0;  // of them those that were found there when the request first started
  int32_t slot = -1;          // row in the page tables while running
  std::vector<PageKey> keys;  // of the pages that `tokens` fill, as far as they were needed
  int64_t planned = 0;        // tokens of the step that is being planned, without the draft

  int64_t length() const { return static_cast<int64_t>(tokens.size()); }
  // Whether only the last token is left to compute, after which a new one is drawn.
  bool generating() const { return computed + 1 == length() && computed >= n_prompt; }
};

}  // namespace motet
