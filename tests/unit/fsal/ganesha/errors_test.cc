#include "fsal/ganesha/errors.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace filer::ganesha {
namespace {

TEST(ToFsalError, GivesEveryCauseAnAnswer) {
  for (auto code = static_cast<std::uint16_t>(Errc::kInvalidArgument);
       code <= static_cast<std::uint16_t>(Errc::kSystem); ++code) {
    EXPECT_NE(ToFsalError(static_cast<Errc>(code)), ERR_FSAL_NO_ERROR) << code;
  }
  EXPECT_EQ(ToFsalError(static_cast<Errc>(60000)), ERR_FSAL_SERVERFAULT);
}

TEST(ToFsalError, SaysWhatProtocolsExpect) {
  EXPECT_EQ(ToFsalError(Errc::kNotFound), ERR_FSAL_NOENT);
  EXPECT_EQ(ToFsalError(Errc::kNotEmpty), ERR_FSAL_NOTEMPTY);
  EXPECT_EQ(ToFsalError(Errc::kStaleHandle), ERR_FSAL_STALE);
  EXPECT_EQ(ToFsalError(Errc::kBadHandle), ERR_FSAL_BADHANDLE);
  EXPECT_EQ(ToFsalError(Errc::kNoSpace), ERR_FSAL_NOSPC);
  EXPECT_EQ(ToFsalError(Errc::kCrossesFileset), ERR_FSAL_XDEV);
  EXPECT_EQ(ToFsalError(Errc::kNotPermitted), ERR_FSAL_PERM);
  EXPECT_EQ(ToFsalError(Errc::kAccessDenied), ERR_FSAL_ACCESS);
  EXPECT_EQ(ToFsalError(Errc::kNoAttribute), ERR_FSAL_NOXATTR);
  EXPECT_EQ(ToFsalError(Errc::kCorrupt), ERR_FSAL_IO) << "damage is never a client's fault";
}

TEST(Guarded, StopsExceptionsAndSaysWhichDoor) {
  EXPECT_EQ(Guarded("test", [] { return Success(); }).major, ERR_FSAL_NO_ERROR);
  EXPECT_EQ(engine::CurrentDoor(), engine::kDoorNfs);
  const auto thrower = []() -> fsal_status_t { throw std::runtime_error("x"); };
  EXPECT_EQ(Guarded("test", thrower).major, ERR_FSAL_SERVERFAULT);
  const auto poor = []() -> fsal_status_t { throw std::bad_alloc(); };
  EXPECT_EQ(Guarded("test", poor).major, ERR_FSAL_NOMEM);
  const auto odd = []() -> fsal_status_t { throw 7; };
  EXPECT_EQ(Guarded("test", odd).major, ERR_FSAL_SERVERFAULT);
}

}  // namespace
}  // namespace filer::ganesha
