// engine_sim: the engine's proofs at length, and one failure again.
//
//   engine_sim crash [--wrap] [--seed N] [--count N] [--seconds N] [--only 3,7,12-15]
//
// crash: sequences of seeds from N on, each with all of its crash states. Ends with 0 when nothing
// was wrong; else prints what, the shortened sequence, and the command that runs it again.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <chrono>

#include "tests/sim/crash_run.h"

namespace filer::engine::sim {
namespace {

struct Arguments {
  std::uint64_t seed = 1;
  std::uint64_t count = 0;
  std::uint64_t seconds = 0;
  std::string only;
  bool wraps_log = false;
};

int Crash(const Arguments& arguments) {
  CrashRunOptions options;
  options.wraps_log = arguments.wraps_log;
  if (!arguments.only.empty()) {
    CrashRunCounts counts;
    const auto sequence = Subset(CampaignSequence(arguments.seed), ParseIndexes(arguments.only));
    const std::string wrong = RunCrashes(sequence, options, counts);
    fmt::print("{}\n", wrong.empty() ? "nothing is wrong" : wrong);
    return wrong.empty() ? 0 : 1;
  }
  const auto start = std::chrono::steady_clock::now();
  const auto passed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const std::uint64_t count = arguments.count == 0 && arguments.seconds == 0 ? 1 : arguments.count;
  CrashRunCounts counts;
  const auto print = [&](std::uint64_t seeds) {
    fmt::print(
        "{} seeds from {} on, {:.0f} s: {} operations, {} epochs, {} crash states, {} "
        "distinct, {} of recoveries, {} of second lives, {} wraps of the log, hash {:x}\n",
        seeds, arguments.seed, passed(), counts.operations, counts.epochs, counts.states,
        counts.distinct, counts.recovery_states, counts.second_states, counts.wraps,
        counts.record_hash);
    std::fflush(stdout);
  };
  std::uint64_t done = 0;
  for (; count == 0 || done < count; ++done) {
    if (arguments.seconds != 0 && passed() > static_cast<double>(arguments.seconds)) break;
    const std::string wrong =
        RunCrashesAndShrink(CampaignSequence(arguments.seed + done), options, counts);
    if (!wrong.empty()) {
      fmt::print("{}", wrong);
      return 1;
    }
    if (done % 100 == 99) print(done + 1);
  }
  print(done);
  return 0;
}

}  // namespace
}  // namespace filer::engine::sim

int main(int argc, char** argv) {
  CLI::App app{"proofs of the file system engine on simulated volumes"};
  app.require_subcommand(1);
  filer::engine::sim::Arguments arguments;
  auto* crash = app.add_subcommand("crash", "crash states of random runs");
  crash->add_option("--seed", arguments.seed, "the first seed");
  crash->add_option("--count", arguments.count, "so many seeds (default 1)");
  crash->add_option("--seconds", arguments.seconds, "as many seeds as fit");
  crash->add_flag("--wrap", arguments.wraps_log, "each life's log goes round its ring");
  crash->add_option("--only", arguments.only, "these operations only, e.g. 3,7,12-15");
  CLI11_PARSE(app, argc, argv);
  return filer::engine::sim::Crash(arguments);
}
