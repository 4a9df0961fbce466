// Threads of a block as fibers of a thread of the host. A lane runs until it waits for its warp
// or its block; switching is a longjmp, since swapcontext asks the system for the signal mask.
#undef _FORTIFY_SOURCE  // its longjmp refuses to change stacks

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "cuda/emulator/cuda_runtime.h"
#include "cuda/emulator/early_start.h"

namespace motet::emulator {
namespace {

constexpr int kWarp = 32;
constexpr size_t kStackBytes = 128 << 10;
// Of a block, on 9.0. What runs on other cards too is held to less where it is written.
constexpr size_t kSharedBytes = 227 << 10;

enum class State { kReady, kForInputs, kAtBarrier, kInWarp, kDone };

struct Copy {
  void* to;
  const void* from;
  size_t bytes, valid;
};

struct Lane {
  uint3 index;
  State state = State::kDone;
  jmp_buf context;
  ucontext_t start = {};
  bool started = false;
  bool waited = false;  // for inputs
  char* stack = nullptr;
  const char* meeting = nullptr;
  void* operands = nullptr;
  std::vector<std::vector<Copy>> groups;                     // committed, oldest first
  std::vector<Copy> copies;                                  // not committed
  std::vector<std::vector<std::function<void()>>> products;  // of a warpgroup, likewise
  std::vector<std::function<void()>> uncommitted_products;
};

struct Machine {
  std::vector<std::unique_ptr<Lane>> lanes;
  Lane* current = nullptr;
  Block block;
  const std::function<void()>* kernel = nullptr;
  jmp_buf scheduler;
  char* shared = nullptr;
  bool early = false;  // the kernel before this one runs as well
  std::minstd_rand random{1};

  Machine() {
    if (const char* seed = std::getenv("MOTET_EMULATOR_SEED")) random.seed(std::atoi(seed));
    shared = Map(kSharedBytes);
  }
  ~Machine() {
    for (const auto& lane : lanes) munmap(lane->stack, kStackBytes);
    munmap(shared, kSharedBytes);
  }
  static char* Map(size_t size) {
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) Fail("no memory");
    return static_cast<char*>(memory);
  }
};

// The only one, so kernels of several threads of the host take turns.
Machine machine;
std::mutex machine_mutex;

[[noreturn]] void LaneMain() {
  for (;;) {
    (*machine.kernel)();
    machine.current->state = State::kDone;
    if (!machine.current->groups.empty() || !machine.current->copies.empty()) {
      Fail("a kernel ended without waiting for its copies");
    }
    if (!machine.current->products.empty() || !machine.current->uncommitted_products.empty()) {
      Fail("a kernel ended without waiting for its products");
    }
    if (!machine.current->waited) Fail("a thread ended without WaitForInputs()");
    if (_setjmp(machine.current->context) == 0) _longjmp(machine.scheduler, 1);
  }
}

// noinline: what is cached of the fiber's state must not live across the switch.
__attribute__((noinline)) void Yield() {
  if (_setjmp(machine.current->context) == 0) _longjmp(machine.scheduler, 1);
}

__attribute__((noinline)) void Resume(Lane& lane) {
  machine.current = &lane;
  if (_setjmp(machine.scheduler) != 0) return;
  if (lane.started) _longjmp(lane.context, 1);
  lane.started = true;
  setcontext(&lane.start);
  Fail("setcontext returned");
}

void AddLanes(size_t count) {
  while (machine.lanes.size() < count) {
    auto lane = std::make_unique<Lane>();
    lane->stack = Machine::Map(kStackBytes);
    getcontext(&lane->start);
    lane->start.uc_stack = {lane->stack, 0, kStackBytes};
    lane->start.uc_link = nullptr;
    makecontext(&lane->start, reinterpret_cast<void (*)()>(LaneMain), 0);
    machine.lanes.push_back(std::move(lane));
  }
}

// Runs a warp until each of its lanes has ended or waits, but not for the warp.
void RunWarp(const std::vector<size_t>& order) {
  for (bool ran = true; ran;) {
    ran = false;
    for (const size_t i : order) {
      Lane& lane = *machine.lanes[i];
      if (lane.state != State::kReady) continue;
      ran = true;
      Resume(lane);
    }
  }
  for (const size_t i : order) {
    const Lane& lane = *machine.lanes[i];
    if (lane.state == State::kInWarp && !machine.early) {
      Fail(std::string("lanes of a warp part before ") + lane.meeting);
    }
  }
}

void RunBlock(size_t threads, size_t shared_bytes) {
  std::memset(machine.shared, 0xFF, shared_bytes);
  std::vector<std::vector<size_t>> warps((threads + kWarp - 1) / kWarp);
  for (size_t i = 0; i < threads; ++i) {
    warps[i / kWarp].push_back(i);
    const dim3& size = machine.block.size;
    Lane& lane = *machine.lanes[i];
    lane.index = {static_cast<unsigned>(i % size.x), static_cast<unsigned>(i / size.x % size.y),
                  static_cast<unsigned>(i / size.x / size.y)};
    lane.state = State::kReady;
    lane.waited = false;
  }
  std::shuffle(warps.begin(), warps.end(), machine.random);
  for (auto& warp : warps) std::shuffle(warp.begin(), warp.end(), machine.random);
  HideLastKernel();
  machine.early = true;
  for (const auto& warp : warps) RunWarp(warp);
  machine.early = false;
  ShowLastKernel();
  for (size_t i = 0; i < threads; ++i) {
    if (machine.lanes[i]->state == State::kForInputs) machine.lanes[i]->state = State::kReady;
  }
  for (;;) {
    for (const auto& warp : warps) RunWarp(warp);
    size_t done = 0;
    for (size_t i = 0; i < threads; ++i) done += machine.lanes[i]->state == State::kDone;
    if (done == threads) return;
    if (done > 0) Fail("threads of a block have ended while others wait at a barrier");
    for (size_t i = 0; i < threads; ++i) machine.lanes[i]->state = State::kReady;
  }
}

void Arrive(const Copy& copy) {
  std::memcpy(copy.to, copy.from, copy.valid);
  std::memset(static_cast<char*>(copy.to) + copy.valid, 0, copy.bytes - copy.valid);
}

}  // namespace

