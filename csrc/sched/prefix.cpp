#include "sched/prefix.h"

#include <algorithm>
#include <random>

namespace motet {
namespace {

uint64_t RandomWord(std::random_device& device) {
  return static_cast<uint64_t>(device()) << 32 | device();
}

}  // namespace

PageKeys::PageKeys() {
  std::random_device device;
  secret_ = {RandomWord(device), RandomWord(device)};
}

PageKey PageKeys::Root(uint64_t salt) const { return SipHash128(secret_, &salt, 1); }

const PageKey& PageKeys::Of(Sequence& sequence, int64_t page) const {
  for (int64_t i = static_cast<int64_t>(sequence.keys.size()); i <= page; ++i) {
    const PageKey& before = i == 0 ? sequence.root : sequence.keys.back();
    const int32_t* tokens = sequence.tokens.data() + i * kPageTokens;
    uint64_t words[2 + kPageTokens / 2] = {before.low, before.high};
    for (int j = 0; j < kPageTokens; j += 2) {
      words[2 + j / 2] = static_cast<uint64_t>(static_cast<uint32_t>(tokens[j])) |
                         static_cast<uint64_t>(static_cast<uint32_t>(tokens[j + 1])) << 32;
    }
    sequence.keys.push_back(SipHash128(secret_, words, std::size(words)));
  }
  return sequence.keys[page];
}

PrefixMatch MatchPrefix(const PageKeys& keys, Sequence& sequence, int64_t max_tokens,
                        const PageTables& full, const PageTables& sliding) {
  PrefixMatch match;
  int64_t full_kept = 0, sliding_run = 0;
  for (int64_t i = 0; (i + 1) * kPageTokens <= max_tokens; ++i) {
    const PageKey& key = keys.Of(sequence, i);
    const int32_t page = full.pool().Find(key);
    if (page < 0) break;
    full_kept += full.pool().owners(page) == 0;
    sliding_run = sliding.pool().Find(key) >= 0 ? sliding_run + 1 : 0;
    if (sliding_run >= std::min(i + 1, sliding.window_pages())) match = {i + 1, full_kept};
  }
  return match;
}

}  // namespace motet
