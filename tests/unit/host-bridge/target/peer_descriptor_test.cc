#include "host-bridge/target/peer_descriptor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"

namespace filer::bridge {
namespace {

constexpr DescriptorKind kKinds[] = {DescriptorKind::kNone, DescriptorKind::kEvent,
                                     DescriptorKind::kMemory, DescriptorKind::kStream};

void ExpectOnly(int fd, DescriptorKind expected) {
  const UniqueFd owned(fd);
  ASSERT_TRUE(owned.is_open());
  for (const DescriptorKind kind : kKinds) {
    const bool is_it = kind == expected && kind != DescriptorKind::kNone;
    EXPECT_EQ(IsOfKind(owned.get(), kind), is_it) << DescriptorKindText(kind);
  }
}

TEST(IsOfKind, KnowsWhatAPeerMayShare) {
  ExpectOnly(::eventfd(0, EFD_CLOEXEC), DescriptorKind::kEvent);
  ExpectOnly(::memfd_create("plain", MFD_CLOEXEC), DescriptorKind::kMemory);
  ExpectOnly(::memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING), DescriptorKind::kMemory);
  ExpectOnly(::open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), DescriptorKind::kMemory);
  ExpectOnly(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), DescriptorKind::kStream);
}

TEST(IsOfKind, RefusesEverythingElse) {
  ExpectOnly(::epoll_create1(EPOLL_CLOEXEC), DescriptorKind::kNone);
  ExpectOnly(::open("/dev/null", O_RDWR | O_CLOEXEC), DescriptorKind::kNone);
  ExpectOnly(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC), DescriptorKind::kNone);
  ExpectOnly(::open("/", O_PATH | O_CLOEXEC), DescriptorKind::kNone);
  ExpectOnly(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), DescriptorKind::kNone);
  ExpectOnly(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), DescriptorKind::kNone);
  int pair[2];
  ASSERT_EQ(::pipe2(pair, O_CLOEXEC), 0);
  ExpectOnly(pair[0], DescriptorKind::kNone);
  ExpectOnly(pair[1], DescriptorKind::kNone);
  EXPECT_FALSE(IsOfKind(-1, DescriptorKind::kMemory));
}

}  // namespace
}  // namespace filer::bridge
