#include "level.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

namespace yolact::cpu {
namespace {

constexpr Level kLevels[] = {Level::kDefault, Level::kAvx2, Level::kAvx512};

Level level_of_machine() {
#ifdef YOLACT_X86_LEVELS
  // Each looks at what the system saves of the registers, too.
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                        __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("lzcnt") &&
                        __builtin_cpu_supports("popcnt");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512vl");
  return has_avx512 ? Level::kAvx512 : has_avx2 ? Level::kAvx2 : Level::kDefault;
#else
  return Level::kDefault;
#endif
}

}  // namespace

const char* name_of(Level level) {
  return level == Level::kAvx512 ? "avx512" : level == Level::kAvx2 ? "avx2" : "default";
}

Level find_level() {
  const char* wish = std::getenv("YOLACT_CPU_CAPABILITY");
  if (wish == nullptr || *wish == '\0') return level_of_machine();
  for (const Level level : kLevels)
    if (std::strcmp(wish, name_of(level)) == 0) return std::min(level, level_of_machine());
  throw std::invalid_argument(std::string("YOLACT_CPU_CAPABILITY must be default, avx2 or avx512, got '") + wish + "'");
}

}  // namespace yolact::cpu
