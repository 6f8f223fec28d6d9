# The CUDA kernels as a static library, by nvcc. No contraction and no fast-math: the results are those of csrc/cpu.
set(YOLACT_CUDA_ARCHS "" CACHE STRING "GPU architectures, such as 80;90; all that are supported by default")
if(NOT YOLACT_CUDA_ARCHS)
  # 90 and 120 also as PTX, from which a driver compiles for what is newer.
  set_property(CACHE YOLACT_CUDA_ARCHS PROPERTY VALUE "75-real;80-real;86-real;87-real;89-real;90;100-real;120")
endif()
set(CMAKE_CUDA_ARCHITECTURES ${YOLACT_CUDA_ARCHS})
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
enable_language(CUDA)

add_library(yolact_cuda STATIC ${cuda_sources})
target_compile_options(yolact_cuda PRIVATE -fmad=false -Xcompiler=-Wall,-Wextra,-ffp-contract=off)
if(YOLACT_WERROR)
  # A register that spills, or an array that lands in local memory, is an error too.
  target_compile_options(yolact_cuda PRIVATE --Werror=all-warnings -Xcompiler=-Werror
                                             -Xptxas=-warn-spills,-warn-lmem-usage)
endif()
