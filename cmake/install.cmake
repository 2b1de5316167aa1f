# cmake --install: library, header, command, data, pkg-config file, CMake package.
include(CMakePackageConfigHelpers)

install(TARGETS praxino EXPORT praxinoTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/praxino DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(DIRECTORY configs/presets DESTINATION ${CMAKE_INSTALL_DATADIR}/praxino/configs FILES_MATCHING PATTERN "*.json")
if(EXISTS ${PROJECT_SOURCE_DIR}/models/tiny)
    install(DIRECTORY models/tiny DESTINATION ${CMAKE_INSTALL_DATADIR}/praxino/models)
endif()

file(RELATIVE_PATH PRX_PC_TO_INCLUDE ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_FULL_INCLUDEDIR})
configure_file(cmake/praxino.pc.in ${PROJECT_BINARY_DIR}/praxino.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/praxino.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

set(PRX_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/praxino)
install(EXPORT praxinoTargets NAMESPACE praxino:: DESTINATION ${PRX_CMAKE_DIR})
configure_package_config_file(cmake/praxinoConfig.cmake.in ${PROJECT_BINARY_DIR}/praxinoConfig.cmake
                              INSTALL_DESTINATION ${PRX_CMAKE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/praxinoConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/praxinoConfig.cmake ${PROJECT_BINARY_DIR}/praxinoConfigVersion.cmake
        DESTINATION ${PRX_CMAKE_DIR})
