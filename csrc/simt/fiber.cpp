#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace simt {

Stack::Stack() : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
  base_ = mmap(nullptr, kBytes + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (base_ == MAP_FAILED || mprotect(bottom(), kBytes, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
}

Stack::~Stack() {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(bottom(), kBytes);  // of the frames that an error left behind
#endif
  munmap(base_, kBytes + 2 * page_);
}

namespace {

// Of the fiber that runs, and of who resumed it.
Fiber* current = nullptr;
Fiber::Place resumer;
const void* resumer_stack = nullptr;
size_t resumer_stack_bytes = 0;

// AddressSanitizer is told of each change of stacks, before it and after it.
void leave([[maybe_unused]] void** fake, [[maybe_unused]] const void* bottom, [[maybe_unused]] size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(fake, bottom, bytes);
#endif
}

void arrive([[maybe_unused]] void* fake, [[maybe_unused]] const void** bottom, [[maybe_unused]] size_t* bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, bottom, bytes);
#endif
}

// swapcontext would do for the three of these, but it makes a system call each time: nearly all of what a run would
// cost. A fiber only begins by ucontext.
[[noreturn]] __attribute__((noinline, no_sanitize("address"))) void jump(Fiber::Place to) { __builtin_longjmp(to, 1); }

// Comes back when somebody jumps to `from`.
__attribute__((noinline, no_sanitize("address"))) void switch_places(Fiber::Place from, Fiber::Place to) {
  if (__builtin_setjmp(from) == 0) jump(to);
}

__attribute__((noinline, no_sanitize("address"))) void switch_places(Fiber::Place from, const ucontext_t& to) {
  if (__builtin_setjmp(from) == 0) setcontext(&to);
}

}  // namespace

Fiber::Fiber(void (*body)()) : body_(body) {
  getcontext(&start_);
  start_.uc_stack.ss_sp = stack_.bottom();
  start_.uc_stack.ss_size = Stack::kBytes;
  start_.uc_link = nullptr;
  makecontext(&start_, &Fiber::enter, 0);
}

void Fiber::enter() {
  arrive(nullptr, &resumer_stack, &resumer_stack_bytes);
  current->body_();
}

void Fiber::resume() {
  current = this;
  void* fake = nullptr;
  leave(&fake, stack_.bottom(), Stack::kBytes);
  if (is_new_) {
    is_new_ = false;
    switch_places(resumer, start_);
  } else {
    switch_places(resumer, place_);
  }
  arrive(fake, nullptr, nullptr);
}

void Fiber::yield() {
  void* fake = nullptr;
  leave(&fake, resumer_stack, resumer_stack_bytes);
  switch_places(current->place_, resumer);
  arrive(fake, &resumer_stack, &resumer_stack_bytes);
}

}  // namespace simt
