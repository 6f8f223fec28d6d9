// Whole run-length strings at once.
#pragma once

#include <cstdint>

#include "../common/run_lengths.h"

namespace yolact::cpu {

// Reads the string of a mask of `pixels` pixels: `flips`, with room for `length`, becomes the flat index at the end of
// each run, so that pairs of them are the intervals of ones, and `count` how many runs there are. Runs may be empty.
RunError read_flips(const uint8_t* text, int64_t length, int64_t pixels, uint32_t* flips, int64_t* count);

// The most bytes that a string takes: a number for each flip and for the rest. RunWriter writes eight at once.
constexpr int64_t longest_string(int64_t flips) { return kMaxCharacters * (flips + 1) + 8; }

// Writes the string of a mask of `pixels` pixels; returns the bytes needed.
int64_t write_flips(const uint32_t* flips, int64_t count, int64_t pixels, uint8_t* output, int64_t capacity);

}  // namespace yolact::cpu
