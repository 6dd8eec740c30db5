// rte_vhost.h: the only door to the C headers of DPDK's vhost library.
#pragma once

#define VIRTIO_RING_NO_LEGACY
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#include <rte_vhost.h>
#pragma GCC diagnostic pop
