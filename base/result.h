// result.h: values or errors. Result<T> is Boost.Outcome's basic_result with the terminate policy:
// reading the wrong side aborts, and the type is [[nodiscard]].
//
// Error carries one Errc (the cause, which code may branch on), an optional errno, and an optional
// message for a person
// ("what, where, how to mend it"). Tables map Errc to errno, NFS status and NT status at the doors
// only. Threads: values, no shared state.
#pragma once

#include <boost/outcome/basic_result.hpp>
#include <boost/outcome/policy/terminate.hpp>
#include <boost/outcome/success_failure.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace filer {

// One enumerator per distinct cause. Add here, then to kErrcTable in result.cc (a test holds the
// two together).
enum class Errc : std::uint16_t {
  // Arguments and state
  kInvalidArgument = 1,
  kNotSupported,
  kNotFound,
  kExists,
  kNotDirectory,
  kIsDirectory,
  kNotEmpty,
  kNameTooLong,
  kInvalidName,
  kCrossesFileset,
  kLoop,  // rename of a directory under itself
  kTooManyLinks,
  kFileTooBig,
  kStaleHandle,  // the inode or its generation is gone
  kBadHandle,    // malformed, foreign or forged handle
  kBadCookie,
  kNotPermitted,  // EPERM
  kAccessDenied,  // EACCES
  kReadOnly,
  kNoSpace,
  kQuotaExceeded,
  kNoAttribute,  // extended attribute missing
  kTooBig,       // a value or message is larger than its limit
  kLockConflict,
  kDeadlock,
  kBusy,  // in use by somebody else
  kWouldBlock,
  kTimedOut,
  kCancelled,
  kShuttingDown,
  kNoMemory,
  // Devices and files of the host
  kIo,
  kDeviceGone,  // the other end of the bridge went away
  kOutOfRange,
  kShortTransfer,
  // What was read does not verify
  kCorrupt,
  kNotOurs,       // no magic of ours
  kNewerVersion,  // written by a newer release
  kTooSmall,
  // Bridge protocol
  kProtocol,
  kRingIndexJumped,
  kDescriptorOutOfRange,
  kChainTooLong,
  kBadAddress,
  kHeadInUse,
  // Commands
  kUsage,
  kConfigInvalid,
  kNotRunning,
  kRefused,
  kSystem,  // a system call failed; os_errno says how
};

// Stable identifier, e.g. "kNoSpace" -> "no space left". Never fails.
std::string_view ErrcText(Errc code) noexcept;

class [[nodiscard]] Error {
 public:
  // Implicit on purpose: `return Errc::kCorrupt;` reads well.
  Error(Errc code) : code_(code) {}  // NOLINT(google-explicit-constructor)
  Error(Errc code, std::string message) : code_(code), message_(std::move(message)) {}

  // kSystem with the errno of a failed call; `what` says which call and on what.
  static Error System(int os_errno, std::string what);

  Errc code() const noexcept { return code_; }
  int os_errno() const noexcept { return os_errno_; }
  // One line for a person; falls back to ErrcText.
  std::string message() const;

  friend bool operator==(const Error& error, Errc code) noexcept { return error.code_ == code; }

 private:
  Errc code_;
  int os_errno_ = 0;
  std::string message_;
};

template <typename T>
using Result = boost::outcome_v2::basic_result<T, Error, boost::outcome_v2::policy::terminate>;

// `return Ok();` for Result<void>.
inline auto Ok() { return boost::outcome_v2::success(); }

namespace detail {
template <typename R>
auto TakeValue(R&& result) {
  if constexpr (std::is_void_v<typename std::decay_t<R>::value_type>) {
    return;
  } else {
    return std::move(result).assume_value();
  }
}
}  // namespace detail

}  // namespace filer

// Expression: the value of a Result, or return its error from the enclosing function.
//   const auto block = FILER_TRY(device.Read(0));     FILER_TRY(device.Flush());
#define FILER_TRY(...) FILER_TRY_AS(FILER_TRY_NAME(filer_try_, __COUNTER__), __VA_ARGS__)
#define FILER_TRY_NAME(prefix, number) FILER_TRY_JOIN(prefix, number)
#define FILER_TRY_JOIN(prefix, number) prefix##number
#define FILER_TRY_AS(name, ...)                  \
  __extension__({                                \
    auto name = (__VA_ARGS__);                   \
    if (!name.has_value()) [[unlikely]]          \
      return std::move(name).assume_error();     \
    ::filer::detail::TakeValue(std::move(name)); \
  })
