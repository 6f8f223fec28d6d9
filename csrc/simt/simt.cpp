// The scheduler: one block at a time, a fiber a thread, and the places where threads meet.
#include "simt.h"

#include <exception>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "fiber.h"
#include "shared_memory.h"

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace simt {
namespace {

std::string text(dim3 at) {
  return "(" + std::to_string(at.x) + ", " + std::to_string(at.y) + ", " + std::to_string(at.z) + ")";
}

std::string at(const char* intrinsic, Line line) {
  return std::string(intrinsic) + " (line " + std::to_string(line.number) + ")";
}

bool is_same(const char* a, const char* b) { return a == b || std::strcmp(a, b) == 0; }

// Of a thread of the block, x fastest.
dim3 index_of(unsigned thread) {
  return dim3(thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / blockDim.x / blockDim.y);
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

// A thread of the block. Its fiber lives on from block to block and from launch to launch.
struct Thread {
  explicit Thread(void (*body)()) : fiber(body) {}

  Fiber fiber;
  dim3 index;  // in its block
  bool is_done = false;
  Meeting* waits = nullptr;
  uint64_t since = 0;  // waits->held at the arrival
};

std::vector<std::unique_ptr<Thread>>& threads() {
  static std::vector<std::unique_ptr<Thread>> all;
  return all;
}

class Block {
 public:
  Block(const char* kernel, dim3 grid, dim3 block, size_t dynamic_bytes, const std::function<void()>& body);
  void run(dim3 index, const std::vector<unsigned>& order);

  // For the running thread.
  std::string describe(unsigned thread) const {
    return std::string("kernel ") + kernel_ + ", block " + text(blockIdx) + ", " + name_of(thread) + ": ";
  }
  [[noreturn]] void fail(const std::string& what) const { throw Error(describe(running_) + what); }
  int barrier(const char* intrinsic, int value, Line line);
  const uint64_t* exchange(const char* intrinsic, unsigned mask, uint64_t value, Line line);
  void sync_warp(unsigned mask, Line line);
  unsigned running() const { return running_; }
  unsigned lane() const { return running_ % warpSize; }
  unsigned lanes() const {
    const unsigned count = std::min<unsigned>(warpSize, count_ - running_ / warpSize * warpSize);
    return count == warpSize ? 0xffffffffu : (1u << count) - 1;
  }
  unsigned count() const { return count_; }
  SharedMemory& memory() { return memory_; }

 private:
  static void run_bodies();
  [[noreturn]] void report_stuck() const;
  bool meet(Meeting& meeting, unsigned mark, unsigned everybody, const char* what, unsigned mask, Line line);
  std::pair<Meeting&, bool> meet_in_warp(const char* intrinsic, unsigned mask, uint64_t value, Line line);

  const char* kernel_;
  const std::function<void()>& body_;
  const unsigned count_;  // of threads
  unsigned running_ = 0;  // x fastest
  std::exception_ptr failure_;
  Meeting barrier_;
  std::vector<std::map<unsigned, Meeting>> warps_;  // by their masks
  SharedMemory memory_;
};

Block* current = nullptr;

Block& block() {
  if (current == nullptr) throw Error("simt: an intrinsic was called outside a kernel");
  return *current;
}

Block::Block(const char* kernel, dim3 grid, dim3 block, size_t dynamic_bytes, const std::function<void()>& body)
    : kernel_(kernel),
      body_(body),
      count_(block.x * block.y * block.z),
      warps_((count_ + warpSize - 1) / warpSize),
      memory_(count_, dynamic_bytes) {
  const auto refuse = [&](const std::string& what) { throw Error(std::string("kernel ") + kernel + ": " + what); };
  if (count_ == 0 || count_ > 1024 || block.z > 64) refuse("a block of " + text(block) + " threads");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffff || grid.y > 0xffff || grid.z > 0xffff)
    refuse("a grid of " + text(grid) + " blocks");
  if (dynamic_bytes > SharedMemory::kMaxBytes)
    refuse(std::to_string(dynamic_bytes) + " bytes of dynamic shared memory");
  gridDim = grid;
  blockDim = block;
  while (threads().size() < count_) threads().push_back(std::make_unique<Thread>(&Block::run_bodies));
  for (unsigned i = 0; i < count_; ++i) threads()[i]->index = index_of(i);
}

void Block::run_bodies() {
  for (;; Fiber::yield()) {
    try {
      current->body_();
    } catch (...) {
      current->failure_ = std::current_exception();
    }
    threads()[current->running_]->is_done = true;
  }
}

void Block::run(dim3 index, const std::vector<unsigned>& order) {
  blockIdx = index;
  memory_.begin_block();
  for (unsigned i = 0; i < count_; ++i) threads()[i]->is_done = false;
  for (unsigned left = count_; left > 0;) {
    bool moved = false;
    for (const unsigned i : order) {
      Thread& thread = *threads()[i];
      if (thread.is_done || (thread.waits != nullptr && thread.waits->held == thread.since)) continue;
      thread.waits = nullptr;
      running_ = i;
      threadIdx = thread.index;
      thread.fiber.resume();
      if (failure_) std::rethrow_exception(failure_);
      moved = true;
      if (thread.is_done) --left;
    }
    if (!moved) report_stuck();
  }
}

// Every thread that is not done waits for one that will not come.
void Block::report_stuck() const {
  unsigned waiting = 0;
  while (threads()[waiting]->is_done) ++waiting;
  const Meeting& meeting = *threads()[waiting]->waits;
  const auto is_awaited = [&](unsigned i) {
    return threads()[i]->waits != &meeting &&
           (&meeting == &barrier_ || (i / warpSize == waiting / warpSize && (meeting.mask >> i % warpSize & 1)));
  };
  unsigned missing = 0;
  while (!is_awaited(missing)) ++missing;
  const Thread& late = *threads()[missing];
  throw Error(describe(waiting) + "waits at " + meeting.place() + " for " + name_of(missing) + ", which " +
              (late.is_done ? "has returned" : "waits at " + late.waits->place()));
}

// The running thread comes to a meeting and waits until all of it are there; true for the last, which goes on first.
bool Block::meet(Meeting& meeting, unsigned mark, unsigned everybody, const char* what, unsigned mask, Line line) {
  if (meeting.arrived == 0) {
    meeting.what = what;
    meeting.line = line;
    meeting.mask = mask;
  } else if (!is_same(meeting.what, what) || !is_same(meeting.line.file, line.file) ||
             meeting.line.number != line.number) {
    fail("comes to " + at(what, line) + ", but others wait at " + meeting.place());
  }
  meeting.arrived += mark;
  if (meeting.arrived == everybody) {
    std::copy(std::begin(meeting.given), std::end(meeting.given), meeting.values);
    meeting.total = std::exchange(meeting.sum, 0);
    meeting.arrived = 0;
    ++meeting.held;
    return true;
  }
  threads()[running_]->waits = &meeting;
  threads()[running_]->since = meeting.held;
  Fiber::yield();
  return false;
}

int Block::barrier(const char* intrinsic, int value, Line line) {
  barrier_.sum += value;
  if (meet(barrier_, 1, count_, intrinsic, 0, line)) memory_.barrier();
  return barrier_.total;
}

// As meet, and where.
std::pair<Meeting&, bool> Block::meet_in_warp(const char* intrinsic, unsigned mask, uint64_t value, Line line) {
  const unsigned mine = 1u << lane();
  if ((mask & mine) == 0) fail(std::string("calls ") + intrinsic + " with a mask that leaves itself out");
  // A full mask names the lanes that the warp has.
  const unsigned everybody = mask & lanes();
  if (mask != 0xffffffffu && everybody != mask)
    fail(std::string("calls ") + intrinsic + " with lanes that are not there");
  auto& meetings = warps_[running_ / warpSize];
  for (const auto& [other_mask, other] : meetings)
    if (other.arrived != 0 && other_mask != mask && (other_mask & mask) != 0)
      fail(std::string("comes to ") + at(intrinsic, line) + ", but others wait, with another mask, at " +
           other.place());
  Meeting& meeting = meetings[mask];
  meeting.given[lane()] = value;
  return {meeting, meet(meeting, mine, everybody, intrinsic, mask, line)};
}

const uint64_t* Block::exchange(const char* intrinsic, unsigned mask, uint64_t value, Line line) {
  return meet_in_warp(intrinsic, mask, value, line).first.values;
}

void Block::sync_warp(unsigned mask, Line line) {
  if (meet_in_warp("__syncwarp", mask, 0, line).second) memory_.sync_warp(running_ / warpSize, mask);
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
  if (current != nullptr) throw Error(std::string("kernel ") + kernel + ": launched from inside a kernel");
  Block runner(kernel, grid, block, dynamic_bytes, body);
  current = &runner;
  try {
    for (const unsigned i : ordered(grid.x * grid.y * grid.z, 1))
      runner.run(dim3(i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y), ordered(runner.count(), i + 2));
  } catch (...) {
    current = nullptr;
    threads().clear();  // they stand in the midst of a kernel
    throw;
  }
  current = nullptr;
}

void fail(const std::string& what) { block().fail(what); }

std::string name_of(unsigned thread) { return "thread " + text(index_of(thread)); }

void before_atomic() {
  block();  // or an error
  if (schedule().switch_at_atomics) Fiber::yield();
}

int barrier(const char* intrinsic, int value, Line line) { return block().barrier(intrinsic, value, line); }

const uint64_t* exchange(const char* intrinsic, unsigned mask, uint64_t value, Line line) {
  return block().exchange(intrinsic, mask, value, line);
}

void sync_warp(unsigned mask, Line line) { block().sync_warp(mask, line); }

int lane() { return static_cast<int>(block().lane()); }

unsigned lanes() { return block().lanes(); }

SharedArray& shared_array(const void* site, const char* name, size_t element, size_t count) {
  return block().memory().array(site, name, element, count);
}

SharedArray& dynamic_array() { return block().memory().dynamic(); }

unsigned char* access(SharedArray& array, ptrdiff_t index, size_t size, Access kind) {
  return block().memory().access(array, index, size, kind, block().running());
}

}  // namespace simt
