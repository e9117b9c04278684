# Lets a release's own CMakeLists.txt decide, without torch and nvcc, which kernels it would build for which
# architectures: `sparkbake.cmakerun` runs this as a script, in the folder of that CMakeLists.txt, and reads CMake's
# trace of it. All control flow and all arch lists are upstream's; here stand only
#   - what configuring finds on a machine with CUDA and torch, and
#   - empty bodies for the commands that a script cannot have, as it has no targets.
#
# Given by -D: CUDA_COMPILER (version), GENCODE (flags as torch's CMake makes them of TORCH_CUDA_ARCH_LIST), WORK (an
# empty folder).

# ---- what is found

# torch's configuration is what defines the CUDA language: compiler version and flags appear with it.
macro(find_package NAME)
  if("${NAME}" STREQUAL "Torch")
    set(CUDA_FOUND TRUE)
    set(CUDA_VERSION "${CUDA_COMPILER}")
    set(CMAKE_CUDA_COMPILER_VERSION "${CUDA_COMPILER}")
    set(CMAKE_CUDA_FLAGS "${GENCODE}")
    set(Torch_VERSION "${TORCH_SUPPORTED_VERSION_CUDA}")
  elseif("${NAME}" STREQUAL "Python")
    # Upstream takes the first of those it supports.
    list(GET PYTHON_SUPPORTED_VERSIONS 0 Python_VERSION)
    string(REPLACE "." ";" _python "${Python_VERSION}")
    list(GET _python 0 Python_VERSION_MAJOR)
    list(GET _python 1 Python_VERSION_MINOR)
    set(Python_FOUND TRUE)
  endif()
endmacro()
set(VLLM_PYTHON_EXECUTABLE "${CMAKE_COMMAND}")
set(FETCHCONTENT_BASE_DIR "${WORK}/fetched")
set(CMAKE_BINARY_DIR "${WORK}")
set(CMAKE_CURRENT_BINARY_DIR "${WORK}")

# Python is asked for paths and flags of torch; generators of sources write none. None of it decides over an arch list.
function(execute_process)
  cmake_parse_arguments(PARSE_ARGV 0 _asked "" "RESULT_VARIABLE;OUTPUT_VARIABLE;ERROR_VARIABLE" "")
  foreach(_name IN ITEMS "${_asked_OUTPUT_VARIABLE}" "${_asked_ERROR_VARIABLE}")
    if(_name)
      set(${_name} "none" PARENT_SCOPE)
    endif()
  endforeach()
  # Last: upstream gives one variable both for the result and the output.
  if(_asked_RESULT_VARIABLE)
    set(${_asked_RESULT_VARIABLE} 0 PARENT_SCOPE)
  endif()
endfunction()

# Only the build files are here: nothing else can be read, a pattern stands for the files that it would match, and nothing
# need be written.
macro(file)
  if("${ARGV0}" MATCHES "^GLOB")
    set(_patterns ${ARGV})
    list(REMOVE_AT _patterns 0 1)
    list(REMOVE_ITEM _patterns CONFIGURE_DEPENDS)
    set(${ARGV1} ${_patterns})
  elseif("${ARGV0}" MATCHES "^(MD5|SHA[0-9]+|READ|STRINGS)$")
    set(${ARGV2} "none")
  elseif("${ARGV0}" STREQUAL "REAL_PATH")
    _file(${ARGV})
  endif()
endmacro()
foreach(_command IN ITEMS find_file find_library find_path find_program)
  cmake_language(EVAL CODE "function(${_command} NAME)\n  set(\${NAME} found PARENT_SCOPE)\nendfunction()")
endforeach()

# ---- what a script cannot have

# Found before CMake's own module, which would download.
_file(MAKE_DIRECTORY "${WORK}/modules")
_file(WRITE "${WORK}/modules/FetchContent.cmake" "")
set(CMAKE_MODULE_PATH "${WORK}/modules")

foreach(_command IN ITEMS
    project enable_language install add_library add_custom_command add_custom_target add_dependencies
    include_directories link_libraries link_directories set_property set_source_files_properties
    set_target_properties target_compile_definitions target_compile_features target_compile_options
    target_include_directories target_link_directories target_link_libraries target_link_options target_sources
    Python_add_library FetchContent_Declare FetchContent_GetProperties)
  cmake_language(EVAL CODE "function(${_command})\nendfunction()")
endforeach()
# A fetched project is somewhere, with nothing in it that would be asked for but CUTLASS's main header.
function(FetchContent_Populate NAME)
  string(TOLOWER "${NAME}" _lower)
  set(${_lower}_SOURCE_DIR "${WORK}/fetched/${_lower}" PARENT_SCOPE)
endfunction()
macro(FetchContent_MakeAvailable)
  foreach(_project IN ITEMS ${ARGN})
    FetchContent_Populate("${_project}")
  endforeach()
endmacro()
set(CUTLASS_INCLUDE_DIR "${WORK}/fetched/cutlass/include")
_file(WRITE "${CUTLASS_INCLUDE_DIR}/cutlass/cutlass.h" "")

include("${CMAKE_SOURCE_DIR}/CMakeLists.txt")
