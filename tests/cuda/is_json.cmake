# cmake -DF=file -P is_json.cmake: fails where F is no JSON.
file(READ ${F} text)
string(JSON type ERROR_VARIABLE wrong TYPE "${text}")
if(wrong)
    message(FATAL_ERROR "${F}: ${wrong}")
endif()
