#include "filer-guest/agent/huge_pages.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <filesystem>

#include "base/file.h"

namespace filer::agent {
namespace {

namespace fs = std::filesystem;

// sysfs attributes take one write, and answer errors by it.
Result<void> WriteAttribute(const std::string& path, const std::string& value) {
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.is_open()) return Error::System(errno, "open " + path);
  if (::write(file.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size())) {
    return Error::System(errno, "write \"" + value + "\" to " + path);
  }
  return Ok();
}

Result<std::uint64_t> ReadNumber(const std::string& path) {
  const std::string text = FILER_TRY(ReadWholeFile(path));
  std::uint64_t value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc()) {
    return Error(Errc::kCorrupt, path + ": no number");
  }
  return value;
}

}  // namespace

Result<void> ReserveHugePages(std::uint32_t megabytes, const std::string& sysfs) {
  const std::string folder = sysfs + "/kernel/mm/hugepages/hugepages-2048kB";
  std::error_code error;
  if (!fs::exists(folder, error)) {
    return Error(Errc::kNotSupported, "the kernel has no 2 MiB pages");
  }
  const std::uint64_t wanted = (std::uint64_t{megabytes} + 1) / 2;
  const std::uint64_t total = FILER_TRY(ReadNumber(folder + "/nr_hugepages"));
  const std::uint64_t free = FILER_TRY(ReadNumber(folder + "/free_hugepages"));
  if (free >= wanted) return Ok();
  FILER_TRY(WriteAttribute(folder + "/nr_hugepages", std::to_string(total + wanted - free)));
  const std::uint64_t got = FILER_TRY(ReadNumber(folder + "/free_hugepages"));
  if (got >= wanted) return Ok();
  return Error(Errc::kNoMemory, "only " + std::to_string(got * 2) + " of " +
                                    std::to_string(wanted * 2) +
                                    " MiB of huge pages: give the guest more memory");
}

}  // namespace filer::agent
