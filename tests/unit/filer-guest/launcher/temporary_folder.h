// temporary_folder.h: a folder that goes away with its test.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace filer::guest {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string shape = (std::filesystem::temp_directory_path() / "launch.XXXXXX").string();
    path_ = ::mkdtemp(shape.data());
  }
  ~TemporaryFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace filer::guest
