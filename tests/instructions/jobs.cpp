// The CPU kernels on small fixed inputs, one job a run, for callgrind to count the instructions of: what a kernel does
// stands inside `counted`, which the tool is told to collect; making the inputs is outside.
//
//   kernel_jobs            prints the name of every job
//   kernel_jobs <name>     runs one and prints what its count depends on; fails where nothing comes of it
#include "jobs.h"

#include <gnu/libc-version.h>

#include <cstdio>

#include "../../csrc/cpu/level.h"

extern "C" __attribute__((noinline)) void counted(const std::function<void()>& kernel) { kernel(); }

int main(int count, char** arguments) {
  yolact::Jobs jobs;
  for (const auto& group : {yolact::detection_jobs, yolact::mask_jobs, yolact::run_length_jobs, yolact::training_jobs})
    jobs.merge(group());
  if (count < 2) {
    for (const auto& [name, run] : jobs) std::printf("%s\n", name.c_str());
    return 0;
  }
  const auto job = jobs.find(arguments[1]);
  if (job == jobs.end()) {
    std::fprintf(stderr, "no job of this name: %s\n", arguments[1]);
    return 2;
  }
  if (job->second() == 0) {
    std::fprintf(stderr, "nothing came of it: %s\n", arguments[1]);
    return 1;
  }
#ifdef __clang__
  const char* compiler = "";  // __VERSION__ begins with its name
#else
  const char* compiler = "GCC ";
#endif
  std::printf("%s%s, glibc %s, level %s\n", compiler, __VERSION__, gnu_get_libc_version(),
              yolact::cpu::name_of(yolact::cpu::level()));
  return 0;
}
