/* Names, texts and exit codes of prx_status. */
#include "status.h"

static const struct {
    int value;
    const char *name, *text;
} status_table[] = {
#define PRX_X(name, value, text) { value, #name, text },
    PRX_STATUS_MAP(PRX_X)
#undef PRX_X
};

PRX_API const char *prx_status_name(int status)
{
    for (size_t i = 0; i < sizeof status_table / sizeof *status_table; i++)
        if (status_table[i].value == status)
            return status_table[i].name;
    return "?";
}

PRX_API const char *prx_status_text(int status)
{
    for (size_t i = 0; i < sizeof status_table / sizeof *status_table; i++)
        if (status_table[i].value == status)
            return status_table[i].text;
    return "unknown status";
}

PRX_API int prx_status_exit_code(int status)
{
    switch (status) {
    case PRX_EINVAL:
    case PRX_EFORMAT:
        return 2;
    case PRX_ENOMEM:
    case PRX_ENOSPC:
        return 3;
    case PRX_ENOTSUP:
        return 4;
    case PRX_ECANCELED:
        return 130;
    default:
        return status >= 0 ? 0 : 1;
    }
}
