# Text files as C strings. prx_embed(OUT.c SYMBOL FILES...) writes a C file that defines `const prxi_embedded SYMBOL[]`.
function(prx_embed out symbol)
    set(rows "")
    foreach(file ${ARGN})
        set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
        get_filename_component(name ${file} NAME)
        file(READ ${file} text)
        string(REPLACE "\\" "\\\\" text "${text}")
        string(REPLACE "\"" "\\\"" text "${text}")
        string(REPLACE "\n" "\\n\"\n      \"" text "${text}")
        string(APPEND rows "    { \"${name}\",\n      \"${text}\" },\n")
    endforeach()
    file(CONFIGURE OUTPUT ${out} @ONLY CONTENT
"/* Generated from configs/ by cmake/embed.cmake. */
#include \"engine/defaults.h\"

const prxi_embedded @symbol@[] = {
@rows@    { 0, 0 },
};
")
endfunction()
