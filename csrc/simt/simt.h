// Runs CUDA kernels on a CPU, for tests: the very files that nvcc compiles, compiled by the host compiler against this
// header. One fiber a thread of the block, one block at a time. What a GPU would silently get wrong is an error here
// that names kernel, block and thread:
//   - a barrier, or a warp intrinsic, that a thread it needs never reaches, or that threads reach at different lines;
//   - a mask that leaves its caller out, or a shuffle from a lane that takes no part;
//   - an access to shared memory outside its array, or a read of what no thread of the block has written;
//   - a race on shared memory: two threads at the same bytes, one of them to write, with neither a barrier between the
//     accesses nor, within a warp, a __syncwarp (shuffles and votes order no memory). It is found in every order of the
//     threads, not only where it changes the result;
//   - a launch that a device would refuse.
// What is left are races on global memory, and show as a difference: blocks and threads run forward, backward or
// shuffled, and may switch at every atomic, and the results must be the same to the bit (`Schedule`). For accesses out
// of bounds there, compile with AddressSanitizer: simt tells it of its fibers. For wide loads and stores that are not
// aligned, shifts too far, and floats that fit no integer, of which each processor makes another, there is UBSan
// (-fsanitize=undefined,float-cast-overflow).
//
// Not noticed: a barrier of a function that threads reach through different calls of it; host memory that a kernel
// reads; fences, as blocks run one after the other; a block of more threads than its kernel's __launch_bounds__.
//
// A kernel declares shared memory by SHARED(T, name, n) or dynamic_shared<T>(), passes it on as Shared<T>, and is
// launched by LAUNCH: words that mean the plain thing to nvcc. Nothing else differs from CUDA C++.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3() = default;
  dim3(unsigned x_, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

// Where the running fiber stands; set whenever one is resumed.
extern dim3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

namespace simt {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// In which order fibers and blocks run.
struct Schedule {
  enum Order { kForward, kBackward, kShuffled } order = kForward;
  unsigned seed = 0;               // of kShuffled
  bool switch_at_atomics = false;  // another fiber may run before every atomic
};
Schedule& schedule();

// Runs every block of a grid; throws Error.
void run(const char* kernel, dim3 grid, dim3 block, size_t dynamic_bytes, const std::function<void()>& body);

// A place in a kernel: all threads must come to a barrier or an intrinsic at the same.
struct Line {
  const char* file;
  int number;
  static Line here(const char* file = __builtin_FILE(), int number = __builtin_LINE()) { return {file, number}; }
};

// For the running fiber. An Error names it.
[[noreturn]] void fail(const std::string& what);
std::string name_of(unsigned thread);  // of its block, x fastest
void before_atomic();
int barrier(const char* intrinsic, int value, Line line);  // gives the sum of all threads' values
int lane();
unsigned lanes();  // of its warp, which there are: the last warp of a block may be short

// Waits for the lanes of `mask`, each with its value, and returns them all.
const uint64_t* exchange(const char* intrinsic, unsigned mask, uint64_t value, Line line);
void sync_warp(unsigned mask, Line line);

// An array in the block's shared memory; the same one for every thread that comes by the same `site`.
class SharedArray;
SharedArray& shared_array(const void* site, const char* name, size_t element, size_t count);
SharedArray& dynamic_array();

// Where the element `index`, of `size` bytes, lies. Checks that the running fiber may do that to it now.
enum class Access { kRead, kWrite, kAtomic };
unsigned char* access(SharedArray& array, ptrdiff_t index, size_t size, Access access);

template <class T>
class Pointer;

// What a plain T& to shared memory is to nvcc. It is used where it stands: one that is kept (`auto value = array[i]`
// copies a T in CUDA) does not compile.
template <class T>
class Element {
  static_assert(std::is_trivially_copyable<T>::value, "shared memory holds plain values");

 public:
  Element(SharedArray* array, ptrdiff_t index) : array_(array), index_(index) {}
  Element(const Element&) = delete;

  operator T() && { return get(Access::kRead); }
  void operator=(const T& value) && { set(value, Access::kWrite); }
  void operator=(Element&& other) && { set(other.get(Access::kRead), Access::kWrite); }
  void operator+=(const T& value) && {
    change([&](T old) { return old + value; }, Access::kWrite);
  }
  void operator-=(const T& value) && {
    change([&](T old) { return old - value; }, Access::kWrite);
  }
  void operator|=(const T& value) && {
    change([&](T old) { return old | value; }, Access::kWrite);
  }
  void operator&=(const T& value) && {
    change([&](T old) { return old & value; }, Access::kWrite);
  }
  void operator^=(const T& value) && {
    change([&](T old) { return old ^ value; }, Access::kWrite);
  }
  Pointer<T> operator&() && { return Pointer<T>(array_, index_); }

  // Returns the old value.
  template <class Change>
  T change(Change change, Access kind) {
    const T old = get(kind == Access::kAtomic ? kind : Access::kRead);
    set(static_cast<T>(change(old)), kind);
    return old;
  }

 private:
  T get(Access kind) const {
    T value;
    std::memcpy(&value, access(*array_, index_, sizeof(T), kind), sizeof(T));
    return value;
  }
  void set(const T& value, Access kind) const {
    std::memcpy(access(*array_, index_, sizeof(T), kind), &value, sizeof(T));
  }

  SharedArray* array_;
  ptrdiff_t index_;  // in units of T
};

// What a plain T* to shared memory is to nvcc.
template <class T>
class Pointer {
 public:
  Pointer() = default;
  Pointer(SharedArray* array, ptrdiff_t index) : array_(array), index_(index) {}
  Element<T> operator[](ptrdiff_t i) const { return Element<T>(array_, index_ + i); }
  Element<T> operator*() const { return (*this)[0]; }
  Pointer operator+(ptrdiff_t i) const { return Pointer(array_, index_ + i); }
  Pointer operator-(ptrdiff_t i) const { return Pointer(array_, index_ - i); }

 private:
  SharedArray* array_ = nullptr;
  ptrdiff_t index_ = 0;
};

template <class T>
uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "at most eight bytes pass between lanes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

template <class T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

template <class T>
T shuffle(const char* intrinsic, unsigned mask, T value, int source, Line line) {
  const uint64_t* values = exchange(intrinsic, mask, to_bits(value), line);
  if (source < 0 || source >= warpSize) return value;  // beyond the warp a lane keeps its own, as on the device
  if ((mask & lanes() & 1u << source) == 0)
    fail(std::string("reads lane ") + std::to_string(source) + " by " + intrinsic + ", which takes no part in it");
  return from_bits<T>(values[source]);
}

// An atomic on global memory, or on an element of shared memory.
template <class T, class Change>
T atomic(T* address, Change change) {
  before_atomic();
  const T old = *address;
  *address = change(old);
  return old;
}

template <class T, class Change>
T atomic(Pointer<T> address, Change change) {
  before_atomic();
  return (*address).change(change, Access::kAtomic);
}

template <class P>
struct Pointee;
template <class T>
struct Pointee<T*> {
  using type = T;
};
template <class T>
struct Pointee<Pointer<T>> {
  using type = T;
};
template <class P>
using pointee = typename Pointee<P>::type;

// Converts the arguments to the kernel's own parameter types, as a launch does.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t dynamic_bytes,
            Arguments&&... arguments) {
  const std::tuple<Parameters...> values(static_cast<Parameters>(arguments)...);
  run(name, grid, block, dynamic_bytes, [&] { std::apply(kernel, values); });
}

}  // namespace simt

