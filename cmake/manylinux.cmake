# Lets what is linked here load on every x86-64 Linux from glibc 2.28 and GCC 8's libstdc++ on (manylinux_2_28).
#
# The linker takes the newest version of a symbol that this machine's glibc has, and 2.34 moved libpthread, libdl and librt
# into libc under new versions, although the functions are the same. So modules, and the CUDA runtime in them, are linked
# first against stubs of the old libraries, which have the names below at the versions that every glibc of x86-64 has kept
# from its beginning. Stubs are never loaded: every system has libraries of those names. When a name is missing here,
# auditwheel says so; what else old systems lack is in manylinux.cpp.

# yolact_glibc_stub(library version symbol... [version symbol...]...): a library of that name, for the linker alone.
function(yolact_glibc_stub library)
  foreach(word ${ARGN})
    if(word MATCHES "^GLIBC_")
      string(APPEND versions "${end}${word} {\n")
      set(end "};\n")
    else()
      string(APPEND versions "  ${word};\n")
      string(APPEND assembly "asm(\".globl ${word}\\n.type ${word}, @function\\n${word}:\");\n")
    endif()
  endforeach()
  set(folder "${CMAKE_CURRENT_BINARY_DIR}/glibc")
  file(CONFIGURE OUTPUT "${folder}/${library}.cpp" CONTENT "${assembly}")
  file(CONFIGURE OUTPUT "${folder}/${library}.map" CONTENT "${versions}${end}")
  add_library(${library} SHARED EXCLUDE_FROM_ALL "${folder}/${library}.cpp")
  target_link_options(${library} PRIVATE -nostdlib "-Wl,-soname=${library},--version-script=${folder}/${library}.map")
  set_target_properties(${library} PROPERTIES NO_SONAME ON PREFIX "" SUFFIX "" LIBRARY_OUTPUT_DIRECTORY "${folder}")
endfunction()

yolact_glibc_stub(libpthread.so.0 GLIBC_2.2.5
  pthread_condattr_setpshared pthread_create pthread_detach pthread_getspecific pthread_join pthread_key_create
  pthread_key_delete pthread_kill pthread_mutex_trylock pthread_mutexattr_destroy pthread_mutexattr_init
  pthread_mutexattr_setpshared pthread_mutexattr_settype pthread_once pthread_rwlock_destroy pthread_rwlock_init
  pthread_rwlock_rdlock pthread_rwlock_timedrdlock pthread_rwlock_timedwrlock pthread_rwlock_tryrdlock
  pthread_rwlock_trywrlock pthread_rwlock_unlock pthread_rwlock_wrlock pthread_rwlockattr_destroy
  pthread_rwlockattr_init pthread_rwlockattr_setpshared pthread_setspecific pthread_spin_destroy pthread_spin_init
  pthread_spin_lock pthread_spin_trylock pthread_spin_unlock sem_destroy sem_init sem_post sem_timedwait sem_trywait
  sem_wait)
yolact_glibc_stub(libdl.so.2 GLIBC_2.2.5 dlclose dlerror dlopen dlsym dlvsym GLIBC_2.3.4 dlmopen)
yolact_glibc_stub(librt.so.1 GLIBC_2.2.5 shm_open shm_unlink)

# Links `module` so that old systems load it.
function(yolact_manylinux module)
  if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
    target_sources(${module} PRIVATE cmake/manylinux.cpp)
    # Kept although nothing before them asks for them: the CUDA runtime, which does, is linked last.
    target_link_options(${module} PRIVATE -Wl,--no-as-needed)
    target_link_libraries(${module} PRIVATE libpthread.so.0 libdl.so.2 librt.so.1)
    set_target_properties(${module} PROPERTIES SKIP_BUILD_RPATH ON)  # the stubs lie there
  endif()
endfunction()
