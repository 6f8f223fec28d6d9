// The scheduler: fibers by ucontext, one block at a time.
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
#include <sanitizer/common_interface_defs.h>
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace simt {
namespace {

constexpr size_t kStackBytes = 64 * 1024;  // as much as a kernel without big local arrays can want
constexpr unsigned char kPoison = 0xCB;    // what nobody has written reads as a strange number even unchecked

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
  ~Stack() { munmap(base_, kStackBytes + 2 * page_); }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;
  void* bottom() const { return static_cast<char*>(base_) + page_; }

 private:
  size_t page_;
  void* base_;
};

// Where threads meet: a barrier of the block, or an intrinsic of a warp.
struct Meeting {
  const char* what = "";
  int line = 0;
  unsigned mask = 0;
  unsigned arrived = 0;  // how many; of a warp, which lanes
  int sum = 0, total = 0;
  uint64_t given[warpSize] = {}, values[warpSize] = {};  // those who come, and those who met last
  uint64_t held = 0;                                     // how often it has been held
};

struct Fiber {
  ucontext_t context;
  dim3 index;
  unsigned rank = 0;  // x fastest
  bool done = false;
  Meeting* waits = nullptr;
  uint64_t since = 0;  // waits->held at the arrival
};

class Block {
 public:
  Block(const char* kernel, dim3 grid, dim3 block, size_t dynamic_bytes, const std::function<void()>& body)
      : kernel_(kernel), body_(body), threads_(block.x * block.y * block.z) {
    if (threads_ == 0 || threads_ > 1024) throw Error(describe() + "has " + std::to_string(threads_) + " threads");
    gridDim = grid;
    blockDim = block;
    fibers_.resize(threads_);
    warps_.resize((threads_ + warpSize - 1) / warpSize);
    for (unsigned i = 0; i < threads_; ++i) stacks_.push_back(std::make_unique<Stack>());
    dynamic_.name = "dynamic_shared";
    dynamic_.bytes = dynamic_bytes;
    dynamic_memory_.resize(2 * dynamic_bytes);
  }

  void run(dim3 index, const std::vector<unsigned>& order);

  // For the running fiber.
  std::string describe() const {
    return std::string("kernel ") + kernel_ + ", block " + text(blockIdx) + ", thread " + text(threadIdx) + ": ";
  }
  void yield();
  void meet(Meeting& meeting, unsigned mark, unsigned everybody, const char* what, unsigned mask, int line);
  Meeting& barrier() { return barrier_; }
  Meeting& warp() { return warps_[current_->rank / warpSize]; }
  int lane() const { return static_cast<int>(current_->rank % warpSize); }
  unsigned threads() const { return threads_; }
  unsigned lanes() const {  // of the running fiber's warp
    const unsigned first = current_->rank / warpSize * warpSize;
    const unsigned count = std::min<unsigned>(warpSize, threads_ - first);
    return count == warpSize ? 0xffffffffu : (1u << count) - 1;
  }
  SharedArray& shared(const void* site, const char* name, size_t bytes);
  SharedArray& dynamic() { return dynamic_; }

 private:
  static void enter(unsigned high, unsigned low);
  void resume(Fiber& fiber);
  [[noreturn]] void report_stuck() const;
  void fresh(SharedArray& array, std::vector<unsigned char>& memory) {
    std::fill(memory.begin(), memory.begin() + static_cast<ptrdiff_t>(array.bytes), kPoison);
    std::fill(memory.begin() + static_cast<ptrdiff_t>(array.bytes), memory.end(), 0);
    array.data = memory.data();
    array.written = memory.data() + array.bytes;
  }

  const char* kernel_;
  const std::function<void()>& body_;
  unsigned threads_;
  std::vector<Fiber> fibers_;
  std::vector<std::unique_ptr<Stack>> stacks_;
  ucontext_t scheduler_;
  Fiber* current_ = nullptr;
  std::exception_ptr failure_;
  Meeting barrier_;
  std::vector<Meeting> warps_;
  struct Memory {
    SharedArray array;
    std::vector<unsigned char> bytes;  // the data, then the flags
  };
  std::map<const void*, Memory> shared_;
  SharedArray dynamic_;
  std::vector<unsigned char> dynamic_memory_;
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

void Block::enter(unsigned high, unsigned low) {  // makecontext passes ints alone
  auto* self = reinterpret_cast<Block*>(static_cast<uintptr_t>(high) << 32 | low);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &self->scheduler_stack_, &self->scheduler_size_);
#endif
  try {
    self->body_();
  } catch (...) {
    self->failure_ = std::current_exception();
  }
  self->current_->done = true;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(nullptr, self->scheduler_stack_, self->scheduler_size_);
#endif
  swapcontext(&self->current_->context, &self->scheduler_);
}

void Block::resume(Fiber& fiber) {
  current_ = &fiber;
  threadIdx = fiber.index;
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, stacks_[fiber.rank]->bottom(), kStackBytes);
#endif
  swapcontext(&scheduler_, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void Block::yield() {
  Fiber& self = *current_;
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, scheduler_stack_, scheduler_size_);
#endif
  swapcontext(&self.context, &scheduler_);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, &scheduler_stack_, &scheduler_size_);
#endif
}

