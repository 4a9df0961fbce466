// Where a KV head's part of a page is and what it holds, see ops/kv_page.h.
#pragma once

namespace motet {
namespace {

template <class Element>
inline const Element* PageOf(const void* pages, int64_t page, int64_t stride) {
  return reinterpret_cast<const Element*>(static_cast<const char*>(pages) + page * stride);
}

// The scales [kPageTokens] at the end of integers, null for other elements.
template <class Element>
inline const float* ScalesOf(const Element* page, int64_t head_dim) {
  return sizeof(Element) == 1 ? reinterpret_cast<const float*>(page + head_dim * kPageTokens)
                              : nullptr;
}

}  // namespace
}  // namespace motet
