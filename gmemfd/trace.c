// SPDX-License-Identifier: GPL-2.0
/*
 * The tracepoints themselves.  They are apart, on the lowest floor, since files on all
 * floors use them.
 */
#include "gmemfd.h"

#define CREATE_TRACE_POINTS
#include "trace.h"
