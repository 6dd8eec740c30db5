#include "workloads/bench/engine/engine_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>

#include "workloads/bench/options.h"

namespace filer::bench {
namespace {

constexpr double kQuickSeconds = 0.08;
constexpr const char* kCheckpoints = "checkpoint";
constexpr const char* kInodes = "inodes";

struct Words {
  std::vector<std::string> subjects, backends, workloads;
  std::vector<std::uint32_t> threads;
};

template <typename Value, typename Name>
bool Wants(const std::vector<Value>& words, const Name& name) {
  return words.empty() || std::find(words.begin(), words.end(), name) != words.end();
}

Result<void> Narrow(const Words& words, EngineBenchOptions& bench) {
  std::erase_if(bench.subjects,
                [&](const std::string& name) { return !Wants(words.subjects, name); });
  std::erase_if(bench.backends,
                [&](BackendKind kind) { return !Wants(words.backends, BackendName(kind)); });
  std::erase_if(bench.cells, [&](const FileCell& cell) {
    return !Wants(words.threads, cell.threads) ||
           !Wants(words.workloads, FileWorkloadName(cell.workload));
  });
  bench.wants_checkpoints = Wants(words.workloads, kCheckpoints);
  bench.wants_inodes = Wants(words.workloads, kInodes);
  const bool has_ours =
      Wants(words.subjects, kNearmetalBridge) || Wants(words.subjects, kNearmetalDirect);
  const bool has_probe = (bench.wants_checkpoints || bench.wants_inodes) && has_ours;
  const bool has_rows = RunCount(bench) > 0;
  if (!has_rows && !has_probe) {
    return Error(Errc::kUsage,
                 "--workload, --threads and --subject leave nothing to measure (without --quick "
                 "there is more)");
  }
  return Ok();
}

void AddOptions(CLI::App& app, EngineCommandLine& line, Words& words, CLI::Option*& seconds) {
  EngineBenchOptions& bench = line.bench;
  std::vector<std::string> workloads = FileWorkloadNames();
  workloads.insert(workloads.end(), {kCheckpoints, kInodes});
  app.add_option("--json", line.json_path, "also write schema filer.bench.engine/1 here");
  app.add_option("--html", line.html_path, "also write a page with plots here");
  app.add_flag("--quick", bench.is_quick, "fewer rows, within four minutes");
  seconds = app.add_option("--seconds", bench.seconds, "measured time of one repetition of one row")
                ->check(CLI::Range(0.001, 60.0));
  app.add_option("--repetitions", bench.repetitions, "of every row (5)")
      ->check(CLI::Range(1, 1000));
  app.add_option("--subject", words.subjects, "only these")
      ->check(CLI::IsMember(FileSubjectNames()));
  app.add_option("--backend", words.backends, "only these")
      ->check(CLI::IsMember({"memory", "file"}));
  app.add_option("--workload", words.workloads, "only these")->check(CLI::IsMember(workloads));
  app.add_option("--threads", words.threads, "only these numbers of callers")
      ->check(CLI::IsMember({1, 2, 8, 32}));
  app.add_option("--folder", bench.folder, "where the volumes of the file backend are made")
      ->check(CLI::ExistingDirectory);
}

}  // namespace

Result<EngineCommandLine> ParseEngineCommandLine(int count, char** words_in) {
  EngineCommandLine line;
  Words words;
  CLI::Option* seconds = nullptr;
  CLI::App app("Measures the product against its peers", "filer bench");
  app.require_subcommand(1);
  auto* engine = app.add_subcommand("engine", "the file system beside XFS and ext4");
  AddOptions(*engine, line, words, seconds);
  try {
    app.parse(count, words_in);
  } catch (const CLI::CallForHelp&) {
    line.is_help = true;
    line.help = engine->help();
    return line;
  } catch (const CLI::ParseError& error) {
    return Error(Errc::kUsage, error.what());
  }
  // A range holds for what is no number, too.
  if (!std::isfinite(line.bench.seconds)) {
    return Error(Errc::kUsage, "--seconds: a number from 0.001 to 60");
  }
  if (line.bench.is_quick && seconds->count() == 0) line.bench.seconds = kQuickSeconds;
  line.bench.cells = line.bench.is_quick ? QuickFileCells() : FullFileCells();
  FILER_TRY(Narrow(words, line.bench));
  FILER_TRY(CheckWritable("--json", line.json_path));
  FILER_TRY(CheckWritable("--html", line.html_path));
  return line;
}

}  // namespace filer::bench
