# What other CMake projects use, by add_subdirectory or, after `cmake --install`, by find_package(yolact): yolact::cpu and,
# where it is built, yolact::cuda, with the headers of csrc/common as <yolact/...>.
option(YOLACT_INSTALL "Install the kernels' static libraries and headers" ${PROJECT_IS_TOP_LEVEL})

file(MAKE_DIRECTORY "${PROJECT_BINARY_DIR}/include")
file(CREATE_LINK "${PROJECT_SOURCE_DIR}/csrc/common" "${PROJECT_BINARY_DIR}/include/yolact" SYMBOLIC)
foreach(backend cpu cuda)
  if(TARGET yolact_${backend})
    add_library(yolact::${backend} ALIAS yolact_${backend})
    set_target_properties(yolact_${backend} PROPERTIES EXPORT_NAME ${backend})
    target_compile_features(yolact_${backend} PUBLIC cxx_std_17)
    target_include_directories(yolact_${backend} INTERFACE "$<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/include>"
                                                           "$<INSTALL_INTERFACE:include>")
    if(YOLACT_INSTALL)
      install(TARGETS yolact_${backend} EXPORT yolact ARCHIVE DESTINATION lib)
    endif()
  endif()
endforeach()

if(TARGET yolact_cuda)
  target_link_libraries(yolact_cuda INTERFACE $<INSTALL_INTERFACE:CUDA::cudart_static>) # yolactConfig.cmake finds it
endif()

if(YOLACT_INSTALL)
  include(CMakePackageConfigHelpers)
  install(DIRECTORY csrc/common/ DESTINATION include/yolact FILES_MATCHING PATTERN "*.h")
  install(EXPORT yolact NAMESPACE yolact:: FILE yolactTargets.cmake DESTINATION lib/cmake/yolact)
  configure_package_config_file(cmake/yolactConfig.cmake.in "${PROJECT_BINARY_DIR}/yolactConfig.cmake"
                                INSTALL_DESTINATION lib/cmake/yolact)
  write_basic_package_version_file("${PROJECT_BINARY_DIR}/yolactConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
  install(FILES "${PROJECT_BINARY_DIR}/yolactConfig.cmake" "${PROJECT_BINARY_DIR}/yolactConfigVersion.cmake"
          DESTINATION lib/cmake/yolact)
endif()
