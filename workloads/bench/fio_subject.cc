// fio_subject.cc: fio with its io_uring engine, the usual yardstick for a file: what the machine's
// file and device give to a program that does nothing else. A process per run; the results come
// from its report.
#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "base/file.h"
#include "base/json_rpc.h"
#include "base/process.h"
#include "workloads/bench/server.h"
#include "workloads/bench/subject.h"

namespace filer::bench {
namespace {

std::string_view PatternOf(Workload workload) {
  switch (workload) {
    case Workload::kRead:
      return "randread";
    case Workload::kWrite:
      return "randwrite";
    case Workload::kMixed:
      break;
  }
  return "randrw";
}

// The same file, offsets with the same odds, the same depth; direct, with registered file and
// buffers, as the backend does it.
std::vector<std::string> FioCommand(const Backing& backing, const LoadSpec& spec) {
  constexpr double kSecondsMin = 0.05;  // it counts time in milliseconds
  const auto microseconds = [](double seconds) { return fmt::format("{:.0f}us", seconds * 1e6); };
  return {"fio",
          "--name=bench",
          "--filename=" + backing.file_path,
          fmt::format("--size={}", spec.range_bytes),
          "--allow_file_create=0",
          "--ioengine=io_uring",
          "--fixedbufs=1",
          "--registerfiles=1",
          "--direct=1",
          fmt::format("--rw={}", PatternOf(spec.workload)),
          "--rwmixread=70",
          "--norandommap",
          fmt::format("--randseed={}", spec.seed),
          fmt::format("--bs={}", spec.block_bytes),
          fmt::format("--iodepth={}", spec.depth),
          "--time_based",
          "--runtime=" + microseconds(std::max(spec.seconds, kSecondsMin)),
          "--ramp_time=" + microseconds(spec.warm_up_seconds),
          "--thread",
          "--eta=never",
          "--disable_bw_measurement=1",
          "--invalidate=0",
          "--clat_percentiles=0",
          "--lat_percentiles=1",
          "--output-format=json+"};
}

void AddLatencies(const Json& bins, Histogram& latency_ticks) {
  const double ns_per_tick = TickClock::Get().ns_per_tick();
  for (const auto& [ns, count] : bins.items()) {
    latency_ticks.Record(static_cast<std::uint64_t>(std::stod(ns) / ns_per_tick),
                         count.get<std::uint64_t>());
  }
}

// Throws Json::exception or std::exception when the report is not of the form of fio 3.
LoadResult ReadReport(const Json& report) {
  const Json& job = report.at("jobs").at(0);
  LoadResult load;
  double runtime_ms = 0;
  for (const char* direction : {"read", "write"}) {
    const Json& half = job.at(direction);
    const auto ios = half.at("total_ios").get<std::uint64_t>();
    if (ios == 0) continue;
    load.ios += ios;
    runtime_ms = std::max(runtime_ms, half.at("runtime").get<double>());
    AddLatencies(half.at("lat_ns").at("bins"), load.latency_ticks);
  }
  load.errors = job.at("error").get<std::uint64_t>();
  load.seconds = runtime_ms / 1e3;
  const double share = (job.at("usr_cpu").get<double>() + job.at("sys_cpu").get<double>()) / 100;
  load.end.load_cpu_ns = static_cast<std::int64_t>(share * runtime_ms * 1e6);
  return load;
}

class FioSubject final : public Subject {
 public:
  FioSubject(Backing backing, std::string log_path)
      : backing_(std::move(backing)), log_path_(std::move(log_path)) {}
  std::string_view Name() const override { return kFio; }
  Result<void> Verify() override { return Ok(); }  // its data are of no meaning

  // It inherits the calling thread's core.
  Result<Measured> Run(const LoadSpec& spec) override {
    const ProgramOutput output =
        FILER_TRY(RunProgram(FioCommand(backing_, spec), log_path_, spec.stop));
    const std::string& text = output.standard_output;
    const auto begin = text.find('{');  // notes may stand before it
    if (output.exit_code != 0 || begin == std::string::npos) {
      return Explain(fmt::format("ended with code {}", output.exit_code));
    }
    try {
      Measured measured;
      measured.load = ReadReport(Json::parse(text.substr(begin)));
      if (measured.load.errors > 0) return Explain("requests failed");
      if (measured.load.ios == 0) return Explain("nothing completed");
      return measured;
    } catch (const std::exception& exception) {
      return Explain(fmt::format("its report is not understood: {}", exception.what()));
    }
  }

 private:
  Error Explain(const std::string& what) const {
    const auto log = ReadWholeFile(log_path_);
    std::string words = log.has_value() ? log.assume_value() : "";
    while (!words.empty() && words.back() == '\n') words.pop_back();
    words = words.substr(words.rfind('\n') + 1);  // npos + 1: all of it
    return {Errc::kIo,
            fmt::format("fio: {} (its last words: {})", what, words.empty() ? "none" : words)};
  }

  Backing backing_;
  std::string log_path_;
};

}  // namespace

Result<std::unique_ptr<Subject>> MakeFio(const Backing& backing, const SubjectPlace& place) {
  if (FindProgram("fio").empty()) {
    return Error(Errc::kNotFound, "fio is not installed (./filer installs it)");
  }
  return std::unique_ptr<Subject>(std::make_unique<FioSubject>(backing, place.folder + "/fio.log"));
}

}  // namespace filer::bench
