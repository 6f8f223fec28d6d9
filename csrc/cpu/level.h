// One binary for every processor: the inner function of a kernel is compiled once for each level of x86-64, and the
// version for the level in use is called. Only what the compiler vectorises, or what is written in its vector
// extensions, gains by it. No level adds contraction (-ffp-contract=off), so every version computes the same bits.
// (On other processors what the compiler was told to build for is all there is: vector extensions become NEON there.)
#pragma once

#include "../common/host_device.h"

// What kernels written in intrinsics need, too.
#if defined(__x86_64__)
#define YOLACT_X86_LEVELS
#define YOLACT_FOR_AVX2 __attribute__((target("avx2,bmi,bmi2,lzcnt,popcnt")))
#define YOLACT_FOR_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi,bmi2,lzcnt,popcnt")))
#endif

namespace yolact::cpu {

enum class Level { kDefault, kAvx2, kAvx512 };

// The best that this machine has and YOLACT_CPU_CAPABILITY=default|avx2|avx512 allows.
// Throws std::invalid_argument for any other value.
Level find_level();

// The same, found once.
YOLACT_INLINE Level level() {
  static const Level found = find_level();
  return found;
}

const char* name_of(Level level);  // as the variable names it

template <auto kFunction, auto kForAvx2, auto kForAvx512>
struct Versions;

template <class Result, class... Arguments, Result (*kFunction)(Arguments...), Result (*kForAvx2)(Arguments...),
          Result (*kForAvx512)(Arguments...)>
struct Versions<kFunction, kForAvx2, kForAvx512> {
  Result operator()(Arguments... arguments) const {
#ifdef YOLACT_X86_LEVELS
    if (level() == Level::kAvx512) return for_avx512(arguments...);
    if (level() == Level::kAvx2) return for_avx2(arguments...);
#endif
    return kFunction(arguments...);
  }

 private:
#ifdef YOLACT_X86_LEVELS
  YOLACT_FOR_AVX512 static Result for_avx512(Arguments... arguments) { return kForAvx512(arguments...); }
  YOLACT_FOR_AVX2 static Result for_avx2(Arguments... arguments) { return kForAvx2(arguments...); }
#endif
};

// at_level<f>(...) calls f(...) in the version for the level in use. What f calls must be compiled into it, as f is
// into its versions, or it would stay at the lowest level: all of it is YOLACT_INLINE. Versions may be functions of
// their own.
template <auto kFunction, auto kForAvx2 = kFunction, auto kForAvx512 = kForAvx2>
constexpr Versions<kFunction, kForAvx2, kForAvx512> at_level{};

}  // namespace yolact::cpu
