// A line of execution with a stack of its own, which runs only while it is resumed.
#pragma once

#include <ucontext.h>

#include <cstddef>

namespace simt {

// A stack between two pages that nobody may touch.
class Stack {
 public:
  static constexpr size_t kBytes = 64 * 1024;  // as much as a kernel without big local arrays can want

  Stack();
  ~Stack();
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;
  void* bottom() const { return static_cast<char*>(base_) + page_; }

 private:
  size_t page_;
  void* base_;
};

class Fiber {
 public:
  explicit Fiber(void (*body)());  // which must not return
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void resume();        // runs it until it yields
  static void yield();  // back to who resumed the fiber that calls this

  using Place = void* [5];  // to go on at: __builtin_setjmp's

 private:
  static void enter();

  Stack stack_;
  void (*body_)();
  bool is_new_ = true;
  ucontext_t start_;  // of a new one
  Place place_;       // where it yielded
};

}  // namespace simt
