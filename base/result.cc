#include "base/result.h"

#include <cstring>

namespace filer {

std::string_view ErrcText(Errc code) noexcept {
  switch (code) {
    case Errc::kInvalidArgument:
      return "invalid argument";
    case Errc::kNotSupported:
      return "not supported";
    case Errc::kNotFound:
      return "not found";
    case Errc::kExists:
      return "exists already";
    case Errc::kNotDirectory:
      return "not a directory";
    case Errc::kIsDirectory:
      return "is a directory";
    case Errc::kNotEmpty:
      return "directory not empty";
    case Errc::kNameTooLong:
      return "name too long";
    case Errc::kInvalidName:
      return "invalid name";
    case Errc::kCrossesFileset:
      return "crosses a fileset boundary";
    case Errc::kLoop:
      return "a directory cannot move below itself";
    case Errc::kTooManyLinks:
      return "too many links";
    case Errc::kFileTooBig:
      return "file too big";
    case Errc::kStaleHandle:
      return "stale file handle";
    case Errc::kBadHandle:
      return "bad file handle";
    case Errc::kBadCookie:
      return "bad directory cookie";
    case Errc::kNotPermitted:
      return "operation not permitted";
    case Errc::kAccessDenied:
      return "access denied";
    case Errc::kReadOnly:
      return "read-only";
    case Errc::kNoSpace:
      return "no space left";
    case Errc::kQuotaExceeded:
      return "quota exceeded";
    case Errc::kNoAttribute:
      return "no such extended attribute";
    case Errc::kTooBig:
      return "too big";
    case Errc::kLockConflict:
      return "conflicting lock";
    case Errc::kDeadlock:
      return "deadlock";
    case Errc::kBusy:
      return "in use";
    case Errc::kWouldBlock:
      return "would block";
    case Errc::kTimedOut:
      return "timed out";
    case Errc::kCancelled:
      return "cancelled";
    case Errc::kShuttingDown:
      return "shutting down";
    case Errc::kNoMemory:
      return "out of memory";
    case Errc::kIo:
      return "I/O error";
    case Errc::kDeviceGone:
      return "device gone";
    case Errc::kOutOfRange:
      return "out of range";
    case Errc::kShortTransfer:
      return "short transfer";
    case Errc::kCorrupt:
      return "data does not verify";
    case Errc::kNotOurs:
      return "not a Nearmetal volume";
    case Errc::kNewerVersion:
      return "written by a newer version";
    case Errc::kTooSmall:
      return "too small";
    case Errc::kProtocol:
      return "protocol violation";
    case Errc::kRingIndexJumped:
      return "ring index jumped";
    case Errc::kDescriptorOutOfRange:
      return "descriptor out of range";
    case Errc::kChainTooLong:
      return "descriptor chain too long";
    case Errc::kBadAddress:
      return "address outside shared memory";
    case Errc::kHeadInUse:
      return "descriptor head in use";
    case Errc::kUsage:
      return "usage error";
    case Errc::kConfigInvalid:
      return "configuration invalid";
    case Errc::kNotRunning:
      return "not running";
    case Errc::kRefused:
      return "refused";
    case Errc::kSystem:
      return "system call failed";
  }
  return "unknown error";
}

Error Error::System(int os_errno, std::string what) {
  Error error(Errc::kSystem, std::move(what));
  error.os_errno_ = os_errno;
  return error;
}

std::string Error::message() const {
  if (message_.empty()) return std::string(ErrcText(code_));
  if (os_errno_ == 0) return message_;
  char buffer[128];
  return message_ + ": " + strerror_r(os_errno_, buffer, sizeof(buffer));
}

}  // namespace filer
