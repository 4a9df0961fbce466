// What one step computes, as flat arrays that a device can take as they are. Capacities are fixed
// at construction; a step only rewrites the contents.
#pragma once

#include <cstdint>
#include <vector>

#include "base/page.h"

namespace motet {

// How to draw a token from a row of logits, where nothing but the logits is needed; ops/sample.h
// says what the numbers mean.
struct Draw {
  bool wanted = false;
  double temperature, top_p, min_p;
  int top_k;
  uint64_t seed, position;
};

struct BatchPlan {
  int num_tokens = 0;
  int num_logit_rows = 0;
  std::vector<int32_t> token_ids;   // [num_tokens]
  std::vector<int32_t> positions;   // [num_tokens] absolute, from 0
  std::vector<int32_t> slots;       // [num_tokens] the sequence's row in the page tables
  std::vector<int32_t> logit_rows;  // [num_logit_rows] tokens whose logits are wanted
  std::vector<Draw> draws;          // [num_logit_rows]

  // Page tables: [max_sequences, pages_per_sequence] each, -1 where there is no page.
  const int32_t* full_pages = nullptr;
  const int32_t* sliding_pages = nullptr;
  int64_t pages_per_sequence = 0;
  std::vector<PageCopy> full_copies, sliding_copies;  // before anything else in the step

  BatchPlan(int64_t max_tokens, int64_t max_logit_rows, int64_t max_sequences) {
    token_ids.resize(max_tokens);
    positions.resize(max_tokens);
    slots.resize(max_tokens);
    logit_rows.resize(max_logit_rows);
    draws.resize(max_logit_rows);
    full_copies.reserve(max_sequences);  // a sequence writes to one page at most that others see
    sliding_copies.reserve(max_sequences);
  }
};

}  // namespace motet
