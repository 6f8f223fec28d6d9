// The scheduler: one block at a time, a fiber a thread; and the memory that the threads share.
#include "simt.h"

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <exception>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace simt {
namespace {

constexpr size_t kStackBytes = 64 * 1024;   // as much as a kernel without big local arrays can want
constexpr size_t kSharedBytes = 64 * 1024;  // what the smallest of the devices from sm_75 on has for a block

std::string text(dim3 at) {
  return "(" + std::to_string(at.x) + ", " + std::to_string(at.y) + ", " + std::to_string(at.z) + ")";
}

// A stack between two pages that nobody may touch.
class Stack {
 public:
  Stack() : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    base_ = mmap(nullptr, kStackBytes + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (base_ == MAP_FAILED || mprotect(bottom(), kStackBytes, PROT_READ | PROT_WRITE) != 0)
      throw Error("simt: no memory for a fiber's stack");
  }
  ~Stack() {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(bottom(), kStackBytes);  // of the frames that an error left behind
#endif
    munmap(base_, kStackBytes + 2 * page_);
  }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;
  void* bottom() const { return static_cast<char*>(base_) + page_; }

 private:
  size_t page_;
  void* base_;
};

// A place to go on at. swapcontext would do, but makes a system call each time, which is most of what a run would cost.
using Place = void* [5];

[[noreturn]] __attribute__((noinline, no_sanitize("address"))) void jump(Place to) { __builtin_longjmp(to, 1); }

// Comes back when somebody jumps to `from`.
__attribute__((noinline, no_sanitize("address"))) void switch_places(Place from, Place to) {
  if (__builtin_setjmp(from) == 0) jump(to);
}

__attribute__((noinline, no_sanitize("address"))) void switch_places(Place from, const ucontext_t& to) {
  if (__builtin_setjmp(from) == 0) setcontext(&to);
}

std::string at(const char* intrinsic, Line line) {
  return std::string(intrinsic) + " (line " + std::to_string(line.number) + ")";
}

// Where threads meet: a barrier of the block, or an intrinsic of a warp.
struct Meeting {
  const char* what = "";
  Line line{};
  unsigned mask = 0;
  unsigned arrived = 0;  // how many; of a warp, which lanes
  int sum = 0, total = 0;
  uint64_t given[warpSize] = {}, values[warpSize] = {};  // those who come, and those who met last
  uint64_t held = 0;                                     // how often it has been held

  std::string place() const { return at(what, line); }
};

struct Warp {
  std::map<unsigned, Meeting> meetings;    // by their masks
  uint32_t seen[warpSize][warpSize] = {};  // [a][b]: all that lane b did before this time, lane a may build on
};

// The threads that have touched a byte and may not have been waited for. Time counts barriers and __syncwarps: what
// happened before the time of the block's last barrier is over for all its threads.
struct Users {
  uint32_t time = 0;   // of the first of them
  uint32_t lanes = 0;  // of `warp`, which the first is of
  uint16_t warp = 0;
  bool many_warps = false, atomic = false;
};

}  // namespace

class SharedArray {
 public:
  SharedArray(const char* name, size_t bytes) : name(name), data(bytes), written(bytes), read(bytes) {}

  std::string name;
  std::vector<unsigned char> data;
  std::vector<Users> written, read;  // by whom, a byte
};

namespace {

// A thread of the block. It lives on from block to block and from launch to launch.
struct Fiber {
  explicit Fiber(unsigned rank_) : rank(rank_) {}

  const unsigned rank;  // x fastest
  dim3 index;
  bool is_done = false;
  Meeting* waits = nullptr;
  uint64_t since = 0;  // waits->held at the arrival

  Stack stack;
  bool is_new = true;
  ucontext_t start;  // where a new one begins
  Place place;       // where another one goes on
};

std::vector<std::unique_ptr<Fiber>>& fibers() {
  static std::vector<std::unique_ptr<Fiber>> all;
  return all;
}

class Block {
 public:
  Block(const char* kernel, dim3 grid, dim3 block, size_t dynamic_bytes, const std::function<void()>& body);
  void run(dim3 index, const std::vector<unsigned>& order);

  // For the running fiber.
  std::string describe() const {
    return std::string("kernel ") + kernel_ + ", block " + text(blockIdx) + ", thread " + text(threadIdx) + ": ";
  }
  void yield();
  int barrier(const char* intrinsic, int value, Line line);
  const uint64_t* exchange(const char* intrinsic, unsigned mask, uint64_t value, Line line);
  void sync_warp(unsigned mask, Line line);
  SharedArray& shared(const void* site, const char* name, size_t bytes);
  SharedArray& dynamic() { return dynamic_; }
  unsigned char* access(SharedArray& array, ptrdiff_t index, size_t size, Access access);
  unsigned lane() const { return current_->rank % warpSize; }
  unsigned lanes() const {
    const unsigned count = std::min<unsigned>(warpSize, threads_ - current_->rank / warpSize * warpSize);
    return count == warpSize ? 0xffffffffu : (1u << count) - 1;
  }
  unsigned threads() const { return threads_; }

 private:
  static void enter();
  void resume(Fiber& fiber);
  [[noreturn]] void report_stuck() const;
  bool meet(Meeting& meeting, unsigned mark, unsigned everybody, const char* what, unsigned mask, Line line);
  bool meet_in_warp(const char* intrinsic, unsigned mask, uint64_t value, Line line);
  Warp& warp() { return warps_[current_->rank / warpSize]; }
  bool are_over(const Users& users);
  void join(Users& users, bool atomic);
  std::string others(const Users& users) const;

  const char* kernel_;
  const std::function<void()>& body_;
  unsigned threads_;
  Place scheduler_;
  Fiber* current_ = nullptr;
  std::exception_ptr failure_;
  Meeting barrier_;
  std::vector<Warp> warps_;
  std::map<const void*, SharedArray> shared_;
  SharedArray dynamic_;
  size_t shared_bytes_;
  uint32_t time_ = 0, block_began_ = 0, last_barrier_ = 0;
#if defined(__SANITIZE_ADDRESS__)
  const void* scheduler_stack_ = nullptr;
  size_t scheduler_size_ = 0;
#endif
};

Block* running = nullptr;

Block& block() {
  if (running == nullptr) throw Error("simt: an intrinsic was called outside a kernel");
  return *running;
}

Block::Block(const char* kernel, dim3 grid, dim3 block, size_t dynamic_bytes, const std::function<void()>& body)
    : kernel_(kernel),
      body_(body),
      threads_(block.x * block.y * block.z),
      dynamic_("dynamic_shared", dynamic_bytes),
      shared_bytes_(dynamic_bytes) {
  const auto refuse = [&](const std::string& what) { throw Error(std::string("kernel ") + kernel + ": " + what); };
  if (threads_ == 0 || threads_ > 1024 || block.z > 64) refuse("a block of " + text(block) + " threads");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffff || grid.y > 0xffff || grid.z > 0xffff)
    refuse("a grid of " + text(grid) + " blocks");
  if (dynamic_bytes > kSharedBytes) refuse(std::to_string(dynamic_bytes) + " bytes of dynamic shared memory");
  gridDim = grid;
  blockDim = block;
  warps_.resize((threads_ + warpSize - 1) / warpSize);
  for (unsigned i = static_cast<unsigned>(fibers().size()); i < threads_; ++i) {
    fibers().push_back(std::make_unique<Fiber>(i));
    Fiber& fiber = *fibers().back();
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.bottom();
    fiber.start.uc_stack.ss_size = kStackBytes;
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, &Block::enter, 0);
  }
}

