// volume-forger: makes a volume file look as if a newer release had written it, with checksums that
// fit. For tests of bad input only.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>

#include "base/crc32c.h"
#include "base/file.h"
#include "fsal/engine/format/label.h"

namespace {

using filer::engine::Label;

bool Forge(int file, off_t at) {
  Label label;
  if (::pread(file, &label, sizeof(label), at) != sizeof(label)) return false;
  label.version = filer::engine::kFormatVersion + 1;
  const auto bytes = std::as_bytes(std::span(&label, 1));
  label.crc32c = filer::Crc32c(bytes.first(offsetof(Label, crc32c)));
  return ::pwrite(file, &label, sizeof(label), at) == sizeof(label);
}

}  // namespace

int main(int count, char** words) {
  const filer::UniqueFd file(count == 2 ? ::open(words[1], O_RDWR | O_CLOEXEC) : -1);
  const off_t size = ::lseek(file.get(), 0, SEEK_END);
  if (size < static_cast<off_t>(2 * sizeof(Label)) || !Forge(file.get(), 0) ||
      !Forge(file.get(), size - static_cast<off_t>(sizeof(Label)))) {
    std::fprintf(stderr, "usage: volume-forger VOLUME-FILE\n");
    return 1;
  }
  return 0;
}
