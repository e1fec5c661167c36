# Helpers that give every room and every test the same warnings, sanitizers and include root.

add_library(leap_options INTERFACE)
target_include_directories(leap_options INTERFACE "${CMAKE_SOURCE_DIR}/src")
target_compile_options(leap_options INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Werror
  -fno-strict-aliasing -msse4.2 -mpclmul)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports -Wfree-nonheap-object for temporaries that own a unique_ptr (a Result's error), wrongly.
  target_compile_options(leap_options INTERFACE -fcoroutines -Wno-free-nonheap-object)
endif()
if(LEAP_SANITIZE)
  target_compile_options(leap_options INTERFACE -fsanitize=${LEAP_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(leap_options INTERFACE -fsanitize=${LEAP_SANITIZE})
  if(LEAP_SANITIZE MATCHES "undefined")
    target_compile_options(leap_options INTERFACE -fno-sanitize-recover=undefined)
  endif()
  if(LEAP_SANITIZE MATCHES "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(leap_options INTERFACE -Wno-tsan)
  endif()
endif()

# leap_room(<room> SOURCES a.cc b.cc [PUBLIC libs...] [PRIVATE libs...])
# Defines the static library leap_<room>. A room without sources becomes a header-only target.
function(leap_room room)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  if(ARG_SOURCES)
    add_library(leap_${room} STATIC ${ARG_SOURCES})
    target_link_libraries(leap_${room} PUBLIC leap_options ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE})
  else()
    add_library(leap_${room} INTERFACE)
    target_link_libraries(leap_${room} INTERFACE leap_options ${ARG_PUBLIC})
  endif()
endfunction()

# Everything `ctest` needs, and nothing else: what the sanitizer builds build.
add_custom_target(leap_tests)

# leap_test(<name> SOURCES x_test.cc ... LIBS leap_x ... [LABELS unit] [TIMEOUT seconds] [ARGS ...] [SINGLE_THREADED])
# One GoogleTest executable, registered with ctest as a single test named <name>. Its cases are written to
# <build>/results/<name>.xml, where scripts/run_tests.py counts them. Sanitizers get four times the TIMEOUT.
# SINGLE_THREADED tests are left out of the thread sanitizer's build, where they would prove nothing.
function(leap_test name)
  cmake_parse_arguments(ARG "SINGLE_THREADED" "TIMEOUT" "SOURCES;LIBS;LABELS;ARGS" ${ARGN})
  if(ARG_SINGLE_THREADED AND LEAP_SANITIZE MATCHES "thread")
    return()
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  add_dependencies(leap_tests ${name})
  target_link_libraries(${name} PRIVATE leap_options ${ARG_LIBS} GTest::gmock GTest::gtest_main)
  # The rooms under test are built as they ship; optimising the tests themselves would cost half of the build time.
  if(LEAP_SANITIZE)
    math(EXPR ARG_TIMEOUT "${ARG_TIMEOUT} * 4")
    target_compile_options(${name} PRIVATE -O0)
  else()
    target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  endif()
  add_test(NAME ${name} COMMAND ${name} ${ARG_ARGS})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}"
    ENVIRONMENT_MODIFICATION "GTEST_OUTPUT=set:xml:${CMAKE_BINARY_DIR}/results/${name}.xml")
endfunction()

# leap_script_test(<name> COMMAND program args... [LABELS system] [TIMEOUT seconds])
# A test that is a script: exit status 0 is a pass, 77 means that it could not run. It names each skip in a line
# `SKIPPED <case>: <reason>`, which scripts/run_tests.py reports.
function(leap_script_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "COMMAND;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  if(NOT ARG_LABELS)
    set(ARG_LABELS system)
  endif()
  add_test(NAME ${name} COMMAND ${ARG_COMMAND})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}" SKIP_RETURN_CODE 77)
endfunction()
