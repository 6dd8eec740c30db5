#include "fsal/ganesha/errors.h"

#include "base/log.h"

namespace filer::ganesha {

fsal_errors_t ToFsalError(Errc code) noexcept {
  switch (code) {
    case Errc::kInvalidArgument:
      return ERR_FSAL_INVAL;
    case Errc::kNotSupported:
      return ERR_FSAL_NOTSUPP;
    case Errc::kNotFound:
      return ERR_FSAL_NOENT;
    case Errc::kExists:
      return ERR_FSAL_EXIST;
    case Errc::kNotDirectory:
      return ERR_FSAL_NOTDIR;
    case Errc::kIsDirectory:
      return ERR_FSAL_ISDIR;
    case Errc::kNotEmpty:
      return ERR_FSAL_NOTEMPTY;
    case Errc::kNameTooLong:
      return ERR_FSAL_NAMETOOLONG;
    case Errc::kInvalidName:
      return ERR_FSAL_INVAL;
    case Errc::kCrossesFileset:
      return ERR_FSAL_XDEV;
    case Errc::kLoop:
      return ERR_FSAL_INVAL;  // rename(2): EINVAL
    case Errc::kTooManyLinks:
      return ERR_FSAL_MLINK;
    case Errc::kFileTooBig:
      return ERR_FSAL_FBIG;
    case Errc::kStaleHandle:
      return ERR_FSAL_STALE;
    case Errc::kBadHandle:
      return ERR_FSAL_BADHANDLE;
    case Errc::kBadCookie:
      return ERR_FSAL_BADCOOKIE;
    case Errc::kNotPermitted:
      return ERR_FSAL_PERM;
    case Errc::kAccessDenied:
      return ERR_FSAL_ACCESS;
    case Errc::kReadOnly:
      return ERR_FSAL_ROFS;
    case Errc::kNoSpace:
      return ERR_FSAL_NOSPC;
    case Errc::kQuotaExceeded:
      return ERR_FSAL_DQUOT;
    case Errc::kNoAttribute:
      return ERR_FSAL_NOXATTR;
    case Errc::kTooBig:
      return ERR_FSAL_XATTR2BIG;
    case Errc::kOutOfRange:
      return ERR_FSAL_NXIO;
    case Errc::kDeadlock:
      return ERR_FSAL_DEADLOCK;
    case Errc::kNoMemory:
      return ERR_FSAL_NOMEM;
    // The client is to come again: these pass.
    case Errc::kLockConflict:
    case Errc::kBusy:
    case Errc::kWouldBlock:
    case Errc::kTimedOut:
    case Errc::kShuttingDown:
      return ERR_FSAL_DELAY;
    case Errc::kIo:
    case Errc::kDeviceGone:
    case Errc::kShortTransfer:
    case Errc::kCorrupt:
      return ERR_FSAL_IO;
    case Errc::kCancelled:
    case Errc::kNotOurs:
    case Errc::kNewerVersion:
    case Errc::kTooSmall:
    case Errc::kProtocol:
    case Errc::kRingIndexJumped:
    case Errc::kDescriptorOutOfRange:
    case Errc::kChainTooLong:
    case Errc::kBadAddress:
    case Errc::kHeadInUse:
    case Errc::kUsage:
    case Errc::kConfigInvalid:
    case Errc::kNotRunning:
    case Errc::kRefused:
    case Errc::kSystem:
      return ERR_FSAL_SERVERFAULT;
  }
  return ERR_FSAL_SERVERFAULT;
}

fsal_status_t ToStatus(const Error& error) noexcept {
  const fsal_errors_t major = ToFsalError(error.code());
  if (major == ERR_FSAL_IO || major == ERR_FSAL_SERVERFAULT || major == ERR_FSAL_NOMEM) {
    try {
      FILER_LOG_ERROR("request failed: {}", error.message());
    } catch (...) {
      return Status(major);
    }
  }
  return Status(major);
}

void LogEscape(const char* operation, const char* what) noexcept {
  try {
    FILER_LOG_ERROR("{}: exception at the edge to Ganesha: {}", operation, what);
  } catch (...) {
    return;  // nothing left to tell it to
  }
}

}  // namespace filer::ganesha
