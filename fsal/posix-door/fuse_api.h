// fuse_api.h: the one place where libfuse's low-level interface enters.
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>
