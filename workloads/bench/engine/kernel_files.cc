#include "workloads/bench/engine/kernel_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/file.h"

namespace filer::bench {
namespace {

Error Failed(const char* call, const std::string& name) {
  return Error::System(errno, fmt::format("{} {}", call, name));
}

class KernelFiles final : public FileSystem {
 public:
  explicit KernelFiles(UniqueFd root) : root_(std::move(root)) {}

  Result<FileNode> MakeDirectory(const std::string& name) override {
    if (::mkdirat(root_.get(), name.c_str(), 0755) != 0) return Failed("mkdir", name);
    const int fd = ::openat(root_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return Failed("open", name);
    return static_cast<FileNode>(fd);
  }
  Result<void> RemoveDirectory(const std::string& name, FileNode directory) override {
    Close(directory);
    if (::unlinkat(root_.get(), name.c_str(), AT_REMOVEDIR) != 0) return Failed("rmdir", name);
    return Ok();
  }
  Result<FileNode> MakeFile(FileNode directory, const std::string& name) override {
    const int fd = ::openat(Fd(directory), name.c_str(),
                            O_RDWR | O_CREAT | O_EXCL | O_DIRECT | O_CLOEXEC, 0644);
    if (fd < 0) return Failed("create", name);
    return static_cast<FileNode>(fd);
  }
  void Close(FileNode node) override { ::close(Fd(node)); }
  Result<void> Touch(FileNode directory, const std::string& name) override {
    const UniqueFd file(
        ::openat(Fd(directory), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    if (!file.is_open()) return Failed("create", name);
    return Ok();
  }

  Result<void> CreateDurable(FileNode directory, const std::string& name,
                             std::span<const std::byte> content) override {
    const UniqueFd file(
        ::openat(Fd(directory), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    if (!file.is_open()) return Failed("create", name);
    FILER_TRY(WriteAll(file.get(), 0, content));
    if (::fsync(file.get()) != 0) return Failed("fsync", name);
    return SyncDirectory(directory);
  }
  Result<void> Lookup(FileNode directory, const std::string& name) override {
    if (::faccessat(Fd(directory), name.c_str(), F_OK, 0) != 0) return Failed("access", name);
    return Ok();
  }
  Result<void> Stat(FileNode directory, const std::string& name) override {
    struct stat status {};
    if (::fstatat(Fd(directory), name.c_str(), &status, 0) != 0) return Failed("stat", name);
    return Ok();
  }
  Result<std::uint64_t> ReadDirectory(FileNode directory) override {
    // A description of its own: the position belongs to it.
    const UniqueFd own(::openat(Fd(directory), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!own.is_open()) return Failed("open", "a directory");
    alignas(8) std::array<char, 32768> buffer;  // as much as readdir(3) takes at once
    std::uint64_t count = 0;
    for (;;) {
      const long bytes = ::syscall(SYS_getdents64, own.get(), buffer.data(), buffer.size());
      if (bytes < 0) return Failed("getdents64", "a directory");
      if (bytes == 0) return count - 2;  // "." and ".."
      for (long at = 0; at < bytes; ++count) {
        unsigned short length = 0;
        std::memcpy(&length, buffer.data() + at + offsetof(dirent64, d_reclen), sizeof(length));
        at += length;
      }
    }
  }
  Result<void> RemoveDurable(FileNode directory, const std::string& name) override {
    if (::unlinkat(Fd(directory), name.c_str(), 0) != 0) return Failed("unlink", name);
    return SyncDirectory(directory);
  }
  Result<void> RenameDurable(FileNode directory, const std::string& from,
                             const std::string& to) override {
    if (::renameat(Fd(directory), from.c_str(), Fd(directory), to.c_str()) != 0) {
      return Failed("rename", from);
    }
    return SyncDirectory(directory);
  }
  Result<void> Read(FileNode file, std::uint64_t offset, std::span<std::byte> bytes) override {
    const ssize_t count = ::pread(Fd(file), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0) return Failed("read", "a file");
    if (static_cast<std::size_t>(count) != bytes.size()) return Errc::kShortTransfer;
    return Ok();
  }
  Result<void> Write(FileNode file, std::uint64_t offset,
                     std::span<const std::byte> bytes) override {
    return WriteAll(Fd(file), offset, bytes);
  }
  Result<void> WriteDurable(FileNode file, std::uint64_t offset,
                            std::span<const std::byte> bytes) override {
    FILER_TRY(WriteAll(Fd(file), offset, bytes));
    return Commit(file);
  }
  Result<void> Commit(FileNode file) override {
    if (::fdatasync(Fd(file)) != 0) return Failed("fdatasync", "a file");
    return Ok();
  }
  Result<void> SyncAll() override {
    if (::syncfs(root_.get()) != 0) return Failed("syncfs", "a file system");
    return Ok();
  }

 private:
  static int Fd(FileNode node) { return static_cast<int>(node); }
  static Result<void> SyncDirectory(FileNode directory) {
    if (::fsync(Fd(directory)) != 0) return Failed("fsync", "a directory");
    return Ok();
  }
  static Result<void> WriteAll(int fd, std::uint64_t offset, std::span<const std::byte> bytes) {
    const ssize_t count = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0) return Failed("write", "a file");
    if (static_cast<std::size_t>(count) != bytes.size()) return Errc::kShortTransfer;
    return Ok();
  }

  UniqueFd root_;
};

}  // namespace

Result<std::unique_ptr<FileSystem>> OpenKernelFiles(const std::string& folder) {
  UniqueFd root(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root.is_open()) return Failed("open", folder);
  return std::unique_ptr<FileSystem>(std::make_unique<KernelFiles>(std::move(root)));
}

}  // namespace filer::bench
