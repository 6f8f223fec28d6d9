// What the headers of newer systems call and those of 2018 (glibc 2.28, GCC 8) lack, defined here and hidden: a part of
// the modules themselves, on every machine. The rest of the way to old systems is in manylinux.cmake.
#include <new>

extern "C" {

// glibc 2.29 gave it a version without the error handling of 1999, which changes no value.
asm(".symver log_of_old, log@GLIBC_2.2.5\n.hidden log");  // compilers know the name, and leave its visibility alone
double log_of_old(double x);
double log(double x) { return log_of_old(x); }

// glibc 2.32: whether the process has but one thread, so that a shared_ptr may count without an atomic instruction.
// "Perhaps more" is always right.
char __libc_single_threaded = 0;

// GCC 11: what `new T[n]` throws where n is absurd.
[[noreturn]] void _ZSt28__throw_bad_array_new_lengthv() { throw std::bad_array_new_length(); }

// GCC 11: std::exception_ptr counts its references inline, by two of its functions that were not exported before. Its
// copy constructor and destructor always were, and do just that.
void _ZNSt15__exception_ptr13exception_ptrC1ERKS0_(void** self, void* const* from);
void _ZNSt15__exception_ptr13exception_ptrD1Ev(void** self);

void _ZNSt15__exception_ptr13exception_ptr9_M_addrefEv(void** self) {
  void* copy;  // never destroyed: its reference is the one to add
  _ZNSt15__exception_ptr13exception_ptrC1ERKS0_(&copy, self);
}

void _ZNSt15__exception_ptr13exception_ptr10_M_releaseEv(void** self) {
  _ZNSt15__exception_ptr13exception_ptrD1Ev(self);
}

}  // extern "C"
