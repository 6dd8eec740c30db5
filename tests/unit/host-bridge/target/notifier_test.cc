#include "host-bridge/target/notifier.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace filer::bridge {
namespace {

constexpr std::uint64_t kFull = UINT64_MAX - 1;  // what write(2) can reach

std::uint64_t Take(const UniqueFd& event) {
  std::uint64_t count = 0;
  return ::read(event.get(), &count, sizeof(count)) == sizeof(count) ? count : 0;
}

TEST(Notifier, AddsOneEachTime) {
  const UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  Notifier notifier;
  EXPECT_FALSE(notifier.is_armed());
  ASSERT_TRUE(notifier.Aim(event).has_value());
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(notifier.Ring());
  EXPECT_EQ(Take(event), 1000u);
}

TEST(Notifier, ReturnsFromAFullCounterThatBlocks) {
  const UniqueFd event(::eventfd(0, EFD_CLOEXEC));
  Notifier notifier;
  ASSERT_TRUE(notifier.Aim(event).has_value());
  ASSERT_EQ(::write(event.get(), &kFull, sizeof(kFull)), 8);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(notifier.Ring());
  EXPECT_GE(Take(event), kFull);  // still there for who waits
  EXPECT_TRUE(notifier.Ring());
  EXPECT_EQ(Take(event), 1u);
}

TEST(Notifier, RingsTheOneItWasAimedAtLast) {
  const UniqueFd first(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  UniqueFd second(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const UniqueFd kept(::dup(second.get()));
  Notifier notifier;
  ASSERT_TRUE(notifier.Aim(first).has_value());
  ASSERT_TRUE(notifier.Aim(second).has_value());
  second.Reset();
  EXPECT_TRUE(notifier.Ring());
  EXPECT_EQ(Take(first), 0u);
  EXPECT_EQ(Take(kept), 1u);
  notifier.Disarm();
  EXPECT_FALSE(notifier.is_armed());
}

TEST(Notifier, RefusesWhatIsNoEventFd) {
  int pair[2];
  ASSERT_EQ(::pipe(pair), 0);
  const UniqueFd read_end(pair[0]), write_end(pair[1]);
  Notifier notifier;
  const auto aimed = notifier.Aim(write_end);
  ASSERT_FALSE(aimed.has_value());
  EXPECT_EQ(aimed.assume_error(), Errc::kProtocol);
  EXPECT_FALSE(notifier.is_armed());
}

}  // namespace
}  // namespace filer::bridge