void Block::enter() {
  for (;; running->yield()) {
#if defined(__SANITIZE_ADDRESS__)
    if (running->current_->is_new)
      __sanitizer_finish_switch_fiber(nullptr, &running->scheduler_stack_, &running->scheduler_size_);
#endif
    running->current_->is_new = false;
    try {
      running->body_();
    } catch (...) {
      running->failure_ = std::current_exception();
    }
    running->current_->is_done = true;
  }
}

void Block::resume(Fiber& fiber) {
  current_ = &fiber;
  threadIdx = fiber.index;
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, fiber.stack.bottom(), kStackBytes);
#endif
  if (fiber.is_new)
    switch_places(scheduler_, fiber.start);
  else
    switch_places(scheduler_, fiber.place);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void Block::yield() {
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, scheduler_stack_, scheduler_size_);
#endif
  switch_places(current_->place, scheduler_);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, &running->scheduler_stack_, &running->scheduler_size_);
#endif
}

void Block::run(dim3 index, const std::vector<unsigned>& order) {
  blockIdx = index;
  block_began_ = last_barrier_ = ++time_;
  for (unsigned i = 0; i < threads_; ++i) {
    Fiber& fiber = *fibers()[i];
    fiber.index = dim3(i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y);
    fiber.is_done = false;
    fiber.waits = nullptr;
  }
  for (unsigned left = threads_; left > 0;) {
    bool moved = false;
    for (const unsigned i : order) {
      Fiber& fiber = *fibers()[i];
      if (fiber.is_done || (fiber.waits != nullptr && fiber.waits->held == fiber.since)) continue;
      fiber.waits = nullptr;
      resume(fiber);
      moved = true;
      if (fiber.is_done) --left;
    }
    if (!moved) report_stuck();
  }
}

