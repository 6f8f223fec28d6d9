// Marks a function of which the compiler makes one version for each x86-64 level; the loader picks one at start.
// Only what is vectorised by the compiler or written in its vector extensions gains by it. No level adds
// contraction (-ffp-contract=off), so every version computes the same bits.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(YOLACT_NO_CLONES)
#define YOLACT_CLONES __attribute__((target_clones("arch=skylake-avx512", "avx2", "default")))
#else
#define YOLACT_CLONES
#endif

// Where a function may be written once more for a level, in its intrinsics, and picked by __builtin_cpu_supports.
#if defined(__x86_64__) && defined(__GNUC__)
#define YOLACT_X86_VERSIONS
#endif

// What a cloned function calls must be compiled into it, or it would stay at the lowest level.
#define YOLACT_INLINE inline __attribute__((always_inline))
