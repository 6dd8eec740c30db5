// filer-nfs: copies a tree to an NFS server and compares it, from user space (no mount). For tests
// and for admins who move data in.
#include <fmt/core.h>

#include <CLI/CLI.hpp>

#include "workloads/lib/nfs_tree.h"

namespace filer::workloads {
namespace {

int Report(const char* verb, const Result<TreeReport>& outcome) {
  if (!outcome) {
    fmt::print(stderr, "filer-nfs: {}\n", outcome.error().message());
    return 1;
  }
  const TreeReport& report = outcome.value();
  for (const std::string& difference : report.differences) fmt::print("{}\n", difference);
  fmt::print(
      "{}: {} files, {} folders, {} symbolic links, {} hard links, {} bytes, {} skipped, {} "
      "differences\n",
      verb, report.files, report.folders, report.symlinks, report.hard_links, report.bytes,
      report.skipped, report.differences.size());
  return report.differences.empty() ? 0 : 1;
}

void AddOptions(CLI::App& command, NfsTreeOptions& options) {
  command.add_option("SOURCE", options.source, "local folder")
      ->required()
      ->check(CLI::ExistingDirectory);
  command.add_option("URL", options.url, "nfs://host/share?nfsport=N&mountport=N&version=3|4")
      ->required();
  command.add_option("TARGET", options.target, "folder on the server, such as /copy")->required();
  command.add_option("--connections", options.connections, "parallel connections")
      ->check(CLI::Range(1, 64));
  command.add_option("--journal", options.journal_path,
                     "file with the names that are stable on the server");
  command.add_option("--files", options.limits.files_max, "stop after so many files");
  command.add_option("--bytes", options.limits.bytes_max, "stop after so many bytes");
  command.add_option("--file-bytes", options.limits.file_bytes_max, "pass over larger files");
}

int Run(int count, char** words) {
  CLI::App app("Copies a tree to an NFS server, or compares it with one", "filer-nfs");
  app.require_subcommand(1);
  NfsTreeOptions options;
  auto* copy =
      app.add_subcommand("copy", "copy SOURCE into TARGET; with a journal, go on where it ended");
  auto* compare = app.add_subcommand("compare", "compare every byte, mode, link and time");
  AddOptions(*copy, options);
  AddOptions(*compare, options);
  try {
    app.parse(count, words);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    fmt::print(stderr, "filer-nfs: {}\n", error.what());
    return 2;
  }
  return copy->parsed() ? Report("copied", CopyTree(options))
                        : Report("compared", CompareTree(options));
}

}  // namespace
}  // namespace filer::workloads

int main(int count, char** words) { return filer::workloads::Run(count, words); }
