// Which part of a sequence the cache already holds.
#pragma once

#include <cstdint>

#include "sched/page_tables.h"
#include "sched/sequence.h"

namespace motet {

// Keys that only this process knows how to make.
class PageKeys {
 public:
  PageKeys();  // with a random secret

  // Of pages found only by requests with the same salt.
  PageKey Root(uint64_t salt) const;
  // The key of a page that the sequence's tokens fill.
  const PageKey& Of(Sequence& sequence, int64_t page) const;

 private:
  Hash128 secret_;
};

struct PrefixMatch {
  int64_t pages = 0;      // of the longest prefix to go on from
  int64_t full_kept = 0;  // of its full layers' pages those that nobody owns
};

// The longest run of whole pages, of at most `max_tokens` tokens, from whose end the sequence can
// go on: full layers need all of its pages, sliding ones those that the window reaches.
PrefixMatch MatchPrefix(const PageKeys& keys, Sequence& sequence, int64_t max_tokens,
                        const PageTables& full, const PageTables& sliding);

}  // namespace motet
