// The orders in which simt runs threads and blocks: every kernel's test goes through all of them.
#pragma once

#include <vector>

#include "../../csrc/simt/simt.h"

inline std::vector<simt::Schedule> schedules() {
  using S = simt::Schedule;
  return {{S::kForward, 0, false},
          {S::kBackward, 0, false},
          {S::kShuffled, 1, false},
          {S::kShuffled, 2, true},
          {S::kForward, 0, true}};
}
