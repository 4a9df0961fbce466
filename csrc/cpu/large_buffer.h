// Memory from the system, zeros, which it backs when it is first written.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <string>
#include <utility>

#include "base/error.h"

namespace motet {

class LargeBuffer {
 public:
  // Huge pages have fewer translations, which lets a core read faster; they are backed as a whole.
  enum class Pages { kHuge, kSmall };

  LargeBuffer() = default;
  // `what` is for the message of the OutOfMemoryError that it throws.
  LargeBuffer(int64_t size, const char* what, Pages pages = Pages::kHuge) : size_(size) {
    if (size == 0) return;
    void* memory = mmap(nullptr, static_cast<size_t>(size), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      throw OutOfMemoryError("the system refused " + std::to_string(size) + " bytes for " + what);
    }
    data_ = static_cast<uint8_t*>(memory);
#ifdef MADV_HUGEPAGE
    if (pages == Pages::kHuge) {  // a wish: failing costs nothing
      madvise(memory, static_cast<size_t>(size), MADV_HUGEPAGE);
    }
#endif
  }
  ~LargeBuffer() {
    if (data_) munmap(data_, static_cast<size_t>(size_));
  }
  LargeBuffer(LargeBuffer&& other) noexcept { *this = std::move(other); }
  LargeBuffer& operator=(LargeBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }

  uint8_t* data() { return data_; }
  int64_t size() const { return size_; }

 private:
  uint8_t* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace motet