template <class T>
using Shared = simt::Pointer<T>;

#define SHARED(T, name, n)                \
  static const char simt_site_##name = 0; \
  const Shared<T> name(&simt::shared_array(&simt_site_##name, #name, sizeof(T), n), 0)

template <class T>
Shared<T> dynamic_shared() {
  return Shared<T>(&simt::dynamic_array(), 0);
}

// The intrinsics, with the line they are called from.
inline void __syncthreads(simt::Line line = simt::Line::here()) { simt::barrier("__syncthreads", 0, line); }
inline int __syncthreads_count(int predicate, simt::Line line = simt::Line::here()) {
  return simt::barrier("__syncthreads_count", predicate != 0, line);
}
inline int __syncthreads_or(int predicate, simt::Line line = simt::Line::here()) {
  return simt::barrier("__syncthreads_or", predicate != 0, line) != 0;
}
inline int __syncthreads_and(int predicate, simt::Line line = simt::Line::here()) {
  return simt::barrier("__syncthreads_and", predicate == 0, line) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, simt::Line line = simt::Line::here()) {
  simt::sync_warp(mask, line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, simt::Line line = simt::Line::here()) {
  const uint64_t* values = simt::exchange("__ballot_sync", mask, predicate != 0, line);
  unsigned ballot = 0;
  for (unsigned left = mask & simt::lanes(); left != 0; left &= left - 1)
    if (values[__builtin_ctz(left)] != 0) ballot |= left & -left;
  return ballot;
}
inline int __any_sync(unsigned mask, int predicate, simt::Line line = simt::Line::here()) {
  return __ballot_sync(mask, predicate, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, simt::Line line = simt::Line::here()) {
  return __ballot_sync(mask, predicate == 0, line) == 0;
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, simt::Line line = simt::Line::here()) {
  return simt::shuffle("__shfl_sync", mask, value, source & (warpSize - 1), line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, simt::Line line = simt::Line::here()) {
  return simt::shuffle("__shfl_up_sync", mask, value, simt::lane() - static_cast<int>(delta), line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, simt::Line line = simt::Line::here()) {
  return simt::shuffle("__shfl_down_sync", mask, value, simt::lane() + static_cast<int>(delta), line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, simt::Line line = simt::Line::here()) {
  return simt::shuffle("__shfl_xor_sync", mask, value, simt::lane() ^ lanes, line);
}
inline void __threadfence() {}
inline void __threadfence_block() {}

template <class P>
simt::pointee<P> atomicAdd(P address, simt::pointee<P> value) {
  return simt::atomic(address, [=](auto old) { return static_cast<simt::pointee<P>>(old + value); });
}
template <class P>
simt::pointee<P> atomicMax(P address, simt::pointee<P> value) {
  return simt::atomic(address, [=](auto old) { return std::max(old, value); });
}
template <class P>
simt::pointee<P> atomicMin(P address, simt::pointee<P> value) {
  return simt::atomic(address, [=](auto old) { return std::min(old, value); });
}
template <class P>
simt::pointee<P> atomicOr(P address, simt::pointee<P> value) {
  return simt::atomic(address, [=](auto old) { return static_cast<simt::pointee<P>>(old | value); });
}
template <class P>
simt::pointee<P> atomicAnd(P address, simt::pointee<P> value) {
  return simt::atomic(address, [=](auto old) { return static_cast<simt::pointee<P>>(old & value); });
}
template <class P>
simt::pointee<P> atomicXor(P address, simt::pointee<P> value) {
  return simt::atomic(address, [=](auto old) { return static_cast<simt::pointee<P>>(old ^ value); });
}
template <class P>
simt::pointee<P> atomicExch(P address, simt::pointee<P> value) {
  return simt::atomic(address, [=](auto) { return value; });
}
template <class P>
simt::pointee<P> atomicCAS(P address, simt::pointee<P> expected, simt::pointee<P> value) {
  return simt::atomic(address, [=](auto old) { return old == expected ? value : old; });
}

inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __popcll(unsigned long long value) { return __builtin_popcountll(value); }
inline int __clz(int value) { return value == 0 ? 32 : __builtin_clz(static_cast<unsigned>(value)); }
inline int __clzll(long long value) {
  return value == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(value));
}
inline int __ffs(int value) { return __builtin_ffs(value); }
inline int __ffsll(long long value) { return __builtin_ffsll(value); }
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((static_cast<uint64_t>(high) << 32 | low) >> (shift & 31));
}
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmul_rd(float a, float b) {  // towards minus infinity: the double product is exact
  const double exact = static_cast<double>(a) * static_cast<double>(b);
  const float nearest = static_cast<float>(exact);
  return nearest > exact ? std::nextafter(nearest, -std::numeric_limits<float>::infinity()) : nearest;
}
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline unsigned __float_as_uint(float value) { return simt::from_bits<unsigned>(simt::to_bits(value)); }
inline float __uint_as_float(unsigned bits) { return simt::from_bits<float>(bits); }
template <class T>
T __ldg(const T* address) {
  return *address;
}

#define LAUNCH(kernel, grid, block, dynamic_bytes, stream, ...) \
  ((void)(stream), simt::launch(#kernel, kernel, grid, block, dynamic_bytes, __VA_ARGS__))