void Block::run(dim3 index, const std::vector<unsigned>& order) {
  blockIdx = index;
  barrier_ = Meeting();
  std::fill(warps_.begin(), warps_.end(), Meeting());
  shared_.clear();
  fresh(dynamic_, dynamic_memory_);
  const auto self = reinterpret_cast<uintptr_t>(this);
  for (unsigned i = 0; i < threads_; ++i) {
    Fiber& fiber = fibers_[i];
    fiber.index = dim3(i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y);
    fiber.rank = i;
    fiber.done = false;
    fiber.waits = nullptr;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stacks_[i]->bottom();
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, reinterpret_cast<void (*)()>(&Block::enter), 2, static_cast<unsigned>(self >> 32),
                static_cast<unsigned>(self));
  }
  for (unsigned left = threads_; left > 0;) {
    bool moved = false;
    for (const unsigned i : order) {
      Fiber& fiber = fibers_[i];
      if (fiber.done || (fiber.waits != nullptr && fiber.waits->held == fiber.since)) continue;
      fiber.waits = nullptr;
      resume(fiber);
      moved = true;
      if (fiber.done) --left;
    }
    if (!moved) report_stuck();
  }
}

// Every fiber that is not done waits for one that will not come.
void Block::report_stuck() const {
  const Fiber* waiting = nullptr;
  for (const Fiber& fiber : fibers_)
    if (!fiber.done && waiting == nullptr) waiting = &fiber;
  const Meeting& meeting = *waiting->waits;
  const bool is_barrier = &meeting == &barrier_;
  std::ostringstream message;
  message << "kernel " << kernel_ << ", block " << text(blockIdx) << ", thread " << text(waiting->index)
          << ": waits at " << meeting.what << " (line " << meeting.line << ") for thread ";
  for (const Fiber& fiber : fibers_) {
    if (fiber.waits == &meeting) continue;
    const bool needed = is_barrier || (fiber.rank / warpSize == waiting->rank / warpSize &&
                                       (meeting.mask >> fiber.rank % warpSize & 1));
    if (!needed) continue;
    message << text(fiber.index);
    if (fiber.done)
      message << ", which has returned";
    else
      message << ", which waits at " << fiber.waits->what << " (line " << fiber.waits->line << ")";
    break;
  }
  throw Error(message.str());
}

// The running fiber comes to a meeting and waits until all of it are there.
void Block::meet(Meeting& meeting, unsigned mark, unsigned everybody, const char* what, unsigned mask, int line) {
  if (meeting.arrived == 0) {
    meeting.what = what;
    meeting.line = line;
    meeting.mask = mask;
  } else if (std::strcmp(meeting.what, what) != 0 || meeting.line != line || meeting.mask != mask) {
    throw Error(describe() + "comes to " + what + " (line " + std::to_string(line) + "), but others wait at " +
                meeting.what + " (line " + std::to_string(meeting.line) + ")");
  }
  meeting.arrived += mark;
  if (meeting.arrived == everybody) {
    std::copy(std::begin(meeting.given), std::end(meeting.given), meeting.values);
    meeting.total = meeting.sum;
    meeting.sum = 0;
    meeting.arrived = 0;
    ++meeting.held;
    return;
  }
  current_->waits = &meeting;
  current_->since = meeting.held;
  yield();
}

SharedArray& Block::shared(const void* site, const char* name, size_t bytes) {
  const auto [entry, is_new] = shared_.try_emplace(site);
  Memory& memory = entry->second;
  if (is_new) {
    memory.array.name = name;
    memory.array.bytes = bytes;
    memory.bytes.resize(2 * bytes);
    fresh(memory.array, memory.bytes);
  }
  return memory.array;
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
  struct Scope {
    ~Scope() { running = nullptr; }
  } scope;
  running = &runner;
  for (const unsigned i : ordered(grid.x * grid.y * grid.z, 1))
    runner.run(dim3(i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y), ordered(runner.threads(), i + 2));
}

void fail(const std::string& what) { throw Error(block().describe() + what); }

void before_atomic() {
  if (schedule().switch_at_atomics) block().yield();
}

void barrier(int line) { block().meet(block().barrier(), 1, block().threads(), "__syncthreads", 0, line); }

int barrier_sum(int value, int line) {
  block().barrier().sum += value;
  barrier(line);
  return block().barrier().total;
}

int lane() { return block().lane(); }

const uint64_t* exchange(const char* intrinsic, unsigned mask, uint64_t value, int line) {
  Block& here = block();
  const unsigned mine = 1u << here.lane();
  if ((mask & mine) == 0) fail(std::string("calls ") + intrinsic + " with a mask that leaves itself out");
  // A full mask names the lanes that the warp has: the last warp of a block may be short.
  const unsigned everybody = mask & here.lanes();
  if (mask != 0xffffffffu && everybody != mask)
    fail(std::string("calls ") + intrinsic + " with lanes that are not there");
  Meeting& warp = here.warp();
  warp.given[here.lane()] = value;
  here.meet(warp, mine, everybody, intrinsic, mask, line);
  return warp.values;
}

SharedArray& shared_array(const void* site, const char* name, size_t bytes) {
  return block().shared(site, name, bytes);
}

SharedArray& dynamic_array() { return block().dynamic(); }

}  // namespace simt
