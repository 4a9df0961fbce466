#include "cuda/emulator/early_start.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "cuda/emulator/cuda_runtime.h"

namespace motet::emulator {
namespace {

const size_t kPage = static_cast<size_t>(sysconf(_SC_PAGESIZE));

struct Range {
  char* begin;
  size_t size;
};
struct Page {
  char* at;
  std::vector<char> before, after;
};

std::mutex mutex;  // guards:
std::map<char*, size_t> tracked;
struct sigaction previous_action;

// Of a thread of the host, so that others' copies don't count as its kernels' writes.
thread_local struct {
  std::vector<Range> writable;  // the rest of what is tracked is protected
  std::vector<Page> written;    // by the kernel that runs, or ran last
  std::vector<Page> hidden;     // by the one before
  const Stream* last = nullptr;
  bool in_kernel = false, is_hidden = false;
} state;

bool IsTracked(const char* at) {
  const std::lock_guard lock(mutex);
  const auto next = tracked.upper_bound(const_cast<char*>(at));
  return next != tracked.begin() && at < std::prev(next)->first + std::prev(next)->second;
}

void Unprotect(char* begin, size_t size) {
  mprotect(begin, size, PROT_READ | PROT_WRITE);
  state.writable.push_back({begin, size});
}

char* PageOf(void* address) {
  return reinterpret_cast<char*>(reinterpret_cast<uintptr_t>(address) / kPage * kPage);
}

void OnFault(int, siginfo_t* info, void*) {
  char* const page = PageOf(info->si_addr);
  if (!IsTracked(page)) {
    sigaction(SIGSEGV, &previous_action, nullptr);  // the access comes again, and is reported
    return;
  }
  if (state.is_hidden) Fail("a kernel writes before WaitForInputs()");
  if (state.in_kernel) state.written.push_back({page, {page, page + kPage}, {}});
  Unprotect(page, kPage);
}

}  // namespace

void TrackMemory(char* memory, size_t size) {
  static const bool installed = [] {
    struct sigaction action = {};
    action.sa_sigaction = OnFault;
    action.sa_flags = SA_SIGINFO;
    return sigaction(SIGSEGV, &action, &previous_action) == 0;
  }();
  if (!installed) Fail("no handler of faults");
  const std::lock_guard lock(mutex);
  tracked[memory] = size;
  mprotect(memory, size, PROT_READ);
}

void ForgetMemory(char* memory) {
  const std::lock_guard lock(mutex);
  const auto found = tracked.find(memory);
  const auto inside = [&](const char* at) { return at >= memory && at < memory + found->second; };
  std::erase_if(state.writable, [&](const Range& range) { return inside(range.begin); });
  std::erase_if(state.written, [&](const Page& page) { return inside(page.at); });
  tracked.erase(found);
}

void EndOvertaking() { state.last = nullptr; }

void HostWrites(void* memory, size_t size) {
  EndOvertaking();
  if (size == 0 || !IsTracked(static_cast<char*>(memory))) return;
  char* const begin = PageOf(memory);
  char* const last = PageOf(static_cast<char*>(memory) + size - 1);
  Unprotect(begin, static_cast<size_t>(last - begin) + kPage);
}

void BeginKernel(const Stream* stream) {
  state.hidden.clear();
  if (stream == state.last) std::swap(state.hidden, state.written);
  state.written.clear();
  for (const Range& range : std::exchange(state.writable, {})) {
    if (IsTracked(range.begin)) mprotect(range.begin, range.size, PROT_READ);
  }
  for (const Page& page : state.hidden) {
    state.written.push_back({page.at, {page.at, page.at + kPage}, {}});
    Unprotect(page.at, kPage);
  }
  state.in_kernel = true;
}

void EndKernel(const Stream* stream) {
  state.in_kernel = false;
  state.last = stream;
  std::erase_if(state.written,
                [](const Page& p) { return std::equal(p.before.begin(), p.before.end(), p.at); });
}

void HideLastKernel() {
  for (Page& page : state.hidden) {
    page.after.assign(page.at, page.at + kPage);
    std::copy(page.before.begin(), page.before.end(), page.at);
  }
  state.is_hidden = true;
}

void ShowLastKernel() {
  state.is_hidden = false;
  for (const Page& page : state.hidden) {
    if (!std::equal(page.before.begin(), page.before.end(), page.at)) {
      Fail("a kernel writes before WaitForInputs()");
    }
    std::copy(page.after.begin(), page.after.end(), page.at);
  }
}

}  // namespace motet::emulator