// Every fiber that is not done waits for one that will not come.
void Block::report_stuck() const {
  const Fiber* waiting = nullptr;
  for (unsigned i = threads_; i > 0; --i)
    if (!fibers()[i - 1]->is_done) waiting = fibers()[i - 1].get();
  const Meeting& meeting = *waiting->waits;
  const bool is_barrier = &meeting == &barrier_;
  std::ostringstream message;
  message << "kernel " << kernel_ << ", block " << text(blockIdx) << ", thread " << text(waiting->index)
          << ": waits at " << meeting.place() << " for thread ";
  for (unsigned i = 0; i < threads_; ++i) {
    const Fiber& fiber = *fibers()[i];
    if (fiber.waits == &meeting) continue;
    const bool needed = is_barrier || (fiber.rank / warpSize == waiting->rank / warpSize &&
                                       (meeting.mask >> fiber.rank % warpSize & 1));
    if (!needed) continue;
    message << text(fiber.index);
    if (fiber.is_done)
      message << ", which has returned";
    else
      message << ", which waits at " << fiber.waits->place();
    break;
  }
  throw Error(message.str());
}

// The running fiber comes to a meeting and waits until all of it are there; true for the last, which goes on first.
bool Block::meet(Meeting& meeting, unsigned mark, unsigned everybody, const char* what, unsigned mask, Line line) {
  if (meeting.arrived == 0) {
    meeting.what = what;
    meeting.line = line;
    meeting.mask = mask;
  } else if (std::strcmp(meeting.what, what) != 0 || std::strcmp(meeting.line.file, line.file) != 0 ||
             meeting.line.number != line.number) {
    throw Error(describe() + "comes to " + at(what, line) + ", but others wait at " + meeting.place());
  }
  meeting.arrived += mark;
  if (meeting.arrived == everybody) {
    std::copy(std::begin(meeting.given), std::end(meeting.given), meeting.values);
    meeting.total = std::exchange(meeting.sum, 0);
    meeting.arrived = 0;
    ++meeting.held;
    return true;
  }
  current_->waits = &meeting;
  current_->since = meeting.held;
  yield();
  return false;
}

int Block::barrier(const char* intrinsic, int value, Line line) {
  barrier_.sum += value;
  if (meet(barrier_, 1, threads_, intrinsic, 0, line)) last_barrier_ = ++time_;
  return barrier_.total;
}

bool Block::meet_in_warp(const char* intrinsic, unsigned mask, uint64_t value, Line line) {
  const unsigned mine = 1u << lane();
  if ((mask & mine) == 0) fail(std::string("calls ") + intrinsic + " with a mask that leaves itself out");
  // A full mask names the lanes that the warp has.
  const unsigned everybody = mask & lanes();
  if (mask != 0xffffffffu && everybody != mask)
    fail(std::string("calls ") + intrinsic + " with lanes that are not there");
  for (const auto& [other_mask, other] : warp().meetings)
    if (other.arrived != 0 && other_mask != mask && (other_mask & mask) != 0)
      fail(std::string("comes to ") + at(intrinsic, line) + ", but others wait, with another mask, at " +
           other.place());
  Meeting& meeting = warp().meetings[mask];
  meeting.given[lane()] = value;
  return meet(meeting, mine, everybody, intrinsic, mask, line);
}

const uint64_t* Block::exchange(const char* intrinsic, unsigned mask, uint64_t value, Line line) {
  meet_in_warp(intrinsic, mask, value, line);
  return warp().meetings[mask].values;
}

// Each lane of the mask learns what any of them had learnt of the others, and that all of theirs is over.
void Block::sync_warp(unsigned mask, Line line) {
  if (!meet_in_warp("__syncwarp", mask, 0, line)) return;
  auto& seen = warp().seen;
  ++time_;
  for (int of = 0; of < warpSize; ++of) {
    uint32_t latest = 0;
    for (int lane = 0; lane < warpSize; ++lane)
      if (mask >> lane & 1) latest = std::max(latest, seen[lane][of]);
    if (mask >> of & 1) latest = time_;
    for (int lane = 0; lane < warpSize; ++lane)
      if (mask >> lane & 1) seen[lane][of] = latest;
  }
}

SharedArray& Block::shared(const void* site, const char* name, size_t bytes) {
  const auto [entry, is_new] = shared_.try_emplace(site, name, bytes);
  SharedArray& array = entry->second;
  if (is_new) {
    shared_bytes_ += bytes;
    if (shared_bytes_ > kSharedBytes) fail("has " + std::to_string(shared_bytes_) + " bytes of shared memory");
  }
  return array;
}

