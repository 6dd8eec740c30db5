// image.h: the guest image that fits this build, made by filer-guest/image/build-image when its
// inputs changed.
#pragma once

#include <string>

#include "base/result.h"
#include "configs/command/home.h"

namespace filer::command {

struct ImageFolder {
  std::string path;  // kernel, initrd, root.squashfs, manifest.json
  std::string version;
};

// Runs the builder (a fraction of a second when nothing changed). Errors: kNotFound (no recipe and
// no image), kSystem with the builder's last line. Blocking, minutes when the Debian base has to be
// made.
Result<ImageFolder> EnsureImage(const Installation& installation);

}  // namespace filer::command
