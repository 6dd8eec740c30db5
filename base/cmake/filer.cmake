# filer.cmake: the functions every folder's CMakeLists.txt uses.
#
#   filer_library(name SOURCES ... PUBLIC ... PRIVATE ...)       static library filer_<name>, alias filer::<name>
#   filer_executable(name SOURCES ... PRIVATE ...)               program `name` in build/bin
#   filer_optimize_as_one(program libraries...)   at link time, across the files of its static libraries
#   filer_test(name SOURCES ... PRIVATE ... [LABEL unit] [TIMEOUT s])   GoogleTest program, its cases known to ctest
include_guard()

set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)

function(_filer_settings target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR})
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow;-Wnon-virtual-dtor;-Wno-missing-field-initializers;-Werror>
    $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:Clang>>:-Wthread-safety>
    -fno-strict-aliasing)
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_EXTENSIONS OFF)
endfunction()

function(filer_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(filer_${name} STATIC ${ARG_SOURCES})
  add_library(filer::${name} ALIAS filer_${name})
  _filer_settings(filer_${name})
  target_link_libraries(filer_${name} PUBLIC ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE})
endfunction()

function(filer_executable name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PRIVATE" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  _filer_settings(${name})
  target_link_libraries(${name} PRIVATE ${ARG_PRIVATE})
endfunction()

# For a program whose hot path leads through several files. Other programs link the same libraries
# as they are: `fat` objects hold the compiled code as well.
function(filer_optimize_as_one program)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL GNU OR FILER_SANITIZE OR FILER_SANITIZE_THREAD OR FILER_COVERAGE)
    return()
  endif()
  foreach(target IN ITEMS ${program} LISTS ARGN)
    target_compile_options(${target} PRIVATE -flto -ffat-lto-objects)
  endforeach()
  target_link_options(${program} PRIVATE -flto=auto)
  set_target_properties(${program} PROPERTIES FILER_IS_ONE ON)
endfunction()

function(filer_test name)
  cmake_parse_arguments(ARG "SOAK" "LABEL;TIMEOUT" "SOURCES;PRIVATE" ${ARGN})
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  _filer_settings(${name})
  target_link_libraries(${name} PRIVATE ${ARG_PRIVATE} GTest::gtest GTest::gmock GTest::gtest_main)
  # What the sanitizer run builds, and no more.
  if(ARG_LABEL STREQUAL unit)
    if(NOT TARGET unit_tests)
      add_custom_target(unit_tests)
    endif()
    add_dependencies(unit_tests ${name})
  endif()
  gtest_discover_tests(${name} TEST_PREFIX ${name}. DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
  if(ARG_SOAK)
    add_test(NAME long.${name} COMMAND ${name})
    set_tests_properties(long.${name} PROPERTIES LABELS long TIMEOUT 14400 ENVIRONMENT FILER_LONG=1)
  endif()
endfunction()

# Programs and plug-ins below a folder, those of the tests aside.
function(_filer_collect_programs folder result)
  set(found)
  get_directory_property(targets DIRECTORY ${folder} BUILDSYSTEM_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(type ${target} TYPE)
    if(type MATCHES "^(EXECUTABLE|MODULE_LIBRARY|SHARED_LIBRARY)$")
      list(APPEND found ${target})
    endif()
  endforeach()
  get_directory_property(subfolders DIRECTORY ${folder} SUBDIRECTORIES)
  foreach(subfolder IN LISTS subfolders)
    if(NOT subfolder STREQUAL "${PROJECT_SOURCE_DIR}/tests")
      _filer_collect_programs(${subfolder} below)
      list(APPEND found ${below})
    endif()
  endforeach()
  set(${result} ${found} PARENT_SCOPE)
endfunction()

# Target `appliance`: all that a running filer consists of, without the tests. Called once, last, at the root.
function(filer_appliance_target)
  _filer_collect_programs(${PROJECT_SOURCE_DIR} programs)
  add_custom_target(appliance DEPENDS ${programs})
endfunction()