// Whether all that others among `users` did is over for the running fiber.
bool Block::are_over(const Users& users) {
  if (users.time < last_barrier_) return true;
  if (users.many_warps || users.warp != current_->rank / warpSize) return false;
  const auto& seen = warp().seen[lane()];
  for (unsigned left = users.lanes & ~(1u << lane()); left != 0; left &= left - 1)
    if (users.time >= seen[__builtin_ctz(left)]) return false;
  return true;
}

void Block::join(Users& users, bool atomic) {
  const auto warp = static_cast<uint16_t>(current_->rank / warpSize);
  if (are_over(users)) {
    users = {time_, 1u << lane(), warp, false, atomic};
  } else if (users.warp == warp) {
    users.lanes |= 1u << lane();
  } else {
    users.many_warps = true;
  }
}

std::string Block::others(const Users& users) const {
  if (users.many_warps) return "threads of several warps have ";
  const unsigned first = users.warp * warpSize;
  const unsigned itself = first == current_->rank - lane() ? 1u << lane() : 0;
  return "thread " + text(fibers()[first + __builtin_ctz(users.lanes & ~itself)]->index) + " has ";
}

unsigned char* Block::access(SharedArray& array, ptrdiff_t index, size_t size, Access access) {
  const auto complain = [&](const std::string& what) {
    const char* verb = access == Access::kRead ? "reads " : access == Access::kWrite ? "writes " : "updates ";
    fail(verb + array.name + "[" + std::to_string(index) + "], " + what);
  };
  const size_t elements = array.data.size() / size;
  if (index < 0 || static_cast<size_t>(index) >= elements)
    complain("but it has " + std::to_string(elements) + " elements");
  const size_t offset = static_cast<size_t>(index) * size;
  for (size_t i = offset; i < offset + size; ++i) {
    Users &written = array.written[i], &read = array.read[i];
    if (access != Access::kWrite && written.time < block_began_) complain("which no thread has written");
    if (!(access == Access::kAtomic && written.atomic) && !are_over(written))
      complain("which " + others(written) + "written with no barrier between");
    if (access != Access::kRead && !are_over(read)) complain("which " + others(read) + "read with no barrier between");
    join(access == Access::kRead ? read : written, access == Access::kAtomic);
  }
  return array.data.data() + offset;
}

std::vector<unsigned> ordered(unsigned count, unsigned salt) {
  std::vector<unsigned> order(count);
  std::iota(order.begin(), order.end(), 0u);
  if (schedule().order == Schedule::kBackward) std::reverse(order.begin(), order.end());
  if (schedule().order == Schedule::kShuffled) {
    std::mt19937 random(schedule().seed * 2654435761u + salt);
    for (unsigned i = count; i > 1; --i) std::swap(order[i - 1], order[random() % i]);
  }
  return order;
}

}  // namespace

Schedule& schedule() {
  static Schedule current;
  return current;
}

void run(const char* kernel, dim3 grid, dim3 block, size_t dynamic_bytes, const std::function<void()>& body) {
  if (running != nullptr) throw Error(std::string("kernel ") + kernel + ": launched from inside a kernel");
  Block runner(kernel, grid, block, dynamic_bytes, body);
  running = &runner;
  try {
    for (const unsigned i : ordered(grid.x * grid.y * grid.z, 1))
      runner.run(dim3(i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y), ordered(runner.threads(), i + 2));
  } catch (...) {
    running = nullptr;
    fibers().clear();  // they stand in the midst of a kernel
    throw;
  }
  running = nullptr;
}

void fail(const std::string& what) { throw Error(block().describe() + what); }

void before_atomic() {
  if (schedule().switch_at_atomics) block().yield();
}

int barrier(const char* intrinsic, int value, Line line) { return block().barrier(intrinsic, value, line); }

const uint64_t* exchange(const char* intrinsic, unsigned mask, uint64_t value, Line line) {
  return block().exchange(intrinsic, mask, value, line);
}

void sync_warp(unsigned mask, Line line) { block().sync_warp(mask, line); }

int lane() { return static_cast<int>(block().lane()); }

unsigned lanes() { return block().lanes(); }

SharedArray& shared_array(const void* site, const char* name, size_t bytes) {
  return block().shared(site, name, bytes);
}

SharedArray& dynamic_array() { return block().dynamic(); }

unsigned char* access(SharedArray& array, ptrdiff_t index, size_t size, Access access) {
  return block().access(array, index, size, access);
}

}  // namespace simt
