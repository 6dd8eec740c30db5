// file_system.h: a file system as the load sees it: ours (engine_files.h) or one of the kernel's
// (kernel_files.h). Durable means the same in both: what returned survives a loss of power as far
// as the backing keeps what it was asked to flush.
//
// Threads: any, each on nodes and names of its own, or reading. Blocking.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"

namespace filer::bench {

// An open directory or file: an inode number, or a descriptor.
using FileNode = std::uint64_t;

class FileSystem {
 public:
  virtual ~FileSystem() = default;

  // Below the root. Empty ones only are removed.
  virtual Result<FileNode> MakeDirectory(const std::string& name) = 0;
  virtual Result<void> RemoveDirectory(const std::string& name, FileNode directory) = 0;
  // A new file for large transfers. Reads of it come from the volume.
  virtual Result<FileNode> MakeFile(FileNode directory, const std::string& name) = 0;
  virtual void Close(FileNode node) = 0;
  // An empty file; durable after SyncAll at the latest.
  virtual Result<void> Touch(FileNode directory, const std::string& name) = 0;

  // Durable with its name and all of `content`.
  virtual Result<void> CreateDurable(FileNode directory, const std::string& name,
                                     std::span<const std::byte> content) = 0;
  virtual Result<void> Lookup(FileNode directory, const std::string& name) = 0;
  virtual Result<void> Stat(FileNode directory, const std::string& name) = 0;
  // All entries, "." and ".." aside; returns how many.
  virtual Result<std::uint64_t> ReadDirectory(FileNode directory) = 0;
  virtual Result<void> RemoveDurable(FileNode directory, const std::string& name) = 0;
  virtual Result<void> RenameDurable(FileNode directory, const std::string& from,
                                     const std::string& to) = 0;
  // Of all of `bytes`; aligned to 4096 in memory and file.
  virtual Result<void> Read(FileNode file, std::uint64_t offset, std::span<std::byte> bytes) = 0;
  virtual Result<void> Write(FileNode file, std::uint64_t offset,
                             std::span<const std::byte> bytes) = 0;
  virtual Result<void> WriteDurable(FileNode file, std::uint64_t offset,
                                    std::span<const std::byte> bytes) = 0;
  virtual Result<void> Commit(FileNode file) = 0;
  virtual Result<void> SyncAll() = 0;

  // Payload copied by the processor since the start; negative: nobody counts.
  virtual std::int64_t CopiedBytes() const { return -1; }
};

}  // namespace filer::bench
