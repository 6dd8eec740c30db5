// peer_descriptor.h: what a descriptor that a peer sent is, found out without calling into its file
// system: fstat, statfs or poll on a file of a FUSE server that does not answer would never return.
// Threads: any.
#pragma once

#include <cstdint>
#include <string_view>

namespace filer::bridge {

enum class DescriptorKind : std::uint8_t {
  kNone,    // nothing is expected
  kEvent,   // eventfd
  kMemory,  // memfd, or a file of tmpfs or hugetlbfs
  kStream,  // connected Unix socket
};

bool IsOfKind(int fd, DescriptorKind kind);
std::string_view DescriptorKindText(DescriptorKind kind);

}  // namespace filer::bridge
