# The CUDA module, a file that the library loads at run time. PRX_CUDA=AUTO: when nvcc and the headers and libraries of a toolkit are all
# there, for the GPU of this machine; where it has none, only when the target praxino_cuda is asked for (sm_80 and PTX). ON: for every
# chip, as part of everything.
set(PRX_CUDA_ARCHS "" CACHE STRING "Chips to compile the CUDA module for, such as 80;90a; empty: see PRX_CUDA")
set(PRX_CUDA_ALL 80 86 89 90a 100 120)
file(GLOB PRX_CUDA_KERNELS CONFIGURE_DEPENDS engine/cuda/dev/*.cu)

# What doctor says about kernels: generated for the module and for the emulated one of the tests.
set(PRX_CUDA_ROWS ${PROJECT_BINARY_DIR}/generated/cuda_kernels.cpp)
add_custom_command(OUTPUT ${PRX_CUDA_ROWS}
    COMMAND ${CMAKE_COMMAND} -DROOT=${PROJECT_SOURCE_DIR} -DOUT=${PRX_CUDA_ROWS} -P ${PROJECT_SOURCE_DIR}/cmake/ledger.cmake
    DEPENDS ${PRX_CUDA_KERNELS} engine/cuda/dev/prim.cuh engine/cuda/dev/prim90.cuh engine/cuda/dev/keys.cuh engine/cuda/dev/conv.cuh
            engine/cuda/dev/tile.cuh tests/gpu/ledger.json cmake/ledger.cmake
    VERBATIM)
add_custom_target(praxino_cuda_rows DEPENDS ${PRX_CUDA_ROWS})

if(PRX_CUDA STREQUAL OFF)
    return()
endif()
find_program(PRX_NVCC nvcc HINTS /usr/local/cuda/bin ENV CUDA_HOME PATH_SUFFIXES bin)
set(PRX_CUDA_MISSING "")
if(PRX_NVCC)
    file(REAL_PATH ${PRX_NVCC} nvcc_file)
    get_filename_component(nvcc_bin ${nvcc_file} DIRECTORY)
    get_filename_component(PRX_CUDA_HOME ${nvcc_bin} DIRECTORY)
    find_path(PRX_CUDA_INCLUDE NAMES cublasLt.h HINTS ${PRX_CUDA_HOME}/include ${PRX_CUDA_HOME}/targets/x86_64-linux/include)
    find_path(PRX_CUDART_INCLUDE NAMES cuda_runtime.h HINTS ${PRX_CUDA_HOME}/include ${PRX_CUDA_HOME}/targets/x86_64-linux/include)
    find_library(PRX_CUDART NAMES libcudart_static.a HINTS ${PRX_CUDA_HOME} PATH_SUFFIXES lib64 lib targets/x86_64-linux/lib)
    find_library(PRX_CUBLASLT NAMES cublasLt HINTS ${PRX_CUDA_HOME} PATH_SUFFIXES lib64 lib targets/x86_64-linux/lib)
endif()
foreach(part PRX_NVCC PRX_CUDART_INCLUDE PRX_CUDART PRX_CUDA_INCLUDE PRX_CUBLASLT)
    if(NOT ${part})
        list(APPEND PRX_CUDA_MISSING ${part})
    endif()
endforeach()
if(PRX_CUDA_MISSING)
    if(PRX_CUDA STREQUAL ON)
        message(FATAL_ERROR "PRX_CUDA=ON: not found: ${PRX_CUDA_MISSING} "
                            "(nvcc, cuda_runtime.h, libcudart_static.a, cublasLt.h, libcublasLt)")
    endif()
    return()
endif()

if(NOT PRX_CUDA_ARCHS STREQUAL "")
    set(archs ${PRX_CUDA_ARCHS})
elseif(PRX_CUDA STREQUAL ON)
    set(archs ${PRX_CUDA_ALL})
elseif(EXISTS /dev/nvidiactl)
    set(archs native)
else()
    set(archs 80)
endif()
# Hopper's own instructions are in sm_90a, which -arch=native does not mean.
if(archs STREQUAL native)
    execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader OUTPUT_VARIABLE chip ERROR_QUIET)
    if(chip MATCHES "^9\\.0")
        set(archs 90a)
        set(PRX_CUDA_NATIVE ON)
    endif()
endif()
# Same arithmetic as the CPU's: no contraction; fused multiply-adds are written out.
set(PRX_NVCC_FLAGS -std=c++17 -O3 -fmad=false -Xcompiler=-fPIC,-fvisibility=hidden -I${PROJECT_SOURCE_DIR}
    -I${PROJECT_SOURCE_DIR}/include -I${PRX_CUDA_INCLUDE} -I${PRX_CUDART_INCLUDE})
if(archs STREQUAL native)
    list(APPEND PRX_NVCC_FLAGS -arch=native)
else()
    foreach(a ${archs})
        list(APPEND PRX_NVCC_FLAGS -gencode=arch=compute_${a},code=sm_${a})
    endforeach()
    list(GET archs 0 base)
    list(APPEND PRX_NVCC_FLAGS -gencode=arch=compute_${base},code=compute_${base})
endif()
list(JOIN archs " " PRX_CUDA_ARCH_TEXT)
set(objects "")
foreach(f ${PRX_CUDA_KERNELS})
    get_filename_component(name ${f} NAME_WE)
    set(o ${PROJECT_BINARY_DIR}/cuda/${name}.o)
    add_custom_command(OUTPUT ${o}
        COMMAND ${PRX_NVCC} ${PRX_NVCC_FLAGS} "-DPRXI_CUDA_ARCHS=\"${PRX_CUDA_ARCH_TEXT}\"" -MD -MF ${o}.d -c ${f} -o ${o}
        DEPENDS ${f} DEPFILE ${o}.d COMMENT "nvcc ${name}.cu" VERBATIM)
    list(APPEND objects ${o})
endforeach()
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/cuda)
add_library(praxino_cuda MODULE ${objects} ${PRX_CUDA_ROWS})
if(PRX_CUDA STREQUAL AUTO AND NOT EXISTS /dev/nvidiactl)
    set_target_properties(praxino_cuda PROPERTIES EXCLUDE_FROM_ALL ON)      # nobody here could run it
else()
    install(TARGETS praxino_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
set_target_properties(praxino_cuda PROPERTIES LINKER_LANGUAGE CXX)
target_include_directories(praxino_cuda PRIVATE include ${PROJECT_SOURCE_DIR})
target_link_libraries(praxino_cuda PRIVATE ${PRX_CUBLASLT} ${PRX_CUDART} Threads::Threads ${CMAKE_DL_LIBS} rt)
if((PRX_CUDA_NATIVE OR archs STREQUAL native) AND TARGET praxino_cli)
    add_dependencies(praxino_cli praxino_cuda)      # a machine with a GPU gets it with the command
endif()
