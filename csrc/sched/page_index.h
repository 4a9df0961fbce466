// Which page holds the keys and values of which tokens: a hash table of fixed capacity, so that a
// step never allocates.
#pragma once

#include <cstdint>
#include <vector>

#include "base/siphash.h"

namespace motet {

// Names a page by its tokens and all before them: the keyed hash of the page's tokens and of the
// previous page's key, see PageKeys.
using PageKey = Hash128;

// Open addressing with linear probing; at most half of the slots are ever in use.
class PageIndex {
 public:
  explicit PageIndex(int64_t num_pages);

  int32_t Find(const PageKey& key) const;  // -1 if there is none
  // `key` must not be there yet; the page must not have another one.
  void Insert(const PageKey& key, int32_t page);
  void Erase(const PageKey& key);

 private:
  struct Slot {
    PageKey key;
    int32_t page = -1;
  };
  size_t Home(const PageKey& key) const { return key.low & mask_; }
  size_t Probe(const PageKey& key) const;  // its slot, or the empty one where it would go

  size_t mask_;
  std::vector<Slot> slots_;
};

}  // namespace motet
