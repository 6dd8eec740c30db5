// modules.h: loads kernel modules by name, with those they need, from modules.dep. The guest has no
// udev and no kmod. One thread at a time.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace filer::agent {

// Module name (with '_', as the kernel writes it) to its path and the paths it needs.
class ModuleIndex {
 public:
  // Parses the text of modules.dep ("kernel/a/b.ko: kernel/c.ko ..."). Lines without a colon are
  // skipped.
  static ModuleIndex Parse(std::string_view modules_dep);

  // Paths in load order, the module itself last. Errors: kNotFound.
  Result<std::vector<std::string>> LoadOrder(const std::string& name) const;

 private:
  struct Entry {
    std::string path;
    std::vector<std::string> needs;  // as modules.dep has them: nearest first
  };
  std::map<std::string, Entry> entries_;
};

// Loads `name` and what it needs from `folder` (/lib/modules/RELEASE). Loaded or built in already:
// ok. Errors: kNotFound, kSystem.
Result<void> LoadModule(const ModuleIndex& index, const std::string& folder,
                        const std::string& name);

// The index of the running kernel, and its folder.
struct KernelModules {
  std::string folder;
  ModuleIndex index;
};
Result<KernelModules> ReadKernelModules();

}  // namespace filer::agent
