/* The public header, compiled alone as C99 and as C++11 with pedantic errors: nothing before it, nothing after it. */
#include <praxino/praxino.h>

#include <stdio.h>

int main(void)
{
    const int ok = PRX_OK == 0 && sizeof(prx_engine_params) >= 64 && PRX_API_VERSION != 0;
    printf("%d passed, %d failed\n", ok, !ok);
    return !ok;
}
