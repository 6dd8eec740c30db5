#include "host-bridge/target/desk.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <array>
#include <thread>

namespace filer::bridge {
namespace {

class DeskTest : public testing::Test {
 protected:
  bool IsWoken() const {
    pollfd wait{desk_->wake_fd(), POLLIN, 0};
    return ::poll(&wait, 1, 0) == 1;
  }
  std::unique_ptr<Desk> desk_ = Desk::Create(3).assume_value();
  std::vector<Note> notes_;
};

TEST_F(DeskTest, GivesEachNoteOnceAndWakes) {
  EXPECT_EQ(desk_->poller_index(), 3U);
  EXPECT_FALSE(desk_->has_notes());
  EXPECT_FALSE(IsWoken());
  QueueLoan loan;
  desk_->Send({NoteKind::kLend, &loan});
  desk_->Send({NoteKind::kRecall, &loan});
  EXPECT_TRUE(desk_->has_notes());
  EXPECT_TRUE(IsWoken());
  desk_->Take(notes_);
  ASSERT_EQ(notes_.size(), 2U);
  EXPECT_EQ(notes_[0].kind, NoteKind::kLend);
  EXPECT_EQ(notes_[1].kind, NoteKind::kRecall);
  EXPECT_EQ(notes_[1].loan, &loan);
  EXPECT_FALSE(desk_->has_notes());
  desk_->Take(notes_);
  EXPECT_TRUE(notes_.empty());
  desk_->DrainWake();
  EXPECT_FALSE(IsWoken());
}

// Whoever sees no note after arming will be woken by the next one: none is ever left behind.
TEST_F(DeskTest, LosesNothingOfSeveralSendersAndKeepsTheOrderOfEach) {
  constexpr std::size_t kEach = 20'000;
  std::array<std::vector<QueueLoan>, 3> loans;
  std::vector<std::thread> senders;
  for (auto& mine : loans) {
    mine.resize(kEach);
    for (std::uint32_t i = 0; i < kEach; ++i) mine[i].queue_index = i;
    senders.emplace_back([&] {
      for (QueueLoan& loan : mine) desk_->Send({NoteKind::kLend, &loan});
    });
  }
  std::array<std::uint32_t, 3> next{};
  for (std::size_t seen = 0; seen < kEach * loans.size();) {
    desk_->DrainWake();
    if (!desk_->has_notes()) {
      pollfd wait{desk_->wake_fd(), POLLIN, 0};
      ASSERT_EQ(::poll(&wait, 1, 20'000), 1) << "a note did not wake";
      continue;
    }
    desk_->Take(notes_);
    seen += notes_.size();
    for (const Note& note : notes_) {
      for (std::size_t i = 0; i < loans.size(); ++i) {
        const bool is_his = note.loan >= loans[i].data() && note.loan < loans[i].data() + kEach;
        if (!is_his) continue;
        ASSERT_EQ(note.loan->queue_index, next[i]++);
      }
    }
  }
  for (std::thread& sender : senders) sender.join();
  EXPECT_FALSE(desk_->has_notes());
}

}  // namespace
}  // namespace filer::bridge
