# The CUDA kernels as a static library, by nvcc. No contraction and no fast-math: the results are those of csrc/cpu.
set(YOLACT_CUDA_ARCHS "" CACHE STRING "GPU architectures, such as 80;90; by default all that are supported, and by nvcc")
set(CMAKE_CUDA_ARCHITECTURES OFF) # the flags below say it
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
enable_language(CUDA)

if(NOT YOLACT_CUDA_ARCHS)
  # 90 and 120 also as PTX, from which a driver compiles for what is newer. nvcc knows the last two from 12.8 on.
  execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch OUTPUT_VARIABLE served COMMAND_ERROR_IS_FATAL ANY)
  set(archs 75-real 80-real 86-real 87-real 89-real 90 100-real 120)
  foreach(arch ${archs})
    string(REGEX MATCH "^[0-9]+" number "${arch}")
    if(NOT served MATCHES "compute_${number}\n")
      list(REMOVE_ITEM archs ${arch})
    endif()
  endforeach()
  set_property(CACHE YOLACT_CUDA_ARCHS PROPERTY VALUE "${archs}")
endif()
foreach(arch ${YOLACT_CUDA_ARCHS})
  string(REGEX MATCH "^[0-9]+" number "${arch}")
  # These differ in ptxas alone: from compute_80 it makes, to the bit, what it makes from their own. The compiler before
  # it, the longer part of nvcc's work, so runs once for them.
  string(REGEX REPLACE "^8[679]$" "80" virtual "${number}")
  if(NOT arch MATCHES "-virtual$")
    list(APPEND architectures --generate-code=arch=compute_${virtual},code=sm_${number})
  endif()
  if(NOT arch MATCHES "-real$")
    list(APPEND architectures --generate-code=arch=compute_${number},code=compute_${number})
  endif()
endforeach()

add_library(yolact_cuda STATIC ${cuda_sources})
target_compile_options(yolact_cuda PRIVATE ${architectures} -fmad=false -Xcompiler=-Wall,-Wextra,-ffp-contract=off)
if(YOLACT_WERROR)
  # A register that spills, or an array that lands in local memory, is an error too.
  target_compile_options(yolact_cuda PRIVATE --Werror=all-warnings -Xcompiler=-Werror
                                             -Xptxas=-warn-spills,-warn-lmem-usage)
endif()
