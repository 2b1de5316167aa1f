# The CUDA kernels compiled for the host, and their tests: no toolkit needed.
file(GLOB kernels CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/engine/cuda/dev/*.cu)
list(FILTER kernels EXCLUDE REGEX "/(device|gemm_lt)\\.cu$")
set(emulation ${kernels} cuda/emu_device.cu)
set_source_files_properties(${emulation} PROPERTIES LANGUAGE CXX)
add_library(cuda_emu OBJECT ${emulation} cuda/emu.cpp cuda/emu90.cpp cuda/emu_memory.cpp ${PRX_CUDA_ROWS})
set_source_files_properties(${PRX_CUDA_ROWS} PROPERTIES GENERATED TRUE)
add_dependencies(cuda_emu praxino_cuda_rows)
target_include_directories(cuda_emu PUBLIC ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include)
target_compile_definitions(cuda_emu PRIVATE "PRXI_CUDA_EMU=\"tests/cuda/emu.h\"")
target_compile_options(cuda_emu PRIVATE -O2 -xc++)

# The same as a module, for the command.
add_library(praxino_cuda_emu MODULE $<TARGET_OBJECTS:cuda_emu>)
set_target_properties(praxino_cuda_emu PROPERTIES LINKER_LANGUAGE CXX)

function(prx_cuda_test name source)
    add_executable(cuda_${name} ${source} $<TARGET_OBJECTS:cuda_emu>)
    target_include_directories(cuda_${name} PRIVATE ${PROJECT_SOURCE_DIR})
    target_compile_definitions(cuda_${name} PRIVATE PRXI_KCHECK_CUDA PRX_SOURCE_DIR="${PRX_TEST_ROOT}"
                               PRX_VECTORS_DIR="${PRX_VECTORS}")
    target_link_libraries(cuda_${name} PRIVATE praxino_static)
    # exports: the stand-in for cuDNN, a library, looks for the emulation in the program
    set_target_properties(cuda_${name} PROPERTIES LINKER_LANGUAGE CXX ENABLE_EXPORTS ON)
    add_test(NAME cuda/${name} COMMAND cuda_${name} ${ARGN})
    set_tests_properties(cuda/${name} PROPERTIES LABELS "cuda;quick" TIMEOUT ${PRX_TIMEOUT} SKIP_RETURN_CODE 77
                         ENVIRONMENT PRAXINO_EMU_SPLIT=1 WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
endfunction()

# The kernel checks of the CPU with the tables of the device, and the network against the numbers of diffusers.
foreach(name norm act attention conv)
    prx_cuda_test(${name} kcheck/${name}.c)
endforeach()
prx_cuda_test(ops cuda/ops.c)
prx_cuda_test(mutants cuda/mutants.c)
prx_cuda_test(faults cuda/faults.c)
prx_cuda_test(guard unit/guard.c)
prx_cuda_test(convs cuda/convs.c)
target_sources(cuda_convs PRIVATE cuda/fake_cudnn.c)
prx_cuda_test(hopper cuda/hopper.c)
prx_cuda_test(quant cuda/quant.c)
prx_cuda_test(fp8 cuda/fp8.c)
prx_cuda_test(dit golden/dit.c)
prx_cuda_test(text golden/text.c)
prx_cuda_test(vae golden/vae.c wan21_patch2 wan22_ti2v)
foreach(name dit text vae)
    target_sources(cuda_${name} PRIVATE golden/common.c)
endforeach()
function(prx_cuda_chip_test name chip suffix)
    add_test(NAME cuda/${name}_${suffix} COMMAND cuda_${name})
    set_tests_properties(cuda/${name}_${suffix} PROPERTIES LABELS "cuda;quick" TIMEOUT ${PRX_TIMEOUT}
                         ENVIRONMENT "PRAXINO_EMU_CHIP=${chip};PRAXINO_EMU_SPLIT=1" WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
endfunction()
prx_cuda_chip_test(attention 90 hopper)
prx_cuda_chip_test(dit 90 hopper)
prx_cuda_chip_test(attention 80 ampere)

foreach(name jobs memory)
    add_executable(cuda_${name} cuda/${name}.c)
    add_dependencies(cuda_${name} praxino_cuda_emu)
    target_include_directories(cuda_${name} PRIVATE ${PROJECT_SOURCE_DIR})
    target_compile_definitions(cuda_${name} PRIVATE PRX_SOURCE_DIR="${PRX_TEST_ROOT}")
    target_link_libraries(cuda_${name} PRIVATE praxino_static)
    add_test(NAME cuda/${name} COMMAND cuda_${name})
    set_tests_properties(cuda/${name} PROPERTIES LABELS "cuda;quick" TIMEOUT ${PRX_TIMEOUT}
        ENVIRONMENT "PRAXINO_DATA=${PROJECT_SOURCE_DIR};PRAXINO_CUDA_MODULE=$<TARGET_FILE:praxino_cuda_emu>;PRAXINO_EMU_SPLIT=1")
endforeach()

# Of a model that has 8-bit weights and blocks to move.
add_test(NAME cuda/memory_moving COMMAND cuda_memory moving)
set_tests_properties(cuda/memory_moving PROPERTIES LABELS cuda TIMEOUT ${PRX_TIMEOUT}
    ENVIRONMENT "PRAXINO_DATA=${PROJECT_SOURCE_DIR};PRAXINO_CUDA_MODULE=$<TARGET_FILE:praxino_cuda_emu>;PRAXINO_EMU_SPLIT=1;\
PRAXINO_EMU_CHIP=90")

add_test(NAME cuda/mutated_sources COMMAND sh cuda/mutants.sh WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
set(env "PRX_SOURCE=${PROJECT_SOURCE_DIR}" "PRX_BINARY=${PROJECT_BINARY_DIR}" "CXX=${CMAKE_CXX_COMPILER}"
        "CASES=$<TARGET_FILE:cuda_mutants>" "OPS=$<TARGET_FILE:cuda_ops>" "QUANT=$<TARGET_FILE:cuda_quant>"
        "EMU_OBJECTS=$<JOIN:$<TARGET_OBJECTS:cuda_emu>, >")
set_tests_properties(cuda/mutated_sources PROPERTIES LABELS cuda TIMEOUT 1800 ENVIRONMENT "${env}")

# What ptxas says of the kernels, where there is nvcc.
add_test(NAME cuda/gates COMMAND sh cuda/gates.sh WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
set_tests_properties(cuda/gates PROPERTIES LABELS cuda TIMEOUT 1800 SKIP_RETURN_CODE 77
                     ENVIRONMENT
        "PRX_SOURCE=${PROJECT_SOURCE_DIR};NVCC=${PRX_NVCC};CMAKE=${CMAKE_COMMAND};PRX_BINARY=${PROJECT_BINARY_DIR}")
add_test(NAME cuda/ledger COMMAND sh cuda/ledger.sh WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
set_tests_properties(cuda/ledger PROPERTIES LABELS "cuda;quick" TIMEOUT 60
                     ENVIRONMENT "PRX_SOURCE=${PROJECT_SOURCE_DIR};CMAKE=${CMAKE_COMMAND}")
add_test(NAME cuda/gpu_run COMMAND sh cuda/gpu_run.sh WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
set_tests_properties(cuda/gpu_run PROPERTIES LABELS cuda TIMEOUT ${PRX_TIMEOUT}
                     ENVIRONMENT "PRX_SOURCE=${PROJECT_SOURCE_DIR};PRX_BINARY=${PROJECT_BINARY_DIR}")

# cuDNN: what is asked of it, run by a stand-in; and planned by the real one, without a device, where it is installed.
add_executable(cuda_cudnn cuda/cudnn.c cuda/fake_cudnn.c)
add_library(cuda_null_driver MODULE cuda/null_driver.c)
set_target_properties(cuda_null_driver PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/null PREFIX "" OUTPUT_NAME libcuda
                      SUFFIX .so.1)
target_link_options(cuda_null_driver PRIVATE -Wl,-soname,libcuda.so.1)
# The stand-in as a library that the command loads; the decoder with it against diffusers' numbers.
add_library(cuda_fake_library MODULE cuda/fake_library.c cuda/fake_cudnn.c)
target_include_directories(cuda_fake_library PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(cuda_fake_library PRIVATE praxino_static m)
set_target_properties(cuda_fake_library PROPERTIES PREFIX "" OUTPUT_NAME fake_cudnn)
add_test(NAME cuda/vae_cudnn COMMAND cuda_vae wan21_patch2)
set_tests_properties(cuda/vae_cudnn PROPERTIES LABELS "cuda;quick" TIMEOUT ${PRX_TIMEOUT} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
                     ENVIRONMENT "PRAXINO_CUDNN=$<TARGET_FILE:cuda_fake_library>;PRAXINO_CUDA_TUNE=1;PRAXINO_CACHE=;PRAXINO_EMU_SPLIT=1")
prx_cuda_test(paged cuda/paged.c)
add_dependencies(cuda_paged cuda_fake_library)
set_tests_properties(cuda/paged PROPERTIES ENVIRONMENT "PRAXINO_CUDNN=$<TARGET_FILE:cuda_fake_library>;PRAXINO_CACHE=;PRAXINO_EMU_SPLIT=1")
prx_cuda_test(attend cuda/attend.c)
target_sources(cuda_attend PRIVATE cuda/fake_cudnn.c)
add_dependencies(cuda_memory cuda_fake_library)
add_test(NAME cuda/memory_cudnn COMMAND cuda_memory)
set_tests_properties(cuda/memory_cudnn PROPERTIES LABELS cuda TIMEOUT ${PRX_TIMEOUT} ENVIRONMENT "PRAXINO_EMU_SPLIT=1;PRAXINO_CACHE=;\
PRAXINO_CUDA_TUNE=1;PRAXINO_CUDNN=$<TARGET_FILE:cuda_fake_library>;PRAXINO_CUDA_MODULE=$<TARGET_FILE:praxino_cuda_emu>")
add_executable(cuda_cudnn_plans cuda/cudnn_plans.c)
add_dependencies(cuda_cudnn_plans cuda_null_driver)
target_compile_definitions(cuda_cudnn_plans PRIVATE NULL_DRIVER="$<TARGET_FILE:cuda_null_driver>")
foreach(t cuda_cudnn cuda_cudnn_plans)
    target_include_directories(${t} PRIVATE ${PROJECT_SOURCE_DIR})
    target_link_libraries(${t} PRIVATE praxino_static)
endforeach()
add_test(NAME cuda/cudnn COMMAND cuda_cudnn)
set_tests_properties(cuda/cudnn PROPERTIES LABELS "cuda;quick" TIMEOUT ${PRX_TIMEOUT})
foreach(chip A100 L40S H200 B200 RTX5090)
    add_test(NAME cuda/cudnn_plans_${chip} COMMAND cuda_cudnn_plans ${chip})
    # cuDNN keeps memory of its own until the end: its leaks are not ours (cuda/cudnn looks for those, with a stand-in)
    set_tests_properties(cuda/cudnn_plans_${chip} PROPERTIES LABELS cuda TIMEOUT ${PRX_TIMEOUT} SKIP_RETURN_CODE 77
                         ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
endforeach()
# The files that no emulation runs, with a stand-in for the CUDA runtime and cuBLASLt.
if(PRX_CUDART_INCLUDE AND PRX_CUDA_INCLUDE)
    set(spoken ${PROJECT_SOURCE_DIR}/engine/cuda/dev/device.cu ${PROJECT_SOURCE_DIR}/engine/cuda/dev/gemm_lt.cu)
    set_source_files_properties(${spoken} PROPERTIES LANGUAGE CXX)
    add_executable(cuda_runtime cuda/runtime.cpp cuda/fake_cuda.cpp ${spoken})
    target_include_directories(cuda_runtime PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include)
    target_include_directories(cuda_runtime SYSTEM PRIVATE ${PRX_CUDA_INCLUDE} ${PRX_CUDART_INCLUDE})
    target_compile_definitions(cuda_runtime PRIVATE PRXI_CUDA_HOST)
    target_compile_options(cuda_runtime PRIVATE -xc++)
    target_link_libraries(cuda_runtime PRIVATE ${CMAKE_DL_LIBS})
    add_test(NAME cuda/runtime COMMAND cuda_runtime)
    set_tests_properties(cuda/runtime PROPERTIES LABELS "cuda;quick" TIMEOUT ${PRX_TIMEOUT})
endif()
find_path(PRX_CUDNN_INCLUDE NAMES cudnn_graph.h HINTS ${PRX_CUDA_HOME}/include ${PRX_CUDA_HOME}/targets/x86_64-linux/include)
if(PRX_CUDNN_INCLUDE AND PRX_CUDART_INCLUDE)
    add_executable(cuda_cudnn_header cuda/cudnn_header.c)
    target_include_directories(cuda_cudnn_header PRIVATE ${PROJECT_SOURCE_DIR})
    target_include_directories(cuda_cudnn_header SYSTEM PRIVATE ${PRX_CUDNN_INCLUDE} ${PRX_CUDART_INCLUDE})
    add_test(NAME cuda/cudnn_header COMMAND cuda_cudnn_header)
    set_tests_properties(cuda/cudnn_header PROPERTIES LABELS "cuda;quick" TIMEOUT 60)
endif()
