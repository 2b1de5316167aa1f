/* Result codes: the list is in the public header; values are part of the ABI. */
#ifndef PRXI_STATUS_H
#define PRXI_STATUS_H

#include <praxino/praxino.h>

#endif
