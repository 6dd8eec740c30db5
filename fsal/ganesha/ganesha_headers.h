// ganesha_headers.h: the one door through which Ganesha's C headers enter C++. Nothing else
// includes them.
//
// They are not written for C++: the standard, GSSAPI and urcu headers must have been seen before
// the extern "C", `export` is a parameter name, and gsh_config.h must come before fsal.h. Only this
// folder's targets have them in their path.
#pragma once

// What Ganesha's headers include and what must not end up inside extern "C".
#include <arpa/inet.h>
#include <dirent.h>
#include <gssapi/gssapi.h>
#include <gssapi/gssapi_krb5.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <rpc/types.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#define HAVE_URCU_REF_GET_UNLESS_ZERO 1
#include <urcu-bp.h>
#include <urcu/ref.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

extern "C" {
#include "config.h"
#include "gsh_config.h"
//
#define export gsh_export_arg  // NOLINT: a parameter and member name in C
#include "FSAL/fsal_commonlib.h"
#include "FSAL/fsal_init.h"
#include "fsal.h"
#include "fsal_convert.h"
#include "nfs_exports.h"
#include "sal_functions.h"
#undef export
}
