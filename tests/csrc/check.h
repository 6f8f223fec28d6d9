// The C++ tests' one tool: each test is a plain main() that returns failures(), so that it runs under sanitizers.
#pragma once

#include <cstdio>

inline int& failures() {
  static int count = 0;
  return count;
}

// Goes on after a failure, so that one run tells all of them.
#define CHECK(expression)                                                           \
  do {                                                                              \
    if (!(expression)) {                                                            \
      std::fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #expression); \
      ++failures();                                                                 \
    }                                                                               \
  } while (false)
