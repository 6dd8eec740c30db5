// errors.h: our causes as Ganesha's fsal_errors_t, and the guard that every entry from Ganesha runs
// in.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "base/result.h"
#include "fsal/engine/engine.h"
#include "fsal/ganesha/ganesha_headers.h"

namespace filer::ganesha {

// What a client is to be told about a cause. Every Errc has an answer; what is no business of a
// file operation is a server fault.
fsal_errors_t ToFsalError(Errc code) noexcept;

inline fsal_status_t Status(fsal_errors_t major) noexcept { return {major, 0}; }
inline fsal_status_t Success() noexcept { return Status(ERR_FSAL_NO_ERROR); }
// Logs what points to trouble on our side (damage, I/O errors, faults); silent for what clients
// cause every day.
fsal_status_t ToStatus(const Error& error) noexcept;
inline bool IsError(fsal_status_t status) noexcept { return status.major != ERR_FSAL_NO_ERROR; }

// One line in Ganesha's log for an exception that reached the edge.
void LogEscape(const char* operation, const char* what) noexcept;

// Runs `body` (returns fsal_status_t) as the NFS door. An exception that left it would kill the
// server.
template <typename Body>
fsal_status_t Guarded(const char* operation, Body&& body) noexcept {
  engine::SetDoor(engine::kDoorNfs);
  try {
    return std::forward<Body>(body)();
  } catch (const std::bad_alloc&) {
    LogEscape(operation, "out of memory");
    return Status(ERR_FSAL_NOMEM);
  } catch (const std::exception& exception) {
    LogEscape(operation, exception.what());
  } catch (...) {
    LogEscape(operation, "unknown exception");
  }
  return Status(ERR_FSAL_SERVERFAULT);
}

}  // namespace filer::ganesha

// The value of a Result, or its error as this function's fsal_status_t.
#define FILER_TRY_STATUS(...) \
  FILER_TRY_STATUS_AS(FILER_TRY_NAME(filer_try_, __COUNTER__), __VA_ARGS__)
#define FILER_TRY_STATUS_AS(name, ...)                        \
  __extension__({                                             \
    auto name = (__VA_ARGS__);                                \
    if (!name.has_value()) [[unlikely]]                       \
      return ::filer::ganesha::ToStatus(name.assume_error()); \
    ::filer::detail::TakeValue(std::move(name));              \
  })
// Returns from this function unless `expression` is a success.
#define FILER_CHECK_STATUS(expression)                                \
  do {                                                                \
    const fsal_status_t filer_status = (expression);                  \
    if (::filer::ganesha::IsError(filer_status)) return filer_status; \
  } while (false)
