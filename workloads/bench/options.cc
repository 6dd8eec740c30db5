#include "workloads/bench/options.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <set>

namespace filer::bench {
namespace {

constexpr double kQuickSeconds = 0.1;

struct Words {
  std::string cores;
  std::vector<std::string> subjects, backends, workloads;
  std::vector<std::uint32_t> depths, blocks;
};

Error Usage(std::string message) { return {Errc::kUsage, std::move(message)}; }

Result<CorePair> ParseCores(const std::string& text) {
  CorePair cores;
  const char* end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, cores.load);
  const bool has_comma = first.ec == std::errc() && first.ptr != end && *first.ptr == ',';
  const auto second =
      has_comma ? std::from_chars(first.ptr + 1, end, cores.server) : std::from_chars_result{};
  if (!has_comma || second.ec != std::errc() || second.ptr != end) {
    return Usage(fmt::format("--cores {}: two numbers with a comma, such as 0,1", text));
  }
  const std::vector<int> allowed = AllowedCores();
  for (const int core : {cores.load, cores.server}) {
    if (std::find(allowed.begin(), allowed.end(), core) != allowed.end()) continue;
    return Usage(fmt::format("--cores {}: this program may not use core {}", text, core));
  }
  if (cores.load == cores.server) return Usage("--cores: the two ends need a core each");
  return cores;
}

bool Wants(const std::vector<std::string>& words, std::string_view name) {
  return words.empty() || std::find(words.begin(), words.end(), name) != words.end();
}
bool Wants(const std::vector<std::uint32_t>& words, std::uint32_t value) {
  return words.empty() || std::find(words.begin(), words.end(), value) != words.end();
}

Result<void> Narrow(const Words& words, BenchOptions& bench) {
  if (!words.cores.empty()) bench.cores = FILER_TRY(ParseCores(words.cores));
  std::erase_if(bench.subjects,
                [&](const std::string& name) { return !Wants(words.subjects, name); });
  std::erase_if(bench.backends,
                [&](BackendKind kind) { return !Wants(words.backends, BackendName(kind)); });
  std::erase_if(bench.cells, [&](const Cell& cell) {
    return !Wants(words.depths, cell.depth) || !Wants(words.blocks, cell.block_bytes) ||
           !Wants(words.workloads, WorkloadName(cell.workload));
  });
  if (bench.cells.empty()) {
    return Usage(
        "--workload, --block and --depth leave nothing to measure (without --quick there "
        "is more)");
  }
  return Ok();
}

void AddOptions(CLI::App& app, CommandLine& line, Words& words, CLI::Option*& seconds) {
  BenchOptions& bench = line.bench;
  app.add_option("--json", line.json_path, "also write schema filer.bench.bridge/1 here");
  app.add_option("--html", line.html_path, "also write a page with plots here");
  app.add_flag("--quick", bench.is_quick, "fewer rows, within four minutes");
  app.add_option("--cores", words.cores, "LOAD,TARGET: the two cores to use");
  seconds = app.add_option("--seconds", bench.seconds, "measured time of one repetition of one row")
                ->check(CLI::Range(0.001, 60.0));
  app.add_option("--repetitions", bench.repetitions, "of every row (5)")
      ->check(CLI::Range(1, 1000));
  app.add_option("--subject", words.subjects, "only these")->check(CLI::IsMember(SubjectNames()));
  app.add_option("--backend", words.backends, "only these")
      ->check(CLI::IsMember({"null", "memory", "file"}));
  app.add_option("--workload", words.workloads, "only these")
      ->check(CLI::IsMember({"read", "write", "mixed"}));
  app.add_option("--depth", words.depths, "only these")->check(CLI::IsMember({1, 8, 32, 128}));
  app.add_option("--block", words.blocks, "only these")->check(CLI::IsMember({4096, 131072}));
  app.add_option("--folder", bench.folder, "where the volumes of the file backend are made")
      ->check(CLI::ExistingDirectory);
}

}  // namespace

Result<void> CheckWritable(const char* option, const std::string& path) {
  if (path.empty()) return Ok();
  const auto parent = std::filesystem::path(path).parent_path();
  const std::string folder = parent.empty() ? "." : parent.string();
  std::error_code error;
  if (std::filesystem::is_directory(path, error) || ::access(folder.c_str(), W_OK) != 0) {
    return Usage(fmt::format("{} {}: cannot write a file there", option, path));
  }
  return Ok();
}

Result<CommandLine> ParseCommandLine(int count, char** words_in) {
  const std::string first = count > 1 ? words_in[1] : "";
  if (first.empty()) return Usage("say what to measure: filer bench bridge, filer bench engine");
  if (first != "bridge" && !first.starts_with('-')) {
    return Usage(fmt::format("{}: no such benchmark; there are: bridge, engine", first));
  }
  CommandLine line;
  Words words;
  CLI::Option* seconds = nullptr;
  CLI::App app("Measures the product against its peers", "filer bench");
  app.require_subcommand(1);
  auto* bridge = app.add_subcommand("bridge", "the bridge between guest and host");
  AddOptions(*bridge, line, words, seconds);
  try {
    app.parse(count, words_in);
  } catch (const CLI::CallForHelp&) {
    line.is_help = true;
    line.help = app.get_subcommands().empty() ? app.help() : bridge->help();
    return line;
  } catch (const CLI::ParseError& error) {
    return Usage(error.what());
  }
  // The range lets through what compares with nothing.
  if (!std::isfinite(line.bench.seconds)) return Usage("--seconds: a number from 0.001 to 60");
  if (line.bench.is_quick && seconds->count() == 0) line.bench.seconds = kQuickSeconds;
  line.bench.cells = line.bench.is_quick ? QuickCells() : FullCells();
  FILER_TRY(Narrow(words, line.bench));
  FILER_TRY(CheckWritable("--json", line.json_path));
  FILER_TRY(CheckWritable("--html", line.html_path));
  return line;
}

}  // namespace filer::bench