void Fail(const std::string& what) {
  std::fprintf(stderr, "CUDA emulator: %s\n", what.c_str());
  std::abort();
}

const uint3& ThreadIndex() { return machine.current->index; }
const Block& CurrentBlock() { return machine.block; }
char* SharedBytes() { return machine.shared; }

void Barrier() {
  machine.current->state = State::kAtBarrier;
  Yield();
}

void WaitForInputs() {
  machine.current->waited = true;
  if (!machine.early) return;
  machine.current->state = State::kForInputs;
  Yield();
}

void LetNextStart() {
  if (!machine.current->waited) Fail("LetNextStart() before WaitForInputs()");
}

void Meet(const char* what, void* operands, void (*combine)(void* const* lanes)) {
  Lane& self = *machine.current;
  self.meeting = what;
  self.operands = operands;
  self.state = State::kInWarp;
  const dim3& size = machine.block.size;
  const size_t linear = self.index.x + size.x * (self.index.y + size.y * self.index.z);
  const size_t first = linear / kWarp * kWarp;
  if (first + kWarp > size_t{size.x} * size.y * size.z) Fail(std::string("half a warp at ") + what);
  void* all[kWarp];
  for (size_t i = 0; i < kWarp; ++i) {
    const Lane& lane = *machine.lanes[first + i];
    if (lane.state != State::kInWarp) return Yield();
    if (lane.meeting != what && std::strcmp(lane.meeting, what) != 0) {
      Fail(std::string("lanes of a warp meet at ") + what + " and at " + lane.meeting);
    }
    all[i] = lane.operands;
  }
  combine(all);
  for (size_t i = 0; i < kWarp; ++i) machine.lanes[first + i]->state = State::kReady;
}

void QueueCopy(void* shared, const void* global, size_t bytes, size_t valid) {
  if (reinterpret_cast<uintptr_t>(shared) % bytes || reinterpret_cast<uintptr_t>(global) % bytes) {
    Fail("an asynchronous copy that is not aligned");
  }
  machine.current->copies.push_back({shared, global, bytes, valid});
}

void Touch(const void* global, int64_t bytes) {
  if (reinterpret_cast<uintptr_t>(global) % 16 || bytes % 16 || bytes <= 0) {
    Fail("a prefetch that is not of multiples of 16 bytes");
  }
  const volatile char* p = static_cast<const char*>(global);
  static_cast<void>(p[0]);
  static_cast<void>(p[bytes - 1]);
}

void CommitCopies() {
  machine.current->groups.push_back(std::move(machine.current->copies));
  machine.current->copies.clear();
}

void WaitCopies(int groups_left) {
  auto& groups = machine.current->groups;
  while (groups.size() > static_cast<size_t>(groups_left)) {
    for (const Copy& copy : groups.front()) Arrive(copy);
    groups.erase(groups.begin());
  }
}

void QueueProduct(std::function<void()> product) {
  machine.current->uncommitted_products.push_back(std::move(product));
}

void CommitProducts() {
  machine.current->products.push_back(std::move(machine.current->uncommitted_products));
  machine.current->uncommitted_products.clear();
}

void WaitProducts(int groups_left) {
  auto& groups = machine.current->products;
  while (groups.size() > static_cast<size_t>(groups_left)) {
    for (const auto& product : groups.front()) product();
    groups.erase(groups.begin());
  }
}

void Run(const Stream* stream, dim3 grid, dim3 block, size_t shared_bytes,
         const std::function<void()>& kernel) {
  const size_t threads = size_t{block.x} * block.y * block.z;
  const size_t blocks = size_t{grid.x} * grid.y * grid.z;
  if (threads == 0 || threads > 1024) Fail("a block of " + std::to_string(threads) + " threads");
  if (blocks == 0 || grid.y > 65535 || grid.z > 65535) Fail("a grid of an impossible size");
  if (shared_bytes > kSharedBytes) Fail(std::to_string(shared_bytes) + " bytes of shared memory");
  const std::lock_guard lock(machine_mutex);
  AddLanes(threads);
  BeginKernel(stream);
  machine.kernel = &kernel;
  machine.block.size = block;
  machine.block.grid = grid;
  const size_t start = machine.random() % blocks;  // blocks in a ring, from anywhere
  for (size_t i = 0; i < blocks; ++i) {
    const size_t at = (start + i) % blocks;
    machine.block.index = {static_cast<unsigned>(at % grid.x),
                           static_cast<unsigned>(at / grid.x % grid.y),
                           static_cast<unsigned>(at / grid.x / grid.y)};
    RunBlock(threads, shared_bytes);
  }
  EndKernel(stream);
}

void BetweenKernels(const std::function<void()>& work) {
  const std::lock_guard lock(machine_mutex);
  work();
}

}  // namespace motet::emulator
